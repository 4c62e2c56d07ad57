//! The link of a report: which exam it opens, and what a person to whom it was opened may see.
//!
//! A link names a study, an accession number and a report (CI-SIS, CDA imaging: `IHEInvokeImageDisplay`).
//! All three must be those of one published exam; then that exam, and nothing else, is open to the session.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::Request;
use super::gate::{Known, within};
use super::patient::{Given, OneTimeCodes, PatientProof, Way};
use super::refusal::Refusal;
use crate::dicom::uid::StudyUid;
use crate::source::exams::Accession;
use crate::source::{Exams, PublishedExam};

/// Longest value of a parameter, bytes.
const MAX_VALUE: usize = 256;
/// Parameters looked at.
const MAX_PARAMETERS: usize = 32;

/// What the link of a report names. `Debug` shows nothing: whoever has it may open the exam.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLink {
    study: StudyUid,
    accession: String,
    report: String,
}

impl ReportLink {
    /// Reads the query of a link. Names are compared without case; both spellings of the study are taken.
    /// `None` when one of the three is missing, comes twice or is malformed.
    #[must_use]
    pub fn parse(query: &str) -> Option<Self> {
        let (mut kind, mut study, mut accession, mut report) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS) {
            let slot = match name.to_ascii_lowercase().as_str() {
                "requesttype" => &mut kind,
                "studyuid" | "studyinstanceuid" => &mut study,
                "accessionnumber" => &mut accession,
                "idcda" => &mut report,
                _ => continue,
            };
            let value = value.trim();
            if value.is_empty() || value.len() > MAX_VALUE || slot.is_some() {
                return None;
            }
            *slot = Some(value.to_owned());
        }
        let is_study = kind.is_none_or(|kind| kind.eq_ignore_ascii_case("STUDY"));
        is_study.then_some(())?;
        Some(Self {
            study: StudyUid::parse(&study?).ok()?,
            accession: accession?,
            report: report?,
        })
    }

    /// The study.
    #[must_use]
    pub fn study(&self) -> &StudyUid {
        &self.study
    }

    /// Whether all three values are those of an exam. `root_alone`: the root of the report's id will do where the id has
    /// an extension.
    fn names(&self, exam: &PublishedExam, root_alone: bool) -> bool {
        let accession = exam
            .accessions
            .iter()
            .any(|one| is_accession(one, &self.accession));
        let report = exam
            .cda_id
            .as_deref()
            .is_some_and(|id| is_report(id, &self.report, root_alone));
        exam.study == self.study && accession && report
    }
}

/// The number alone, or after the OID of its issuer: `root.extension`.
fn is_accession(known: &Accession, named: &str) -> bool {
    if known.number == named {
        return true;
    }
    let after_root = known
        .issuer
        .as_deref()
        .and_then(|root| named.strip_prefix(root))
        .and_then(|rest| rest.strip_prefix(['.', '^']));
    after_root == Some(known.number.as_str())
}

/// The root, and its extension after `^`, `_` or `/` where the id has one. Many reports may share a root (it is then that
/// of the centre), so that it tells nothing by itself.
fn is_report(known: &str, named: &str, root_alone: bool) -> bool {
    let parts = |id: &str| {
        let (root, extension) = id.split_once(['^', '_', '/']).unwrap_or((id, ""));
        (root.to_owned(), extension.to_owned())
    };
    let (root, extension) = parts(known);
    let (named_root, named_extension) = parts(named);
    let same = named_extension == extension || root_alone && named_extension.is_empty();
    root == named_root && same
}

impl fmt::Debug for ReportLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportLink(***)")
    }
}

/// The exam that was opened to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Name of the PACS.
    pub pacs: String,
    /// The study.
    pub study: StudyUid,
}

/// A person on a `vi` name who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    /// Stands for the session, and gives nobody its cookie.
    pub session: [u8; 32],
    /// Who.
    pub who: Comer,
    /// The exam of the session, when a link was opened.
    pub granted: Option<Granted>,
    /// What they look at it with.
    pub through: Through,
}

