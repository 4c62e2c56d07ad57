//! The certificates that the service shows to others, while it runs: read again when their files change.
//!
//! What cannot be used, and what the other side would refuse, is told and changes nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Ending};
use crate::certs::facts::Facts;
use crate::certs::place::Role;
use crate::certs::presented::{By, Recorder};
use crate::certs::replaced::Replaced;
use crate::config::ServerIdentity;
use crate::net::tls::{self, TlsError};
use crate::net::{NamedConfigs, ReplaceableKey, usable};
use crate::trust::{Standing, Trust, TrustRefusal};

/// Time between two looks at the files.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A certificate, its files, and where it is used.
#[derive(Debug)]
pub(super) struct Watched {
    /// What the log and the audit trail call it: its host name, or its place.
    pub(super) what: String,
    pub(super) role: Role,
    pub(super) identity: ServerIdentity,
    pub(super) used: Used,
}

/// Where a certificate is used.
#[derive(Debug)]
pub(super) enum Used {
    /// Under a host name of the listener for peers and browsers.
    Name(Arc<NamedConfigs>),
    /// By a listener or a client of its own.
    Alone(Arc<ReplaceableKey>),
}

/// Why a certificate does not take the place of the one in use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Other DRIMboxes compare it with the same authorities.
    #[error(
        "other DRIMboxes would refuse the certificate of {host}: {refusal}. Install one of the authorities of [trust]."
    )]
    NotOfAuthority { host: String, refusal: TrustRefusal },
    #[error("the certificate of {host} is revoked by its authority. Ask for another one.")]
    Revoked { host: String },
}

impl Watched {
    /// The one with which a listener or a client begins.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be used.
    pub(super) fn alone(
        place: String,
        role: Role,
        identity: &ServerIdentity,
    ) -> Result<(Self, Arc<ReplaceableKey>), TlsError> {
        let key = ReplaceableKey::new(tls::certified_key(identity)?);
        let watched = Self {
            what: place,
            role,
            identity: identity.clone(),
            used: Used::Alone(Arc::clone(&key)),
        };
        Ok((watched, key))
    }

    fn in_use(&self) -> Option<CertificateDer<'static>> {
        let in_use = match &self.used {
            Used::Name(configs) => configs.certificate(&self.what)?,
            Used::Alone(key) => key.in_use(),
        };
        in_use.cert.first().cloned()
    }

    fn read_again(&self, trust: Option<&Trust>, now: SystemTime) -> Result<(), Refused> {
        let certificate = tls::certified_key(&self.identity)?;
        match &self.used {
            Used::Name(configs) => {
                usable(&certificate, &self.what, now)?;
                if let (Role::ServSsl, Some(trust)) = (self.role, trust) {
                    self.stands(&certificate, trust, now)?;
                }
                configs.replace(&self.what, certificate)?;
            }
            Used::Alone(key) => {
                self.in_date(&certificate, now)?;
                key.replace(certificate);
            }
        }
        Ok(())
    }

    fn in_date(&self, certificate: &CertifiedKey, now: SystemTime) -> Result<(), TlsError> {
        let unusable = |reason| TlsError::Unusable {
            host: self.what.clone(),
            reason,
        };
        let facts = certificate.cert.first().map(Facts::of);
        let Some(Ok(facts)) = facts else {
            return Err(unusable("cannot be read"));
        };
        facts.in_date(now.into()).map_err(unusable)
    }

    fn stands(
        &self,
        certificate: &CertifiedKey,
        trust: &Trust,
        now: SystemTime,
    ) -> Result<(), Refused> {
        let host = self.what.clone();
        let leaf = certificate.cert.first();
        match leaf.map(|leaf| trust.standing(leaf, now.into())) {
            Some(Standing::Refused(refusal)) => Err(Refused::NotOfAuthority { host, refusal }),
            Some(Standing::Revoked) => Err(Refused::Revoked { host }),
            // Without a revocation list of today there is nothing to hold against it.
            Some(Standing::Good | Standing::Unknown(_)) | None => Ok(()),
        }
    }
}

/// Who verifies the certificates of peers.
#[derive(Debug)]
pub(super) struct Peers {
    configs: Arc<NamedConfigs>,
    recorder: Recorder,
    authorities: Authorities,
}

