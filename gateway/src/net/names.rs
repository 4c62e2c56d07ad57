//! TLS by host name: the name of the handshake (SNI) chooses the certificate and whether a client
//! must show one.
//!
//! `db` names ask for the certificate of a peer, `vi` names ask for none. Certificates and the
//! verifier of peers are replaced while connections are open: handshakes from then on use the new
//! ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::connection::{ListenerKind, canonical_host};
use super::tls::{TlsError, alpn, builder};

/// What clients of a host name show.
#[derive(Debug, Clone)]
pub enum Clients {
    /// No certificate is asked for: browsers, on a `vi` name.
    Anybody,
    /// The certificate of another DRIMbox, on a `db` name.
    Peers {
        /// Who is let in. What it refuses ends the handshake.
        verifier: Arc<dyn ClientCertVerifier>,
        /// Whether a client without any certificate is refused in the handshake. Otherwise its
        /// requests carry none, and only what is open to everybody may be answered.
        mandatory: bool,
    },
}

impl Clients {
    fn kind(&self) -> ListenerKind {
        match self {
            Self::Anybody => ListenerKind::Viewer,
            Self::Peers { .. } => ListenerKind::Peer,
        }
    }
}

/// One host name of a listener.
#[derive(Debug, Clone)]
pub struct NamedHost {
    /// The name, as clients ask for it.
    pub host: String,
    /// What its clients show.
    pub clients: Clients,
    /// Its certificate; `None` while it has none yet, and handshakes are refused.
    pub certificate: Option<Arc<CertifiedKey>>,
}

/// The host names of a listener, with their certificates. Replaceable while connections are open.
#[derive(Debug)]
pub struct NamedConfigs {
    names: ArcSwap<HashMap<String, Entry>>,
    /// Held while a changed copy of the names is made.
    changing: Mutex<()>,
}

#[derive(Debug, Clone)]
struct Entry {
    host: NamedHost,
    config: Option<Arc<ServerConfig>>,
}

/// What a handshake is answered with.
pub(super) enum Choice {
    /// This configuration, and what the connection is then.
    Known(Arc<ServerConfig>, ListenerKind),
    /// No name, or none that is served.
    UnknownName,
    /// The name waits for its first certificate.
    NoCertificate,
}

impl NamedConfigs {
    /// The names of a listener.
    ///
    /// # Errors
    /// [`TlsError::DuplicateHost`] when a name comes twice.
    pub fn new(hosts: impl IntoIterator<Item = NamedHost>) -> Result<Self, TlsError> {
        let mut names = HashMap::new();
        for host in hosts {
            let name = canonical_host(&host.host);
            let given = host.host.clone();
            if names.insert(name, Entry::new(host)).is_some() {
                return Err(TlsError::DuplicateHost(given));
            }
        }
        Ok(Self {
            names: ArcSwap::from_pointee(names),
            changing: Mutex::new(()),
        })
    }

    /// Puts a certificate in the place of the one that a name has, or gives it its first.
    /// Connections that are open go on.
    ///
    /// # Errors
    /// [`TlsError`] when the name is not served, or the certificate is another name's; what was
    /// there stays.
    pub fn replace(&self, host: &str, certificate: CertifiedKey) -> Result<(), TlsError> {
        names_host(&certificate, host)?;
        let certificate = Arc::new(certificate);
        self.change(|names| {
            let entry = names
                .get_mut(&canonical_host(host))
                .ok_or_else(|| TlsError::UnknownHost(host.to_owned()))?;
            entry.host.certificate = Some(certificate);
            *entry = Entry::new(entry.host.clone());
            Ok(())
        })
    }

    /// Puts a verifier in the place of the one that `db` names have. Connections that are open go
    /// on until they reach their greatest age.
    pub fn replace_verifier(&self, verifier: &Arc<dyn ClientCertVerifier>) {
        let changed = self.change(|names| {
            for entry in names.values_mut() {
                if let Clients::Peers { verifier: old, .. } = &mut entry.host.clients {
                    *old = Arc::clone(verifier);
                    *entry = Entry::new(entry.host.clone());
                }
            }
            Ok(())
        });
        debug_assert!(changed.is_ok(), "nothing above can fail");
    }

