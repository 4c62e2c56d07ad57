//! Traces of the proxy: one JSON object per line, on disk before the request goes on, in files of bounded size and
//! number. What they hold names professionals: only the service may read them, and they are no log.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use psc_auth::{NationalId, UnixTime};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::form_urlencoded;

use crate::config::ProxyTraces;

use super::farewells::Farewell;
use super::sessions::{End, ProxySession};

/// Traces in one answer; the newest are given.
const MOST_SERVED: usize = 10_000;

/// One event, with the members of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trace {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(rename = "clientId")]
    client_id: String,
    #[serde(rename = "IdRPPS")]
    national_id: String,
    #[serde(rename = "ipAddress")]
    address: String,
    ports: Vec<u16>,
    #[serde(rename = "proxy_id_session", skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_state: Option<String>,
    dn: String,
    timestamp: String,
    #[serde(rename = "apiRequest", skip_serializing_if = "Option::is_none")]
    request: Option<ApiRequest>,
    /// Beyond the contract: the status of a refused connection, or why a session is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Kind {
    ConnectSuccess,
    ConnectReplay,
    ConnectFailure,
    Send,
    Disconnect,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ApiRequest {
    #[serde(rename = "nomApiPsc")]
    api: String,
    #[serde(rename = "methode")]
    method: String,
    path: String,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) client_id: String,
    pub(super) national_id: NationalId,
    /// Subject of the client's certificate.
    pub(super) dn: String,
    pub(super) remote: SocketAddr,
}

impl Trace {
    fn new(kind: Kind, who: &Who, session: Option<&ProxySession>, now: UnixTime) -> Self {
        Self {
            kind,
            client_id: who.client_id.clone(),
            national_id: who.national_id.as_str().to_owned(),
            address: who.remote.ip().to_canonical().to_string(),
            ports: vec![who.remote.port()],
            session: session.map(|session| session.id.clone()),
            session_state: session.and_then(|session| session.state.clone()),
            dn: who.dn.clone(),
            timestamp: written(now),
            request: None,
            reason: None,
        }
    }

    pub(super) fn success(who: &Who, session: &ProxySession, now: UnixTime) -> Self {
        Self::new(Kind::ConnectSuccess, who, Some(session), now)
    }

    pub(super) fn replay(who: &Who, session: &ProxySession, now: UnixTime) -> Self {
        Self::new(Kind::ConnectReplay, who, Some(session), now)
    }

    pub(super) fn failure(who: &Who, status: u16, now: UnixTime) -> Self {
        Self {
            reason: Some(status.to_string()),
            ..Self::new(Kind::ConnectFailure, who, None, now)
        }
    }

    /// The software went away while its user was asked.
    pub(super) fn abandoned(who: &Who, now: UnixTime) -> Self {
        Self {
            reason: Some(End::Abandoned.as_str().to_owned()),
            ..Self::new(Kind::ConnectFailure, who, None, now)
        }
    }

    pub(super) fn send(
        who: &Who,
        session: &ProxySession,
        api: &str,
        method: &str,
        path: &str,
        now: UnixTime,
    ) -> Self {
        Self {
            request: Some(ApiRequest {
                api: api.to_owned(),
                method: method.to_owned(),
                path: path.to_owned(),
            }),
            ..Self::new(Kind::Send, who, Some(session), now)
        }
    }

    pub(super) fn disconnect(session: &Farewell, end: End, now: UnixTime) -> Self {
        let who = Who {
            client_id: session.client_id.clone(),
            national_id: session.national_id.clone(),
            dn: session.dn.clone(),
            remote: session.remote,
        };
        let reason = Some(end).filter(|end| *end != End::Asked);
        Self {
            reason: reason.map(|end| end.as_str().to_owned()),
            session: Some(session.id.clone()),
            session_state: session.state.clone(),
            ..Self::new(Kind::Disconnect, &who, None, now)
        }
    }
}

