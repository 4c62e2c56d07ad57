//! What the public listener refuses, in the audit trail.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::PeerIdentity;
use crate::audit::{Actor, Audit, Ending, Kind, Object, Outcome, Peer, Repeats, Text};
use crate::net::{Refusals, Refused};

/// Takes refusals to the trail until `stop`.
pub(super) fn recorder(
    audit: &Audit,
    stop: &CancellationToken,
    behind: &mut JoinSet<()>,
) -> Arc<dyn Refusals> {
    let repeats = Arc::new(Repeats::new(audit.clone()));
    behind.spawn(Arc::clone(&repeats).keep(stop.clone()));
    Arc::new(Recorder(repeats))
}

struct Recorder(Arc<Repeats>);

impl Refusals for Recorder {
    fn refused(&self, refused: Refused) {
        let Refused {
            listener: _,
            remote,
            host,
            reason,
            status,
            certificate,
            peer,
        } = refused;
        let certificate = certificate.map(|one| (one.subject, one.fingerprint));
        let certificate = certificate.or_else(|| {
            let peer = PeerIdentity::of_certificate(&peer?);
            let subject = Some(peer.subject).filter(|subject| !subject.is_empty());
            Some((subject, peer.fingerprint))
        });
        let peer = certificate.map(|(subject, fingerprint)| Peer {
            subject: subject.map(Text::from),
            fingerprint: Some(fingerprint.into()),
            host: None,
        });
        let actor = Actor {
            address: Some(remote.to_canonical()),
            peer,
            ..Actor::default()
        };
        let object = Object {
            subject: host.map(Text::from),
            ..Object::default()
        };
        let outcome = Outcome {
            status,
            reason: Some(reason.into()),
            ..Outcome::of(Ending::Refused)
        };
        let event = self.0.event(Kind::ConnectionRefused);
        self.0.tell(event.by(actor).on(object).ending(outcome));
    }
}