/// What somebody looks at an exam with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Through {
    /// The page of the gateway.
    #[default]
    Page,
    /// Weasis, which the page started: for professionals alone.
    Weasis,
}

/// Who a visitor is, and how that is known. `Debug` shows no identity.
#[derive(Clone, PartialEq, Eq)]
pub enum Comer {
    /// A professional, by Pro Santé Connect.
    Professional {
        /// National identifier.
        national_id: Arc<str>,
        /// Code of the profession in which they act.
        profession: Arc<str>,
        /// Identifier of the structure for which they act.
        structure: Option<Arc<str>>,
    },
    /// The patient of the exam.
    Patient {
        /// How they proved it: a fixed word.
        proof: Arc<str>,
    },
}

impl fmt::Debug for Comer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Professional { .. } => "Professional(***)",
            Self::Patient { .. } => "Patient",
        })
    }
}

/// Who makes a request on a `vi` name.
pub trait Visitors: Send + Sync + fmt::Debug {
    /// The person of a request with these fields on this host, if somebody is logged in.
    fn visitor(&self, headers: &HeaderMap, host: &str) -> Option<Visitor>;
}

/// Decides for people who come by the link of a report. Cheap to clone.
#[derive(Clone)]
pub struct LinkGate {
    /// Who asks.
    pub visitors: Arc<dyn Visitors>,
    /// What is published.
    pub exams: Exams,
    /// Whether exams that are masked to professionals are opened to those who have the report.
    pub serve_masked: bool,
    /// How patients prove who they are; `None`: they are not let in.
    pub patients: Option<Arc<dyn PatientProof>>,
    /// Whether a link may name the report by the root of its id, where the id has an extension too.
    pub root_alone: bool,
}

impl LinkGate {
    /// The exam that a professional's link opens.
    ///
    /// # Errors
    /// [`Refusal`]; which one is for the log, never for the person.
    pub async fn open(&self, pacs: &str, link: &ReportLink) -> Result<Arc<PublishedExam>, Refusal> {
        let exam = self.named(pacs, link).await?.ok_or(Refusal::OtherLink)?;
        self.open_to_professionals(&exam)?;
        Ok(exam)
    }

    /// The exam that a link names, whoever may see it; `None` when it names none.
    ///
    /// # Errors
    /// [`Refusal::ExamsUnknown`].
    pub async fn named(
        &self,
        pacs: &str,
        link: &ReportLink,
    ) -> Result<Option<Arc<PublishedExam>>, Refusal> {
        let exam = self.current(pacs, &link.study).await?;
        Ok(exam.filter(|exam| link.names(exam, self.root_alone)))
    }

    /// Whether what a patient gave opens the exam that their link [names](Self::named). The same is done whatever is
    /// wrong, also with the link.
    ///
    /// # Errors
    /// [`Refusal`]; which one is for the log, never for the person.
    pub async fn open_to_patient(
        &self,
        exam: Option<&PublishedExam>,
        given: &Given,
        sent: &dyn OneTimeCodes,
    ) -> Result<(), Refusal> {
        let proof = self.patients.as_ref().ok_or(Refusal::PatientGateClosed)?;
        let holds = proof.holds(exam, given, sent).await;
        let exam = exam.ok_or(Refusal::OtherLink)?;
        if !holds {
            return Err(Refusal::NotProved);
        }
        open_to_patients(exam)
    }

    /// Where a one-time code for this link goes: what the centre holds, for an exam that its patient may see.
    ///
    /// # Errors
    /// [`Refusal`], for the log alone.
    pub async fn address_of_patient(
        &self,
        pacs: &str,
        link: &ReportLink,
        way: Way,
    ) -> Result<String, Refusal> {
        let exam = self.named(pacs, link).await?.ok_or(Refusal::OtherLink)?;
        open_to_patients(&exam)?;
        let address = match way {
            Way::Mail => &exam.patient.mail,
            Way::Sms => &exam.patient.phone,
        };
        address.clone().ok_or(Refusal::NotProved)
    }

