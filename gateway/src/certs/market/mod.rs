//! The market certificates of the `vi` names, obtained and renewed over ACME. Those that were bought by hand are places of
//! the inventory like any other.
//!
//! What a certificate authority is asked and when is decided in the crate `acme`. Here are the folder it keeps its
//! state in, the way of a certificate into the listener ([`installer`]), port 80 ([`port80`]), and what administrators
//! are told ([`report`], [`words`], [`check`]).

pub mod check;
pub mod installer;
pub mod port80;
pub mod report;
pub mod words;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acme::{
    Accounts, Authority, Clock, DnsName, DnsResolver, Failure, FileStore, HttpsTransport, Lease,
    Lifecycle, Parts, Probe, Random, Store, StoreError, SystemClock, SystemProbe, SystemRandom,
    Tokens, Transport, TransportSettings, UnixTime,
};
use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::facts::hex;
use crate::audit::Audit;
use crate::config::{Acme, Config, HttpProxy};
use crate::keys::{self, store::SealedStore};
use crate::net::{self, NamedConfigs};
use installer::MarketInstaller;
use report::Report;

/// A challenge of nobody, by which `check acme` knows that it is this service that answers on port 80.
const SELF_TOKEN: &str = "drimbox-check-acme";

/// How often a node that does not order looks for the lease, and for certificates that another one obtained.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);

/// The folders below the data folder: real certificates, and those for trials.
pub(crate) const FOLDERS: [&str; 2] = ["acme", "acme-staging"];

/// Folders below one another in the store.
const MAX_DEPTH: usize = 4;

/// What market certificates are obtained with.
#[derive(Debug, Clone)]
pub struct Means {
    /// The way to the authorities.
    pub transport: Arc<dyn Transport>,
    /// What explains failures.
    pub probe: Arc<dyn Probe>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
}

impl Means {
    /// Those of `[acme]`, with the clock of the machine.
    ///
    /// # Errors
    /// When the authorities' file or the proxy cannot be used.
    pub fn of(acme: &Acme) -> anyhow::Result<Self> {
        let roots = net::tls::read_authorities(&acme.ca_file)
            .context("authorities of the ACME directories (`acme.ca_file`)")?;
        let settings = TransportSettings {
            proxy: acme.http_proxy.as_ref().map(HttpProxy::url),
            ..TransportSettings::default()
        };
        Ok(Self {
            transport: Arc::new(HttpsTransport::new(settings, roots)?),
            probe: Arc::new(probe(acme)),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        })
    }
}

/// Looks at names as the Internet sees them, as far as `[acme]` says how.
fn probe(acme: &Acme) -> SystemProbe {
    let probe = SystemProbe::default().at(acme.public_addresses.clone());
    match acme.dns_servers.is_empty() {
        true => probe,
        false => probe.asking(Arc::new(DnsResolver::new(acme.dns_servers.clone()))),
    }
}

/// The certificates of all `vi` names that the gateway gets itself, and what they share. Copies share everything.
#[derive(Clone)]
pub struct Market {
    names: Arc<Vec<Named>>,
    /// The answers to challenges.
    pub tokens: Tokens,
    accounts: Arc<Accounts>,
    authorities: Arc<Vec<Authority>>,
    means: Means,
    folder: Arc<Path>,
    /// Whether this process has the lease of the folder.
    orders: Arc<AtomicBool>,
}

/// One `vi` name.
struct Named {
    /// Its place in the inventory: `vi:PACS`.
    place: String,
    lifecycle: Lifecycle,
}

impl Market {
    /// From `[acme]`, for the `vi` names without certificate of their own; certificates go into `names`, and are on
    /// record in `audit` first. Nobody is asked yet.
    ///
    /// # Errors
    /// When the authorities' file or the proxy cannot be used, or others can read the keys.
    pub fn build(
        config: &Config,
        acme: &Acme,
        names: &Arc<NamedConfigs>,
        audit: Option<&Audit>,
    ) -> anyhow::Result<Self> {
        Self::with(Means::of(acme)?, config, acme, names, audit)
    }

