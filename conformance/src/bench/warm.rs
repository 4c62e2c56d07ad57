//! Measures of what is in the cache.

use crate::testkit::KitError;

use super::fetch;
use super::load::CLIENTS;
use super::report::{Bar, Row, Unit};
use super::rows::{
    Bench, elements, in_a_row, instance, none, seconds, series, study, together, with_recorded,
};
use super::stage::{AS_STORED, JSON, dicomweb};

impl Bench {
    pub(super) fn warm_study(&self) -> Result<Row, KitError> {
        let path = study(&self.stage.ct);
        let what = "warm study, 1 300 images";
        self.warm("warm-study", what, &[path], Bar::ThroughputOfPeer(0.8))
    }

    pub(super) fn warm_series(&self) -> Result<Row, KitError> {
        let (_, chosen) = self.first_series()?;
        let what = format!("warm series, {} images", chosen.count);
        let path = series(&self.stage.ct, chosen);
        self.warm("warm-series", what, &[path], Bar::ThroughputOfPeer(0.8))
    }

    pub(super) fn warm_eight_same(&self) -> Result<Row, KitError> {
        let paths = vec![study(&self.stage.ct); CLIENTS];
        let what = "8 clients, warm, the same study";
        self.warm("warm-8-same", what, &paths, Bar::ThroughputOfPeer(0.8))
    }

    pub(super) fn warm_eight_different(&self) -> Result<Row, KitError> {
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
    pub(super) async fn warm_instance(&mut self) -> Result<Vec<Row>, KitError> {
        self.stage.cold().await?;
        let stage = &self.stage;
        let (at, chosen) = self.first_series()?;
        let path = instance(&stage.ct, (at, chosen), 100)?;
        let (drimbox, local) = (stage.drimbox(), stage.local());
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
        let mut recorded = Vec::new();
        for _ in 0..self.runs {
            row.ours.push(in_a_row(&local, &path, AS_STORED)?);
            recorded.push(in_a_row(&drimbox, &path, AS_STORED)?);
            row.peer.push(in_a_row(&stage.nginx, &file, AS_STORED)?);
            row.orthanc.push(in_a_row(&orthanc, &path, AS_STORED)?);
        }
        Ok(with_recorded(row, recorded))
    }

    pub(super) fn metadata(&self) -> Result<Row, KitError> {
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
}
