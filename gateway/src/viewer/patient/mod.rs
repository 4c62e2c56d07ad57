//! The patient's way from the link to the exam: the proof that the centre chose, a session of its own.
//!
//! Whatever is wrong, the answer is the same page after the same time, and the try counts. What was tried is on record.

mod channel;
mod codes;
mod sessions;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use psc_auth::UnixTime;
use tokio::time::Instant;

pub use channel::{CodeChannel, Letter, SmsChannel};
pub(super) use codes::{Codes, CodesNow};
pub(super) use sessions::{COOKIE, PatientView};
pub use sessions::{PatientLimits, PatientSessions};

use super::handlers::LINK;
use super::links::Followed;
use super::{ViewedPacs, Viewer, assets, pages};
use crate::access::patient::{Given, Question, Way};
use crate::access::{Granted, Refusal};
use crate::audit::{Actor, Ending, Kind, Object, Outcome, Text};
use crate::login::guard::is_same_origin;
use crate::login::{SessionId, cookies, fields, form, is_same, pages as login_pages, see_other};
use crate::net::{Connection, RequestId};

/// A wrong answer leaves this long after its question, whatever was wrong with it.
pub(super) const FLOOR: Duration = Duration::from_millis(500);
/// Characters of a field that are looked at.
const MAX_FIELD: usize = 64;
/// Address of the questions.
const ASK: &str = "/viewer/patient";

/// How one-time codes leave.
#[derive(Clone)]
pub struct CodeSender {
    /// By what way.
    pub channel: Arc<dyn CodeChannel>,
    /// How long a code can be used.
    pub lifetime: Duration,
}

/// The pages of patients.
pub(super) fn router() -> Router<Arc<Viewer>> {
    Router::new()
        .route(ASK, get(ask).post(prove))
        .route("/viewer/patient/code", post(send_code))
        .route("/viewer/patient/quitter", get(stay).post(leave))
}

/// Waits until an answer may leave: then a refusal takes as long as every other.
pub(super) async fn at_floor(started: Instant) {
    tokio::time::sleep_until(started + FLOOR).await;
}

/// A browser that followed a link, and may be asked who it is.
struct Waiting {
    id: SessionId,
    host: Arc<str>,
    followed: Followed,
    question: Question,
}

impl Viewer {
    fn waiting(&self, connection: &Connection, headers: &HeaderMap) -> Option<Waiting> {
        let question = self.parts.gate.patients.as_ref()?.question();
        let (host, _) = self.pacs(connection)?;
        let id = cookies::read(headers, LINK)?;
        let followed = self.links.get(id.key(), &host, self.parts.login.now())?;
        Some(Waiting {
            id,
            host,
            followed,
            question,
        })
    }

    fn question(&self, waiting: &Waiting, refused: bool) -> Response {
        pages::patient(
            self.parts.login.shell(),
            waiting.question,
            &waiting.id.csrf(),
            waiting.followed.codes.was_asked(),
            refused,
        )
    }

    /// Decides on what a patient gave; on record before anything is open.
    async fn proved(
        &self,
        connection: &Connection,
        pacs: &ViewedPacs,
        waiting: &Waiting,
        given: &Given,
    ) -> Result<SessionId, Refusal> {
        let now = self.parts.login.now();
        let (address, study) = (connection.remote.ip(), waiting.followed.link.study());
        let proof = self.parts.gate.patients.as_ref();
        let word = proof.map_or("closed", |proof| proof.word());
        let decided = if self.throttle.may_try(address, study, now).await {
            self.weighed(address, pacs, waiting, given, now).await
        } else {
            Err(Refusal::Locked)
        };
        let outcome = match decided {
            Ok(()) => Outcome::of(Ending::Success),
            Err(refusal) => Outcome::refused(StatusCode::FORBIDDEN.as_u16(), refusal.label()),
        };
        let label = decided.map_or_else(Refusal::label, |()| "success");
        metrics::counter!("drimbox_patient_proofs_total", "proof" => word, "outcome" => label)
            .increment(1);
        let recorded = self
            .record_patient(connection, pacs, waiting, word, outcome)
            .await;
        decided?;
        recorded?;
        let granted = Granted {
            pacs: pacs.name.to_string(),
            study: study.clone(),
        };
        let begun = self.parts.patients.begin(&waiting.host, granted, word, now);
        begun.await.map_err(|_| Refusal::ExamsUnknown)
    }

