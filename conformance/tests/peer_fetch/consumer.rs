//! What the stories share: a peer with an exam, a consumer that may ask it, a sink that keeps what came.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use conformance::samples::{self, Exam};
use conformance::testkit::{FaultyPeer, Identity, PeerInstance, Pki};
use drimbox::archive::peer::{
    AccessToken, Listed, PeerDirectory, PeerError, PeerExam, PeerSettings, Peers, SystemResolver,
    TokenError, TokenSource, client_config,
};
use drimbox::archive::{
    Archive, ArchiveError, IncomingInstance, InstanceSink, InstanceWriter, RetrieveReport,
    RetrieveRequest, Scope, SinkError,
};
use drimbox::dicom::kos::Kos;
use drimbox::dicom::uid::{SeriesUid, StudyUid};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::support::{exam, exams, folder};

/// The name of the peer.
pub const HOST: &str = "db1.peer.example";
/// The root of its service.
pub const ROOT: &str = "https://db1.peer.example/any/path";

/// A peer with an exam, and the certificates of both sides.
pub struct World {
    pub name: String,
    pub pki: Pki,
    pub ours: Identity,
    pub exam: &'static Exam,
    pub peer: FaultyPeer,
    pub listed: Arc<List>,
    /// Who verifies the peer; `None`: its certificate has to be of the authority above.
    pub verifier: Option<Arc<dyn ServerCertVerifier>>,
}

impl World {
    /// The exam `ct` (three series of 8, 3 and 1 images) at a peer in good health.
    pub async fn new(name: &str) -> Self {
        let pki = Pki::new(&folder(&format!("{name}-pki")), "Test CA").unwrap();
        let theirs = pki.server(&[HOST]).unwrap();
        Self::with(name, pki, &theirs).await
    }

    /// The same, where the peer shows another certificate.
    pub async fn with(name: &str, pki: Pki, theirs: &Identity) -> Self {
        let exam = exam("ct");
        let ours = pki.client("db2.peer.example").unwrap();
        let peer = FaultyPeer::start(&pki, theirs, instances(exam))
            .await
            .unwrap();
        Self {
            name: name.to_owned(),
            pki,
            ours,
            exam,
            peer,
            listed: Arc::default(),
            verifier: None,
        }
    }

    /// How this consumer asks, unless a story says otherwise: quickly.
    pub fn settings(&self) -> PeerSettings {
        PeerSettings {
            fixed_addresses: HashMap::from([(HOST.to_owned(), self.peer.address())]),
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            series_at_once: 1,
            ..PeerSettings::default()
        }
    }

    /// A consumer with these settings.
    pub fn peers(&self, settings: PeerSettings) -> Arc<Peers> {
        self.peers_of(Arc::clone(&self.listed) as _, settings)
    }

    /// A consumer whose white list has this name alone.
    pub fn peers_listing(&self, host: &'static str, settings: PeerSettings) -> Arc<Peers> {
        self.peers_of(Arc::new(Only(host)), settings)
    }

    fn peers_of(&self, list: Arc<dyn PeerDirectory>, settings: PeerSettings) -> Arc<Peers> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.pki.ca_file()).unwrap())
            .unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        );
        let chain = vec![CertificateDer::from_pem_file(&self.ours.certificate_file).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&self.ours.key_file).unwrap();
        let verifier = match &self.verifier {
            Some(verifier) => Arc::clone(verifier),
            None => verifier.build().unwrap(),
        };
        let tls = client_config(verifier, Some((chain, key))).unwrap();
        Peers::new(settings, list, Arc::new(SystemResolver), tls)
    }

    /// The KOS of the exam, its images under this root.
    pub fn kos(&self, root: &str) -> Arc<Kos> {
        self.kos_of(&samples::kos::Kos::of(self.exam, root))
    }

    /// A KOS, through a file.
    pub fn kos_of(&self, kos: &samples::kos::Kos) -> Arc<Kos> {
        let file = folder(&format!("{}-kos", self.name)).join("kos.dcm");
        kos.write(&file).unwrap();
        Arc::new(Kos::parse(&std::fs::read(file).unwrap()).unwrap())
    }

    /// The exam as the consumer sees it.
    pub fn open(&self, settings: PeerSettings, tokens: Arc<dyn TokenSource>) -> PeerExam {
        PeerExam::new(self.kos(ROOT), self.peers(settings), tokens).unwrap()
    }

    /// Fetches the whole exam with these settings.
    pub async fn fetch(
        &self,
        settings: PeerSettings,
        sink: &Arc<Kept>,
    ) -> Result<RetrieveReport, ArchiveError> {
        fetch_all(&self.open(settings, Arc::new(Tokens::of(&["token"]))), sink).await
    }

    /// Fetches the first series, of eight images.
    pub async fn fetch_first(
        &self,
        settings: PeerSettings,
        sink: &Arc<Kept>,
    ) -> Result<RetrieveReport, ArchiveError> {
        let exam = self.open(settings, Arc::new(Tokens::of(&["token"])));
        let series = SeriesUid::parse(&self.exam.series[0].series_instance_uid).unwrap();
        retrieve(&exam, Scope::Series(study(self.exam), series), sink).await
    }

    /// Paths asked for so far, without what they have in common.
    pub fn asked(&self) -> Vec<String> {
        let requests = self.peer.requests();
        let tail = |line: &str| line.rsplit("/series/").next().unwrap().to_owned();
        requests.iter().map(|request| tail(&request.line)).collect()
    }

    /// Requests for single instances so far.
    pub fn asked_singly(&self) -> usize {
        let asked = self.asked();
        asked
            .iter()
            .filter(|path| path.contains("/instances/"))
            .count()
    }
}

