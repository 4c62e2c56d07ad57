//! The measures, one function each. Runs alternate: gateway, peer, Orthanc's DICOMweb, and again.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::samples::{Exam, Instance, Series};
use crate::testkit::{KitError, Orthanc};

use super::dcmtk::Tool;
use super::fetch::{self, Connection, Server};
use super::load::{self, CLIENTS};
use super::machine;
use super::report::{Bar, Row, Unit, median};
use super::stage::{AS_STORED, JSON, Stage, address, dicomweb};
use super::verify::{self, Outcome};

/// The measures by name, in the order in which they are made.
pub const KEYS: [&str; 23] = [
    "warm-study",
    "warm-series",
    "warm-instance",
    "warm-8-same",
    "warm-8-different",
    "warm-frame",
    "frame-of-120",
    "rendered",
    "metadata",
    "search-patient",
    "search-month",
    "search-series",
    "search-25",
    "cold-study",
    "cold-study-nagle",
    "cold-first-byte",
    "cold-instance",
    "cold-frame",
    "cold-8-same",
    "transcoding",
    "rss-one",
    "rss-eight",
    "lost",
];

/// Requests for an instance in one run.
pub(super) const REQUESTS: usize = 50;
/// Runs of a measure whose peer takes minutes, or that is no time.
const FEW: usize = 3;
/// Resident memory above idle that a retrieval may take, in bytes.
const MEMORY: f64 = 64e6;

/// Attributes of a search for studies: table 10.6.3-3 of PS3.18, as the gateway asks for them.
const STUDY_KEYS: [&str; 15] = [
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "InstanceAvailability",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
];
/// The same for series, table 10.6.3-4.
const SERIES_KEYS: [&str; 8] = [
    "Modality",
    "TimezoneOffsetFromUTC",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "NumberOfSeriesRelatedInstances",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
];

/// A stage and how often to measure on it.
pub struct Bench {
    /// Where it plays.
    pub stage: Stage,
    /// Runs of a measure.
    pub runs: usize,
    /// Retrievals under load.
    pub retrievals: usize,
}

impl Bench {
    /// Makes one measure, which may take several rows.
    ///
    /// # Errors
    /// When something does not work: a status that is not 200, a body of another size, a peer that
    /// fails, an instance that is lost.
    pub async fn measure(&mut self, key: &str) -> Result<Vec<Row>, KitError> {
        let row = match key {
            "warm-study" => self.warm_study()?,
            "warm-series" => self.warm_series()?,
            "warm-instance" => self.warm_instance().await?,
            "warm-8-same" => self.warm_eight_same()?,
            "warm-8-different" => self.warm_eight_different()?,
            "warm-frame" => self.warm_frame()?,
            "frame-of-120" => self.frame_of_120()?,
            "rendered" => self.rendered()?,
            "metadata" => self.metadata()?,
            "search-patient" => self.search_patient()?,
            "search-month" => self.search_month()?,
            "search-series" => self.search_series()?,
            "search-25" => return self.search_25(),
            "cold-study" => self.cold_study().await?,
            "cold-study-nagle" => self.cold_study_nagle().await?,
            "cold-first-byte" => self.cold_first_byte().await?,
            "cold-instance" => self.cold_instance().await?,
            "cold-frame" => self.cold_frame().await?,
            "cold-8-same" => self.cold_eight().await?,
            "transcoding" => self.transcoding()?,
            "rss-one" => {
                let exams = [self.stage.ct.clone()];
                let what = "peak RSS over idle, one study (cold, then warm)";
                self.memory("rss-one", what, &exams).await?
            }
            "rss-eight" => {
                let exams = self.stage.copies.clone();
                let what = "peak RSS over idle, eight studies at once (cold, then warm)";
                self.memory("rss-eight", what, &exams).await?
            }
            "lost" => self.lost().await?,
            _ => {
                return Err(KitError::Invalid {
                    what: key.into(),
                    reason: format!("no such measure; there are {}", KEYS.join(", ")),
                });
            }
        };
        Ok(vec![row])
    }

