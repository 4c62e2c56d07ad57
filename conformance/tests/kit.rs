//! The kit against tools that nobody here wrote: what it starts must be what it says it is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::testkit::pacs::{Asked, StoreFault};
use conformance::testkit::proxy::Fault;
use conformance::testkit::{
    Client, Dcmqrscp, FaultProxy, FaultyPacs, Nginx, Orthanc, Pki, Protocol, free_port,
};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

const STUDY: &str = "1.2.826.0.1.3680043.8.498.77";

/// Writes `count` small CT images of one series.
fn images(folder: &Path, count: usize) -> Vec<PathBuf> {
    let image = |number: usize| {
        let uid = format!("{STUDY}.1.{number}");
        let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
        let number16 = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let object = InMemDicomObject::from_element_iter([
            text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
            text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
            text(tags::SOP_INSTANCE_UID, VR::UI, &uid),
            text(tags::STUDY_DATE, VR::DA, "20260102"),
            text(tags::STUDY_TIME, VR::TM, "101112"),
            text(tags::ACCESSION_NUMBER, VR::SH, "A1"),
            text(tags::MODALITY, VR::CS, "CT"),
            text(tags::PATIENT_NAME, VR::PN, "HÉLÈNE^TEST"),
            text(tags::PATIENT_ID, VR::LO, "P1"),
            text(tags::STUDY_INSTANCE_UID, VR::UI, STUDY),
            text(tags::SERIES_INSTANCE_UID, VR::UI, &format!("{STUDY}.1")),
            text(tags::STUDY_ID, VR::SH, "S1"),
            text(tags::SERIES_NUMBER, VR::IS, "1"),
            text(tags::INSTANCE_NUMBER, VR::IS, &number.to_string()),
            number16(tags::SAMPLES_PER_PIXEL, 1),
            text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
            number16(tags::ROWS, 64),
            number16(tags::COLUMNS, 64),
            number16(tags::BITS_ALLOCATED, 16),
            number16(tags::BITS_STORED, 16),
            number16(tags::HIGH_BIT, 15),
            number16(tags::PIXEL_REPRESENTATION, 0),
            DataElement::new(
                tags::PIXEL_DATA,
                VR::OW,
                PrimitiveValue::U16(vec![number as u16; 64 * 64].into()),
            ),
        ]);
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let file = folder.join(format!("{number}.dcm"));
        object
            .with_meta(meta)
            .unwrap()
            .write_to_file(&file)
            .unwrap();
        file
    };
    (1..=count).map(image).collect()
}

