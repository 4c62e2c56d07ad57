//! `/api/exams`: the table of published exams, for an administrator with the token.
//!
//! `GET` lists it, `POST` registers an exam (a KOS as `application/dicom`, or the exam itself in
//! JSON), `DELETE /api/exams/{pacs}/{study}` takes one out. `PUT` below that path on `patient` (JSON) says what proves
//! that somebody is the patient, and on `report` (a CDA document) gives the report. Each change is in the audit trail before it
//! is made.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;

use super::AdminToken;
use crate::audit::{Actor, Audit, Kind, Object, Outcome};
use crate::dicom::kos::Kos;
use crate::dicom::uid::StudyUid;
use crate::dicomweb::problem::Problem;
use crate::source::exams::{MAX_BYTES, Restrictions};
use crate::source::patient::GivenFacts;
use crate::source::{Exams, PublishedExam, cda};

/// Exams listed at once.
const MAX_LISTED: usize = 10_000;

/// What the routes need.
#[derive(Clone)]
pub struct ExamsApi {
    /// The table.
    pub exams: Exams,
    /// Where changes are recorded.
    pub audit: Audit,
    /// Who may come in.
    pub token: AdminToken,
    /// Names of the PACS there are.
    pub pacs: Arc<BTreeSet<String>>,
}

impl ExamsApi {
    /// The routes.
    pub fn router(self) -> Router {
        let authorized = middleware::from_fn_with_state(self.clone(), authorize);
        Router::new()
            .route("/api/exams", get(list).post(add))
            .route("/api/exams/{pacs}/{study}", delete(remove))
            .route("/api/exams/{pacs}/{study}/patient", put(patient))
            .route("/api/exams/{pacs}/{study}/report", put(report))
            .layer(authorized)
            .with_state(self)
    }

    async fn record(
        &self,
        kind: Kind,
        pacs: &str,
        study: &str,
        kos: Option<&str>,
    ) -> Result<(), Problem> {
        let actor = Actor {
            account: Some("admin-token".into()),
            ..Actor::default()
        };
        let object = Object {
            pacs: Some(pacs.into()),
            study: Some(study.into()),
            kos: kos.map(Into::into),
            ..Object::default()
        };
        let event = self
            .audit
            .event(kind)
            .by(actor)
            .on(object)
            .ending(Outcome::default());
        self.audit.record(event).await.map(drop).map_err(|error| {
            tracing::error!(
                "a change of the published exams cannot be recorded and is not made: {error}"
            );
            Problem::internal()
        })
    }
}

async fn authorize(State(api): State<ExamsApi>, request: Request, next: Next) -> Response {
    if api.token.is_in(request.headers()) {
        next.run(request).await
    } else {
        Problem::unauthorized("the token of the administrator is needed")
            .remedy("it stands in admin.token in the data folder of the service")
            .into_response()
    }
}

async fn list(State(api): State<ExamsApi>) -> Result<Response, Problem> {
    let exams = api.exams.list(MAX_LISTED).await.map_err(failed)?;
    let exams: Vec<_> = exams.iter().map(|exam| described(exam)).collect();
    Ok(no_store(Json(json!({ "exams": exams })).into_response()))
}

/// One line of the list: nothing of the patient.
fn described(exam: &PublishedExam) -> serde_json::Value {
    json!({
        "pacs": exam.pacs,
        "study": exam.study,
        "kos": exam.kos,
        "series": exam.series.len(),
        "instances": exam.instance_count(),
        "restrictions": exam.restrictions,
    })
}

async fn add(State(api): State<ExamsApi>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let body = read(body).await?;
    let (mut exam, named): (PublishedExam, Option<Named>) = match kind.as_str() {
        "application/dicom" => {
            let (exam, named) = of_kos(&body, parts.uri.query().unwrap_or_default())?;
            (exam, Some(named))
        }
        "application/json" => {
            let exam = serde_json::from_slice(&body);
            let exam = exam.map_err(|error| wrong(format!("the exam cannot be read: {error}")))?;
            (exam, None)
        }
        _ => {
            return Err(Problem::bad_request(
                "neither a KOS nor an exam in JSON",
                "send Content-Type application/dicom or application/json",
            ));
        }
    };
    // What is known of the patient stays with the study, unless it comes anew.
    let before = StudyKey(&exam.pacs, &exam.study).get(&api).await?;
    if let Some(before) = before {
        let (new, known) = (&mut exam.patient, &before.patient);
        new.birth_date = new.birth_date.take().or(known.birth_date.clone());
        new.code = new.code.take().or(known.code.clone());
        new.mail = new.mail.take().or(known.mail.clone());
        new.phone = new.phone.take().or(known.phone.clone());
        // A KOS says nothing of them: another one opens nothing that was closed, and closes no link.
        if named.is_some() {
            exam.restrictions = before.restrictions;
            exam.cda_id = exam.cda_id.or(before.cda_id);
        }
    }
    if let Some(named) = named {
        named.apply(&mut exam.restrictions);
    }
    exam.check().map_err(|error| wrong(error.to_string()))?;
    if !api.pacs.contains(&exam.pacs) {
        return Err(Problem::bad_request(
            "no PACS has this name",
            "give the name of a [[pacs]] of the configuration",
        ));
    }
    let answer = described(&exam);
    let (study, kos) = (exam.study.as_str(), exam.kos.as_str());
    api.record(Kind::ExamRegistered, &exam.pacs, study, Some(kos))
        .await?;
    api.exams.put(exam).await.map_err(failed)?;
    Ok(no_store(
        (StatusCode::CREATED, Json(answer)).into_response(),
    ))
}

