//! The way of a market certificate into the listener: tried in a handshake with itself, then swapped.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acme::{BoxFuture, Clock, DnsName, InstallError, Installer, Issued, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

use crate::net::tls::provider;
use crate::net::{NamedConfigs, usable};

/// Rounds of a handshake at most; TLS 1.3 needs two.
const MAX_ROUNDS: usize = 10;

/// Puts certificates into the names of a listener.
#[derive(Debug)]
pub struct MarketInstaller {
    names: Arc<NamedConfigs>,
    clock: Arc<dyn Clock>,
}

impl MarketInstaller {
    /// For the names of this listener.
    #[must_use]
    pub fn new(names: Arc<NamedConfigs>, clock: Arc<dyn Clock>) -> Self {
        Self { names, clock }
    }
}

impl Installer for MarketInstaller {
    fn install<'a>(
        &'a self,
        name: &'a DnsName,
        issued: &'a Issued,
    ) -> BoxFuture<'a, Result<(), InstallError>> {
        Box::pin(async move {
            let host = name.as_str();
            let certificate = tried(host, issued, self.clock.now())?;
            self.names
                .replace(host, certificate)
                .map_err(|error| InstallError(error.to_string()))
        })
    }
}

/// The certificate, ready for the listener, after a handshake with itself. One that has expired is not tried: it is
/// what there is until the next one.
fn tried(host: &str, issued: &Issued, now: UnixTime) -> Result<CertifiedKey, InstallError> {
    let unreadable = |error: acme::NotUsable| InstallError(error.to_string());
    let chain = issued.chain().map_err(unreadable)?;
    let key = issued.key().map_err(unreadable)?;
    let certificate = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| InstallError(format!("certificate and key do not fit: {error}")))?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if usable(&certificate, host, at).is_ok() {
        handshake(host, &certificate, now)
            .map_err(|error| InstallError(format!("a handshake with itself failed: {error}")))?;
    }
    Ok(certificate)
}

/// A handshake in memory, whose client trusts the topmost certificate of the chain and nothing else.
fn handshake(host: &str, certificate: &CertifiedKey, now: UnixTime) -> Result<(), io::Error> {
    let invalid = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut roots = RootCertStore::empty();
    // A single certificate is its own issuer or that of an authority that clients have: nothing to verify it with.
    let [_, .., top] = certificate.cert.as_slice() else {
        return Ok(());
    };
    roots.add(top.clone()).map_err(invalid)?;
    let client = ClientConfig::builder_with_details(provider(), Arc::new(At(now)))
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let resolver = SingleCertAndKey::from(certificate.clone());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    server.session_storage = Arc::new(NoServerSessionStorage {});
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(client), name).map_err(invalid)?;
    let mut server = ServerConnection::new(Arc::new(server)).map_err(invalid)?;
    for _ in 0..MAX_ROUNDS {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        feed(&wire, |bytes| {
            server.read_tls(bytes)?;
            server.process_new_packets().map_err(invalid)
        })?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire)?;
        }
        feed(&wire, |bytes| {
            client.read_tls(bytes)?;
            client.process_new_packets().map_err(invalid)
        })?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err(io::Error::other("it does not end"))
}

/// The moment at which a handshake is tried.
#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let since_epoch = Duration::from_secs(self.0.as_secs());
        Some(rustls_pki_types::UnixTime::since_unix_epoch(since_epoch))
    }
}

fn feed<T>(
    wire: &[u8],
    mut read: impl FnMut(&mut &[u8]) -> Result<T, io::Error>,
) -> Result<(), io::Error> {
    let mut rest = wire;
    while !rest.is_empty() {
        read(&mut rest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use acme::SystemClock;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    fn authority() -> (Issuer<'static, KeyPair>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    }

    fn issued(host: &str, issuer: &Issuer<'static, KeyPair>, chain: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, issuer).unwrap();
        Issued {
            directory: String::new(),
            order: String::new(),
            chain_pem: format!("{}{chain}", leaf.pem()),
            key_pem: key.serialize_pem(),
        }
    }

    #[test]
    fn a_certificate_that_no_client_would_take_is_not_put_in_service() {
        let (issuer, pem) = authority();
        let (_, other) = authority();
        let host = "vi1.centre.example";
        let now = SystemClock.now();
        assert!(tried(host, &issued(host, &issuer, &pem), now).is_ok());
        let wrong_chain = tried(host, &issued(host, &issuer, &other), now).unwrap_err();
        assert!(wrong_chain.0.contains("handshake"), "{wrong_chain}");
        let mut wrong_key = issued(host, &issuer, &pem);
        wrong_key.key_pem = KeyPair::generate().unwrap().serialize_pem();
        assert!(tried(host, &wrong_key, now).is_err());
    }
}
