//! The services of the gateway's archives, DIMSE and DICOMweb, called as the gateway calls them,
//! against DCMTK, Orthanc and the simulators: verification, queries of both information models, storage, TLS with
//! client certificates, retrievals given up on the way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conformance::samples::{self, Exam, Manifest, Profile};
use conformance::testkit::pacs::Asked;
use conformance::testkit::{Dcmqrscp, FaultyPacs, FaultyWeb, Orthanc, Pki, WebFault};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use drimbox::archive::dicomweb::DicomwebArchive;
use drimbox::archive::dicomweb::client::Credentials;
use drimbox::archive::dimse::{DimseArchive, Moves, StorageScp};
use drimbox::archive::socket::Tls;
use drimbox::archive::{
    Archive, ArchiveError, FindRequest, Identifier, IncomingInstance, InstanceSink, InstanceWriter,
    Level, OutgoingInstance, RetrieveRequest, Scope, SinkError, StoreOutcome,
};
use drimbox::config::{AeTitle, Authentication, PacsDicomweb, PacsDimse, Quirks, RetrieveMethod};
use drimbox::dicom::part10;
use drimbox::dicom::uid::StudyUid;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn dcmqrscp_answers_queries_of_both_information_models() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let exam = exams.exam("ct").unwrap();
    let pacs = Dcmqrscp::builder(&place.path().join("pacs"))
        .application("DRIMBOX", 104)
        .start(&files(&exams, exam))
        .await
        .unwrap();
    let archive = archive(pacs.ae_title(), pacs.port(), None);
    archive.verify().await.unwrap();
    let patients = find(
        &archive,
        Level::Patient,
        Identifier::default().with(tags::PATIENT_ID, VR::LO, exam.patient_id.as_str()),
    )
    .await;
    assert_eq!(patients, 1);
    let study = |level: Identifier| {
        level.with(
            tags::STUDY_INSTANCE_UID,
            VR::UI,
            exam.study_instance_uid.as_str(),
        )
    };
    let series = study(Identifier::default().with(tags::SERIES_INSTANCE_UID, VR::UI, ""));
    assert_eq!(
        find(&archive, Level::Series, series).await,
        exam.series.len()
    );
    let absent = Identifier::default().with(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.4");
    assert_eq!(find(&archive, Level::Study, absent).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_orthanc_is_there_afterwards() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let exam = exams.exam("ct").unwrap();
    let pacs = Orthanc::builder(&place.path().join("pacs"))
        .start()
        .await
        .unwrap();
    let dimse = archive(pacs.ae_title(), pacs.dicom_port(), None);
    what_is_stored_is_there_afterwards(&dimse, &exams, exam).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_dcmqrscp_is_there_afterwards() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let pacs = Dcmqrscp::builder(&place.path().join("pacs"))
        // Without it, it takes no JPEG-LS.
        .argument("+xt")
        .start(&[])
        .await
        .unwrap();
    let dimse = archive(pacs.ae_title(), pacs.port(), None);
    what_is_stored_is_there_afterwards(&dimse, &exams, exams.exam("ct").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_orthanc_by_dicomweb_is_there_afterwards() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let pacs = Orthanc::builder(&place.path().join("pacs"))
        .start()
        .await
        .unwrap();
    let web = web_archive(&pacs.dicomweb_url());
    web.verify().await.unwrap();
    let exam = exams.exam("ct").unwrap();
    what_is_stored_is_there_afterwards(&web, &exams, exam).await;
    let mut broken = outgoing(&exams.path(exams.exam("mr").unwrap().instances().next().unwrap()));
    broken.data = futures_util::stream::iter([Ok(Bytes::from_static(b"no data set"))]).boxed();
    let outcomes = web.store(vec![broken]).await;
    assert!(
        matches!(outcomes.as_deref(), Ok([StoreOutcome::Failed { .. }]))
            || matches!(outcomes, Err(ArchiveError::Status { .. })),
        "{outcomes:?}"
    );
}

async fn what_is_stored_is_there_afterwards(archive: &dyn Archive, exams: &Manifest, exam: &Exam) {
    let outgoing: Vec<OutgoingInstance> = exam
        .series
        .iter()
        .flat_map(|series| &series.instances)
        .map(|instance| outgoing(&exams.path(instance)))
        .collect();
    let sent = outgoing.len();
    let outcomes = archive.store(outgoing).await.unwrap();
    assert_eq!(outcomes, vec![StoreOutcome::Stored; sent]);
    for series in &exam.series {
        let images = Identifier::default()
            .with(
                tags::STUDY_INSTANCE_UID,
                VR::UI,
                exam.study_instance_uid.as_str(),
            )
            .with(
                tags::SERIES_INSTANCE_UID,
                VR::UI,
                series.series_instance_uid.as_str(),
            )
            .with(tags::SOP_INSTANCE_UID, VR::UI, "");
        let there = find(archive, Level::Image, images).await;
        assert_eq!(there, series.instances.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pacs_with_tls_takes_our_client_certificate_and_no_other() {
    let place = TempDir::new().unwrap();
    let pki = Pki::new(&place.path().join("pki"), "centre").unwrap();
    let server = pki.server(&["pacs.test.example"]).unwrap();
    let pacs = Orthanc::builder(&place.path().join("pacs"))
        .tls(&server, pki.ca_file())
        .start()
        .await
        .unwrap();
    let client = pki.client("drimbox").unwrap();
    let ours = connector(
        pki.ca_file(),
        Some((&client.certificate_file, &client.key_file)),
    );
    archive(pacs.ae_title(), pacs.dicom_port(), Some(ours))
        .verify()
        .await
        .unwrap();

    let foreign = Pki::new(&place.path().join("foreign"), "elsewhere").unwrap();
    let stranger = foreign.client("stranger").unwrap();
    let theirs = connector(
        pki.ca_file(),
        Some((&stranger.certificate_file, &stranger.key_file)),
    );
    let refused = archive(pacs.ae_title(), pacs.dicom_port(), Some(theirs))
        .verify()
        .await;
    assert!(
        refused.as_ref().is_err_and(ArchiveError::is_outage),
        "{refused:?}"
    );

    let distrusting = connector(
        foreign.ca_file(),
        Some((&client.certificate_file, &client.key_file)),
    );
    let refused = archive(pacs.ae_title(), pacs.dicom_port(), Some(distrusting))
        .verify()
        .await;
    assert!(
        matches!(refused, Err(ArchiveError::Tls { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_beyond_its_limit_is_cancelled_and_says_so() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let pacs = Orthanc::builder(&place.path().join("pacs"))
        .start()
        .await
        .unwrap();
    pacs.upload(exams.files().collect()).await.unwrap();
    let dimse = archive(pacs.ae_title(), pacs.dicom_port(), None);
    let web = web_archive(&pacs.dicomweb_url());
    for archive in [&dimse as &dyn Archive, &web] {
        a_search_beyond_its_limit_says_so(archive, exams.exams.len()).await;
    }
}

async fn a_search_beyond_its_limit_says_so(archive: &dyn Archive, studies: usize) {
    let request = |max_matches| FindRequest {
        level: Level::Study,
        identifier: Identifier::default().with(tags::STUDY_INSTANCE_UID, VR::UI, ""),
        max_matches,
    };
    let cut = archive.find(request(3)).await.unwrap();
    assert_eq!((cut.items.len(), cut.truncated), (3, true));
    // The association served on: what was cancelled left nothing behind.
    let all = archive.find(request(10_000)).await.unwrap();
    assert_eq!((all.items.len(), all.truncated), (studies, false));
    let exact = archive.find(request(studies)).await.unwrap();
    assert_eq!((exact.items.len(), exact.truncated), (studies, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retrieval_whose_sink_gives_up_is_cancelled_before_its_association_ends() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let exam = exams.exam("ct300").unwrap();
    for way in [RetrieveMethod::Get, RetrieveMethod::Move] {
        for when in [GivesUp::AtTheBeginning, GivesUp::AtTheEnd] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let here = listener.local_addr().unwrap();
            let destinations = [("DRIMBOX", here)];
            let pacs = FaultyPacs::start("SIM", &files(&exams, exam), &destinations)
                .await
                .unwrap();
            // Nothing ends the retrieval but what the sink does at the second image.
            pacs.behave(|behaviour| behaviour.hold_before = Some(3));
            let moves = Moves::new(AeTitle::parse("DRIMBOX").unwrap());
            let archive = archive_with("SIM", pacs.port(), None, way, Arc::clone(&moves));
            let stop = CancellationToken::new();
            let scp = StorageScp {
                moves,
                callers: Arc::new(HashSet::from(["SIM".to_owned()])),
                tls: None,
                max_associations: 2,
                max_pdu: 131_072,
                idle_timeout: Duration::from_secs(60),
            };
            let scp = tokio::spawn(scp.run(listener, stop.clone()));

            let cancel = CancellationToken::new();
            let request = RetrieveRequest {
                scope: Scope::Study(StudyUid::parse(&exam.study_instance_uid).unwrap()),
                modalities: vec!["CT".into()],
                expected: Some(exam.instances().count() as u64),
            };
            let sink = Arc::new(OneImage {
                when,
                taken: AtomicBool::new(false),
                cancel: cancel.clone(),
            });
            let outcome = archive.retrieve(request, sink, cancel).await;
            let which = format!("{way:?} {when:?}");
            assert!(
                matches!(outcome, Err(ArchiveError::Cancelled)),
                "{which}: {outcome:?}"
            );
            let ended = |asked: &Asked| {
                matches!(
                    asked,
                    Asked::Cancel | Asked::Aborted | Asked::Closed | Asked::Released
                )
            };
            pacs.wait_for(ended).await.unwrap();
            let asked = pacs.asked();
            assert_eq!(
                asked.iter().find(|asked| ended(asked)),
                Some(&Asked::Cancel),
                "{which}: {asked:?}"
            );
            assert_eq!(pacs.count(|asked| *asked == Asked::Cancel), 1, "{which}");
            assert_eq!(pacs.count(|asked| *asked == Asked::Stored(0)), 1, "{which}");
            stop.cancel();
            scp.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retrieval_by_dicomweb_whose_sink_gives_up_leaves_its_place_to_the_next() {
    let place = TempDir::new().unwrap();
    let exams = samples::generate(Profile::Small, &place.path().join("samples")).unwrap();
    let exam = exams.exam("ct300").unwrap();
    let pacs = Orthanc::builder(&place.path().join("pacs"))
        .start()
        .await
        .unwrap();
    pacs.upload(files(&exams, exam)).await.unwrap();
    let server = FaultyWeb::start(&pacs.dicomweb_url()).await.unwrap();
    let archive = web_archive(&server.url());
    // Nothing ends a retrieval but what its sink does at the second image.
    server.behave(|b| b.retrieve = Some(WebFault::StallAfter(500_000)));
    for when in [GivesUp::AtTheBeginning, GivesUp::AtTheEnd] {
        // As many as there are places.
        for _ in 0..2 {
            let cancel = CancellationToken::new();
            let request = RetrieveRequest {
                scope: Scope::Study(StudyUid::parse(&exam.study_instance_uid).unwrap()),
                modalities: Vec::new(),
                expected: None,
            };
            let sink = Arc::new(OneImage {
                when,
                taken: AtomicBool::new(false),
                cancel: cancel.clone(),
            });
            let outcome = archive.retrieve(request, sink, cancel).await;
            assert!(
                matches!(outcome, Err(ArchiveError::Cancelled)),
                "{when:?}: {outcome:?}"
            );
        }
    }
    archive.verify().await.unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivesUp {
    AtTheBeginning,
    AtTheEnd,
}

/// Takes one image; at the second, nobody waits any more.
struct OneImage {
    when: GivesUp,
    taken: AtomicBool,
    cancel: CancellationToken,
}

impl InstanceSink for OneImage {
    fn begin(&self, _: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        if !self.taken.swap(true, Ordering::SeqCst) {
            return Ok(Box::new(Image { gives_up: None }));
        }
        if self.when == GivesUp::AtTheBeginning {
            self.cancel.cancel();
            return Err(SinkError::Abandoned);
        }
        Ok(Box::new(Image {
            gives_up: Some(self.cancel.clone()),
        }))
    }
}

struct Image {
    gives_up: Option<CancellationToken>,
}

impl InstanceWriter for Image {
    fn write(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move {
            let Some(cancel) = self.gives_up else {
                return Ok(());
            };
            cancel.cancel();
            Err(SinkError::Abandoned)
        }
        .boxed()
    }
}

async fn find(archive: &dyn Archive, level: Level, identifier: Identifier) -> usize {
    let request = FindRequest {
        level,
        identifier,
        max_matches: 1000,
    };
    archive.find(request).await.unwrap().items.len()
}

fn archive(ae_title: &str, port: u16, tls: Option<Tls>) -> DimseArchive {
    let moves = Moves::new(AeTitle::parse("DRIMBOX").unwrap());
    archive_with(ae_title, port, tls, RetrieveMethod::Get, moves)
}

fn archive_with(
    ae_title: &str,
    port: u16,
    tls: Option<Tls>,
    retrieve: RetrieveMethod,
    moves: Arc<Moves>,
) -> DimseArchive {
    let settings = PacsDimse {
        host: "127.0.0.1".into(),
        port,
        ae_title: AeTitle::parse(ae_title).unwrap(),
        calling_ae_title: moves.ae_title().clone(),
        retrieve,
        tls: None,
        max_associations: 2,
        idle_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(10),
        response_timeout: Duration::from_secs(60),
        max_pdu: 131_072,
        max_waiting: 8,
    };
    DimseArchive::new("pacs", &settings, &QUIRKS, tls, moves)
}

/// None.
const QUIRKS: Quirks = Quirks {
    relational_queries: true,
    related_counts: true,
    max_results: None,
    charset: None,
    charset_overrides: false,
    send_charset: true,
    uncompressed_only: false,
    decodes_queries: true,
    fuzzy_matching: false,
};

fn web_archive(root: &str) -> DicomwebArchive {
    let url = url::Url::parse(root).unwrap();
    let settings = PacsDicomweb {
        root: root.to_owned(),
        host: "127.0.0.1".into(),
        port: url.port().unwrap(),
        tls: None,
        authentication: Authentication::None,
        max_requests: 2,
        idle_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(10),
        response_timeout: Duration::from_secs(60),
        max_waiting: 8,
    };
    DicomwebArchive::new("pacs", &settings, &QUIRKS, None, Credentials::None)
}

fn connector(ca: &Path, identity: Option<(&Path, &Path)>) -> Tls {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)
                .unwrap()
                .collect::<Result<Vec<_>, _>>()
                .unwrap();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("pacs.test.example").unwrap();
    (tokio_rustls::TlsConnector::from(Arc::new(config)), name)
}

fn files(exams: &Manifest, exam: &Exam) -> Vec<std::path::PathBuf> {
    exam.series
        .iter()
        .flat_map(|series| &series.instances)
        .map(|instance| exams.path(instance))
        .collect()
}

fn outgoing(file: &Path) -> OutgoingInstance {
    let bytes = std::fs::read(file).unwrap();
    let meta = part10::parse(&bytes).unwrap();
    let data = bytes[meta.data_set_offset..].to_vec();
    let pieces: Vec<std::io::Result<Bytes>> = data
        .chunks(10_000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    OutgoingInstance {
        sop_class: meta.sop_class.unwrap(),
        instance: meta.instance.unwrap(),
        transfer_syntax: meta.transfer_syntax,
        data: futures_util::stream::iter(pieces).boxed(),
    }
}