    /// Decides on a request for images: for the exam of the session, within what its KOS names.
    ///
    /// # Errors
    /// [`Refusal`]; who asked is put into `known` all the same.
    pub async fn admit(
        &self,
        pacs: &str,
        headers: &HeaderMap,
        host: &str,
        request: Request<'_>,
        known: &mut Known,
    ) -> Result<Arc<PublishedExam>, Refusal> {
        let visitor = self.visitors.visitor(headers, host);
        known.visitor.clone_from(&visitor);
        let exam = self.exam_of(pacs, visitor.as_ref()).await?;
        match request {
            Request::Search => Err(Refusal::NotGranted),
            Request::SearchIn(study) if *study == exam.study => Ok(exam),
            Request::Retrieve(scope) if *scope.study() == exam.study => {
                within(scope, &exam)?;
                Ok(exam)
            }
            Request::SearchIn(_) | Request::Retrieve(_) => Err(Refusal::NotGranted),
        }
    }

    /// The exam of the session, as it is published now.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn exam(
        &self,
        pacs: &str,
        headers: &HeaderMap,
        host: &str,
    ) -> Result<Arc<PublishedExam>, Refusal> {
        let visitor = self.visitors.visitor(headers, host);
        self.exam_of(pacs, visitor.as_ref()).await
    }

    /// The exam that was opened to somebody, as it is published now.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn exam_of(
        &self,
        pacs: &str,
        visitor: Option<&Visitor>,
    ) -> Result<Arc<PublishedExam>, Refusal> {
        let visitor = visitor.ok_or(Refusal::Unauthenticated)?;
        let granted = visitor.granted.as_ref();
        let granted = granted.filter(|granted| granted.pacs == pacs);
        let granted = granted.ok_or(Refusal::NotGranted)?;
        let exam = self.current(pacs, &granted.study).await?;
        let exam = exam.ok_or(Refusal::NotPublished)?;
        match (&visitor.who, visitor.through) {
            (Comer::Professional { .. }, _) => self.open_to_professionals(&exam)?,
            (Comer::Patient { .. }, Through::Page) => open_to_patients(&exam)?,
            (Comer::Patient { .. }, Through::Weasis) => return Err(Refusal::NotForPatients),
        }
        Ok(exam)
    }

    async fn current(
        &self,
        pacs: &str,
        study: &StudyUid,
    ) -> Result<Option<Arc<PublishedExam>>, Refusal> {
        self.exams.get(pacs, study).await.map_err(|error| {
            tracing::error!("{error}");
            Refusal::ExamsUnknown
        })
    }

    fn open_to_professionals(&self, exam: &PublishedExam) -> Result<(), Refusal> {
        if exam.restrictions.opposed {
            return Err(Refusal::Opposed);
        }
        if exam.restrictions.masked_to_professionals && !self.serve_masked {
            return Err(Refusal::Masked);
        }
        Ok(())
    }
}

/// The patient's path has restrictions of its own: what is masked to professionals is theirs all the same.
fn open_to_patients(exam: &PublishedExam) -> Result<(), Refusal> {
    if exam.restrictions.opposed {
        return Err(Refusal::Opposed);
    }
    if exam.restrictions.invisible_patient {
        return Err(Refusal::Invisible);
    }
    Ok(())
}

