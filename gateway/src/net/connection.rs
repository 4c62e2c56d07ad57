//! What is known of a connection, given to handlers as a request extension.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

/// Which listener a connection came in by; `db` and `vi` names share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Health and metrics.
    Admin,
    /// The centre's own network.
    Local,
    /// Other DRIMboxes, on the `db` names.
    Peer,
    /// Browsers, on the `vi` names.
    Viewer,
    /// Anybody, in clear on port 80: challenges of certificate authorities and redirects.
    Clear,
}

impl ListenerKind {
    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Viewer => "viewer",
            Self::Clear => "clear",
        }
    }
}

impl fmt::Display for ListenerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A connection, as its requests see it. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    /// Number of the connection since the process started; for logs.
    pub id: u64,
    /// The listener.
    pub listener: ListenerKind,
    /// Address of the other end.
    pub remote: SocketAddr,
    /// Name of the TLS handshake (SNI, RFC 6066 §3), in lower case without a final dot. Every
    /// request of the connection that names a host names this one.
    pub host: Option<Arc<str>>,
    /// Certificates the client showed, its own first; let in by the verifier of the name. `None` on
    /// a `vi` name, and where a `db` name lets clients without one ask for its state.
    pub peer_certificates: Option<Arc<[CertificateDer<'static>]>>,
}

impl Connection {
    /// The certificate of the other end itself, where it showed one.
    #[must_use]
    pub fn peer(&self) -> Option<&CertificateDer<'static>> {
        self.peer_certificates.as_deref()?.first()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("listener", &self.listener)
            .field("remote", &self.remote)
            .field("host", &self.host)
            .field(
                "peer_certificates",
                &self.peer_certificates.as_ref().map(|chain| chain.len()),
            )
            .finish()
    }
}

/// A host name as names are compared: lower case, no final dot.
pub(super) fn canonical_host(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
