//! The way of a market certificate into the listener: tried in a handshake with itself, then swapped.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acme::{BoxFuture, Clock, DnsName, InstallError, Installer, Issued, Occasion, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

use crate::audit::{Audit, Ending};
use crate::certs::place::Role;
use crate::certs::replaced::Replaced;
use crate::net::tls::provider;
use crate::net::{NamedConfigs, usable};

/// Rounds of a handshake at most; TLS 1.3 needs two.
const MAX_ROUNDS: usize = 10;

/// Puts certificates into the names of a listener.
#[derive(Debug)]
pub struct MarketInstaller {
    names: Arc<NamedConfigs>,
    clock: Arc<dyn Clock>,
    audit: Option<Audit>,
}

impl MarketInstaller {
    /// For the names of this listener.
    #[must_use]
    pub fn new(names: Arc<NamedConfigs>, clock: Arc<dyn Clock>) -> Self {
        Self {
            names,
            clock,
            audit: None,
        }
    }

    /// The same, which has every new certificate on record before it is in service.
    #[must_use]
    pub fn recording(self, audit: Option<Audit>) -> Self {
        Self { audit, ..self }
    }

    async fn swap(
        &self,
        host: &str,
        certificate: CertifiedKey,
        before: Option<&Issued>,
    ) -> Result<(), InstallError> {
        // One that cannot be read any more is as none.
        let before = before.and_then(|before| before.chain().ok()?.into_iter().next());
        let now = certificate.cert.first().cloned();
        let replaced = now.as_ref().filter(|now| before.as_ref() != Some(now));
        let replaced = self.audit.as_ref().zip(replaced).map(|(audit, now)| {
            let before = before.as_ref();
            let role = Role::Market;
            (
                audit,
                Replaced {
                    host,
                    role,
                    before,
                    now,
                },
            )
        });
        if let Some((audit, replaced)) = &replaced {
            let recorded = replaced.record(audit, Ending::Success).await;
            recorded
                .map_err(|error| InstallError(format!("it cannot be put on record: {error}")))?;
        }
        let swapped = self.names.replace(host, certificate);
        if let (Err(_), Some((audit, replaced))) = (&swapped, &replaced)
            && let Err(error) = replaced.record(audit, Ending::Failed).await
        {
            tracing::error!(%error, host, "a certificate that is not in service is on record as if it were");
        }
        swapped.map_err(|error| InstallError(error.to_string()))
    }
}

impl Installer for MarketInstaller {
    fn install<'a>(
        &'a self,
        name: &'a DnsName,
        issued: &'a Issued,
        occasion: Occasion<'a>,
    ) -> BoxFuture<'a, Result<(), InstallError>> {
        Box::pin(async move {
            let host = name.as_str();
            let certificate = tried(host, issued, self.clock.now())?;
            match occasion {
                Occasion::Start => self
                    .names
                    .replace(host, certificate)
                    .map_err(|error| InstallError(error.to_string())),
                Occasion::New(before) => self.swap(host, certificate, before).await,
            }
        })
    }
}

/// The certificate, ready for the listener, after a handshake with itself. One that has expired is not tried: it is
/// what there is until the next one.
fn tried(host: &str, issued: &Issued, now: UnixTime) -> Result<CertifiedKey, InstallError> {
    let unreadable = |error: acme::NotUsable| InstallError(error.to_string());
    let chain = issued.chain().map_err(unreadable)?;
    let key = issued.key.to_der();
    let certificate = CertifiedKey::from_der(chain, key.clone_key(), &provider())
        .map_err(|error| InstallError(format!("certificate and key do not fit: {error}")))?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    if usable(&certificate, host, at).is_ok() {
        handshake(host, &certificate, now)
            .map_err(|error| InstallError(format!("a handshake with itself failed: {error}")))?;
    }
    Ok(certificate)
}