/// Where the authorities of peers come from.
#[derive(Debug)]
pub(super) enum Authorities {
    /// A file, in a laboratory.
    File(PathBuf),
    /// The trust store, which renews its own.
    Trust(Trust),
}

impl Authorities {
    /// A verifier by the authorities of now.
    ///
    /// # Errors
    /// [`TlsError`] when the file cannot be used.
    pub(super) fn verifier(
        &self,
        recorder: &Recorder,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let verifier = match self {
            Self::File(file) => tls::verifier_of(file)?,
            Self::Trust(trust) => trust.client_verifier(),
        };
        Ok(recorder.clients(verifier, By::Caller))
    }
}

impl Peers {
    pub(super) fn new(
        configs: &Arc<NamedConfigs>,
        recorder: &Recorder,
        authorities: Authorities,
    ) -> Self {
        Self {
            configs: Arc::clone(configs),
            recorder: recorder.clone(),
            authorities,
        }
    }

    fn read_again(&self) -> Result<(), TlsError> {
        let verifier = self.authorities.verifier(&self.recorder)?;
        self.configs.replace_verifier(&verifier);
        Ok(())
    }
}

/// All certificates that are read again.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    watched: Vec<Arc<Watched>>,
    peers: Option<Peers>,
    /// Authorities that are named to peers, in handshakes, DER.
    named: Mutex<Option<Vec<Vec<u8>>>>,
    trust: Option<Trust>,
}

impl Certificates {
    /// None yet; those for peers are compared with the authorities of `trust`.
    pub(super) fn new(trust: Option<&Trust>) -> Self {
        Self {
            trust: trust.cloned(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, watched: impl IntoIterator<Item = Watched>) {
        self.watched.extend(watched.into_iter().map(Arc::new));
    }

    pub(super) fn add_peers(&mut self, peers: Peers) {
        self.peers = Some(peers);
    }

    /// Reads files again when they change, and all of them at `hangup`, until `stop`. What cannot
    /// be used is told and changes nothing; another certificate in use is in the audit trail.
    pub(super) async fn watch(self, audit: Audit, mut hangup: Signal, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut seen = None;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let all = tokio::select! {
                () = stop.cancelled() => return,
                came = hangup.recv() => match came {
                    Some(()) => true,
                    None => return,
                },
                _ = looks.tick() => false,
            };
            let (certificates, before) = (Arc::clone(&this), seen.clone());
            // Opening a key that is encrypted takes a second.
            let looked = tokio::task::spawn_blocking(move || {
                let mut stamps = before.unwrap_or_else(|| certificates.stamps());
                let reads = certificates.look(&mut stamps, all, SystemTime::now());
                (stamps, reads)
            });
            let Ok((stamps, reads)) = looked.await else {
                tracing::error!("looking at the TLS files failed: they are looked at again");
                continue;
            };
            seen = Some(stamps);
            for read in reads {
                if read.is_new && read.outcome.is_ok() {
                    record(&audit, &read).await;
                }
                told(&read.what, read.outcome);
            }
        }
    }

    /// Reads what changed since `seen`, or all of it, and uses from `now` on what can be used.
    pub(super) fn look(&self, seen: &mut Stamps, all: bool, now: SystemTime) -> Vec<Read> {
        let stamps = self.stamps();
        let is_new = |file: &Path| stamps.get(file) != seen.get(file);
        let mut reads = Vec::new();
        for watched in &self.watched {
            let files = [
                &watched.identity.certificate_file,
                &watched.identity.key_file,
            ];
            let is_new = files.iter().any(|file| is_new(file));
            if all || is_new {
                reads.push(Read {
                    what: watched.what.clone(),
                    is_new,
                    before: watched.in_use(),
                    outcome: watched.read_again(self.trust.as_ref(), now),
                    certificate: Some(Arc::clone(watched)),
                });
            }
        }
        if let Some(peers) = &self.peers {
            match &peers.authorities {
                Authorities::File(file) if all || is_new(file) => reads.push(Read {
                    what: "client_ca_file".into(),
                    is_new: false,
                    certificate: None,
                    before: None,
                    outcome: peers.read_again().map_err(Refused::from),
                }),
                Authorities::File(_) => {}
                Authorities::Trust(trust) => self.name_authorities(peers, trust),
            }
        }
        *seen = stamps;
        reads
    }

    /// A verifier names the authorities that it was made with to clients, which choose their certificate by them: it is
    /// made anew when the trust store has others.
    fn name_authorities(&self, peers: &Peers, trust: &Trust) {
        let mut named = self.named.lock();
        let verifier = trust.client_verifier();
        let subjects = verifier.root_hint_subjects().iter();
        let now = subjects.map(|name| name.as_ref().to_vec()).collect();
        if named.as_ref() == Some(&now) {
            return;
        }
        match peers.read_again() {
            Ok(()) => *named = Some(now),
            Err(error) => tracing::error!(%error, "authorities of peers cannot be named to them"),
        }
    }

    /// How the files are now.
    pub(super) fn stamps(&self) -> Stamps {
        let certificates = self
            .watched
            .iter()
            .map(|watched| &watched.identity)
            .flat_map(|identity| [&identity.certificate_file, &identity.key_file]);
        let authorities = self
            .peers
            .iter()
            .filter_map(|peers| match &peers.authorities {
                Authorities::File(file) => Some(file),
                Authorities::Trust(_) => None,
            });
        certificates
            .chain(authorities)
            .map(|file| (file.clone(), Stamp::of(file)))
            .collect()
    }
}

/// One reading of files.
#[derive(Debug)]
pub(super) struct Read {
    /// The name or place of the certificate, or the key of the configuration.
    pub(super) what: String,
    /// Whether it is another than before.
    is_new: bool,
    /// `None`: not a certificate of the gateway.
    certificate: Option<Arc<Watched>>,
    /// The certificate before.
    before: Option<CertificateDer<'static>>,
    /// Why what was there before stays, if it does.
    pub(super) outcome: Result<(), Refused>,
}

async fn record(audit: &Audit, read: &Read) {
    let in_use = read
        .certificate
        .as_ref()
        .and_then(|watched| watched.in_use());
    let (Some(watched), Some(now)) = (&read.certificate, &in_use) else {
        return;
    };
    let replaced = Replaced {
        host: &read.what,
        role: watched.role,
        before: read.before.as_ref(),
        now,
    };
    if let Err(error) = replaced.record(audit, Ending::Success).await {
        tracing::error!(%error, "a new certificate is in use, and not in the audit trail");
    }
}

/// How files were when they were looked at.
pub(super) type Stamps = HashMap<PathBuf, Option<Stamp>>;

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.size(),
            inode: metadata.ino(),
        })
    }
}

