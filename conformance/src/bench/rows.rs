//! The measures, one function each. Runs alternate: gateway, peer, Orthanc's DICOMweb, and again.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::samples::{Exam, Series};
use crate::testkit::KitError;

use super::fetch::{self, Connection, Server};
use super::report::{Bar, Row, median};
use super::stage::{AS_STORED, Stage};
use super::strain;

/// The measures by name, in the order in which they are made.
pub const KEYS: [&str; 24] = [
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
    "cold-first-byte-started",
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
pub(super) const FEW: usize = 3;

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
            "warm-instance" => return self.warm_instance().await,
            "warm-8-same" => self.warm_eight_same()?,
            "warm-8-different" => self.warm_eight_different()?,
            "warm-frame" => return self.warm_frame(),
            "frame-of-120" => return self.frame_of_120(),
            "rendered" => self.rendered()?,
            "metadata" => self.metadata()?,
            "search-patient" => self.search_patient()?,
            "search-month" => self.search_month()?,
            "search-series" => self.search_series()?,
            "search-25" => return self.search_25(),
            "cold-study" => self.cold_study().await?,
            "cold-study-nagle" => self.cold_study_nagle().await?,
            "cold-first-byte" => self.cold_first_byte().await?,
            "cold-first-byte-started" => self.first_byte_after_start().await?,
            "cold-instance" => self.cold_instance().await?,
            "cold-frame" => self.cold_frame().await?,
            "cold-8-same" => self.cold_eight().await?,
            "transcoding" => self.transcoding()?,
            "rss-one" => {
                let exams = [self.stage.ct.clone()];
                let what = "peak RSS over idle, one study (cold, then warm)";
                self.memory("rss-one", what, &exams, strain::ONE).await?
            }
            "rss-eight" => {
                let exams = self.stage.copies.clone();
                let what = "peak RSS over idle, eight studies at once (cold, then warm)";
                self.memory("rss-eight", what, &exams, strain::EIGHT)
                    .await?
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

    /// The longest series of the 1 300-image study, with its place.
    pub(super) fn first_series(&self) -> Result<(usize, &Series), KitError> {
        let all = self.stage.ct.series.iter().enumerate();
        all.max_by_key(|(_, series)| series.count).ok_or_else(none)
    }
}

pub(super) fn study(exam: &Exam) -> String {
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
pub(super) fn together(
    server: &Server,
    paths: &[String],
    bytes: Option<u64>,
) -> Result<f64, KitError> {
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

/// A row of [`in_a_row`] on the local listener, and the one of the same on a `db` name.
pub(super) fn with_recorded(mut row: Row, recorded: Vec<f64>) -> Vec<Row> {
    row.note = format!(
        "each run is the median of {REQUESTS} requests on one connection, to the listener of the \
         centre's own network, over TLS"
    );
    let mut on_record = row.clone();
    on_record.measure = "the same on a `db` name".into();
    on_record.ours = recorded;
    on_record.bar = Bar::None;
    on_record.note = "each request is in the audit trail, on disk, before its first byte".into();
    vec![row, on_record]
}

/// Number of elements of a JSON array.
pub(super) fn elements(body: &[u8]) -> Option<usize> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.as_array().map(Vec::len)
}

#[expect(clippy::cast_precision_loss, reason = "bytes and counts for print")]
pub(super) fn figure(value: u64) -> f64 {
    value as f64
}
