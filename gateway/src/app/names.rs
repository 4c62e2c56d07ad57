//! The certificates of the `db` and `vi` names: read at the start, and again when their files change.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Ending};
use crate::certs::place::Role;
use crate::certs::presented::{By, Recorder};
use crate::certs::replaced::Replaced;
use crate::config::{Config, Gate, PeerListener, ServerIdentity};
use crate::net::tls::{self, TlsError};
use crate::net::{Clients, NamedConfigs, NamedHost, usable};
use crate::trust::Trust;

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The names of the listener for peers and browsers, and the files behind them.
pub(super) struct Names {
    /// What the listener uses.
    pub(super) configs: Arc<NamedConfigs>,
    files: Vec<Watched>,
    /// Authorities of peers, in a laboratory; else the trust store renews its own.
    client_ca_file: Option<PathBuf>,
    recorder: Recorder,
}

/// The files of the certificate of a name.
struct Watched {
    host: String,
    role: Role,
    identity: ServerIdentity,
}

impl Names {
    /// Reads every certificate that the configuration names.
    pub(super) fn load(
        config: &Config,
        peer: &PeerListener,
        trust: Option<&Trust>,
        recorder: &Recorder,
    ) -> anyhow::Result<Self> {
        let (verifier, client_ca_file) = match (&peer.gate, trust) {
            (Gate::None { client_ca_file }, _) => (
                tls::verifier_of(client_ca_file)?,
                Some(client_ca_file.clone()),
            ),
            (Gate::Full, Some(trust)) => (trust.client_verifier(), None),
            (Gate::Full, None) => anyhow::bail!("peer.gate = \"full\" needs the section [trust]"),
        };
        let mandatory = peer.healthcheck.paths.is_empty() || !peer.healthcheck.without_certificate;
        let peers = Clients::Peers {
            verifier: recorder.clients(verifier, By::Caller),
            mandatory,
        };
        let (mut hosts, mut files) = (Vec::new(), Vec::new());
        for pacs in &config.pacs {
            let db = (&pacs.db_host, &pacs.db_tls, &peers, Role::ServSsl);
            let anybody = Clients::Anybody;
            let vi = (&pacs.vi_host, &pacs.vi_tls, &anybody, Role::Market);
            for (host, identity, clients, role) in [db, vi] {
                let Some(host) = host else { continue };
                let certificate = match identity {
                    // One from the gateway itself, or soon.
                    None if config.acme.is_some() && matches!(clients, Clients::Anybody) => None,
                    None => {
                        tracing::warn!(
                            host,
                            "no certificate yet: this name is refused until it has one"
                        );
                        None
                    }
                    Some(identity) => {
                        files.push(Watched {
                            host: host.clone(),
                            role,
                            identity: identity.clone(),
                        });
                        let certificate = tls::certified_key(identity)?;
                        if let Err(error) = usable(&certificate, host, SystemTime::now()) {
                            tracing::error!("{error} Its clients refuse it until then.");
                        }
                        Some(Arc::new(certificate))
                    }
                };
                hosts.push(NamedHost {
                    host: host.clone(),
                    clients: clients.clone(),
                    certificate,
                });
            }
        }
        Ok(Self {
            configs: Arc::new(NamedConfigs::new(hosts)?),
            files,
            client_ca_file,
            recorder: recorder.clone(),
        })
    }

    /// Reads files again when they change, and all of them at `hangup`, until `stop`. What cannot
    /// be used is told and changes nothing; another certificate in use is in the audit trail.
    pub(super) async fn watch(self, audit: Audit, mut hangup: Signal, stop: CancellationToken) {
        let mut seen = self.stamps();
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
            for read in self.look(&mut seen, all, SystemTime::now()) {
                if read.is_new && read.outcome.is_ok() {
                    self.record(&audit, &read).await;
                }
                told(read.what, read.outcome);
            }
        }
    }

    /// Reads what changed since `seen`, or all of it, and uses from `now` on what can be used.
    pub(super) fn look(&self, seen: &mut Stamps, all: bool, now: SystemTime) -> Vec<Read<'_>> {
        let stamps = self.stamps();
        let is_new = |file: &Path| stamps.get(file) != seen.get(file);
        let mut reads = Vec::new();
        for watched in &self.files {
            let (host, identity) = (&watched.host, &watched.identity);
            let files = [&identity.certificate_file, &identity.key_file];
            let is_new = files.iter().any(|file| is_new(file));
            if all || is_new {
                let before = self.configs.certificate(host);
                reads.push(Read {
                    what: host,
                    is_new,
                    role: Some(watched.role),
                    before: before.and_then(|before| before.cert.first().cloned()),
                    outcome: self.certificate(host, identity, now),
                });
            }
        }
        let changed = |file: &&Path| all || is_new(file);
        if let Some(file) = self.client_ca_file.as_deref().filter(changed) {
            reads.push(Read {
                what: "client_ca_file",
                is_new: false,
                // Not a certificate of the gateway.
                role: None,
                before: None,
                outcome: self.authorities(file),
            });
        }
        *seen = stamps;
        reads
    }

    fn certificate(
        &self,
        host: &str,
        identity: &ServerIdentity,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let certificate = tls::certified_key(identity)?;
        usable(&certificate, host, now)?;
        self.configs.replace(host, certificate)
    }

    async fn record(&self, audit: &Audit, read: &Read<'_>) {
        let in_use = self.configs.certificate(read.what);
        let now = in_use.as_ref().and_then(|key| key.cert.first());
        let (Some(role), Some(now)) = (read.role, now) else {
            return;
        };
        let replaced = Replaced {
            host: read.what,
            role,
            before: read.before.as_ref(),
            now,
        };
        if let Err(error) = replaced.record(audit, Ending::Success).await {
            tracing::error!(%error, "a new certificate is in use, and not in the audit trail");
        }
    }

    fn authorities(&self, file: &Path) -> Result<(), TlsError> {
        let verifier = self.recorder.clients(tls::verifier_of(file)?, By::Caller);
        self.configs.replace_verifier(&verifier);
        Ok(())
    }

    /// How the files are now.
    pub(super) fn stamps(&self) -> Stamps {
        let of_hosts = self
            .files
            .iter()
            .map(|watched| &watched.identity)
            .flat_map(|identity| [&identity.certificate_file, &identity.key_file]);
        of_hosts
            .chain(&self.client_ca_file)
            .map(|file| (file.clone(), Stamp::of(file)))
            .collect()
    }
}

/// One reading of the files of a name.
#[derive(Debug)]
pub(super) struct Read<'n> {
    /// The name, or the key of the configuration.
    pub(super) what: &'n str,
    /// Whether it is another certificate than before.
    is_new: bool,
    /// What the certificate is for.
    role: Option<Role>,
    /// The certificate before.
    before: Option<CertificateDer<'static>>,
    /// Why what was there before stays, if it does.
    pub(super) outcome: Result<(), TlsError>,
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

fn told(what: &str, outcome: Result<(), TlsError>) {
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