    /// Compares what a patient gave, and counts it: a wrong link for its address alone, so that who knows no more than
    /// the study locks nobody else out, a wrong proof for the exam too.
    async fn weighed(
        &self,
        address: IpAddr,
        pacs: &ViewedPacs,
        waiting: &Waiting,
        given: &Given,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let (gate, throttle) = (&self.parts.gate, &self.throttle);
        let (codes, link) = (&waiting.followed.codes, &waiting.followed.link);
        let exam = match gate.named(&pacs.name, link).await {
            Ok(exam) => exam,
            // Nobody guessed where nothing could be compared.
            Err(refusal) => {
                throttle.tried(address, link.study());
                return Err(refusal);
            }
        };
        if exam.is_some() && !throttle.may_prove(link.study(), now).await {
            throttle.mistaken(address, link.study()).await;
            return Err(Refusal::Locked);
        }
        let codes = CodesNow { codes, now };
        let decided = gate.open_to_patient(exam.as_deref(), given, &codes).await;
        match decided {
            Ok(()) => {
                throttle.tried(address, link.study());
                throttle.proved(link.study());
            }
            Err(_) if exam.is_none() => throttle.mistaken(address, link.study()).await,
            Err(_) => throttle.failed(address, link.study()).await,
        }
        decided
    }

    async fn record_patient(
        &self,
        connection: &Connection,
        pacs: &ViewedPacs,
        waiting: &Waiting,
        resource: &'static str,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let actor = Actor {
            address: Some(connection.remote.ip()),
            ..Actor::default()
        };
        let object = Object {
            pacs: Some(Text::from(&pacs.name)),
            study: Some(waiting.followed.link.study().as_str().into()),
            resource: Some(resource.into()),
            ..Object::default()
        };
        let event = self.parts.audit.event(Kind::PatientGate);
        let event = event.by(actor).on(object).ending(outcome);
        self.parts
            .audit
            .record(event)
            .await
            .map(drop)
            .map_err(|error| {
                tracing::error!("a patient's try cannot be recorded and opens nothing: {error}");
                Refusal::ExamsUnknown
            })
    }

    /// Sends a code to the address that the centre holds, if there is one; nobody waits for it.
    fn send(self: &Arc<Self>, pacs: &ViewedPacs, waiting: &Waiting, way: Way) {
        let Some(sender) = self.parts.codes.clone() else {
            return;
        };
        let now = self.parts.login.now();
        let Followed { link, codes } = waiting.followed.clone();
        if !codes.ask() {
            return;
        }
        let (viewer, name) = (Arc::clone(self), Arc::clone(&pacs.name));
        tokio::spawn(async move {
            let address = viewer.parts.gate.address_of_patient(&name, &link, way);
            let outcome = match address.await {
                // Asked for too often: what was sent before still counts.
                Ok(_) if !viewer.throttle.may_send(link.study(), now).await => "too_often",
                Ok(address) => match codes.renew(now, sender.lifetime) {
                    Ok(code) => {
                        let letter = viewer.letter(&code, sender.lifetime);
                        match sender.channel.send(&address, &letter).await {
                            Ok(()) => "sent",
                            Err(error) => {
                                tracing::warn!("a one-time code was not sent: {error}");
                                "failed"
                            }
                        }
                    }
                    Err(error) => {
                        tracing::error!("a one-time code cannot be made: {error}");
                        "failed"
                    }
                },
                Err(refusal) => refusal.label(),
            };
            metrics::counter!("drimbox_patient_codes_total", "outcome" => outcome).increment(1);
        });
    }

    fn letter(&self, code: &str, lifetime: Duration) -> Letter {
        let centre = self.parts.login.shell().centre().to_owned();
        let minutes = lifetime.as_secs() / 60;
        let id = uuid::Uuid::new_v4();
        Letter {
            id: format!("code-{id}"),
            subject: format!("{centre} : votre code d'accès"),
            text: format!(
                "{centre}\n\nVotre code pour voir vos images : {code}\nIl est valable {minutes} minutes. \
                 Ne le donnez à personne.\nSi vous n'avez rien demandé, ignorez ce message.\n"
            ),
        }
    }
}

/// The question of the proof.
async fn ask(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    match viewer.waiting(&connection, &headers) {
        Some(waiting) => viewer.question(&waiting, false),
        None => viewer.unavailable(),
    }
}

/// The fields of a form that a page of this host sent with this token.
pub(super) async fn own_form(
    viewer: &Viewer,
    csrf: &str,
    host: &str,
    request_id: &RequestId,
    request: Request,
) -> Result<zeroize::Zeroizing<String>, Response> {
    let (parts, body) = request.into_parts();
    let text = form(body).await.map_err(|status| status.into_response())?;
    let token = fields(&text).find(|(name, _)| name == "csrf");
    let ours = is_same_origin(&parts.headers, host)
        && token.is_some_and(|(_, token)| is_same(csrf, &token));
    if ours {
        return Ok(text);
    }
    metrics::counter!("drimbox_forged_requests_total").increment(1);
    tracing::warn!("a state-changing request did not come from a page of this host");
    Err(login_pages::forged(
        viewer.parts.login.shell(),
        request_id.as_str(),
    ))
}

