//! Measures of what is not in the cache, beside `getscu`.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::samples::{Exam, Instance};
use crate::testkit::{KitError, Orthanc};

use super::dcmtk::Tool;
use super::fetch::{self, Connection, Server};
use super::load::CLIENTS;
use super::report::{Bar, Row, Unit, median};
use super::rows::{Bench, FEW, instance, none, seconds, study, together};
use super::stage::{AS_STORED, address, dicomweb};
use super::verify::{self, Outcome};

impl Bench {
    pub(super) async fn cold_study(&mut self) -> Result<Row, KitError> {
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

    pub(super) async fn cold_study_nagle(&mut self) -> Result<Row, KitError> {
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

    pub(super) async fn cold_first_byte(&mut self) -> Result<Row, KitError> {
        let row = Row::new(
            "cold-first-byte",
            "cold first byte of a study never asked for",
            Unit::Time,
            Bar::AtMost(0.020),
        );
        self.first_byte(row, false).await
    }

    pub(super) async fn first_byte_after_start(&mut self) -> Result<Row, KitError> {
        let row = Row::new(
            "cold-first-byte-started",
            "the same, as the first request since the gateway started",
            Unit::Time,
            Bar::AtMost(0.020),
        );
        self.first_byte(row, true).await
    }

    async fn first_byte(&mut self, mut row: Row, just_started: bool) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let orthanc = dicomweb(&self.stage.pacs)?;
        let mut after_connect = Vec::new();
        for _ in 0..self.runs {
            if just_started {
                self.stage.cold().await?;
            } else {
                self.stage.cold_at_work().await?;
            }
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

    pub(super) async fn cold_instance(&mut self) -> Result<Row, KitError> {
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

    pub(super) async fn cold_eight(&mut self) -> Result<Row, KitError> {
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
            let (room_of_one, _) = rooms.split_at_mut(1);
            row.peer.push(together_kept(&drimbox, &path, room_of_one)?);
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
}

fn get_study(pacs: &Orthanc, exam: &Exam) -> Tool {
    let keys = [
        ("QueryRetrieveLevel", "STUDY"),
        ("StudyInstanceUID", exam.study_instance_uid.as_str()),
    ];
    Tool::getscu(&address(pacs), &keys)
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

/// Retrieves and compares with the sample.
fn intact(server: &Server, path: &str, expected: &verify::Expected) -> Result<(), KitError> {
    match verify::retrieve(server, path, AS_STORED, expected, None) {
        Outcome::Complete(delivery) if delivery.lost == 0 && delivery.wrong == 0 => Ok(()),
        other => Err(KitError::http(format!("GET {path}"))(format!("{other:?}"))),
    }
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
