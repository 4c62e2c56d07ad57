//! `drimbox fetch`: an exam of another DRIMbox into a folder, file by file.
//!
//! A file gets its name when it is whole. What is in the folder already is read through and not asked for
//! again. Each series that is asked for is in the audit trail before it is.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::{BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::fetch_trail::{Bypassed, FetchTrail};
use crate::archive::peer::{NoToken, PeerExam, Peers, TokenFile, TokenSource};
use crate::archive::{ArchiveError, IncomingInstance, InstanceSink, InstanceWriter, SinkError};
use crate::audit::{Ending, Object, Outcome};
use crate::cli::{Fetch, FetchError, Fetched, Progress};
use crate::config::Config;
use crate::dicom::kos::{Kos, KosLimits, KosSeries};
use crate::dicom::part10::{self, file_meta};
use crate::dicom::scan::{HeadScanner, Limits};
use crate::dicom::uid::{InstanceUid, StudyUid};
use crate::trust::{Bypass, Clock, Stamps, Trust, TrustAudit};

/// How often the trust folder is looked at, besides before each series.
const LOOK: Duration = Duration::from_secs(30);
/// Bytes gathered before they are written, and read at a time.
const BUFFER: usize = 256 << 10;
/// Pieces of a series that wait to be written.
const WAITING: usize = 16;

/// Fetches what `fetch` names; see [`crate::cli::Service::fetch`].
pub(super) async fn fetch(
    config: &Config,
    fetch: &Fetch,
    progress: &Arc<Progress>,
) -> Result<Fetched, FetchError> {
    let Some(consumer) = &config.consumer else {
        return Err(FetchError::Configuration(
            "la section [consumer] manque dans la configuration ; l'ajouter".into(),
        ));
    };
    let file = fetch.kos.clone();
    let kos = tokio::task::spawn_blocking(move || read_kos(&file));
    let (kos, trust) = tokio::join!(kos, trust(config));
    let kos = kos.map_err(|panic| FetchError::Other(panic.into()))??;
    let trust = trust.map_err(FetchError::Other)?;
    let bypassed = Arc::new(Bypassed::default());
    if let Some(trust) = &trust {
        trust.audit_to(Arc::clone(&bypassed) as Arc<dyn TrustAudit>);
    }
    let peers = super::peer::peers(config, consumer, trust.as_ref());
    let peers = peers.map_err(FetchError::Other)?;
    let watch = Watch::new(trust, Arc::clone(&peers));
    let tokens: Arc<dyn TokenSource> = match &fetch.token_file {
        Some(file) => Arc::new(TokenFile::new(file.clone())),
        None => Arc::new(NoToken),
    };
    let trail = FetchTrail::open(config).await.map_err(FetchError::Other)?;
    let at_once = peers.settings().series_at_once.max(1);
    let exam = PeerExam::new(Arc::new(kos), peers, tokens)?;
    progress.expects(exam.kos().instance_count() as u64);

    let mut fetches: Vec<BoxFuture<'_, Result<u64, ArchiveError>>> = Vec::new();
    for series in &exam.kos().series {
        let fetched = fetch_series(&exam, series, &fetch.out, progress, &trail);
        let (watch, trail, bypassed) = (&watch, &trail, &bypassed);
        let fetched = async move {
            watch.look().await;
            let fetched = fetched.await;
            let recorded = trail.believes(bypassed).await;
            let there = fetched?;
            recorded.map_err(unrecorded)?;
            Ok(there)
        };
        fetches.push(fetched.boxed());
    }
    let outcomes = stream::iter(fetches).buffer_unordered(at_once);
    let outcomes: Vec<_> = tokio::select! {
        outcomes = outcomes.collect() => outcomes,
        never = watch.keep_looking() => match never {},
    };
    trail.close().await;
    let expected = exam.kos().instance_count() as u64;
    let mut at_hand = 0;
    let mut missing = 0;
    let mut failed = None;
    for outcome in outcomes {
        match outcome {
            Ok(there) => at_hand += there,
            Err(ArchiveError::Incomplete { missing: some, .. }) => missing += some,
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    match failed {
        Some(ArchiveError::Peer(error)) => Err(error.into()),
        Some(error) => Err(FetchError::Other(error.into())),
        None if missing > 0 => Err(FetchError::Incomplete { missing, expected }),
        None => Ok(Fetched {
            instances: expected,
            at_hand,
            bytes: progress.bytes(),
        }),
    }
}

/// Looks at what the service, or a command, has written to the trust folder since.
struct Watch {
    trust: Option<Trust>,
    peers: Arc<Peers>,
    /// The folder when it was last read; held over each look, so that one of several reads it.
    read: tokio::sync::Mutex<Stamps>,
    seen: Mutex<Option<Believed>>,
}

/// What makes a DRIMbox believed: revocation lists, white list, bypass.
#[derive(PartialEq, Eq)]
struct Believed {
    revocation_lists: Vec<Option<[u8; 32]>>,
    white_list: Option<[u8; 32]>,
    bypass: Option<Bypass>,
}

impl Watch {
    fn new(trust: Option<Trust>, peers: Arc<Peers>) -> Self {
        let seen = Mutex::new(trust.as_ref().map(Believed::of));
        let read = trust.as_ref().map(Trust::stamps_when_opened);
        Self {
            read: tokio::sync::Mutex::new(read.unwrap_or_default()),
            trust,
            peers,
            seen,
        }
    }

    async fn keep_looking(&self) -> Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look().await;
        }
    }

    /// Reads the folder again if a file of it changed since. After a change a DRIMbox has to prove itself on a
    /// new connection: the one that is open was believed before.
    async fn look(&self) {
        let Some(trust) = self.trust.clone() else {
            return;
        };
        let mut last = self.read.lock().await;
        let stamps = trust.stamps().await;
        if *last == stamps {
            return;
        }
        let read = tokio::task::spawn_blocking(move || {
            trust.read_again();
            Believed::of(&trust)
        });
        let Ok(now) = read.await else { return };
        *last = stamps;
        let now = Some(now);
        let mut seen = self.seen.lock();
        if *seen != now {
            *seen = now;
            self.peers.connect_anew();
        }
    }
}