    fn warm_study(&self) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let what = "warm study, 1 300 images";
        self.warm("warm-study", what, &[path], Bar::ThroughputOfPeer(0.8))
    }

    fn warm_series(&self) -> Result<Row, KitError> {
        let (_, chosen) = self.first_series()?;
        let what = format!("warm series, {} images", chosen.count);
        let path = series(&self.stage.ct, chosen);
        self.warm("warm-series", what, &[path], Bar::ThroughputOfPeer(0.8))
    }

    fn warm_eight_same(&self) -> Result<Row, KitError> {
        let paths = vec![study(&self.stage.ct); CLIENTS];
        let what = "8 clients, warm, the same study";
        self.warm("warm-8-same", what, &paths, Bar::ThroughputOfPeer(0.8))
    }

    fn warm_eight_different(&self) -> Result<Row, KitError> {
        let paths: Vec<_> = self.stage.copies.iter().map(study).collect();
        let what = "8 clients, warm, different studies";
        self.warm("warm-8-different", what, &paths, Bar::ThroughputOfPeer(0.8))
    }

    /// One client per path, each on a connection opened within the measured time, against the same
    /// bytes from nginx.
    fn warm(
        &self,
        key: &'static str,
        measure: impl Into<String>,
        paths: &[String],
        bar: Bar,
    ) -> Result<Row, KitError> {
        let stage = &self.stage;
        let (drimbox, orthanc) = (stage.drimbox(), dicomweb(&stage.pacs)?);
        let mut files: Vec<(String, String)> = Vec::new();
        let mut bytes = 0;
        for path in paths {
            // The first retrieval fills the cache.
            fetch::fetch(&drimbox, path, AS_STORED)?;
            let body = fetch::fetch_body(&drimbox, path, AS_STORED)?;
            bytes += body.len() as u64;
            let file = match files.iter().find(|(known, _)| known == path) {
                Some((_, file)) => file.clone(),
                None => stage.publish(&format!("{key}-{}", files.len()), &body)?,
            };
            files.push((path.clone(), file));
        }
        let files: Vec<String> = files.into_iter().map(|(_, file)| file).collect();
        let mut row = Row::new(key, measure, Unit::Throughput(bytes), bar);
        row.peer_name = "nginx, the same bytes as static files".into();
        for _ in 0..self.runs {
            row.ours.push(together(&drimbox, paths, Some(bytes))?);
            row.peer.push(together(&stage.nginx, &files, Some(bytes))?);
            row.orthanc.push(together(&orthanc, paths, None)?);
        }
        Ok(row)
    }

    /// An instance of a series that is in the cache as a whole, as when a study is being read.
    async fn warm_instance(&mut self) -> Result<Row, KitError> {
        self.stage.cold().await?;
        let stage = &self.stage;
        let (at, chosen) = self.first_series()?;
        let path = instance(&stage.ct, (at, chosen), 100)?;
        let drimbox = stage.drimbox();
        let orthanc = dicomweb(&stage.pacs)?;
        fetch::fetch(&drimbox, &series(&stage.ct, chosen), AS_STORED)?;
        let body = fetch::fetch_body(&drimbox, &path, AS_STORED)?;
        let file = stage.publish("instance", &body)?;
        let mut row = Row::new(
            "warm-instance",
            "warm instance of a warm series, on an open connection",
            Unit::Time,
            Bar::TimesPeer(1.5),
        );
        row.peer_name = "nginx, the same bytes as a static file".into();
        row.note = format!("each run is the median of {REQUESTS} requests on one connection");
        for _ in 0..self.runs {
            row.ours.push(in_a_row(&drimbox, &path, AS_STORED)?);
            row.peer.push(in_a_row(&stage.nginx, &file, AS_STORED)?);
            row.orthanc.push(in_a_row(&orthanc, &path, AS_STORED)?);
        }
        Ok(row)
    }

    fn metadata(&self) -> Result<Row, KitError> {
        let stage = &self.stage;
        let (drimbox, orthanc) = (stage.drimbox(), dicomweb(&stage.pacs)?);
        let chosen = stage.ct300.series.first().ok_or_else(none)?;
        let path = series(&stage.ct300, chosen) + "/metadata";
        for server in [&drimbox, &orthanc] {
            let found = elements(&fetch::fetch_body(server, &path, JSON)?);
            if found != Some(chosen.count) {
                let reason = format!("{found:?} objects instead of {}", chosen.count);
                return Err(KitError::http(format!("{}: {path}", server.name))(reason));
            }
        }
        let mut row = Row::new(
            "metadata",
            "metadata of a 300-image series, warm",
            Unit::Time,
            Bar::LessThanPeer,
        );
        row.peer_name = "Orthanc's DICOMweb, plain HTTP".into();
        for _ in 0..self.runs {
            row.ours.push(seconds(&drimbox, &path, JSON)?);
            row.peer.push(seconds(&orthanc, &path, JSON)?);
        }
        row.orthanc.clone_from(&row.peer);
        Ok(row)
    }

    fn search_patient(&self) -> Result<Row, KitError> {
        let query = [("PatientID", "SEARCH-007")];
        let path = "/studies?PatientID=SEARCH-007";
        let what = "search: a patient's studies";
        self.search("search-patient", what, path, &self.find_studies(&query))
    }

    fn search_month(&self) -> Result<Row, KitError> {
        let query = [("StudyDate", "20260201-20260228")];
        let path = "/studies?StudyDate=20260201-20260228";
        let what = "search: studies of a month";
        self.search("search-month", what, path, &self.find_studies(&query))
    }

    fn search_series(&self) -> Result<Row, KitError> {
        let study = self.stage.ct.study_instance_uid.clone();
        let mut keys = vec![
            ("QueryRetrieveLevel", "SERIES"),
            ("StudyInstanceUID", study.as_str()),
        ];
        keys.extend(SERIES_KEYS.map(|key| (key, "")));
        let tool = Tool::findscu(&address(&self.stage.pacs), &keys);
        let path = format!("/studies/{study}/series");
        let what = "search: series of a study";
        self.search("search-series", what, &path, &tool)
    }

    fn search(
        &self,
        key: &'static str,
        measure: &str,
        path: &str,
        tool: &Tool,
    ) -> Result<Row, KitError> {
        let (drimbox, orthanc) = (self.stage.drimbox(), dicomweb(&self.stage.pacs)?);
        let found = elements(&fetch::fetch_body(&drimbox, path, JSON)?);
        let peer = tool.clone().count("Find Response:")?;
        if found != Some(peer) {
            let reason = format!("{found:?} matches, findscu has {peer}");
            return Err(KitError::http(format!("GET {path}"))(reason));
        }
        let mut row = Row::new(
            key,
            format!("{measure} ({peer} matches)"),
            Unit::Time,
            Bar::TimesPeer(1.3),
        );
        row.peer_name = "findscu, same query".into();
        row.note = tool.command();
        for _ in 0..self.runs {
            row.ours.push(seconds(&drimbox, path, JSON)?);
            row.peer.push(tool.time()?.as_secs_f64());
            row.orthanc.push(seconds(&orthanc, path, JSON)?);
        }
        Ok(row)
    }

    fn search_25(&self) -> Result<Vec<Row>, KitError> {
        let (drimbox, orthanc) = (self.stage.drimbox(), dicomweb(&self.stage.pacs)?);
        let path = "/studies?limit=25";
        let found = elements(&fetch::fetch_body(&drimbox, path, JSON)?);
        if found != Some(25) {
            let reason = format!("{found:?} matches instead of 25");
            return Err(KitError::http(format!("GET {path}"))(reason));
        }
        let whole = self.find_studies(&[]);
        let cancelled = whole.clone().option_with("--cancel", "25").may_fail();
        let mut row = Row::new(
            "search-25",
            "search: 25 of 1 000 studies",
            Unit::Time,
            Bar::TimesPeer(1.3),
        );
        row.peer_name = "findscu, all matches".into();
        row.note = format!(
            "{}; pages that neither overlap nor leave gaps need every match: C-FIND has no order",
            whole.command()
        );
        let mut early = Row::new(
            "search-25",
            "the same, findscu cancelled",
            Unit::Time,
            Bar::None,
        );
        early.peer_name = "findscu --cancel 25".into();
        early.note =
            "Orthanc goes on answering after the C-CANCEL, whereupon findscu aborts".into();
        for _ in 0..self.runs {
            row.ours.push(seconds(&drimbox, path, JSON)?);
            row.peer.push(whole.time()?.as_secs_f64());
            early.peer.push(cancelled.time()?.as_secs_f64());
            row.orthanc.push(seconds(&orthanc, path, JSON)?);
        }
        early.ours.clone_from(&row.ours);
        early.orthanc.clone_from(&row.orthanc);
        Ok(vec![row, early])
    }

    /// `findscu` for studies, asking for what a search over DICOMweb returns.
    fn find_studies(&self, query: &[(&str, &str)]) -> Tool {
        let mut keys = vec![("QueryRetrieveLevel", "STUDY")];
        keys.extend_from_slice(query);
        let open = STUDY_KEYS
            .iter()
            .filter(|key| query.iter().all(|(asked, _)| asked != *key));
        keys.extend(open.map(|&key| (key, "")));
        Tool::findscu(&address(&self.stage.pacs), &keys)
    }

    async fn cold_study(&mut self) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let expected = verify::expected(self.stage.ct.instances());
        self.stage.cold().await?;
        intact(&self.stage.drimbox(), &path, &expected)?;
        let bytes = fetch::fetch(&self.stage.drimbox(), &path, AS_STORED)?.bytes;
        let orthanc = dicomweb(&self.stage.pacs)?;
        let tool = get_study(&self.stage.pacs, &self.stage.ct);
        let mut row = Row::new(
            "cold-study",
            "cold study, PACS with nodelay",
            Unit::Time,
            Bar::TimesPeer(1.05),
        );
        row.peer_name = "getscu, data ignored".into();
        row.note = tool.command();
        for _ in 0..self.runs {
            self.stage.cold().await?;
            let paths = [path.clone()];
            let ours = together(&self.stage.drimbox(), &paths, Some(bytes))?;
            row.ours.push(ours);
            row.peer.push(tool.time()?.as_secs_f64());
            row.orthanc.push(seconds(&orthanc, &path, AS_STORED)?);
        }
        Ok(row)
    }

    async fn cold_study_nagle(&mut self) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let Some(pacs) = &self.stage.nagle else {
            return Err(none());
        };
        let orthanc = dicomweb(pacs)?;
        let tool = get_study(pacs, &self.stage.ct);
        let mut row = Row::new(
            "cold-study-nagle",
            "cold study, PACS as Debian ships it (Nagle)",
            Unit::Time,
            Bar::TimesPeer(0.3),
        );
        row.peer_name = "getscu, data ignored, from that PACS".into();
        row.note = tool.command();
        for _ in 0..self.runs.min(FEW) {
            self.stage.cold().await?;
            let ours = seconds(&self.stage.drimbox_nagle(), &path, AS_STORED)?;
            row.ours.push(ours);
            row.peer.push(tool.time()?.as_secs_f64());
            row.orthanc.push(seconds(&orthanc, &path, AS_STORED)?);
        }
        Ok(row)
    }

    async fn cold_first_byte(&mut self) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let orthanc = dicomweb(&self.stage.pacs)?;
        let mut row = Row::new(
            "cold-first-byte",
            "cold first byte of the study",
            Unit::Time,
            Bar::AtMost(0.020),
        );
        let mut after_connect = Vec::new();
        for _ in 0..self.runs {
            self.stage.cold().await?;
            let drimbox = self.stage.drimbox();
            let started = Instant::now();
            let mut connection = Connection::open(&drimbox)?;
            let connected = started.elapsed();
            let mut all = |_: &[u8]| ControlFlow::Continue(());
            let answer = connection.get(&path, AS_STORED, &mut all)?;
            let answer = fetch::expect_ok(&drimbox, &path, answer)?;
            let first = answer.first_image.ok_or_else(none)?;
            row.ours.push((connected + first).as_secs_f64());
            after_connect.push(first.as_secs_f64());
            let answer = fetch::fetch(&orthanc, &path, AS_STORED)?;
            let first = answer.first_image.ok_or_else(none)?;
            row.orthanc.push(first.as_secs_f64());
        }
        row.note = format!(
            "from before the TCP connection and the TLS handshake to a byte of the first image; \
             {:.1} ms of it after the handshake",
            median(&after_connect).unwrap_or_default() * 1e3
        );
        Ok(row)
    }

    async fn cold_instance(&mut self) -> Result<Row, KitError> {
        let orthanc = dicomweb(&self.stage.pacs)?;
        let mut row = Row::new(
            "cold-instance",
            "cold instance",
            Unit::Time,
            Bar::TimesPeer(1.5),
        );
        row.peer_name = "getscu of one image, data ignored".into();
        for run in 0..self.runs {
            let (at, chosen) = self.first_series()?;
            let wanted = run * 37 % chosen.count.max(1);
            let path = instance(&self.stage.ct, (at, chosen), wanted)?;
            let object: &Instance = chosen.instances.get(wanted).ok_or_else(none)?;
            let keys = [
                ("QueryRetrieveLevel", "IMAGE"),
                ("StudyInstanceUID", &self.stage.ct.study_instance_uid),
                ("SeriesInstanceUID", &chosen.series_instance_uid),
                ("SOPInstanceUID", &object.sop_instance_uid),
            ];
            let tool = Tool::getscu(&address(&self.stage.pacs), &keys);
            row.note = tool.command();
            self.stage.cold().await?;
            row.ours
                .push(seconds(&self.stage.drimbox(), &path, AS_STORED)?);
            row.peer.push(tool.time()?.as_secs_f64());
            row.orthanc.push(seconds(&orthanc, &path, AS_STORED)?);
        }
        Ok(row)
    }

    async fn cold_eight(&mut self) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let orthanc = dicomweb(&self.stage.pacs)?;
        let all = vec![path.clone(); CLIENTS];
        let mut row = Row::new(
            "cold-8-same",
            "8 clients, cold, the same study",
            Unit::Time,
            Bar::TimesPeer(2.0),
        );
        row.peer_name = "one client, cold".into();
        let drimbox = self.stage.drimbox();
        let (mut one, mut eight) = (Vec::new(), Vec::new());
        let mut rooms = vec![vec![1; kept_size(&self.stage.ct)]; CLIENTS];
        for _ in 0..self.runs {
            self.stage.cold().await?;
            row.peer
                .push(together_kept(&drimbox, &path, &mut rooms[..1])?);
            self.stage.cold().await?;
            row.ours.push(together_kept(&drimbox, &path, &mut rooms)?);
            row.orthanc.push(together(&orthanc, &all, None)?);
            self.stage.cold().await?;
            one.push(seconds(&drimbox, &path, AS_STORED)?);
            self.stage.cold().await?;
            eight.push(together(&drimbox, &all, None)?);
        }
        let (one, eight) = (median(&one), median(&eight));
        row.note = format!(
            "the clients keep what arrives and decipher and check it once the clock has stopped: \
             here they share the processors with the gateway and the PACS. Deciphering at once: \
             {:.0} ms for {:.0} ms of one client, {:.2} times",
            eight.unwrap_or_default() * 1e3,
            one.unwrap_or_default() * 1e3,
            eight.zip(one).map_or(0.0, |(eight, one)| eight / one),
        );
        // Counted apart: the PACS tells its requests in its log alone, and a PACS that logs them is
        // a slower one.
        self.stage.cold().await?;
        log_level(&self.stage.pacs, "verbose").await?;
        let before = self.stage.pacs.requests()?.get;
        together(&self.stage.drimbox(), &all, None)?;
        let most = self.stage.pacs.requests()?.get - before;
        log_level(&self.stage.pacs, "default").await?;
        row.also = Some((
            format!("one C-GET at the PACS (counted: {most})"),
            most == 1,
        ));
        Ok(row)
    }

    /// The peak of the resident memory over what the idle process uses.
    async fn memory(
        &mut self,
        key: &'static str,
        measure: &str,
        exams: &[Exam],
    ) -> Result<Row, KitError> {
        let paths: Vec<_> = exams.iter().map(study).collect();
        let orthanc = dicomweb(&self.stage.pacs)?;
        let mut row = Row::new(key, measure, Unit::Memory, Bar::AtMost(MEMORY));
        let mut idle = Vec::new();
        for _ in 0..self.runs.min(FEW) {
            self.stage.cold().await?;
            let drimbox = self.stage.drimbox();
            let pid = self.stage.gateway.pid();
            idle.push(figure(machine::memory(pid)?.now));
            row.ours.push(peak_over_idle(pid, || {
                together(&drimbox, &paths, None)?;
                together(&drimbox, &paths, None)
            })?);
            let pid = self.stage.pacs.process().pid();
            row.orthanc
                .push(peak_over_idle(pid, || together(&orthanc, &paths, None))?);
        }
        row.note = format!("idle: {:.1} MB", median(&idle).unwrap_or_default() / 1e6);
        Ok(row)
    }

    async fn lost(&mut self) -> Result<Row, KitError> {
        let mut exams = self.stage.copies.clone();
        exams.push(self.stage.ct.clone());
        exams.push(self.stage.ct300.clone());
        let (gateway, drimbox) = self.stage.small_gateway().await?;
        let tally = load::run(&drimbox, &exams, self.retrievals);
        let metrics = gateway.metrics().await?;
        let count = |name| metrics.sum(name, &[]);
        let ways = format!(
            "{} retrievals from the PACS, {} times joined to one under way, {} times from the cache, {} evictions",
            count("drimbox_cache_misses_total"),
            count("drimbox_cache_joined_total"),
            count("drimbox_cache_hits_total"),
            count("drimbox_cache_evictions_total"),
        );
        let orthanc = load::run(&dicomweb(&self.stage.pacs)?, &exams, self.retrievals);
        let mut row = Row::new(
            "lost",
            format!(
                "lost instances in {} retrievals under load",
                self.retrievals
            ),
            Unit::Count,
            Bar::AtMost(0.0),
        );
        row.ours.push(figure((tally.lost + tally.wrong) as u64));
        row.orthanc
            .push(figure((orthanc.lost + orthanc.wrong) as u64));
        let visible = tally.failed() == 0;
        row.also = Some((format!("none failed ({} did)", tally.failed()), visible));
        row.note = format!(
            "{CLIENTS} clients; {}; {ways}. Orthanc: {}",
            tally.describe(),
            orthanc.describe()
        );
        Ok(row)
    }

    /// The longest series of the 1 300-image study, with its place.
    pub(super) fn first_series(&self) -> Result<(usize, &Series), KitError> {
        let all = self.stage.ct.series.iter().enumerate();
        all.max_by_key(|(_, series)| series.count).ok_or_else(none)
    }
}