/// A handshake in memory, whose client trusts the topmost certificate of the chain and nothing else.
///
/// # Errors
/// What that client found.
pub(crate) fn handshake(
    host: &str,
    certificate: &CertifiedKey,
    now: UnixTime,
) -> Result<(), io::Error> {
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use acme::SystemClock;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use serde_json::Value as Json;

    use acme::PrivateKey;

    use super::*;
    use crate::audit;
    use crate::net::{Clients, NamedHost};

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
            key: PrivateKey::from_pkcs8(key.serialized_der()),
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
        wrong_key.key = PrivateKey::from_pkcs8(KeyPair::generate().unwrap().serialized_der());
        assert!(tried(host, &wrong_key, now).is_err());
    }

    /// A listener with one name, and what installs certificates there, with a trail in `folder`.
    fn listener(
        folder: &std::path::Path,
        host: &str,
    ) -> (Arc<NamedConfigs>, Audit, MarketInstaller) {
        let names = Arc::new(
            NamedConfigs::new([NamedHost {
                host: host.into(),
                clients: Clients::Anybody,
                certificate: None,
            }])
            .unwrap(),
        );
        let settings = audit::Settings {
            dir: folder.to_owned(),
            segment_bytes: 1 << 20,
            retention: None,
            targets: Vec::new(),
        };
        let trail = Audit::open(settings, audit::system_clock()).unwrap();
        let installer = MarketInstaller::new(Arc::clone(&names), Arc::new(SystemClock));
        let installer = installer.recording(Some(trail.clone()));
        (names, trail, installer)
    }

    /// Objects of the replacements on record in a folder, with how each ended.
    fn on_record(folder: &std::path::Path) -> Vec<(Json, String)> {
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
        files.sort();
        let text: String = files
            .iter()
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        let records = text.lines().map(|line| {
            let event = serde_json::from_str::<Json>(line).unwrap()["event"].take();
            assert_eq!(event["kind"], "certificate-replaced");
            let ending = event["outcome"]["ending"].as_str().unwrap_or("success");
            (event["object"].clone(), ending.to_owned())
        });
        records.collect()
    }

    fn print(issued: &Issued) -> String {
        use sha2::Digest as _;
        let leaf = issued.chain().unwrap().swap_remove(0);
        crate::certs::facts::hex(&sha2::Sha256::digest(leaf))
    }

    #[tokio::test]
    async fn a_new_certificate_is_on_record_with_the_one_before_and_a_restart_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let host = "vi1.centre.example";
        let (names, _trail, installer) = listener(folder.path(), host);
        let (issuer, pem) = authority();
        let [first, second] = [(); 2].map(|()| issued(host, &issuer, &pem));
        let name = DnsName::parse(host).unwrap();
        let install = async |issued, occasion| installer.install(&name, issued, occasion).await;

        install(&first, Occasion::New(None)).await.unwrap();
        install(&first, Occasion::Start).await.unwrap();
        install(&second, Occasion::New(Some(&first))).await.unwrap();
        install(&second, Occasion::New(Some(&second)))
            .await
            .unwrap();

        let served = names.certificate(host).unwrap();
        assert_eq!(served.cert.first(), second.chain().unwrap().first());
        let records = on_record(folder.path());
        let expected = [(None, &first), (Some(print(&first)), &second)];
        assert_eq!(records.len(), expected.len(), "{records:?}");
        for ((object, ending), (before, now)) in records.iter().zip(expected) {
            assert_eq!(object["subject"], host);
            assert_eq!(object["resource"], "MARKET");
            assert_eq!(object["certificate"], print(now));
            assert_eq!(object["certificate_before"].as_str(), before.as_deref());
            assert_eq!(ending, "success");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_cannot_be_put_on_record_does_not_serve() {
        let folder = tempfile::tempdir().unwrap();
        let host = "vi1.centre.example";
        let (names, trail, installer) = listener(folder.path(), host);
        let (issuer, pem) = authority();
        let first = issued(host, &issuer, &pem);
        trail.close().await;
        let name = DnsName::parse(host).unwrap();
        let refused = installer.install(&name, &first, Occasion::New(None)).await;
        assert!(refused.unwrap_err().0.contains("on record"));
        assert!(names.certificate(host).is_none());
        installer
            .install(&name, &first, Occasion::Start)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_swap_that_fails_is_on_record_as_failed() {
        let folder = tempfile::tempdir().unwrap();
        let (_names, _trail, installer) = listener(folder.path(), "vi1.centre.example");
        let (issuer, pem) = authority();
        let other = issued("vi2.centre.example", &issuer, &pem);
        let name = DnsName::parse("vi2.centre.example").unwrap();
        installer
            .install(&name, &other, Occasion::New(None))
            .await
            .unwrap_err();
        let endings: Vec<_> = on_record(folder.path())
            .into_iter()
            .map(|(_, e)| e)
            .collect();
        assert_eq!(endings, ["success", "failed"]);
    }
}