impl fmt::Debug for LinkGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkGate")
            .field("visitors", &self.visitors)
            .field("serve_masked", &self.serve_masked)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::archive::Scope;
    use crate::dicom::uid::{InstanceUid, SeriesUid};
    use crate::source::exams::{PublishedSeries, Restrictions};

    const QUERY: &str = "requestType=STUDY&studyUID=1.2.3&Accessionnumber=1.9.A-17&idCDA=2.25.77_5";

    fn exam(study: &str) -> PublishedExam {
        PublishedExam {
            pacs: "scanner".into(),
            study: StudyUid::parse(study).unwrap(),
            kos: InstanceUid::parse("1.2.3.99").unwrap(),
            series: vec![PublishedSeries {
                series: SeriesUid::parse(&format!("{study}.1")).unwrap(),
                instances: vec![InstanceUid::parse(&format!("{study}.1.1")).unwrap()],
            }],
            accessions: vec![Accession {
                issuer: Some("1.9".into()),
                number: "A-17".into(),
            }],
            cda_id: Some("2.25.77^5".into()),
            ins: None,
            restrictions: Restrictions::default(),
            patient: Default::default(),
            identity: Default::default(),
        }
    }

    #[test]
    fn all_three_values_must_be_those_of_the_exam() {
        let opens = |query: &str| {
            ReportLink::parse(query).is_some_and(|link| link.names(&exam("1.2.3"), false))
        };
        assert!(opens(QUERY));
        for (from, to) in [
            ("studyUID", "STUDYINSTANCEUID"),
            ("Accessionnumber", "accessionNumber"),
            ("1.9.A-17", "A-17"),
            ("1.9.A-17", "1.9%5EA-17"),
            ("2.25.77_5", "2.25.77%5E5"),
            ("2.25.77_5", "2.25.77%2F5"),
            ("requestType=STUDY&", ""),
        ] {
            assert!(opens(&QUERY.replace(from, to)), "{to}");
        }
        for (from, to) in [
            ("1.2.3&", "1.2.4&"),
            ("1.2.3&", "1.2.a&"),
            ("1.9.A-17", "A-1"),
            ("1.9.A-17", "1.8.A-17"),
            ("1.9.A-17", "1.9A-17"),
            ("2.25.77_5", "2.25.77_6"),
            ("2.25.77_5", "2.25.7"),
            ("2.25.77_5", "2.25.77"),
            ("2.25.77_5", "2.25.77_"),
            ("2.25.77_5", ""),
            ("&idCDA=2.25.77_5", ""),
            ("STUDY", "SERIES"),
            ("studyUID", "studyUID=1.2.3&studyinstanceuid"),
        ] {
            assert!(!opens(&QUERY.replace(from, to)), "{to}");
        }
    }

    #[test]
    fn the_root_alone_names_a_report_without_extension_or_where_the_centre_says_so() {
        let link = |report: &str| ReportLink::parse(&QUERY.replace("2.25.77_5", report)).unwrap();
        let with_extension = exam("1.2.3");
        assert!(link("2.25.77").names(&with_extension, true));
        assert!(!link("2.25.77_6").names(&with_extension, true));
        assert!(!link("2.25.7").names(&with_extension, true));
        let mut without = exam("1.2.3");
        without.cda_id = Some("2.25.77".into());
        for root_alone in [false, true] {
            assert!(link("2.25.77").names(&without, root_alone));
            assert!(!link("2.25.77_5").names(&without, root_alone));
        }
    }

    #[test]
    fn nothing_opens_what_was_published_without_accession_or_report() {
        let link = ReportLink::parse(QUERY).unwrap();
        let mut without = exam("1.2.3");
        without.accessions.clear();
        assert!(!link.names(&without, true));
        let mut without = exam("1.2.3");
        without.cda_id = None;
        assert!(!link.names(&without, true));
        assert_eq!(format!("{link:?}"), "ReportLink(***)");
    }

    /// Everybody with the same exam, or nobody.
    #[derive(Debug)]
    struct Everybody(Option<Visitor>);

    impl Visitors for Everybody {
        fn visitor(&self, _: &HeaderMap, _: &str) -> Option<Visitor> {
            self.0.clone()
        }
    }

    fn gate(exams: &Exams, visitor: Option<Visitor>) -> LinkGate {
        LinkGate {
            visitors: Arc::new(Everybody(visitor)),
            exams: exams.clone(),
            serve_masked: false,
            patients: None,
            root_alone: false,
        }
    }

    fn professional() -> Comer {
        Comer::Professional {
            national_id: "899700218896".into(),
            profession: "10".into(),
            structure: None,
        }
    }

    fn of(study: &str) -> Option<Visitor> {
        Some(Visitor {
            session: [7; 32],
            who: professional(),
            granted: Some(Granted {
                pacs: "scanner".into(),
                study: StudyUid::parse(study).unwrap(),
            }),
            through: Through::Page,
        })
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn restrictions_that_come_later_close_an_open_exam() {
        let dir = tempfile::tempdir().unwrap();
        let exams = Exams::open(dir.path()).unwrap();
        runtime().block_on(async {
            exams.put(exam("1.2.3")).await.unwrap();
            let gate = gate(&exams, of("1.2.3"));
            let asked = async || {
                gate.exam("scanner", &HeaderMap::new(), "vi")
                    .await
                    .map(drop)
            };
            assert_eq!(asked().await, Ok(()));
            let mut closed = exam("1.2.3");
            closed.restrictions.opposed = true;
            exams.put(closed).await.unwrap();
            assert_eq!(asked().await, Err(Refusal::Opposed));
            let mut masked = exam("1.2.3");
            masked.restrictions.masked_to_professionals = true;
            exams.put(masked).await.unwrap();
            assert_eq!(asked().await, Err(Refusal::Masked));
            exams
                .remove("scanner", &StudyUid::parse("1.2.3").unwrap())
                .await
                .unwrap();
            assert_eq!(asked().await, Err(Refusal::NotPublished));
            let link = ReportLink::parse(QUERY).unwrap();
            let opened = gate.open("scanner", &link).await;
            assert_eq!(opened.map(drop), Err(Refusal::OtherLink));
        });
    }

    proptest! {
        /// Whoever asks for whatever: only the exam of the session is open, and of it what the KOS names.
        #[test]
        fn nobody_sees_more_than_their_exam(
            session in proptest::option::of(proptest::option::of(0..3usize)),
            asked in 0..3usize,
            level in 0..5usize,
            named in any::<bool>(),
            patient in any::<bool>(),
            masked in any::<bool>(),
            invisible in any::<bool>(),
            weasis in any::<bool>(),
        ) {
            let studies = ["1.2.3", "1.2.4", "1.2.5"];
            let dir = tempfile::tempdir().unwrap();
            let exams = Exams::open(dir.path()).unwrap();
            let visitor = session.map(|granted| Visitor {
                session: [7; 32],
                who: if patient { Comer::Patient { proof: "report_code".into() } } else { professional() },
                granted: granted.and_then(|at| of(studies.get(at).unwrap()).unwrap().granted),
                through: if weasis { Through::Weasis } else { Through::Page },
            });
            let uid = *studies.get(asked).unwrap();
            let study = StudyUid::parse(uid).unwrap();
            let tail = if named { "1" } else { "2" };
            let series = SeriesUid::parse(&format!("{uid}.1")).unwrap();
            let other = SeriesUid::parse(&format!("{uid}.{tail}")).unwrap();
            let instance = InstanceUid::parse(&format!("{uid}.1.{tail}")).unwrap();
            let scopes = [
                Scope::Study(study.clone()),
                Scope::Series(study.clone(), other.clone()),
                Scope::Instance(study.clone(), series, instance),
            ];
            let request = match level {
                3 => Request::Search,
                4 => Request::SearchIn(&study),
                level => Request::Retrieve(scopes.get(level).unwrap()),
            };
            let restricted = if patient { invisible || weasis } else { masked };
            let open = !restricted && session == Some(Some(asked)) && match level {
                1 | 2 => named,
                4 => true,
                _ => false,
            };
            let gate = gate(&exams, visitor);
            let decided = runtime().block_on(async {
                for study in studies {
                    let mut exam = exam(study);
                    exam.restrictions.masked_to_professionals = masked;
                    exam.restrictions.invisible_patient = invisible;
                    exams.put(exam).await.unwrap();
                }
                gate.admit("scanner", &HeaderMap::new(), "vi", request, &mut Known::default()).await
            });
            prop_assert_eq!(decided.is_ok(), open);
            if let Ok(exam) = decided {
                prop_assert_eq!(&exam.study, &study);
            }
        }
    }
}
