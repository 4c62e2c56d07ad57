//! What the audit trail tells of requests on `db` names, before the first byte of the answer and at its
//! end; and of what people look at on `vi` names, once for each session, series and kind of resource.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::PartsSent;
use crate::access::{Comer, Known, Through, Visitor};
use crate::archive::Scope;
use crate::audit::{
    Actor, Audit, AuditError, Ending, Event, Kind, Object, Outcome, Peer, Person, Repeats,
    Sequence, Text,
};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::net::{Connection, ResourceName};

/// Time over which requests of whoever shows nothing are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of such requests that have a record each within it. Anybody can make them, and nobody may
/// fill the trail: those beyond are counted by address and reason.
const OF_NOBODY: u32 = 60;

/// Looks that are remembered as recorded; one that is forgotten is recorded again.
const MOST_LOOKS: u64 = 100_000;
/// A look that lasts longer is recorded again. Sessions are shorter.
const LOOK_AGAIN: Duration = Duration::from_secs(4 * 3600);

/// The trail of requests of peers and of people.
pub struct Trail {
    audit: Audit,
    of_nobody: Mutex<Window>,
    beyond: Arc<Repeats>,
    looked: Cache<LookKey, Arc<OnceCell<()>>>,
}

/// Session, study, series, kind of resource, and the reason of a refusal.
type LookKey = (
    [u8; 32],
    Option<StudyUid>,
    Option<SeriesUid>,
    &'static str,
    &'static str,
);

/// What somebody on a `vi` name looks at.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Who; `None`: nobody is known.
    pub visitor: Option<Visitor>,
    /// Name of the PACS.
    pub pacs: Option<Arc<str>>,
    /// The study.
    pub study: Option<StudyUid>,
    /// The series, where one is asked for.
    pub series: Option<SeriesUid>,
    /// Kind of resource.
    pub resource: Option<&'static str>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
}

/// What is known of a request so far.
#[derive(Debug, Default)]
pub struct About {
    /// Who asks.
    pub known: Known,
    /// Name of the PACS.
    pub pacs: Option<Arc<str>>,
    /// What is asked for.
    pub scope: Option<Scope>,
    /// The KOS that the request names.
    pub kos: Option<InstanceUid>,
    /// The study that the grant is about.
    pub exam: Option<StudyUid>,
    /// Word for the reason of a refusal.
    pub reason: Option<&'static str>,
    /// Whether access was granted.
    pub granted: bool,
}

impl Trail {
    /// Over this audit trail. To be made on the runtime of the service.
    #[must_use]
    pub fn new(audit: Audit) -> Self {
        Self {
            beyond: Arc::new(Repeats::new(audit.clone())),
            audit,
            of_nobody: Mutex::new(Window {
                began: Instant::now(),
                count: 0,
            }),
            looked: Cache::builder()
                .max_capacity(MOST_LOOKS)
                .time_to_live(LOOK_AGAIN)
                .build(),
        }
    }