    /// As [`Self::build`], with these means.
    ///
    /// # Errors
    /// When others can read the keys.
    pub fn with(
        means: Means,
        config: &Config,
        acme: &Acme,
        names: &Arc<NamedConfigs>,
        audit: Option<&Audit>,
    ) -> anyhow::Result<Self> {
        let folder = folder(&config.data_dir, acme);
        // Nodes may share it by a link.
        let folder = fs::canonicalize(&folder).unwrap_or(folder);
        refuse_exposed(&folder, 0)?;
        for other in FOLDERS {
            refuse_exposed(&config.data_dir.join(other), 0)?;
        }
        let files: Arc<dyn Store> = Arc::new(FileStore::new(&folder));
        let store: Arc<dyn Store> = Arc::new(SealedStore::new(files, keys::passphrase()));
        let accounts = Arc::new(Accounts::new(
            Arc::clone(&means.transport),
            Arc::clone(&store),
            Arc::clone(&means.clock),
        ));
        let installer = MarketInstaller::new(Arc::clone(names), Arc::clone(&means.clock));
        let installer = installer.recording(audit.cloned());
        let parts = Parts {
            accounts: Arc::clone(&accounts),
            tokens: Tokens::new(Arc::clone(&store)),
            store,
            installer: Arc::new(installer),
            probe: Arc::clone(&means.probe),
            clock: Arc::clone(&means.clock),
            random: Arc::clone(&means.random),
        };
        let authorities: Vec<Authority> = acme
            .authorities
            .iter()
            .map(|one| Authority {
                directory: one.directory.clone(),
                contact: acme.contact.clone(),
                external_account: one.external_account.clone(),
                preferred_chain: one.preferred_chain.clone(),
            })
            .collect();
        let mut lifecycles = Vec::new();
        for pacs in &config.pacs {
            let (Some(host), None) = (&pacs.vi_host, &pacs.vi_tls) else {
                continue;
            };
            let settings = acme::Settings {
                name: DnsName::parse(host)?,
                authorities: authorities.clone(),
                key_type: acme.key_type,
            };
            lifecycles.push(Named {
                place: format!("vi:{}", pacs.name),
                lifecycle: Lifecycle::new(settings, parts.clone()),
            });
        }
        Ok(Self {
            names: Arc::new(lifecycles),
            tokens: parts.tokens,
            accounts,
            authorities: Arc::new(authorities),
            means,
            folder: folder.into(),
            orders: Arc::default(),
        })
    }

    /// Whether this process orders, and not another one that shares the folder.
    #[must_use]
    pub fn orders(&self) -> bool {
        self.orders.load(Ordering::Relaxed)
    }

    /// The process that orders, in words: its host and number.
    #[must_use]
    pub fn who_orders(&self) -> Option<String> {
        Lease::holder(&self.folder)
    }

    /// The authorities, the first one preferred.
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// The accounts with them.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The life of each certificate.
    pub fn lifecycles(&self) -> impl Iterator<Item = &Lifecycle> {
        self.names.iter().map(|named| &named.lifecycle)
    }