fn given(text: &str) -> Given {
    let mut given = Given::default();
    for (name, value) in fields(text) {
        let slot = match name.as_str() {
            "naissance" => &mut given.birth_date,
            "chiffres" => &mut given.digits,
            "code" => &mut given.code,
            _ => continue,
        };
        *slot = value.chars().take(MAX_FIELD).collect();
    }
    given
}

/// What a patient gave.
async fn prove(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let started = Instant::now();
    let (Some(waiting), Some((_, pacs))) = (
        viewer.waiting(&connection, &headers),
        viewer.pacs(&connection),
    ) else {
        return viewer.unavailable();
    };
    let text = own_form(
        &viewer,
        &waiting.id.csrf(),
        &waiting.host,
        &request_id,
        request,
    )
    .await;
    let text = match text {
        Ok(text) => text,
        Err(answer) => return answer,
    };
    match viewer
        .proved(&connection, pacs, &waiting, &given(&text))
        .await
    {
        Ok(id) => {
            // The link is used up, and the session that this browser had before is over.
            viewer.links.remove(waiting.id.key());
            if let Some(before) = cookies::read(&headers, COOKIE) {
                viewer.parts.patients.end(before.key()).await;
            }
            let mut answer = see_other(assets::PAGE, cookies::set(COOKIE, &id));
            if let Some(cookie) = cookies::clear(LINK) {
                answer.headers_mut().append(header::SET_COOKIE, cookie);
            }
            answer
        }
        Err(_) => {
            at_floor(started).await;
            viewer.question(&waiting, true)
        }
    }
}

/// Asks for a one-time code.
async fn send_code(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let (Some(waiting), Some((_, pacs))) = (
        viewer.waiting(&connection, &headers),
        viewer.pacs(&connection),
    ) else {
        return viewer.unavailable();
    };
    let Question::OneTimeCode(way) = waiting.question else {
        return viewer.unavailable();
    };
    if let Err(answer) = own_form(
        &viewer,
        &waiting.id.csrf(),
        &waiting.host,
        &request_id,
        request,
    )
    .await
    {
        return answer;
    }
    viewer.send(pacs, &waiting, way);
    see_other(ASK, None)
}

/// The address of the logout, without a form.
async fn stay() -> Response {
    see_other(assets::PAGE, None)
}

/// Ends the session of a patient.
async fn leave(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let host = connection.host.clone().unwrap_or_default();
    let now = viewer.parts.login.now();
    let view = viewer.parts.patients.current(&headers, &host, now, false);
    if let Some(view) = view {
        if let Err(answer) = own_form(&viewer, &view.csrf, &host, &request_id, request).await {
            return answer;
        }
        viewer.parts.patients.end(view.key).await;
        viewer.record_leaving(&connection, &view).await;
    }
    let mut answer = see_other("/auth/bye", cookies::clear(COOKIE));
    answer.headers_mut().insert(
        header::HeaderName::from_static("clear-site-data"),
        header::HeaderValue::from_static("\"cache\", \"storage\""),
    );
    answer
}

impl Viewer {
    async fn record_leaving(&self, connection: &Connection, view: &PatientView) {
        let actor = crate::dicomweb::trail::visitor(&view.visitor(), connection.remote.ip());
        let object = Object {
            pacs: Some(Text::from(&view.granted.pacs)),
            study: Some(view.granted.study.as_str().into()),
            ..Object::default()
        };
        let event = self.parts.audit.event(Kind::Logout);
        let event = event
            .by(actor)
            .on(object)
            .ending(Outcome::of(Ending::Success));
        if let Err(error) = self.parts.audit.record(event).await {
            tracing::error!("the end of a patient's session is not in the audit trail: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a clock that only moves when everything waits, both leave at the same instant.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_takes_as_long_whatever_was_wrong() {
        let started = Instant::now();
        at_floor(started).await;
        let quick = Instant::now();
        let started = Instant::now();
        tokio::time::sleep(FLOOR / 2).await;
        at_floor(started).await;
        assert_eq!(quick + FLOOR, Instant::now());
    }

    #[test]
    fn the_last_of_a_field_counts_and_no_more_than_a_line_of_it() {
        let text = format!(
            "naissance=1%2F2%2F1980&chiffres={}&code=A&other=x",
            "9".repeat(500)
        );
        let given = given(&text);
        assert_eq!(
            (given.birth_date.as_str(), given.code.as_str()),
            ("1/2/1980", "A")
        );
        assert_eq!(given.digits.len(), MAX_FIELD);
    }
}