    /// Records, every minute until `stop` and once more then, how often what anybody can cause came.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        Arc::clone(&self.beyond).keep(stop).await;
    }

    /// Records a request that is not answered with what it asked for. Those of whoever shows no
    /// certificate are counted, as [`Repeats`] says, where there are many.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn refused(
        &self,
        connection: &Connection,
        about: &About,
        status: StatusCode,
    ) -> Result<(), AuditError> {
        let (kind, outcome) = if about.granted {
            let failed = Outcome {
                ending: Ending::Failed,
                status: Some(status.as_u16()),
                ..Outcome::default()
            };
            (Kind::RequestEnded, failed)
        } else {
            let reason = about.reason.unwrap_or("malformed");
            (
                Kind::RequestRefused,
                Outcome::refused(status.as_u16(), reason),
            )
        };
        let event = self.event(kind, connection, about).ending(outcome);
        match connection.peer_certificates {
            Some(_) => self.audit.record(event).await.map(drop),
            None => self.of_nobody(event).await,
        }
    }

    /// Records that an answer begins, and its end when that comes: at once for HEAD, which has no body.
    ///
    /// # Errors
    /// [`AuditError`]: nothing of the answer may leave.
    pub async fn begun(
        self: &Arc<Self>,
        connection: &Connection,
        method: &Method,
        about: &About,
        answer: Response,
    ) -> Result<Response, AuditError> {
        let started = Instant::now();
        let mut event = self.event(Kind::RequestStarted, connection, about);
        if let Some(ResourceName(name)) = answer.extensions().get() {
            event.object.resource = Some((*name).into());
        }
        let status = answer.status().as_u16();
        let resource = answer.extensions().get::<ResourceName>();
        let head_only = *method == Method::HEAD;
        let is_instance =
            !head_only && resource.is_some_and(|ResourceName(name)| *name == "instance");
        event.outcome = Outcome {
            status: Some(status),
            ..Outcome::of(Ending::Begun)
        };
        let mut end = event.clone();
        end.kind = Kind::RequestEnded;
        let begun = self.audit.record(event).await?;
        let follow = Follow {
            trail: Arc::clone(self),
            event: Some(end),
            begun,
            started,
            status,
            sent: match answer.extensions().get::<PartsSent>() {
                Some(parts) => Sent::Parts(parts.clone()),
                None if is_instance => Sent::OneInstance,
                None => Sent::NoInstances,
            },
            runtime: Handle::current(),
        };
        Ok(answer.map(|body| Body::new(Followed::new(body, follow, head_only))))
    }

    /// Records that somebody sees something: on disk when this returns, once for each session, series and kind of
    /// resource, however many frames are asked for.
    ///
    /// # Errors
    /// [`AuditError`]: nothing may be shown.
    pub async fn seen(&self, connection: &Connection, look: Look) -> Result<(), AuditError> {
        let outcome = Outcome::of(Ending::Success);
        self.look(connection, look, Kind::ImagesSeen, outcome, "")
            .await
    }

    /// Records that somebody asked for what they may not see.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn unseen(
        &self,
        connection: &Connection,
        look: Look,
        reason: &'static str,
        status: u16,
    ) -> Result<(), AuditError> {
        let outcome = Outcome::refused(status, reason);
        self.look(connection, look, Kind::ImagesRefused, outcome, reason)
            .await
    }

    async fn look(
        &self,
        connection: &Connection,
        look: Look,
        kind: Kind,
        outcome: Outcome,
        reason: &'static str,
    ) -> Result<(), AuditError> {
        let address = connection.remote.ip();
        let resource = look.resource.unwrap_or_default();
        let object = Object {
            pacs: look.pacs.as_ref().map(Text::from),
            study: look.study.as_ref().map(|uid| uid.as_str().into()),
            series: look.series.as_ref().map(|uid| uid.as_str().into()),
            resource: look.resource.map(Text::from),
            ..Object::default()
        };
        let Some(who) = look.visitor else {
            let actor = Actor {
                address: Some(address),
                ..Actor::default()
            };
            let event = self.audit.event(kind).by(actor).on(object).ending(outcome);
            return self.of_nobody(event).await;
        };
        let key = (who.session, look.study, look.series, resource, reason);
        let told = self.looked.get_with(key, Arc::default);
        let record = async || {
            let event = self.audit.event(kind).by(visitor(&who, address));
            let event = event.on(object).ending(outcome);
            self.audit.record(event).await.map(drop)
        };
        // Whoever asks for the same meanwhile waits for the same record; a failed one is tried again.
        told.get_or_try_init(record).await.copied()
    }

    /// Records a refusal of whoever shows nothing.
    async fn of_nobody(&self, event: Event) -> Result<(), AuditError> {
        if self.of_nobody.lock().has_room() {
            return self.audit.record(event).await.map(drop);
        }
        self.beyond.tell(event);
        Ok(())
    }

    fn event(&self, kind: Kind, connection: &Connection, about: &About) -> Event {
        let peer = about.known.peer.as_ref().map(|peer| Peer {
            subject: Some(peer.subject.as_str())
                .filter(|subject| !subject.is_empty())
                .map(Text::from),
            fingerprint: Some(Text::from(&peer.fingerprint)),
            host: peer.host.as_ref().map(Text::from),
        });
        let admitted = about.known.profession.as_deref();
        let person = about.known.person.as_ref().map(|person| Person {
            national_id: Some(person.national_id.as_str().into()),
            profession: admitted.map(Text::from).or_else(|| {
                let mut exercices = person.user.as_ref()?.exercices.iter();
                exercices.find_map(|one| one.profession.as_deref().map(Text::from))
            }),
            token: Some(Text::from(&person.jti)),
            authorized_party: Some(Text::from(&person.azp)),
            session: person.session.as_ref().map(Text::from),
            ..Person::default()
        });
        let scope = about.scope.as_ref();
        let object = Object {
            pacs: about.pacs.as_ref().map(Text::from),
            study: scope.map(|scope| scope.study().as_str().into()),
            series: scope
                .and_then(Scope::series)
                .map(|series| series.as_str().into()),
            instance: scope
                .and_then(Scope::instance)
                .map(|instance| instance.as_str().into()),
            kos: about.kos.as_ref().map(|kos| kos.as_str().into()),
            ..Object::default()
        };
        let actor = Actor {
            address: Some(connection.remote.ip()),
            peer,
            person,
            account: None,
        };
        self.audit.event(kind).by(actor).on(object)
    }
}