fn study(exam: &Exam) -> String {
    format!("/studies/{}", exam.study_instance_uid)
}

pub(super) fn series(exam: &Exam, series: &Series) -> String {
    format!("{}/series/{}", study(exam), series.series_instance_uid)
}

pub(super) fn instance(
    exam: &Exam,
    (_, chosen): (usize, &Series),
    at: usize,
) -> Result<String, KitError> {
    let object = chosen.instances.get(at).ok_or_else(none)?;
    let series = series(exam, chosen);
    Ok(format!("{series}/instances/{}", object.sop_instance_uid))
}

fn get_study(pacs: &Orthanc, exam: &Exam) -> Tool {
    let keys = [
        ("QueryRetrieveLevel", "STUDY"),
        ("StudyInstanceUID", exam.study_instance_uid.as_str()),
    ];
    Tool::getscu(&address(pacs), &keys)
}

/// Something that the stage was to have is not there.
pub(super) fn none() -> KitError {
    KitError::Invalid {
        what: "the stage".into(),
        reason: "it lacks what this measure needs".into(),
    }
}

/// One request on a connection of its own, in seconds.
pub(super) fn seconds(server: &Server, path: &str, accept: &str) -> Result<f64, KitError> {
    Ok(fetch::fetch(server, path, accept)?.total.as_secs_f64())
}