impl Believed {
    fn of(trust: &Trust) -> Self {
        let lists = trust.crl_status().into_iter();
        let lists = lists.map(|status| status.list.map(|list| list.fingerprint));
        Self {
            revocation_lists: lists.collect(),
            white_list: trust.list_status().map(|status| status.list.digest),
            bypass: trust.open_bypass(),
        }
    }
}

fn unrecorded(error: anyhow::Error) -> ArchiveError {
    ArchiveError::Sink(format!("{error:#}"))
}

/// The trust store as the service left it: nothing is downloaded here.
async fn trust(config: &Config) -> anyhow::Result<Option<Trust>> {
    let Some(settings) = config.trust.clone() else {
        return Ok(None);
    };
    let open = tokio::task::spawn_blocking(move || Trust::open(settings, Clock::system()));
    Ok(Some(open.await??))
}

fn read_kos(path: &Path) -> Result<Kos, FetchError> {
    let wrong = |detail: String| {
        FetchError::Configuration(format!(
            "{} n'est pas utilisable : {detail}",
            path.display()
        ))
    };
    let limits = KosLimits::default();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        // One byte more tells that there are too many.
        file.take(limits.bytes as u64 + 1).read_to_end(&mut bytes)
    });
    read.map_err(|error| wrong(error.to_string()))?;
    Kos::parse_within(&bytes, &limits).map_err(|error| wrong(error.to_string()))
}