/// Somebody on a `vi` name, as the trail names them: a professional by Pro Santé Connect, a patient by how they
/// proved to be the one of the exam.
#[must_use]
pub fn visitor(visitor: &Visitor, address: std::net::IpAddr) -> Actor {
    let (person, account) = match &visitor.who {
        Comer::Professional {
            national_id,
            profession,
            structure,
        } => {
            let person = Person {
                national_id: Some(Text::from(national_id)),
                profession: Some(Text::from(profession)),
                structure: structure.as_ref().map(Text::from),
                proof: Some(Person::PSC.into()),
                ..Person::default()
            };
            // The part of the gateway that asks in their name.
            let program = match visitor.through {
                Through::Page => None,
                Through::Weasis => Some("weasis".into()),
            };
            (Some(person), program)
        }
        Comer::Patient { proof } => (None, Some(format!("patient:{proof}").into())),
    };
    Actor {
        address: Some(address),
        peer: None,
        person,
        account,
    }
}

impl Window {
    fn has_room(&mut self) -> bool {
        if self.began.elapsed() >= WINDOW {
            self.began = Instant::now();
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= OF_NOBODY
    }
}

/// What is recorded when an answer ends.
struct Follow {
    trail: Arc<Trail>,
    event: Option<Event>,
    begun: Sequence,
    started: Instant,
    status: u16,
    sent: Sent,
    runtime: Handle,
}

/// What an answer is made of.
enum Sent {
    /// Instances, as parts.
    Parts(PartsSent),
    /// One instance, as it is.
    OneInstance,
    /// Something else, as frames or metadata.
    NoInstances,
}

impl Sent {
    /// The whole instances that left.
    fn instances(&self, ending: Ending) -> Option<u64> {
        match self {
            Self::Parts(parts) => Some(parts.count()),
            Self::OneInstance => Some(u64::from(ending == Ending::Success)),
            Self::NoInstances => None,
        }
    }
}

impl Follow {
    fn end(&mut self, bytes: u64, ending: Ending) {
        let Some(event) = self.event.take() else {
            return;
        };
        let at = self.trail.audit.event(event.kind).at;
        let outcome = Outcome {
            status: Some(self.status),
            bytes: Some(bytes),
            instances: self.sent.instances(ending),
            duration: Some(self.started.elapsed()),
            ..Outcome::of(ending)
        };
        let event = Event { at, ..event }.ending(outcome).following(self.begun);
        let audit = self.trail.audit.clone();
        // The beginning is on disk: a crash before this leaves an answer whose end is not known.
        self.runtime.spawn(async move {
            if let Err(error) = audit.record_unhurried(event).await {
                tracing::error!("the end of an answer to a peer is not recorded: {error}");
            }
        });
    }
}

/// Passes the frames of a body on, and tells its end.
struct Followed {
    inner: Body,
    /// What came after the last frame that was passed on, when that is known already.
    ahead: Option<Option<Result<Frame<Bytes>, axum::Error>>>,
    follow: Follow,
    bytes: u64,
    length: Option<u64>,
    whole: bool,
}

impl Followed {
    fn new(inner: Body, follow: Follow, head_only: bool) -> Self {
        Self {
            whole: head_only || inner.is_end_stream(),
            length: inner.size_hint().exact(),
            inner,
            ahead: None,
            follow,
            bytes: 0,
        }
    }
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let frame = match this.ahead.take() {
            Some(frame) => Poll::Ready(frame),
            None => Pin::new(&mut this.inner).poll_frame(cx),
        };
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                this.bytes = this.bytes.saturating_add(length as u64);
                // With a known length the transport stops asking at the last byte. Without one a
                // client may close as soon as it has the closing boundary, before the transport
                // asks again: whether more comes is found out here.
                this.whole = Some(this.bytes) == this.length || this.inner.is_end_stream();
                if !this.whole
                    && this.length.is_none()
                    && let Poll::Ready(next) = Pin::new(&mut this.inner).poll_frame(cx)
                {
                    this.whole = next.is_none();
                    this.ahead = Some(next);
                }
            }
            Poll::Ready(None) => this.whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.ahead {
            Some(next) => next.is_none(),
            None => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let ending = if self.whole {
            Ending::Success
        } else {
            Ending::Aborted
        };
        self.follow.end(self.bytes, ending);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::*;
    use crate::audit::{Chain, Settings, system_clock};
    use crate::net::ListenerKind;

    fn audit(dir: &Path) -> Audit {
        let settings = Settings {
            dir: dir.to_owned(),
            segment_bytes: 1 << 20,
            retention: None,
            targets: Vec::new(),
        };
        Audit::open(settings, system_clock()).unwrap()
    }

    /// A connection without certificate.
    fn from(address: u32) -> Connection {
        Connection {
            id: 1,
            listener: ListenerKind::Peer,
            remote: (Ipv4Addr::from_bits(address), 50_000).into(),
            host: None,
            peer_certificates: None,
        }
    }

    /// Kind and address of every record, the events that they stand for, and their number.
    fn recorded(dir: &Path) -> Vec<(Kind, String, u64, usize)> {
        let records = Chain::open(dir, None).unwrap();
        let events = records.filter_map(|record| record.unwrap().event());
        let mut all: Vec<(Kind, String, u64, usize)> = Vec::new();
        for event in events {
            let address = event.actor.address.unwrap().to_string();
            let times = event.outcome.times.unwrap_or(1);
            match all.iter_mut().find(|one| one.1 == address) {
                Some(one) => {
                    one.2 += times;
                    one.3 += 1;
                }
                None => all.push((event.kind, address, times, 1)),
            }
        }
        all
    }

    #[tokio::test]
    async fn a_flood_without_certificate_does_not_hide_who_else_was_refused() {
        let dir = tempfile::tempdir().unwrap();
        let audit = audit(dir.path());
        let trail = Arc::new(Trail::new(audit.clone()));
        let about = About {
            reason: Some("no_certificate"),
            ..About::default()
        };
        let status = StatusCode::FORBIDDEN;
        let (flood, other, visitor) = (from(7), from(8), from(9));
        for _ in 0..1_000 {
            trail.refused(&flood, &about, status).await.unwrap();
        }
        trail.refused(&other, &about, status).await.unwrap();
        let unseen = trail.unseen(&visitor, Look::default(), "no_session", 401);
        unseen.await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        trail.keep(stop).await;
        audit.close().await;
        let mut recorded = recorded(dir.path());
        recorded.sort_by(|a, b| a.1.cmp(&b.1));
        let told = |kind, address: &str, times, records| (kind, address.to_owned(), times, records);
        assert_eq!(
            recorded,
            [
                // One each, then the first beyond, and how many more there were.
                told(Kind::RequestRefused, "0.0.0.7", 1_000, 60 + 2),
                told(Kind::RequestRefused, "0.0.0.8", 1, 1),
                told(Kind::ImagesRefused, "0.0.0.9", 1, 1),
            ]
        );
    }
}