/// Runs a tool of DCMTK for a study-root request on the test study.
async fn dcmtk(tool: &str, title: &str, port: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool);
    command
        .env("TCP_NODELAY", "1")
        .args(["-v", "-S", "-aec", title])
        .args(["-k", &format!("StudyInstanceUID={STUDY}")])
        .args(arguments)
        .args(["127.0.0.1", &port.to_string()]);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn printed(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

fn received(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn orthanc_serves_what_was_uploaded_and_counts_what_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let files = images(folder.path(), 5);
    let orthanc = Orthanc::builder(folder.path()).start().await.unwrap();
    orthanc.upload(files).await.unwrap();

    let series = ["-k", "QueryRetrieveLevel=SERIES", "-k", "SeriesInstanceUID"];
    let found = dcmtk("findscu", "ORTHANC", orthanc.dicom_port(), &series).await;
    assert!(
        printed(&found).contains(&format!("{STUDY}.1")),
        "{}",
        printed(&found)
    );
    let out = tempfile::tempdir().unwrap();
    let into = [
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-od",
        out.path().to_str().unwrap(),
    ];
    dcmtk("getscu", "ORTHANC", orthanc.dicom_port(), &into).await;
    assert_eq!(received(out.path()), 5);

    let requests = orthanc.requests().unwrap();
    assert_eq!((requests.find, requests.get, requests.moves), (1, 1, 0));

    let url = format!("{}/studies/{STUDY}", orthanc.dicomweb_url());
    let client = Client::plain().unwrap();
    let accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
    let answer = client.get(&url).accept(accept).send().await.unwrap();
    let body = answer.multipart().await.unwrap();
    assert_eq!(body.parts.len(), 5);
    assert!(body.is_complete());

    orthanc.delete_study(STUDY).await.unwrap();
    let left = orthanc.rest("/studies").await.unwrap();
    assert_eq!(left.as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn dcmqrscp_serves_the_files_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let files = images(folder.path(), 3);
    let pacs = Dcmqrscp::builder(folder.path())
        .start(&files)
        .await
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let into = [
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-od",
        out.path().to_str().unwrap(),
    ];
    let output = dcmtk("getscu", "DCMQRSCP", pacs.port(), &into).await;
    assert_eq!(received(out.path()), 3, "{}", printed(&output));
}

#[tokio::test]
async fn the_simulator_in_good_health_satisfies_dcmtk() {
    let folder = tempfile::tempdir().unwrap();
    let files = images(folder.path(), 4);
    let move_port = free_port().unwrap();
    let here = ([127, 0, 0, 1], move_port).into();
    let pacs = FaultyPacs::start("SIM", &files, &[("MOVESCU", here)])
        .await
        .unwrap();

    let keys = [
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-k",
        "PatientName=H*",
        "-k",
        "NumberOfStudyRelatedInstances",
        "-k",
        "ModalitiesInStudy",
    ];
    let found = printed(&dcmtk("findscu", "SIM", pacs.port(), &keys).await);
    assert!(found.contains("HÉLÈNE^TEST"), "{found}");
    assert!(found.contains("[4 ]"), "{found}");

    let out = tempfile::tempdir().unwrap();
    let into = [
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-od",
        out.path().to_str().unwrap(),
    ];
    let got = printed(&dcmtk("getscu", "SIM", pacs.port(), &into).await);
    assert_eq!(received(out.path()), 4, "{got}");

    let out = tempfile::tempdir().unwrap();
    let port = move_port.to_string();
    let into = [
        "-k",
        "QueryRetrieveLevel=STUDY",
        "-aet",
        "MOVESCU",
        "-aem",
        "MOVESCU",
        "--port",
        &port,
        "-od",
        out.path().to_str().unwrap(),
    ];
    let moved = printed(&dcmtk("movescu", "SIM", pacs.port(), &into).await);
    assert_eq!(received(out.path()), 4, "{moved}");
    let stored = |asked: &Asked| *asked == Asked::Stored(0);
    assert_eq!(pacs.count(stored), 8);
}

#[tokio::test]
async fn a_simulator_that_dies_in_a_store_leaves_the_client_with_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let files = images(folder.path(), 4);
    let pacs = FaultyPacs::start("SIM", &files, &[]).await.unwrap();
    let get = async |fault: Option<StoreFault>| {
        pacs.behave(|behaviour| {
            behaviour.store = fault.map(|fault| (3, fault)).into_iter().collect()
        });
        let out = tempfile::tempdir().unwrap();
        let into = [
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-od",
            out.path().to_str().unwrap(),
        ];
        let output = dcmtk("getscu", "SIM", pacs.port(), &into).await;
        (received(out.path()), printed(&output))
    };
    for fault in [StoreFault::Die, StoreFault::Abort, StoreFault::Garbage] {
        let (count, said) = get(Some(fault)).await;
        assert_eq!(count, 2, "{fault:?}: {said}");
        assert!(said.contains("E: "), "{fault:?}: {said}");
    }
    let (count, said) = get(Some(StoreFault::Failed)).await;
    assert_eq!(count, 3, "{said}");
    assert!(
        said.contains("Number of Failed Suboperations    : 1"),
        "{said}"
    );
    let (count, said) = get(None).await;
    assert_eq!(count, 4, "{said}");

    pacs.behave(|behaviour| behaviour.loses = 1);
    let (count, said) = get(None).await;
    assert_eq!(count, 3, "{said}");
    assert!(
        said.contains("Number of Completed Suboperations : 4"),
        "{said}"
    );
}

#[tokio::test]
async fn nginx_serves_a_file_over_tls_on_both_versions_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let content = vec![7u8; 3_000_000];
    std::fs::write(files.join("big"), &content).unwrap();
    let pki = Pki::new(&folder.path().join("pki"), "Test CA").unwrap();
    let identity = pki.server(&["static.test.example"]).unwrap();
    let nginx = Nginx::start(folder.path(), &files, &identity)
        .await
        .unwrap();
    let url = nginx.url("static.test.example", "/big");
    let here = ([127, 0, 0, 1], nginx.port()).into();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::builder()
            .protocol(protocol)
            .ca(pki.ca_file())
            .resolve("static.test.example", here)
            .build()
            .unwrap();
        // The second request comes over the connection of the first.
        for _ in 0..2 {
            let body = client
                .get(&url)
                .send()
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            assert!(body == content);
        }
    }
    let stranger = Client::builder()
        .resolve("static.test.example", here)
        .build()
        .unwrap();
    assert!(stranger.get(&url).send().await.is_err());
}

#[tokio::test]
async fn a_body_that_is_cut_is_seen_as_broken() {
    let folder = tempfile::tempdir().unwrap();
    let files = images(folder.path(), 5);
    let orthanc = Orthanc::builder(folder.path()).start().await.unwrap();
    orthanc.upload(files).await.unwrap();
    let server = orthanc
        .http_url()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let proxy = FaultProxy::start(server).await.unwrap();
    proxy.set(Fault::CutAfter(20_000));
    let url = format!("http://{}/dicom-web/studies/{STUDY}", proxy.address());
    let client = Client::plain().unwrap();
    let body = client
        .get(&url)
        .accept("multipart/related; type=\"application/dicom\"")
        .send()
        .await
        .unwrap()
        .multipart()
        .await
        .unwrap();
    // Orthanc's body ends with its connection: the missing boundary alone tells.
    assert!(!body.is_complete());
    assert_eq!(body.parts.len(), 2);

    let url = format!("http://{}/app/explorer.js", proxy.address());
    let script = client.get(&url).send().await.unwrap();
    let length: u64 = script.header("content-length").parse().unwrap();
    let script = script.drain().await;
    assert!(script.broken.is_some());
    assert!((1..length).contains(&script.bytes), "{script:?}");
}