/// Fetches one series into its folder; how many instances were there before.
async fn fetch_series(
    exam: &PeerExam,
    series: &KosSeries,
    out: &Path,
    progress: &Arc<Progress>,
    trail: &FetchTrail<'_>,
) -> Result<u64, ArchiveError> {
    let path = out.join(series.series.as_str());
    let there = there(&path, &exam.kos().study, series).await;
    progress.has(there.len() as u64, 0);
    let made = tokio::fs::create_dir_all(&path).await;
    made.map_err(|error| ArchiveError::Sink(format!("{}: {error}", path.display())))?;
    if there.len() == series.instances.len() {
        return Ok(there.len() as u64);
    }
    let object = asked_for(exam, series);
    let begun = trail.begins(&object).await.map_err(unrecorded)?;
    let (came, started) = (Arc::<Came>::default(), Instant::now());
    let (steps, to_do) = mpsc::channel(WAITING);
    let counted = (Arc::clone(progress), Arc::clone(&came));
    let written = tokio::task::spawn_blocking(move || write(to_do, &counted.0, &counted.1));
    let folder = Folder {
        path,
        progress: Arc::clone(progress),
        came: Arc::clone(&came),
        steps,
    };
    let fetched = exam
        .fetch_series(&series.series, &there, Arc::new(folder))
        .await;
    // What the disk says comes before what it made the transfer say.
    let fetched = match written.await {
        Ok(Ok(())) => fetched,
        Ok(Err(error)) => Err(ArchiveError::Sink(error.to_string())),
        Err(error) => Err(ArchiveError::Sink(error.to_string())),
    };
    let ending = match &fetched {
        Ok(_) => Ending::Success,
        Err(_) if came.instances.load(Ordering::Relaxed) > 0 => Ending::Aborted,
        Err(_) => Ending::Failed,
    };
    let outcome = Outcome {
        bytes: Some(came.bytes.load(Ordering::Relaxed)),
        instances: Some(came.instances.load(Ordering::Relaxed)),
        duration: Some(started.elapsed()),
        ..Outcome::of(ending)
    };
    let ended = trail.ends(begun, object, outcome).await;
    fetched?;
    ended.map_err(unrecorded)?;
    Ok(there.len() as u64)
}

/// What the audit trail says of a series that is asked for.
fn asked_for(exam: &PeerExam, series: &KosSeries) -> Object {
    let host = series.retrieve_url.as_deref();
    let host = host.and_then(|url| url::Url::parse(url).ok());
    let host = host.and_then(|url| url.host_str().map(str::to_owned));
    Object {
        study: Some(exam.kos().study.as_str().into()),
        series: Some(series.series.as_str().into()),
        kos: Some(exam.kos().instance.as_str().into()),
        subject: host.map(Into::into),
        ..Object::default()
    }
}

/// The instances of a series that are whole in its folder.
async fn there(folder: &Path, study: &StudyUid, series: &KosSeries) -> HashSet<InstanceUid> {
    let (folder, study, series) = (folder.to_owned(), study.clone(), series.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let all = series.instances.into_iter().map(|one| one.instance);
        all.filter(|instance| {
            let is = |head: crate::dicom::scan::Head| {
                head.study.as_ref() == Some(&study)
                    && head.series.as_ref() == Some(&series.series)
                    && head.instance.as_ref() == Some(instance)
            };
            whole(&folder.join(file_name(instance))).is_some_and(is)
        })
        .collect()
    });
    looked.await.unwrap_or_default()
}

/// What a file says of itself, when it is a whole DICOM file.
fn whole(path: &Path) -> Option<crate::dicom::scan::Head> {
    let mut file = File::open(path).ok()?;
    let mut buffer = vec![0; BUFFER];
    let mut start = Vec::new();
    let mut scanner = None;
    loop {
        let read = file.read(&mut buffer).ok()?;
        let bytes = buffer.get(..read)?;
        if bytes.is_empty() {
            return scanner.and_then(|scanner: HeadScanner| scanner.finish().ok());
        }
        match &mut scanner {
            Some(scanner) => scanner.feed(bytes).ok()?,
            None => {
                start.extend_from_slice(bytes);
                if let Some(meta) = part10::parse_arriving(&start).ok()? {
                    let mut new = HeadScanner::new(&meta.transfer_syntax, Limits::default());
                    new.feed(start.get(meta.data_set_offset..)?).ok()?;
                    scanner = Some(new);
                }
            }
        }
    }
}

