//! Measures of single frames, pictures and transcoding.

use crate::testkit::KitError;

use super::dcmtk::Tool;
use super::fetch::{self, Server};
use super::machine;
use super::report::{Bar, Row, Unit};
use super::rows::{Bench, REQUESTS, in_a_row, instance, none, seconds, series, with_recorded};
use super::stage::{AS_STORED, EXPLICIT, FRAMES, address, dicomweb};

impl Bench {
    /// The frame of an instance whose series is in the cache.
    pub(super) fn warm_frame(&self) -> Result<Vec<Row>, KitError> {
        let (at, chosen) = self.first_series()?;
        let ct = &self.stage.ct;
        let drimbox = self.stage.drimbox();
        fetch::fetch(&drimbox, &series(ct, chosen), AS_STORED)?;
        let path = instance(ct, (at, chosen), 100)? + "/frames/1";
        let row = Row::new(
            "warm-frame",
            "warm frame, on an open connection",
            Unit::Time,
            Bar::TimesPeer(1.5),
        );
        self.frame(row, &path)
    }

    /// One frame in the middle of a large object, which is in the cache.
    pub(super) fn frame_of_120(&self) -> Result<Vec<Row>, KitError> {
        let exam = &self.stage.frames;
        let chosen = exam.series.first().ok_or_else(none)?;
        let object = instance(exam, (0, chosen), 0)?;
        let frames = chosen.instances.first().ok_or_else(none)?.frames;
        fetch::fetch(&self.stage.drimbox(), &object, AS_STORED)?;
        let row = Row::new(
            "frame-of-120",
            format!("frame 60 of {frames} of one object, warm, on an open connection"),
            Unit::Time,
            Bar::None,
        );
        self.frame(row, &format!("{object}/frames/60"))
    }

    /// Beside the same bytes from nginx.
    fn frame(&self, mut row: Row, path: &str) -> Result<Vec<Row>, KitError> {
        let stage = &self.stage;
        let (drimbox, local) = (stage.drimbox(), stage.local());
        let orthanc = dicomweb(&stage.pacs)?;
        let body = fetch::fetch_body(&drimbox, path, FRAMES)?;
        let file = stage.publish(row.key, &body)?;
        row.peer_name = "nginx, the same bytes as a static file".into();
        let mut recorded = Vec::new();
        for _ in 0..self.runs {
            row.ours.push(in_a_row(&local, path, FRAMES)?);
            recorded.push(in_a_row(&drimbox, path, FRAMES)?);
            row.peer.push(in_a_row(&stage.nginx, &file, FRAMES)?);
            row.orthanc.extend(others(in_a_row(&orthanc, path, FRAMES)));
        }
        Ok(with_recorded(row, recorded))
    }

    /// The frame of an instance that is not in the cache.
    pub(super) async fn cold_frame(&mut self) -> Result<Row, KitError> {
        let orthanc = dicomweb(&self.stage.pacs)?;
        let mut row = Row::new("cold-frame", "cold frame", Unit::Time, Bar::TimesPeer(1.5));
        row.peer_name = "getscu of one image, data ignored".into();
        for run in 0..self.runs {
            let (at, chosen) = self.first_series()?;
            let wanted = run * 41 % chosen.count.max(1);
            let path = instance(&self.stage.ct, (at, chosen), wanted)? + "/frames/1";
            let object = chosen.instances.get(wanted).ok_or_else(none)?;
            let keys = [
                ("QueryRetrieveLevel", "IMAGE"),
                ("StudyInstanceUID", &self.stage.ct.study_instance_uid),
                ("SeriesInstanceUID", &chosen.series_instance_uid),
                ("SOPInstanceUID", &object.sop_instance_uid),
            ];
            let tool = Tool::getscu(&address(&self.stage.pacs), &keys);
            row.note = tool.command();
            self.stage.cold().await?;
            let drimbox = self.stage.drimbox();
            row.ours.push(seconds(&drimbox, &path, FRAMES)?);
            row.peer.push(tool.time()?.as_secs_f64());
            row.orthanc.extend(others(seconds(&orthanc, &path, FRAMES)));
        }
        Ok(row)
    }

    /// A JPEG of a warm CT image.
    pub(super) fn rendered(&self) -> Result<Row, KitError> {
        const JPEG: &str = "image/jpeg";
        let (at, chosen) = self.first_series()?;
        let ct = &self.stage.ct;
        let (drimbox, orthanc) = (self.stage.drimbox(), dicomweb(&self.stage.pacs)?);
        fetch::fetch(&drimbox, &series(ct, chosen), AS_STORED)?;
        let path = instance(ct, (at, chosen), 100)? + "/rendered";
        let picture = fetch::fetch_body(&drimbox, &path, JPEG)?;
        if !picture.starts_with(&[0xFF, 0xD8, 0xFF]) {
            return Err(KitError::http(format!("GET {path}"))("no JPEG"));
        }
        let mut row = Row::new(
            "rendered",
            "rendered image, warm, on an open connection",
            Unit::Time,
            Bar::None,
        );
        row.note = format!(
            "CT of 512 × 512, JPEG-LS, to JPEG of {} bytes; each run is the median of {REQUESTS} \
             requests",
            picture.len()
        );
        for _ in 0..self.runs {
            row.ours.push(in_a_row(&drimbox, &path, JPEG)?);
            row.orthanc.extend(others(in_a_row(&orthanc, &path, JPEG)));
        }
        Ok(row)
    }

    /// A JPEG-LS series of 300 images, warm, for a client that takes no compressed ones: bytes that
    /// it receives by the processor time of the server.
    pub(super) fn transcoding(&self) -> Result<Row, KitError> {
        let exam = &self.stage.ct300;
        let chosen = exam.series.first().ok_or_else(none)?;
        let path = series(exam, chosen);
        let (drimbox, orthanc) = (self.stage.drimbox(), dicomweb(&self.stage.pacs)?);
        let stored = fetch::fetch(&drimbox, &path, AS_STORED)?.bytes;
        let bytes = fetch::fetch(&drimbox, &path, EXPLICIT)?.bytes;
        if bytes <= stored {
            let reason = format!("{bytes} bytes transcoded, {stored} as stored");
            return Err(KitError::http(format!("GET {path}"))(reason));
        }
        let mut row = Row::new(
            "transcoding",
            format!("transcoding, {} JPEG-LS images, per core", chosen.count),
            Unit::Throughput(bytes),
            Bar::None,
        );
        row.note = "bytes of the answer by the processor time of the server and its children, TLS \
                    and HTTP included"
            .into();
        let (ours, theirs) = (self.stage.gateway.pid(), self.stage.pacs.process_id());
        for _ in 0..self.runs {
            row.ours.push(worked(ours, &drimbox, &path)?);
            row.orthanc.extend(others(worked(theirs, &orthanc, &path)));
        }
        Ok(row)
    }
}

/// Processor time of the server for one retrieval, in seconds.
fn worked(pid: u32, server: &Server, path: &str) -> Result<f64, KitError> {
    let before = machine::processor_time(pid)?;
    fetch::fetch(server, path, EXPLICIT)?;
    let taken = machine::processor_time(pid)?.saturating_sub(before);
    Ok(taken.as_secs_f64())
}

/// What Orthanc's DICOMweb does not offer has no figure.
fn others(figure: Result<f64, KitError>) -> Option<f64> {
    figure.ok()
}