/// One client per path, all at once; seconds until the last has everything. `bytes`: what they have
/// to receive together.
fn together(server: &Server, paths: &[String], bytes: Option<u64>) -> Result<f64, KitError> {
    let started = Instant::now();
    let received = std::thread::scope(|scope| {
        let clients: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(move || fetch::fetch(server, path, AS_STORED)))
            .collect();
        let mut received = 0;
        for client in clients {
            let died = |_| KitError::http("a client")("it ended without a result");
            received += client.join().map_err(died)??.bytes;
        }
        Ok::<u64, KitError>(received)
    })?;
    let elapsed = started.elapsed();
    match bytes {
        Some(bytes) if bytes != received => Err(KitError::http(format!("{} bodies", server.name))(
            format!("{received} bytes instead of {bytes}"),
        )),
        _ => Ok(elapsed.as_secs_f64()),
    }
}

/// As [`together`], one client for each of `rooms`, which keep what they receive until all have
/// theirs; see [`fetch::fetch_kept`].
fn together_kept(server: &Server, path: &str, rooms: &mut [Vec<u8>]) -> Result<f64, KitError> {
    let started = Instant::now();
    let kept = std::thread::scope(|scope| {
        let clients: Vec<_> = rooms
            .iter_mut()
            .map(std::mem::take)
            .map(|room| scope.spawn(move || fetch::fetch_kept(server, path, AS_STORED, room)))
            .collect();
        let died = |_| KitError::http("a client")("it ended without a result");
        let joined = clients
            .into_iter()
            .map(|client| client.join().map_err(died)?);
        joined.collect::<Result<Vec<_>, KitError>>()
    })?;
    let elapsed = started.elapsed();
    for (kept, room) in kept.into_iter().zip(rooms) {
        (_, *room) = kept.open()?;
    }
    Ok(elapsed.as_secs_f64())
}