    /// Has the certificate at a place (`vi:PACS`) renewed because it, whose SHA-256 this is (hexadecimal), is revoked.
    /// `false`: another process orders, or this one does not yet.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub async fn renew_revoked(&self, place: &str, fingerprint: &str) -> Result<bool, Failure> {
        if !self.orders() {
            return Ok(false);
        }
        let is_revoked = |leaf: &CertificateDer<'_>| hex(&Sha256::digest(leaf)) == fingerprint;
        if let Some(named) = self.names.iter().find(|named| named.place == place) {
            named.lifecycle.renew_revoked(is_revoked).await?;
        }
        Ok(true)
    }

    /// As if this process had the lease.
    #[cfg(test)]
    pub(crate) fn take_orders(&self) {
        self.orders.store(true, Ordering::Relaxed);
    }

    /// Keeps every certificate in date until `stop`; what is under way then goes on at the next start. Of several
    /// processes with one folder one orders, and the others serve what it obtains until they take its place.
    pub async fn run(self, stop: CancellationToken) {
        if self.names.is_empty() {
            return;
        }
        let reports: Vec<Report> = self
            .names
            .iter()
            .map(|named| Report::new(named.place.clone()))
            .collect();
        let lease = tokio::select! {
            () = stop.cancelled() => return,
            lease = self.follow(&reports) => lease,
        };
        self.orders.store(true, Ordering::Relaxed);
        metrics::gauge!("drimbox_acme_orders").set(1.0);
        let orders = Arc::clone(&self.orders);
        self.order(reports, &stop).await;
        orders.store(false, Ordering::Relaxed);
        drop(lease);
    }

    /// Serves what another process obtains, until this one has the lease.
    async fn follow(&self, reports: &[Report]) -> Lease {
        let mut said = None;
        loop {
            let why = match self.lease().await {
                Ok(Some(lease)) => return lease,
                Ok(None) => Ok(self.who_orders().unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            };
            metrics::gauge!("drimbox_acme_orders").set(0.0);
            if said.as_ref() != Some(&why) {
                match &why {
                    Ok(by) => tracing::info!(by, "another process orders the market certificates"),
                    Err(error) => tracing::error!(error, "no market certificate is ordered"),
                }
                said = Some(why);
            }
            for (named, report) in self.names.iter().zip(reports) {
                match named.lifecycle.follow().await {
                    Ok(status) => report.tell(&status, self.means.clock.now()),
                    Err(failure) => {
                        tracing::error!(%failure, place = named.place, "what is obtained cannot be read");
                    }
                }
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }

    async fn lease(&self) -> Result<Option<Lease>, StoreError> {
        let folder = Arc::clone(&self.folder);
        let taken = tokio::task::spawn_blocking(move || Lease::take(&folder)).await;
        taken.unwrap_or_else(|error| {
            Err(StoreError {
                path: self.folder.display().to_string(),
                action: "locked",
                reason: error.to_string(),
            })
        })
    }

    async fn order(self, reports: Vec<Report>, stop: &CancellationToken) {
        let (clock, all) = (Arc::clone(&self.means.clock), self.names);
        // Written by the service and only read by the command, which another account may run.
        let oneself = uuid::Uuid::new_v4().to_string();
        if let Err(error) = self.tokens.publish(SELF_TOKEN, &oneself).await {
            tracing::error!(%error, "challenges cannot be written");
        }
        let mut names = JoinSet::new();
        for (index, report) in reports.into_iter().enumerate() {
            let (stop, clock, all) = (stop.clone(), Arc::clone(&clock), Arc::clone(&all));
            names.spawn(async move {
                let Some(Named { lifecycle, .. }) = all.get(index) else {
                    return;
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = lifecycle.run(|status| report.tell(status, clock.now())) => {}
                }
            });
        }
        while names.join_next().await.is_some() {}
    }
}

/// The folder of accounts, keys and certificates.
#[must_use]
pub fn folder(data_dir: &Path, acme: &Acme) -> PathBuf {
    let [real, staging] = FOLDERS;
    data_dir.join(if acme.staging { staging } else { real })
}

/// Keys that others can read are not used: an error with the command that closes them.
fn refuse_exposed(path: &Path, depth: usize) -> anyhow::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mode = found.permissions().mode() & 0o777;
    if !found.is_symlink() && mode & 0o077 != 0 {
        let path = path.display();
        anyhow::bail!("{path}: open to others (mode {mode:03o}). Run `chmod -R go= {path}`.");
    }
    if found.is_dir() && depth < MAX_DEPTH {
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            refuse_exposed(&entry?.path(), depth + 1)?;
        }
    }
    Ok(())
}

/// A moment as administrators read it: the day and the time in UTC.
pub(crate) fn moment(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let format = time::macros::format_description!("[day]/[month]/[year] à [hour]:[minute] UTC");
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(format).ok())
        .unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_that_others_can_read_are_refused_with_the_command_that_closes_them() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("acme");
        let key = folder.join("names/vi1/current");
        assert!(refuse_exposed(&folder, 0).is_ok(), "nothing there yet");
        fs::create_dir_all(key.parent().unwrap()).unwrap();
        fs::write(&key, "key").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for dir in [&folder, &folder.join("names"), &folder.join("names/vi1")] {
            mode(dir, 0o700);
        }
        mode(&key, 0o600);
        assert!(refuse_exposed(&folder, 0).is_ok());
        mode(&key, 0o640);
        let said = refuse_exposed(&folder, 0).unwrap_err().to_string();
        assert!(
            said.contains(&format!("chmod -R go= {}", key.display())),
            "{said}"
        );
        mode(&key, 0o600);
        mode(&folder, 0o755);
        assert!(refuse_exposed(&folder, 0).is_err());
    }
}