async fn remove(
    State(api): State<ExamsApi>,
    Path((pacs, study)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let study = StudyUid::parse(&study).map_err(|error| wrong(error.to_string()))?;
    api.record(Kind::ExamRemoved, &pacs, study.as_str(), None)
        .await?;
    if api.exams.remove(&pacs, &study).await.map_err(failed)? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::not_found("no exam is published for this study"))
    }
}

/// A study of a PACS.
struct StudyKey<'a>(&'a str, &'a StudyUid);

impl StudyKey<'_> {
    async fn get(&self, api: &ExamsApi) -> Result<Option<PublishedExam>, Problem> {
        let found = api.exams.get(self.0, self.1).await.map_err(failed)?;
        Ok(found.map(|exam| (*exam).clone()))
    }

    async fn must(&self, api: &ExamsApi) -> Result<PublishedExam, Problem> {
        let none = || Problem::not_found("no exam is published for this study");
        self.get(api).await?.ok_or_else(none)
    }
}

/// What proves that somebody is the patient; it takes the place of what was known.
async fn patient(
    State(api): State<ExamsApi>,
    Path((pacs, study)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let study = StudyUid::parse(&study).map_err(|error| wrong(error.to_string()))?;
    let body = read(request.into_body()).await?;
    // What is wrong with it may be a value: it is not repeated.
    let given: GivenFacts = serde_json::from_slice(&body)
        .map_err(|_| wrong("the facts about the patient cannot be read"))?;
    let mut exam = StudyKey(&pacs, &study).must(&api).await?;
    let checked = tokio::task::spawn_blocking(move || given.checked()).await;
    let checked = checked.map_err(|_| Problem::internal())?;
    let mut facts = checked.map_err(|error| wrong(error.to_string()))?;
    facts.birth_date = facts.birth_date.or(exam.patient.birth_date.take());
    exam.patient = facts;
    let kos = exam.kos.clone();
    api.record(
        Kind::ExamRegistered,
        &pacs,
        study.as_str(),
        Some(kos.as_str()),
    )
    .await?;
    api.exams.put(exam).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The report of an exam: the PDF of a CDA document.
async fn report(
    State(api): State<ExamsApi>,
    Path((pacs, study)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let study = StudyUid::parse(&study).map_err(|error| wrong(error.to_string()))?;
    let body = to_bytes(request.into_body(), cda::MAX_CDA)
        .await
        .map_err(|_| {
            Problem::content_too_large(
                "the report is larger than any genuine one",
                "send its CDA alone",
            )
        })?;
    let found = tokio::task::spawn_blocking(move || cda::report(&body)).await;
    let found = found.map_err(|_| Problem::internal())?;
    let found = found.map_err(|error| wrong(error.to_string()))?;
    let mut exam = StudyKey(&pacs, &study).must(&api).await?;
    match (&exam.cda_id, found.id) {
        (Some(known), Some(id)) if *known != id => {
            return Err(wrong(
                "the id of the document is not that of the report of this exam",
            ));
        }
        (None, Some(id)) => exam.cda_id = Some(id),
        _ => {}
    }
    exam.check().map_err(|error| wrong(error.to_string()))?;
    let kos = exam.kos.clone();
    api.record(
        Kind::ExamRegistered,
        &pacs,
        study.as_str(),
        Some(kos.as_str()),
    )
    .await?;
    api.exams.put(exam).await.map_err(failed)?;
    let kept = api.exams.put_report(&pacs, &study, found.pdf).await;
    match kept.map_err(failed)? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::not_found("no exam is published for this study")),
    }
}

/// Restrictions that a request names; those that it does not stay as they are.
#[derive(Default)]
struct Named {
    invisible_patient: Option<bool>,
    masked_to_professionals: Option<bool>,
    opposed: Option<bool>,
}

impl Named {
    fn apply(&self, restrictions: &mut Restrictions) {
        let Restrictions {
            invisible_patient,
            masked_to_professionals,
            opposed,
        } = restrictions;
        for (named, flag) in [
            (self.invisible_patient, invisible_patient),
            (self.masked_to_professionals, masked_to_professionals),
            (self.opposed, opposed),
        ] {
            *flag = named.unwrap_or(*flag);
        }
    }
}

/// The exam of a KOS, with what the query adds to it: `pacs`, `cda_id`, `invisible_patient`,
/// `masked_to_professionals`, `opposed`.
fn of_kos(file: &[u8], query: &str) -> Result<(PublishedExam, Named), Problem> {
    let kos = Kos::parse(file).map_err(|error| wrong(error.to_string()))?;
    let mut exam = PublishedExam::of_kos("", &kos);
    let mut named = Named::default();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let flag = match &*key {
            "pacs" => {
                exam.pacs = value.into_owned();
                continue;
            }
            "cda_id" => {
                exam.cda_id = Some(value.into_owned());
                continue;
            }
            "invisible_patient" => &mut named.invisible_patient,
            "masked_to_professionals" => &mut named.masked_to_professionals,
            "opposed" => &mut named.opposed,
            _ => return Err(wrong("a parameter that is not known")),
        };
        *flag = match &*value {
            "true" => Some(true),
            "false" => Some(false),
            _ => return Err(wrong("a restriction is neither true nor false")),
        };
    }
    Ok((exam, named))
}

async fn read(body: Body) -> Result<bytes::Bytes, Problem> {
    let most = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
    to_bytes(body, most).await.map_err(|_| {
        Problem::content_too_large(
            "the exam is larger than any genuine one",
            "send its KOS alone",
        )
    })
}

fn wrong(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::bad_request(detail, "correct the exam, and send it again")
}

fn failed(error: crate::source::ExamError) -> Problem {
    tracing::error!("{error}");
    Problem::internal()
}

fn no_store(mut answer: Response) -> Response {
    let value = http::HeaderValue::from_static("no-store");
    answer.headers_mut().insert(CACHE_CONTROL, value);
    answer
}
