//! What the audit trail says when another certificate of the gateway is put in service.

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::facts::hex;
use super::place::Role;
use crate::audit::{Audit, AuditError, Ending, Event, Kind, Object, Outcome};

/// Another certificate of a host name, or its first.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a> {
    /// The host name.
    pub host: &'a str,
    /// What the certificate is for.
    pub role: Role,
    /// The one before; `None`: it had none.
    pub before: Option<&'a CertificateDer<'a>>,
    /// The one from now on.
    pub now: &'a CertificateDer<'a>,
}

impl Replaced<'_> {
    /// Has it on record; on disk when this returns.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn record(&self, audit: &Audit, ending: Ending) -> Result<(), AuditError> {
        audit.record(self.event(audit, ending)).await.map(drop)
    }

    fn event(&self, audit: &Audit, ending: Ending) -> Event {
        let print = |certificate: &CertificateDer<'_>| hex(&Sha256::digest(certificate)).into();
        let object = Object {
            subject: Some(self.host.into()),
            resource: Some(self.role.code().into()),
            certificate: Some(print(self.now)),
            certificate_before: self.before.map(print),
            ..Object::default()
        };
        let event = audit.event(Kind::CertificateReplaced).on(object);
        event.ending(Outcome::of(ending))
    }
}