fn told(what: &str, outcome: Result<(), Refused>) {
    let word = match outcome {
        Ok(()) => {
            tracing::info!(what, "TLS files read again; new connections use them");
            "loaded"
        }
        Err(error) => {
            tracing::error!(what, "{error} What was there before stays in use.");
            "refused"
        }
    };
    metrics::counter!("drimbox_tls_reloads_total", "outcome" => word).increment(1);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use rustls_pki_types::ServerName;
    use rustls_pki_types::pem::PemObject as _;
    use tempfile::TempDir;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::tls::{connector, install_provider, storage_acceptor};
    use super::*;
    use crate::config::{ClientTls, Dimse};
    use crate::keys::files;

    const HOST: &str = "passerelle.exemple.fr";

    /// A folder with an authority, and the files of one certificate.
    struct Bench {
        folder: TempDir,
        issuer: Issuer<'static, KeyPair>,
        roots: Arc<RootCertStore>,
        identity: ServerIdentity,
    }

    impl Bench {
        fn new() -> Self {
            install_provider();
            let folder = TempDir::new().unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = params.self_signed(&key).unwrap();
            fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let bench = Self {
                identity: ServerIdentity {
                    certificate_file: folder.path().join("c.pem"),
                    key_file: folder.path().join("k.pem"),
                },
                folder,
                issuer: Issuer::new(params, key),
                roots: Arc::new(roots),
            };
            bench.renew(730);
            bench
        }

        /// Another certificate in the files, which ends that many days after the first of January 2026.
        fn renew(&self, days: i64) -> CertificateDer<'static> {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
            params.not_before = time::macros::datetime!(2020-01-01 00:00 UTC);
            params.not_after =
                time::macros::datetime!(2026-01-01 00:00 UTC) + time::Duration::days(days);
            let leaf = params.signed_by(&key, &self.issuer).unwrap();
            let identity = &self.identity;
            files::write_new(&identity.key_file, key.serialize_pem().as_bytes()).unwrap();
            files::write_new(&identity.certificate_file, leaf.pem().as_bytes()).unwrap();
            leaf.der().clone()
        }

        fn on_disk(&self) -> CertificateDer<'static> {
            CertificateDer::from_pem_file(&self.identity.certificate_file).unwrap()
        }

        /// A client that shows nothing and verifies whom it calls.
        fn client(&self) -> TlsConnector {
            let roots = RootCertStore::clone(&self.roots);
            let config = ClientConfig::builder().with_root_certificates(roots);
            TlsConnector::from(Arc::new(config.with_no_client_auth()))
        }

        /// A server that demands a certificate.
        fn server(&self) -> TlsAcceptor {
            let verifier = WebPkiClientVerifier::builder(Arc::clone(&self.roots));
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
            let leaf = params.signed_by(&key, &self.issuer).unwrap();
            let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let config = ServerConfig::builder()
                .with_client_cert_verifier(verifier.build().unwrap())
                .with_single_cert(vec![leaf.der().clone()], key)
                .unwrap();
            TlsAcceptor::from(Arc::new(config))
        }
    }

    /// The certificates that client and server of a new connection see of each other.
    async fn meet(
        client: &TlsConnector,
        server: &TlsAcceptor,
    ) -> [Option<CertificateDer<'static>>; 2] {
        let (near, far) = tokio::io::duplex(64 << 10);
        let host = ServerName::try_from(HOST).unwrap();
        let (near, far) = tokio::join!(client.connect(host, near), server.accept(far));
        let (near, far) = (near.unwrap(), far.unwrap());
        let first = |all: Option<&[CertificateDer<'static>]>| all.map(|all| all[0].clone());
        [
            first(near.get_ref().1.peer_certificates()),
            first(far.get_ref().1.peer_certificates()),
        ]
    }

    fn now() -> SystemTime {
        time::macros::datetime!(2026-06-01 00:00 UTC).into()
    }

    #[tokio::test]
    async fn local_listener_dicom_port_and_clients_show_a_renewed_certificate_from_the_next_handshake_on()
     {
        let bench = Bench::new();
        let mut watched = Vec::new();
        let (own, key) = Watched::alone("local".into(), Role::Local, &bench.identity).unwrap();
        watched.push(own);
        let local = TlsAcceptor::from(tls::server_config_with(key));
        let dimse = Dimse {
            tls: Some(bench.identity.clone()),
            ..dimse()
        };
        let dicom = storage_acceptor(&dimse, &mut watched).unwrap().unwrap();
        let settings = ClientTls {
            ca_file: bench.folder.path().join("ca.pem"),
            server_name: HOST.into(),
            identity: Some(bench.identity.clone()),
        };
        let (pacs, _) =
            connector(&settings, "pacs:ct".into(), Role::PacsClient, &mut watched).unwrap();
        let mut certificates = Certificates::new(None);
        certificates.add(watched);
        let mut seen = certificates.stamps();

        let (client, server) = (bench.client(), bench.server());
        let shown = async || {
            [
                meet(&client, &local).await[0].clone(),
                meet(&client, &dicom).await[0].clone(),
                meet(&pacs, &server).await[1].clone(),
            ]
        };
        let first = bench.on_disk();
        assert_eq!(shown().await, [(); 3].map(|()| Some(first.clone())));
        assert_eq!(certificates.look(&mut seen, false, now()).len(), 0);

        let second = bench.renew(1_000);
        let reads = certificates.look(&mut seen, false, now());
        assert_eq!(reads.len(), 3);
        assert!(reads.iter().all(|read| read.outcome.is_ok()), "{reads:?}");
        assert_eq!(shown().await, [(); 3].map(|()| Some(second.clone())));

        // One that is over is told, and the one before stays.
        bench.renew(-1);
        let reads = certificates.look(&mut seen, false, now());
        assert!(reads.iter().all(|read| read.outcome.is_err()), "{reads:?}");
        assert_eq!(shown().await, [(); 3].map(|()| Some(second.clone())));
    }

    fn dimse() -> Dimse {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("drimbox.toml");
        let text = "data_dir = \"data\"\n[local]\n[[pacs]]\nname = \"ct\"\n\
                    [pacs.dimse]\nhost = \"127.0.0.1\"\nae_title = \"PACS\"\n";
        fs::write(&file, text).unwrap();
        crate::config::load(&file).unwrap().dimse
    }
}