/// Bytes of an exam on the wire, with room for the heads of its parts and its TLS records.
fn kept_size(exam: &Exam) -> usize {
    let instances = exam.series.iter().flat_map(|series| &series.instances);
    let bytes: u64 = instances.map(|instance| instance.size + 1024).sum();
    usize::try_from(bytes + bytes / 64 + (1 << 20)).unwrap_or(usize::MAX)
}

/// Requests one after the other on one connection; the median time of one, in seconds.
pub(super) fn in_a_row(server: &Server, path: &str, accept: &str) -> Result<f64, KitError> {
    let mut connection = Connection::open(server)?;
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let mut all = |_: &[u8]| ControlFlow::Continue(());
        let answer = connection.get(path, accept, &mut all)?;
        let answer = fetch::expect_ok(server, path, answer)?;
        times.push(Duration::as_secs_f64(&answer.total));
    }
    median(&times).ok_or_else(none)
}

/// Retrieves and compares with the sample.
fn intact(server: &Server, path: &str, expected: &verify::Expected) -> Result<(), KitError> {
    match verify::retrieve(server, path, AS_STORED, expected, None) {
        Outcome::Complete(delivery) if delivery.lost == 0 && delivery.wrong == 0 => Ok(()),
        other => Err(KitError::http(format!("GET {path}"))(format!("{other:?}"))),
    }
}

/// Number of elements of a JSON array.
fn elements(body: &[u8]) -> Option<usize> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.as_array().map(Vec::len)
}

fn peak_over_idle(pid: u32, work: impl FnOnce() -> Result<f64, KitError>) -> Result<f64, KitError> {
    let idle = machine::memory(pid)?.now;
    machine::reset_peak(pid)?;
    work()?;
    Ok(figure(machine::memory(pid)?.peak.saturating_sub(idle)))
}

async fn log_level(pacs: &Orthanc, level: &str) -> Result<(), KitError> {
    let url = format!("{}/tools/log-level", pacs.http_url());
    let client = crate::testkit::Client::plain()?;
    let answer = client
        .request(http::Method::PUT, &url)
        .body(level.to_owned())
        .send()
        .await?;
    let status = answer.status();
    answer.bytes().await?;
    if status.is_success() {
        Ok(())
    } else {
        Err(KitError::http("set Orthanc's log level")(status))
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts for print")]
fn figure(value: u64) -> f64 {
    value as f64
}