/// A UID is digits and dots: it cannot lead out of the folder.
fn file_name(instance: &InstanceUid) -> String {
    format!("{instance}.dcm")
}

/// Where the instances of a series go. Their bytes are handed to a thread that writes them: one that was woken for
/// each file that is opened, written and named would wait more than it works.
struct Folder {
    path: PathBuf,
    progress: Arc<Progress>,
    came: Arc<Came>,
    steps: mpsc::Sender<Step>,
}

/// What came of one series.
#[derive(Default)]
struct Came {
    instances: AtomicU64,
    bytes: AtomicU64,
}

/// What the thread that writes has to do.
enum Step {
    /// Append to a file.
    Append(Arc<Unfinished>, Bytes),
    /// Give a file its name: it is whole.
    Name(Arc<Unfinished>),
}

/// A file that has no name yet; it goes when nobody gives it one.
struct Unfinished {
    path: PathBuf,
    part: PathBuf,
    meta: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<BufWriter<File>>,
    is_named: bool,
}

/// Writes what is handed over until nobody hands over any more.
fn write(mut steps: mpsc::Receiver<Step>, progress: &Progress, came: &Came) -> std::io::Result<()> {
    while let Some(step) = steps.blocking_recv() {
        match step {
            Step::Append(file, data) => file.append(&data)?,
            Step::Name(file) => {
                file.name()?;
                progress.has(1, 0);
                came.instances.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

impl Unfinished {
    fn append(&self, data: &[u8]) -> std::io::Result<()> {
        let mut state = self.state.lock();
        let file = match &mut state.file {
            Some(file) => file,
            None => {
                let mut file = BufWriter::with_capacity(BUFFER, File::create(&self.part)?);
                file.write_all(&self.meta)?;
                state.file.insert(file)
            }
        };
        file.write_all(data)
    }

    fn name(&self) -> std::io::Result<()> {
        self.append(&[])?;
        let mut state = self.state.lock();
        if let Some(mut file) = state.file.take() {
            file.flush()?;
        }
        std::fs::rename(&self.part, &self.path)?;
        state.is_named = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.state.get_mut().is_named {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

impl InstanceSink for Folder {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        let name = file_name(&incoming.instance);
        let file = Unfinished {
            part: self.path.join(format!(".{name}.part")),
            path: self.path.join(name),
            meta: file_meta(
                &incoming.sop_class,
                &incoming.instance,
                &incoming.transfer_syntax,
            ),
            state: Mutex::default(),
        };
        Ok(Box::new(Writer {
            file: Arc::new(file),
            progress: Arc::clone(&self.progress),
            came: Arc::clone(&self.came),
            steps: self.steps.clone(),
        }))
    }
}

struct Writer {
    file: Arc<Unfinished>,
    progress: Arc<Progress>,
    came: Arc<Came>,
    steps: mpsc::Sender<Step>,
}

impl InstanceWriter for Writer {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        let length = data.len() as u64;
        self.progress.has(0, length);
        self.came.bytes.fetch_add(length, Ordering::Relaxed);
        let step = Step::Append(Arc::clone(&self.file), data);
        async move { self.steps.send(step).await.map_err(over) }.boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async move {
            let step = Step::Name(Arc::clone(&self.file));
            self.steps.send(step).await.map_err(over)
        }
        .boxed()
    }
}

/// The thread that writes has ended before its time, and says why itself.
fn over(_: mpsc::error::SendError<Step>) -> SinkError {
    SinkError::Abandoned
}
