//! What the audit trail tells of requests on `db` names, before the first byte of the answer and at its
//! end; and of what people look at on `vi` names, once for each session, series and kind of resource.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::access::{Comer, Known, Through, Visitor};
use crate::archive::Scope;
use crate::audit::{
    Actor, Audit, AuditError, Ending, Event, Kind, Object, Outcome, Peer, Person, Sequence, Text,
};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::net::{Connection, ResourceName};

/// Time over which requests without any certificate are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Refusals of such requests that are recorded within it: anybody can make them, and the trail must
/// not be filled by anybody.
const OF_NOBODY: u32 = 60;

/// Looks that are remembered as recorded; one that is forgotten is recorded again.
const MOST_LOOKS: u64 = 100_000;
/// A look that lasts longer is recorded again. Sessions are shorter.
const LOOK_AGAIN: Duration = Duration::from_secs(4 * 3600);

/// The trail of requests of peers and of people.
pub struct Trail {
    audit: Audit,
    of_nobody: Mutex<Window>,
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
    /// Over this audit trail.
    #[must_use]
    pub fn new(audit: Audit) -> Self {
        Self {
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

    /// Records a request that is not answered with what it asked for.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn refused(
        &self,
        connection: &Connection,
        about: &About,
        status: StatusCode,
    ) -> Result<(), AuditError> {
        if connection.peer_certificates.is_none() && !self.of_nobody.lock().has_room() {
            metrics::counter!("drimbox_peer_refusals_unrecorded_total").increment(1);
            return Ok(());
        }
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
        self.audit.record(event).await.map(drop)
    }

    /// Records that an answer begins, and its end when that comes.
    ///
    /// # Errors
    /// [`AuditError`]: nothing of the answer may leave.
    pub async fn begun(
        self: &Arc<Self>,
        connection: &Connection,
        about: &About,
        answer: Response,
    ) -> Result<Response, AuditError> {
        let started = Instant::now();
        let mut event = self.event(Kind::RequestStarted, connection, about);
        if let Some(ResourceName(name)) = answer.extensions().get() {
            event.object.resource = Some((*name).into());
        }
        let status = answer.status().as_u16();
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
            runtime: Handle::current(),
        };
        Ok(answer.map(|body| Body::new(Followed::new(body, follow))))
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
        if look.visitor.is_none() && !self.of_nobody.lock().has_room() {
            metrics::counter!("drimbox_viewer_refusals_unrecorded_total").increment(1);
            return Ok(());
        }
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
            return self.audit.record(event).await.map(drop);
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

    fn event(&self, kind: Kind, connection: &Connection, about: &About) -> Event {
        let peer = about.known.peer.as_ref().map(|peer| Peer {
            subject: Some(Text::from(&peer.subject)),
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
    runtime: Handle,
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
    fn new(inner: Body, follow: Follow) -> Self {
        Self {
            whole: inner.is_end_stream(),
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
