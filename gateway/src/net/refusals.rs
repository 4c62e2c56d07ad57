//! What a listener refuses before any handler sees it, for whoever keeps a record of it.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

use super::connection::{Connection, ListenerKind};

/// A connection, or a request that nothing looked at, which the listener refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The listener.
    pub listener: ListenerKind,
    /// Who was refused.
    pub remote: IpAddr,
    /// The name of the TLS hello, as the client wrote it; it may be no name of ours.
    pub host: Option<Arc<str>>,
    /// Why: a fixed word of the program.
    pub reason: &'static str,
    /// Status of the answer, where it was a request that was refused.
    pub status: Option<u16>,
    /// The certificate that was refused. Nothing proves that the client has its key.
    pub certificate: Option<RefusedCertificate>,
    /// The certificate that the connection was let in with, where it was a request that was refused.
    pub peer: Option<CertificateDer<'static>>,
}

impl Refused {
    /// A request of a connection that is past its handshake.
    pub(super) fn request(connection: &Connection, reason: &'static str, status: u16) -> Self {
        Self {
            listener: connection.listener,
            remote: connection.remote.ip(),
            host: connection.host.clone(),
            reason,
            status: Some(status),
            certificate: None,
            peer: connection.peer().cloned(),
        }
    }
}

/// A client certificate that a verifier refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// Why: a fixed word of the program.
    pub reason: &'static str,
    /// The subject that it claims, as text (RFC 4514), where it can be read.
    pub subject: Option<String>,
    /// SHA-256 of it, hexadecimal.
    pub fingerprint: String,
}

/// Who is told of refusals. It must not wait: it is asked on the way of every connection.
pub trait Refusals: Send + Sync {
    /// Told once for each refusal.
    fn refused(&self, refused: Refused);
}

/// Whoever is told, if anybody is.
#[derive(Clone, Default)]
pub(super) struct Told(Option<Arc<dyn Refusals>>);

impl Told {
    pub(super) fn by(refusals: Arc<dyn Refusals>) -> Self {
        Self(Some(refusals))
    }

    pub(super) fn tell(&self, refused: Refused) {
        if let Some(refusals) = &self.0 {
            refusals.refused(refused);
        }
    }
}

/// Told by the verifier of a name why it refuses a certificate: TLS itself hands on an alert, not the
/// reason. Outside of a handshake of a listener it does nothing.
pub fn certificate_refused(certificate: RefusedCertificate) {
    let _ = HANDSHAKE.try_with(|note| note.0.lock().certificate = Some(certificate));
}

tokio::task_local! {
    /// The handshake that the task of a connection is at; verifiers are asked within it.
    pub(super) static HANDSHAKE: Note;
}

/// What is learnt during a handshake, also by one that fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Note(Arc<Mutex<Learnt>>);

#[derive(Debug, Default)]
struct Learnt {
    host: Option<Arc<str>>,
    certificate: Option<RefusedCertificate>,
}

impl Note {
    /// The name that the client asks for.
    pub(super) fn asks_for(&self, host: Option<&str>) {
        self.0.lock().host = host.map(Arc::from);
    }

    /// The refusal that this cause stands for; `None` when the other side ended the handshake. One that takes too
    /// long is refused, whatever the client had said until then.
    pub(super) fn refusal(
        &self,
        listener: ListenerKind,
        remote: IpAddr,
        cause: &'static str,
    ) -> Option<Refused> {
        if matches!(cause, "closed" | "refused_by_client") {
            return None;
        }
        let mut learnt = self.0.lock();
        let certificate = learnt.certificate.take();
        let certificate = certificate.filter(|_| cause == "client_certificate");
        Some(Refused {
            listener,
            remote,
            host: learnt.host.take(),
            reason: certificate.as_ref().map_or(cause, |one| one.reason),
            status: None,
            certificate,
            peer: None,
        })
    }
}