pub async fn fetch_all(exam: &PeerExam, sink: &Arc<Kept>) -> Result<RetrieveReport, ArchiveError> {
    retrieve(exam, Scope::Study(exam.kos().study.clone()), sink).await
}

pub async fn retrieve(
    exam: &PeerExam,
    scope: Scope,
    sink: &Arc<Kept>,
) -> Result<RetrieveReport, ArchiveError> {
    let request = RetrieveRequest {
        scope,
        modalities: Vec::new(),
        expected: None,
    };
    let sink = Arc::clone(sink) as Arc<dyn InstanceSink>;
    exam.retrieve(request, sink, CancellationToken::new()).await
}

pub fn study(exam: &Exam) -> StudyUid {
    StudyUid::parse(&exam.study_instance_uid).unwrap()
}

/// Why a peer did not give an exam.
pub fn peer_error(outcome: Result<RetrieveReport, ArchiveError>) -> PeerError {
    match outcome {
        Err(ArchiveError::Peer(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// The instances of an exam with their files.
pub fn instances(exam: &Exam) -> Vec<PeerInstance> {
    let all = exam.series.iter().flat_map(|series| {
        series.instances.iter().map(|instance| PeerInstance {
            series: series.series_instance_uid.clone(),
            instance: instance.sop_instance_uid.clone(),
            file: std::fs::read(exams().path(instance)).unwrap().into(),
        })
    });
    all.collect()
}

/// The data set of a DICOM file: what follows its file meta information.
pub fn data_set(file: &[u8]) -> &[u8] {
    let meta = drimbox::dicom::part10::parse(file).unwrap();
    &file[meta.data_set_offset..]
}

/// A white list with one DRIMbox, which can lose it.
#[derive(Default)]
pub struct List {
    pub is_gone: AtomicBool,
}

impl PeerDirectory for List {
    fn lists(&self, db_host: &str) -> Listed {
        match db_host == HOST && !self.is_gone.load(Ordering::SeqCst) {
            true => Listed::Yes,
            false => Listed::No,
        }
    }
}

struct Only(&'static str);

impl PeerDirectory for Only {
    fn lists(&self, db_host: &str) -> Listed {
        match db_host == self.0 {
            true => Listed::Yes,
            false => Listed::No,
        }
    }
}

/// Tokens in turn: the next one when the current one is refused.
pub struct Tokens {
    all: Vec<AccessToken>,
    at: AtomicUsize,
}

impl Tokens {
    pub fn of(all: &[&str]) -> Self {
        Self {
            all: all
                .iter()
                .map(|text| AccessToken::new(text).unwrap())
                .collect(),
            at: AtomicUsize::new(0),
        }
    }

    fn current(&self) -> Result<AccessToken, TokenError> {
        let at = self.at.load(Ordering::SeqCst);
        self.all.get(at).cloned().ok_or(TokenError::LoginNeeded)
    }
}

impl TokenSource for Tokens {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        async { self.current() }.boxed()
    }

    fn renewed(&self, refused: &AccessToken) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        if self.current().is_ok_and(|current| current.is_same(refused)) {
            self.at.fetch_add(1, Ordering::SeqCst);
        }
        async { self.current() }.boxed()
    }
}

/// A sink that keeps the data sets in memory.
#[derive(Default)]
pub struct Kept {
    taken: Arc<parking::Mutex<HashMap<String, Vec<u8>>>>,
}

/// A mutex whose poison means nothing here.
mod parking {
    use std::sync::{MutexGuard, PoisonError};

    #[derive(Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

impl Kept {
    /// Instances that were taken.
    pub fn len(&self) -> usize {
        self.taken.lock().len()
    }

    /// All instances of these, byte for byte, and no other.
    pub fn assert_holds(&self, instances: &[PeerInstance]) {
        let taken = self.taken.lock();
        assert_eq!(taken.len(), instances.len());
        for instance in instances {
            let came = taken.get(&instance.instance).expect("an instance");
            assert!(came == data_set(&instance.file), "other bytes came");
        }
    }
}

impl InstanceSink for Kept {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        Ok(Box::new(Keeping {
            instance: incoming.instance.to_string(),
            bytes: Vec::new(),
            taken: Arc::clone(&self.taken),
        }))
    }
}

struct Keeping {
    instance: String,
    bytes: Vec<u8>,
    taken: Arc<parking::Mutex<HashMap<String, Vec<u8>>>>,
}

impl InstanceWriter for Keeping {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        self.bytes.extend_from_slice(&data);
        async { Ok(()) }.boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        let before = self.taken.lock().insert(self.instance, self.bytes);
        assert!(before.is_none(), "an instance was handed on twice");
        async { Ok(()) }.boxed()
    }
}