fn written(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

/// Why a trace cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error(
    "traces in {path}: {what} failed: {source}. Check the room on the disk, and that the service owns this folder."
)]
pub(super) struct TracesError {
    path: PathBuf,
    what: &'static str,
    source: std::io::Error,
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> TracesError {
    let path = path.to_owned();
    move |source| TracesError { path, what, source }
}

/// The files `traces-NNNNNNNN.jsonl` of one folder; the highest number is written to.
pub(super) struct Traces {
    dir: PathBuf,
    max_file_bytes: u64,
    max_files: usize,
    current: Mutex<Current>,
}

struct Current {
    number: u64,
    file: File,
    bytes: u64,
    /// A write failed half-way: the line is cut off before the next.
    torn: bool,
}

impl Traces {
    /// Opens the folder, makes it when it is not there, and cuts off a line that a crash left unfinished.
    pub(super) fn open(settings: &ProxyTraces) -> Result<Self, TracesError> {
        let dir = settings.dir.clone();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(failed(&dir, "making the folder"))?;
        let number = numbers(&dir)?.last().copied().unwrap_or(1);
        let current = Current::open(&dir, number)?;
        Ok(Self {
            dir,
            max_file_bytes: settings.max_file_bytes,
            max_files: settings.max_files,
            current: Mutex::new(current),
        })
    }

    /// Writes one trace; it is on disk when this returns.
    pub(super) fn append(&self, trace: &Trace) -> Result<(), TracesError> {
        let line_failed = failed(&self.dir, "writing a line");
        let mut line = match serde_json::to_vec(trace) {
            Ok(line) => line,
            Err(error) => return Err(line_failed(error.into())),
        };
        line.push(b'\n');
        let mut current = self.current.lock();
        if current.bytes > 0 && current.bytes + line.len() as u64 > self.max_file_bytes {
            *current = Current::open(&self.dir, current.number + 1)?;
            self.forget_oldest()?;
        }
        current.write(&line).map_err(line_failed)
    }

    fn forget_oldest(&self) -> Result<(), TracesError> {
        let all = numbers(&self.dir)?;
        let surplus = all.len().saturating_sub(self.max_files);
        for number in all.into_iter().take(surplus) {
            let path = file_name(&self.dir, number);
            fs::remove_file(&path).map_err(failed(&path, "removing the oldest file"))?;
        }
        Ok(())
    }

    /// The traces of a range, oldest first; of more than 10,000, the newest.
    pub(super) fn read(&self, range: Range) -> Result<Vec<Trace>, TracesError> {
        let mut found = std::collections::VecDeque::new();
        for number in numbers(&self.dir)? {
            let path = file_name(&self.dir, number);
            let file = match File::open(&path) {
                Ok(file) => file,
                // Rotated away meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&path, "opening")(error)),
            };
            for line in BufReader::new(file).lines() {
                let line = line.map_err(failed(&path, "reading"))?;
                // The line being written now may be there in part.
                let Ok(trace) = serde_json::from_str::<Trace>(&line) else {
                    continue;
                };
                if !range.holds(&trace.timestamp) {
                    continue;
                }
                if found.len() == MOST_SERVED {
                    found.pop_front();
                }
                found.push_back(trace);
            }
        }
        Ok(found.into())
    }
}

impl Current {
    fn open(dir: &Path, number: u64) -> Result<Self, TracesError> {
        let path = file_name(dir, number);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path, "opening"))?;
        let bytes = whole_lines(&mut file).map_err(failed(&path, "reading"))?;
        let prepared = file
            .set_len(bytes)
            .and_then(|()| file.seek(SeekFrom::Start(bytes)))
            .and_then(|_| file.sync_all())
            // The entry of a new file must be on disk before its lines count as written.
            .and_then(|()| File::open(dir)?.sync_all());
        prepared.map_err(failed(&path, "preparing"))?;
        Ok(Self {
            number,
            file,
            bytes,
            torn: false,
        })
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::Start(self.bytes))?;
        }
        self.torn = true;
        self.file.write_all(line)?;
        self.file.sync_data()?;
        self.torn = false;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Bytes up to the last end of a line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if count == 0 || line.last() != Some(&b'\n') {
            return Ok(whole);
        }
        whole += count as u64;
    }
}

fn file_name(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("traces-{number:08}.jsonl"))
}