    /// The certificate that a name has now.
    #[must_use]
    pub fn certificate(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let names = self.names.load();
        names.get(&canonical_host(host))?.host.certificate.clone()
    }

    /// What a handshake is answered with.
    pub(super) fn choose(&self, hello: &ClientHello<'_>) -> Choice {
        let names = self.names.load();
        let entry = hello
            .server_name()
            .and_then(|name| names.get(&canonical_host(name)));
        match entry {
            None => Choice::UnknownName,
            Some(entry) => match &entry.config {
                None => Choice::NoCertificate,
                Some(config) => Choice::Known(Arc::clone(config), entry.host.clients.kind()),
            },
        }
    }

    fn change(
        &self,
        change: impl FnOnce(&mut HashMap<String, Entry>) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        let _alone = self.changing.lock();
        let mut names = HashMap::clone(&self.names.load());
        change(&mut names)?;
        self.names.store(Arc::new(names));
        Ok(())
    }
}

impl Entry {
    fn new(host: NamedHost) -> Self {
        let config = host
            .certificate
            .as_ref()
            .map(|certificate| Arc::new(server_config(&host.clients, certificate)));
        Self { host, config }
    }
}

fn server_config(clients: &Clients, certificate: &Arc<CertifiedKey>) -> ServerConfig {
    let builder = match clients {
        Clients::Anybody => builder().with_no_client_auth(),
        Clients::Peers {
            verifier,
            mandatory: true,
        } => builder().with_client_cert_verifier(Arc::clone(verifier)),
        Clients::Peers { verifier, .. } => {
            builder().with_client_cert_verifier(Arc::new(Asked(Arc::clone(verifier))))
        }
    };
    let certificate = SingleCertAndKey::from(CertifiedKey::clone(certificate));
    let mut config = builder.with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = alpn();
    config.ignore_client_order = true;
    // ANSSI, recommandations TLS: sessions of TLS 1.2 are bound to their handshake (RFC 7627).
    config.require_ems = true;
    if matches!(clients, Clients::Peers { .. }) {
        // A resumed session is not verified again: a certificate revoked meanwhile would pass.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config
}

/// Refuses a certificate that clients would refuse at `now`: for another name, not valid yet, or
/// not any more.
///
/// # Errors
/// [`TlsError::Unusable`] with the reason.
pub fn usable(certificate: &CertifiedKey, host: &str, now: SystemTime) -> Result<(), TlsError> {
    names_host(certificate, host)?;
    let unusable = |reason| TlsError::Unusable {
        host: host.to_owned(),
        reason,
    };
    let leaf = leaf(certificate).ok_or_else(|| unusable("cannot be read"))?;
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    let validity = leaf.validity();
    if validity.not_after.timestamp() < now {
        return Err(unusable("is out of date"));
    }
    if validity.not_before.timestamp() > now {
        return Err(unusable("is not valid yet"));
    }
    Ok(())
}

/// Whether a certificate is that of a host name: by its alternative names (RFC 9525 §6.3), or,
/// where it has none, by its common name, as certificates of IGC-Santé may have it.
fn names_host(certificate: &CertifiedKey, host: &str) -> Result<(), TlsError> {
    let host = canonical_host(host);
    let unusable = |reason| TlsError::Unusable {
        host: host.clone(),
        reason,
    };
    let leaf = leaf(certificate).ok_or_else(|| unusable("cannot be read"))?;
    let alternative: Vec<String> = leaf
        .subject_alternative_name()
        .ok()
        .flatten()
        .into_iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(canonical_host(name)),
            _ => None,
        })
        .collect();
    let fits = if alternative.is_empty() {
        leaf.subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .any(|name| canonical_host(name) == host)
    } else {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        alternative
            .iter()
            .any(|name| *name == host || name.strip_prefix("*.").is_some_and(|n| Some(n) == parent))
    };
    if fits {
        Ok(())
    } else {
        Err(unusable("was issued for another name"))
    }
}

fn leaf(certificate: &CertifiedKey) -> Option<X509Certificate<'_>> {
    let leaf = certificate.cert.first()?;
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    Some(leaf)
}

/// Asks for a certificate and verifies the one that comes, but lets a client without any in.
#[derive(Debug)]
struct Asked(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Asked {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn offer_client_auth(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
