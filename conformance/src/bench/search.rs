//! Measures of searches, beside `findscu`.

use crate::testkit::KitError;

use super::dcmtk::Tool;
use super::fetch;
use super::report::{Bar, Row, Unit};
use super::rows::{Bench, elements, seconds};
use super::stage::{JSON, address, dicomweb};

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

impl Bench {
    pub(super) fn search_patient(&self) -> Result<Row, KitError> {
        let query = [("PatientID", "SEARCH-007")];
        let path = "/studies?PatientID=SEARCH-007";
        let what = "search: a patient's studies";
        self.search("search-patient", what, path, &self.find_studies(&query))
    }

    pub(super) fn search_month(&self) -> Result<Row, KitError> {
        let query = [("StudyDate", "20260201-20260228")];
        let path = "/studies?StudyDate=20260201-20260228";
        let what = "search: studies of a month";
        self.search("search-month", what, path, &self.find_studies(&query))
    }

    pub(super) fn search_series(&self) -> Result<Row, KitError> {
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

    pub(super) fn search_25(&self) -> Result<Vec<Row>, KitError> {
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
}