/// The numbers of the files there are, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, TracesError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir, "listing"))? {
        let entry = entry.map_err(failed(dir, "listing"))?;
        let name = entry.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix("traces-")?.strip_suffix(".jsonl"))
            .and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// `?start=&end=`: moments as in RFC 3339, or milliseconds since 1970; both ends belong to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Range {
    start: Option<OffsetDateTime>,
    end: Option<OffsetDateTime>,
}

impl Range {
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        let mut range = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "start" => &mut range.start,
                "end" => &mut range.end,
                _ => continue,
            };
            let moment = moment(&value).ok_or(
                "start et end sont des instants RFC 3339 (2026-01-31T08:00:00Z) ou des millisecondes",
            )?;
            *place = Some(moment);
        }
        Ok(range)
    }

    fn holds(&self, timestamp: &str) -> bool {
        let Ok(at) = OffsetDateTime::parse(timestamp, &Rfc3339) else {
            return false;
        };
        self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at <= end)
    }
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    if let Ok(milliseconds) = text.parse::<i64>() {
        let nanoseconds = i128::from(milliseconds) * 1_000_000;
        return OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    }
    // A `+` of the offset that was not encoded arrives as a space.
    OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn settings(dir: &Path, max_file_bytes: u64) -> ProxyTraces {
        ProxyTraces {
            dir: dir.join("traces"),
            max_file_bytes,
            max_files: 3,
            serve: true,
        }
    }

    fn trace(at: u64) -> Trace {
        let who = Who {
            client_id: "client".to_owned(),
            national_id: NationalId::parse("899700218896").unwrap(),
            dn: "C=FR, CN=client".to_owned(),
            remote: "192.0.2.7:50000".parse().unwrap(),
        };
        Trace::failure(&who, 401, UnixTime::from_secs(at))
    }

    #[test]
    fn a_trace_has_the_members_of_the_contract() {
        let json = serde_json::to_value(trace(0)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "CONNECT_FAILURE", "clientId": "client", "IdRPPS": "899700218896",
                "ipAddress": "192.0.2.7", "ports": [50000], "dn": "C=FR, CN=client",
                "timestamp": "1970-01-01T00:00:00Z", "reason": "401",
            })
        );
    }

    #[test]
    fn traces_outlive_a_restart_and_a_line_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 1 << 20);
        let traces = Traces::open(&settings).unwrap();
        traces.append(&trace(1)).unwrap();
        drop(traces);
        let file = file_name(&settings.dir, 1);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut cut = OpenOptions::new().append(true).open(&file).unwrap();
        cut.write_all(b"{\"type\":\"SEND\",").unwrap();
        let traces = Traces::open(&settings).unwrap();
        traces.append(&trace(2)).unwrap();
        let all = traces.read(Range::default()).unwrap();
        assert_eq!(all, [trace(1), trace(2)]);
    }

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 600);
        let traces = Traces::open(&settings).unwrap();
        for at in 0..40 {
            traces.append(&trace(at)).unwrap();
        }
        let numbers = numbers(&settings.dir).unwrap();
        assert_eq!(numbers.len(), 3);
        for number in numbers {
            let size = fs::metadata(file_name(&settings.dir, number))
                .unwrap()
                .len();
            assert!(size <= 600, "{size}");
        }
        let kept = traces.read(Range::default()).unwrap();
        assert_eq!(kept.last(), Some(&trace(39)));
    }

    #[test]
    fn a_range_of_time_is_read_in_both_forms() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::open(&settings(folder.path(), 1 << 20)).unwrap();
        for at in [10, 20, 30] {
            traces.append(&trace(at)).unwrap();
        }
        let read = |query: &str| traces.read(Range::parse(query).unwrap()).unwrap();
        assert_eq!(read("start=20000&end=20000"), [trace(20)]);
        let later = "start=1970-01-01T01:00:20%2B01:00";
        assert_eq!(read(later), [trace(20), trace(30)]);
        assert_eq!(read(&later.replace("%2B", "+")), [trace(20), trace(30)]);
        assert!(Range::parse("start=yesterday").is_err());
    }
}
