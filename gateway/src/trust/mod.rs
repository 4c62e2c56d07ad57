//! Which DRIMboxes are believed: the authorities of IGC Santé, revocation lists, the signed white
//! list, and who a peer is.
//!
//! [`Trust`] answers from memory; [`Trust::maintain`] keeps what it answers from up to date. New
//! authorities, lists and white lists count from the next question on. What may be seen by whom is
//! not decided here but in `access`.

pub mod anchors;
mod chain;
mod clock;
pub mod crl;
mod der;
mod disk;
mod dn;
mod http;
mod maintain;
mod named_lists;
pub mod ocsp;
mod own;
mod points;
mod refusal;
mod validated;
mod verifier;
pub mod whitelist;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use crate::config::{OcspUse, PeerKeyUsage, TrustEnvironment};
use anchors::{AnchorError, Anchors, Environment};
use chain::{Chain, KeyUsagePolicy, Leaf, Purpose};
pub use clock::Clock;
use crl::{Crls, TakeError, Taken};
pub use dn::{DistinguishedName, DnError};
pub use http::FetchError;
pub use maintain::{RefreshError, Stamps};
pub use named_lists::{NamedListError, NamedLists, Wanted};
use ocsp::Ocsp;
pub use own::{Standing, is_issued_by};
use points::Points;
pub use refusal::TrustRefusal;
pub use verifier::claimed_subject;
pub use whitelist::Domain;
use whitelist::{Keeper, ListError, Outcome, Signer, WhiteList};

/// What is believed, and the way to ask. Clones share one state.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Inner>);

/// Who a peer is: the entry of the white list that its certificate leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Subject of its certificate.
    pub dn: DistinguishedName,
    /// Its host name in the white list, in lower case.
    pub db_host: String,
    /// Operator or editor, as the white list says.
    pub denomination: String,
    /// SHA-256 of its certificate, hexadecimal.
    pub fingerprint: String,
}

/// Why there is no [`Trust`].
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The authorities cannot be used.
    #[error(transparent)]
    Anchors(#[from] AnchorError),
    /// The folder cannot be used.
    #[error("{folder}: cannot be used: {source}. Check that the service may write there.")]
    Folder {
        /// The folder.
        folder: std::path::PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The TLS client for white lists cannot be made.
    #[error("the TLS client for white lists cannot be made: {0}")]
    Tls(#[from] rustls::Error),
}

/// An event that the audit trail keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustEvent {
    /// An administrator lets peers in although revocation lists are missing or expired.
    BypassOpened {
        /// Until when, Unix seconds.
        until: u64,
        /// The administrator's words.
        reason: String,
    },
    /// The bypass ended, by itself or by an administrator.
    BypassClosed,
    /// A peer, or the signer of a white list, was believed only because of the bypass.
    BypassUsed {
        /// Subject of its certificate.
        dn: String,
    },
    /// Another white list is in use.
    WhiteListReplaced {
        /// When it was signed, Unix seconds.
        signed: i64,
        /// Its domains.
        domains: usize,
    },
}

/// Where events go.
pub trait TrustAudit: Send + Sync {
    /// Keeps one event. [`TrustEvent::BypassOpened`] is kept for good when this returns, which may
    /// block; the others may be on their way.
    ///
    /// # Errors
    /// When it cannot be kept: what an administrator wanted to open then stays closed.
    fn record(&self, event: &TrustEvent) -> std::io::Result<()>;
}

/// A bypass of missing or expired revocation lists, for a limited time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bypass {
    /// Until when, Unix seconds.
    pub until: u64,
    /// The administrator's words.
    pub reason: String,
}

/// Why there is no bypass.
#[derive(Debug, thiserror::Error)]
pub enum BypassError {
    /// In the past, or longer than allowed.
    #[error("a bypass must end within {} hours (`trust.max_bypass_seconds`)", .0.as_secs() / 3_600)]
    Duration(Duration),
    /// Nothing to tell the auditor.
    #[error("a bypass needs a reason")]
    NoReason,
    /// It could not be kept.
    #[error("the bypass cannot be kept: {0}")]
    Disk(#[from] std::io::Error),
    /// It could not be told to the audit trail.
    #[error("the bypass cannot be recorded in the audit trail, and is not opened: {0}")]
    Audit(std::io::Error),
}

/// The white list in use, for people.
#[derive(Debug, Clone)]
pub struct ListStatus {
    /// The list.
    pub list: Arc<WhiteList>,
    /// When it was last fetched and found in order, Unix seconds.
    pub confirmed_at: u64,
    /// Seconds since then.
    pub age: u64,
    /// Whether that is so long that somebody should look why.
    pub confirmed_long_ago: bool,
    /// Whether it still counts.
    pub in_force: bool,
    /// Seconds since it was signed, as its signer says.
    pub signed_age: u64,
    /// Whether that is so long that a newer list may be kept from this gateway.
    pub signed_long_ago: bool,
}

/// The revocation list of one authority, for people.
#[derive(Debug, Clone)]
pub struct CrlStatus {
    /// Common name of the authority.
    pub authority: String,
    /// The list, when there is one.
    pub list: Option<Arc<crl::Crl>>,
    /// Whether it counts now.
    pub in_force: bool,
}

/// Folder of the revocation lists, within that of the trust store.
const REVOCATION_LISTS: &str = "crl";
/// Folder of the white list, within that of the trust store.
const WHITE_LIST: &str = "whitelist";

struct Inner {
    settings: crate::config::Trust,
    clock: Clock,
    known: WebPkiSupportedAlgorithms,
    anchors: ArcSwap<Anchors>,
    crls: Crls,
    lists: Keeper,
    points: Points,
    /// `None` when responders are not asked.
    ocsp: Option<Ocsp>,
    /// Of each address, what its server said of the list that it gave.
    validators: validated::Validated,
    bypass: ArcSwapOption<Bypass>,
    audit: Mutex<Option<Arc<dyn TrustAudit>>>,
    /// SHA-256 of the white list that was in use last, as the audit trail was told.
    told_list: Mutex<Option<[u8; 32]>>,
    /// The files of the folder before any was read.
    opened: Stamps,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("environment", &self.settings.environment)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Reads the authorities, and the revocation lists and the white list kept from before. Blocks
    /// for tenths of a second when lists are long. Nothing is downloaded.
    ///
    /// # Errors
    /// When the authorities cannot be used, or the folder cannot be written. Lists that are missing
    /// or wrong are no errors: peers are refused until better ones come.
    pub fn open(settings: crate::config::Trust, clock: Clock) -> Result<Self, TrustError> {
        let opened = Stamps::of(&settings.folder);
        let known = crate::net::tls::provider().signature_verification_algorithms;
        let anchors = load_anchors(&settings, &known)?;
        let folder = |source| TrustError::Folder {
            folder: settings.folder.clone(),
            source,
        };
        let now = clock.now();
        let crls = Crls::open(
            settings.folder.join(REVOCATION_LISTS),
            &anchors,
            &known,
            now,
        )
        .map_err(folder)?;
        let lists = Keeper::open(settings.folder.join(WHITE_LIST)).map_err(folder)?;
        let points = Points::new(&settings.revocation_hosts);
        let ocsp = match settings.ocsp {
            OcspUse::Off => None,
            OcspUse::Tighten => {
                let answers = settings.folder.join("ocsp");
                let answers = Ocsp::open(answers, &anchors, &crls.current(), &known, now);
                Some(answers.map_err(folder)?)
            }
        };
        let validators = validated::Validated::open(&settings.folder).map_err(folder)?;
        let trust = Self(Arc::new(Inner {
            points,
            ocsp,
            validators,
            settings,
            clock,
            known,
            anchors: ArcSwap::from_pointee(anchors),
            crls,
            lists,
            bypass: ArcSwapOption::empty(),
            audit: Mutex::new(None),
            told_list: Mutex::default(),
            opened,
        }));
        trust.0.read_bypass();
        trust.0.load_list();
        *trust.0.told_list.lock() = trust.0.lists.active().map(|active| active.list.digest);
        Ok(trust)
    }

    /// Where events go from now on; nowhere but the log before.
    pub fn audit_to(&self, audit: Arc<dyn TrustAudit>) {
        *self.0.audit.lock() = Some(audit);
    }

    /// The verifier of peers that call, for the TLS configuration of a `db` name.
    #[must_use]
    pub fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(verifier::PeerClients::new(Arc::clone(&self.0)))
    }

    /// The verifier of peers that are called.
    #[must_use]
    pub fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        Arc::new(verifier::PeerServers::new(Arc::clone(&self.0)))
    }

    /// Who shows this chain (the certificate first): its chain is verified again, as revocation may
    /// have come after the handshake, then its subject is looked up in the white list.
    ///
    /// # Errors
    /// [`TrustRefusal`].
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, TrustRefusal> {
        self.identify(chain).inspect_err(|refusal| {
            let _ = verifier::told("request", refusal.clone());
        })
    }

    fn identify(&self, chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, TrustRefusal> {
        let certificate = chain.first().ok_or(TrustRefusal::NoCertificate)?;
        let now = self.0.clock.now();
        let leaf = self.0.verify(certificate, Purpose::Client, now)?;
        let list = self.0.white_list(now)?;
        let domain = list
            .domain_of(&leaf.dn)
            .ok_or_else(|| TrustRefusal::NotListed {
                dn: leaf.dn.to_string(),
            })?;
        // The list is read with CN = db only; said again where it counts.
        if domain.db_host != leaf.common_name {
            return Err(TrustRefusal::Name {
                found: leaf.common_name,
                expected: domain.db_host.clone(),
            });
        }
        Ok(PeerIdentity {
            db_host: domain.db_host.clone(),
            denomination: domain.denomination.clone(),
            fingerprint: whitelist::hex(&leaf.fingerprint),
            dn: leaf.dn,
        })
    }

    /// The domain whose `db` host this is, in the white list in force.
    #[must_use]
    pub fn domain_of_db_host(&self, name: &str) -> Option<Domain> {
        let list = self.0.white_list(self.0.clock.now()).ok()?;
        list.domain(&host(name)).cloned()
    }

    /// The white list, when there is one.
    #[must_use]
    pub fn list_status(&self) -> Option<ListStatus> {
        let active = self.0.lists.active()?;
        let settings = &self.0.settings.white_list;
        let now = self.0.clock.now().as_secs();
        let age = now.saturating_sub(active.confirmed_at);
        let signed = active.list.signing_time.unix_timestamp();
        let signed_age = now.saturating_sub(u64::try_from(signed).unwrap_or_default());
        let longest = settings.signed_alarm_after;
        Some(ListStatus {
            list: Arc::clone(&active.list),
            confirmed_at: active.confirmed_at,
            age,
            confirmed_long_ago: age > settings.alarm_after.as_secs(),
            in_force: age <= settings.max_age.as_secs(),
            signed_age,
            signed_long_ago: longest.is_some_and(|longest| signed_age > longest.as_secs()),
        })
    }

    /// Verifications of white lists so far, the newest last.
    #[must_use]
    pub fn list_history(&self) -> Vec<whitelist::Verdict> {
        self.0.lists.history()
    }

    /// The revocation list of each authority.
    #[must_use]
    pub fn crl_status(&self) -> Vec<CrlStatus> {
        let now = self.0.clock.now();
        let lists = self.0.crls.current();
        let anchors = self.0.anchors.load();
        let of = |authority: &Arc<anchors::Authority>| {
            let list = lists.get(&authority.subject).cloned();
            CrlStatus {
                authority: authority.common_name.clone(),
                in_force: list.as_ref().is_some_and(|list| !list.is_expired_at(now)),
                list,
            }
        };
        anchors.authorities().iter().map(of).collect()
    }

    /// Verifies a white list without using it. Blocks.
    ///
    /// # Errors
    /// Why it would not be used.
    pub fn verify_list(&self, bytes: &[u8]) -> Result<WhiteList, whitelist::WhiteListRefusal> {
        self.0
            .verify_list(bytes, self.0.clock.now(), whitelist::Recall::New)
    }

    /// Verifies a white list and uses it when it is in order. Blocks.
    ///
    /// # Errors
    /// [`ListError`]; the list in use stays.
    pub fn take_list(
        &self,
        bytes: &[u8],
        source: &str,
        confirmed: bool,
    ) -> Result<Outcome, ListError> {
        self.0.take_list(bytes, source, confirmed)
    }

    /// Verifies a revocation list and uses it when it is in order. Blocks.
    ///
    /// # Errors
    /// [`TakeError`]; the list in use stays.
    pub fn take_crl(&self, bytes: &[u8]) -> Result<Taken, TakeError> {
        let anchors = self.0.anchors.load_full();
        let now = self.0.clock.now();
        self.0.crls.take(bytes, &anchors, &self.0.known, now)
    }

    /// Reads the files of the authorities again; new handshakes use them. On error what was read
    /// before stays.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn reload_authorities(&self) -> Result<(), AnchorError> {
        let anchors = load_anchors(&self.0.settings, &self.0.known)?;
        self.0.anchors.store(Arc::new(anchors));
        self.read_again();
        Ok(())
    }

    /// Reads the folder again, where a command may have written. Blocks.
    pub fn read_again(&self) {
        let anchors = self.0.anchors.load_full();
        self.0
            .crls
            .read_again(&anchors, &self.0.known, self.0.clock.now());
        self.0.read_bypass();
        self.0.read_list();
    }

    /// Lets peers in until `until` (Unix seconds) although revocation lists are missing or expired.
    /// Certificates that a list names stay refused. It outlives a restart. Blocks.
    ///
    /// # Errors
    /// [`BypassError`].
    pub fn bypass(&self, until: u64, reason: &str) -> Result<(), BypassError> {
        let now = self.0.clock.now().as_secs();
        let longest = self.0.settings.max_bypass;
        if until <= now || until > now.saturating_add(longest.as_secs()) {
            return Err(BypassError::Duration(longest));
        }
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(BypassError::NoReason);
        }
        let bypass = Bypass {
            until,
            reason: reason
                .chars()
                .filter(|c| !c.is_control())
                .take(500)
                .collect(),
        };
        let opened = TrustEvent::BypassOpened {
            until,
            reason: bypass.reason.clone(),
        };
        self.0.record(&opened).map_err(BypassError::Audit)?;
        let json = serde_json::to_vec(&bypass).map_err(std::io::Error::from)?;
        disk::write(&self.0.bypass_path(), &json)?;
        tracing::error!(
            until,
            "revocation bypass OPEN: peers are let in although their revocation status is unknown"
        );
        self.0.bypass.store(Some(Arc::new(bypass)));
        self.set_gauges();
        Ok(())
    }

    /// Ends the bypass.
    ///
    /// # Errors
    /// When its file cannot be removed; it is ended in memory all the same.
    pub fn end_bypass(&self) -> std::io::Result<()> {
        if self.0.bypass.swap(None).is_some() {
            tracing::warn!("revocation bypass closed");
            self.0.tell(&TrustEvent::BypassClosed);
            self.set_gauges();
        }
        disk::remove(&self.0.bypass_path())
    }

    /// The bypass that is open, if one is.
    #[must_use]
    pub fn open_bypass(&self) -> Option<Bypass> {
        self.0
            .bypass_at(self.0.clock.now())
            .map(|b| Bypass::clone(&b))
    }
}

impl Inner {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<Leaf, TrustRefusal> {
        let bypass = self.bypass_at(now).is_some();
        let leaf = self.with_chain(bypass, |chain| chain.verify(certificate, purpose, now))?;
        if let Some(ocsp) = &self.ocsp {
            let url = leaf
                .ocsp_url
                .as_deref()
                .filter(|url| self.points.allows(url));
            if ocsp.revokes(&leaf, certificate, url, now) {
                return Err(TrustRefusal::Revoked {
                    whom: "certificate",
                });
            }
        }
        if leaf.bypassed {
            tracing::warn!("peer believed by the revocation bypass");
            self.tell_of_use(&leaf.dn);
        }
        Ok(leaf)
    }

    fn with_chain<T>(&self, bypass: bool, ask: impl FnOnce(&Chain<'_>) -> T) -> T {
        let anchors = self.anchors.load();
        let lists = self.crls.current();
        ask(&Chain {
            anchors: &anchors,
            lists: &lists,
            points: &self.points,
            bypass,
            usage: match self.settings.key_usage {
                PeerKeyUsage::Either => KeyUsagePolicy::Either,
                PeerKeyUsage::Strict => KeyUsagePolicy::Strict,
            },
            known: &self.known,
        })
    }

    /// The white list in force.
    fn white_list(&self, now: UnixTime) -> Result<Arc<WhiteList>, TrustRefusal> {
        let active = self.lists.active().ok_or(TrustRefusal::NoWhiteList)?;
        let age_seconds = now.as_secs().saturating_sub(active.confirmed_at);
        if age_seconds > self.settings.white_list.max_age.as_secs() {
            return Err(TrustRefusal::WhiteListTooOld { age_seconds });
        }
        Ok(Arc::clone(&active.list))
    }

    fn verify_list(
        &self,
        bytes: &[u8],
        now: UnixTime,
        recall: whitelist::Recall,
    ) -> Result<WhiteList, whitelist::WhiteListRefusal> {
        let signer = Signer {
            common_name: self.settings.white_list.signer_name.clone(),
            organisational_unit: self.settings.white_list.signer_unit.clone(),
        };
        // A list read back was verified with the revocation lists of its day; those of today say
        // only whether the signer was revoked since.
        let bypass = recall == whitelist::Recall::KeptSince || self.bypass_at(now).is_some();
        self.with_chain(bypass, |chain| {
            WhiteList::verify(bytes, &signer, chain, now)
        })
    }

    fn take_list(&self, bytes: &[u8], source: &str, confirmed: bool) -> Result<Outcome, ListError> {
        let policy = whitelist::Policy {
            max_loss_percent: self.settings.white_list.max_loss_percent,
            confirmed,
        };
        let verify = |bytes: &[u8], at, recall| self.verify_list(bytes, at, recall);
        let outcome = self
            .lists
            .take(bytes, source, policy, &verify, self.clock.now());
        let replaced = self.tell_of_list(source);
        let believed = match &outcome {
            Ok(_) => self.lists.active(),
            // Another process may have brought one before.
            Err(_) => replaced,
        };
        if let Some(active) = believed {
            self.tell_of_signer(&active);
        }
        if let Err(ListError::Refused(refusal)) = &outcome {
            let reason = refusal.label();
            metrics::counter!("drimbox_whitelist_refused_total", "reason" => reason).increment(1);
            tracing::error!(source, reason, %refusal, "white list refused; the one in use stays");
        }
        outcome
    }

    /// Reads the list in use again, and tells the audit trail when a command has replaced it.
    fn read_list(&self) {
        self.load_list();
        if let Some(active) = self.tell_of_list("another process") {
            self.tell_of_signer(&active);
        }
    }

    fn load_list(&self) {
        let verify = |bytes: &[u8], at, recall| self.verify_list(bytes, at, recall);
        self.lists.read_again(&verify, self.clock.now());
    }

    /// Tells the audit trail, once, that another white list is in use; which one.
    fn tell_of_list(&self, source: &str) -> Option<Arc<whitelist::Active>> {
        let mut told = self.told_list.lock();
        let active = self.lists.active()?;
        if told.replace(active.list.digest) == Some(active.list.digest) {
            return None;
        }
        let domains = active.list.domains().len();
        tracing::info!(source, domains, "white list replaced");
        self.tell(&TrustEvent::WhiteListReplaced {
            signed: active.list.signing_time.unix_timestamp(),
            domains,
        });
        Some(active)
    }

    /// Tells of a list that is in use although nobody knows whether its signer is revoked.
    fn tell_of_signer(&self, active: &whitelist::Active) {
        if active.bypassed {
            tracing::warn!("signer of the white list believed by the revocation bypass");
            self.tell_of_use(&active.list.signer);
        }
    }

    fn tell_of_use(&self, dn: &DistinguishedName) {
        metrics::counter!("drimbox_trust_bypassed_total").increment(1);
        self.tell(&TrustEvent::BypassUsed { dn: dn.to_string() });
    }

    fn read_bypass(&self) {
        let kept = disk::read(&self.bypass_path(), 1 << 16);
        let bypass = kept
            .ok()
            .flatten()
            .and_then(|json| serde_json::from_slice(&json).ok());
        let longest = self
            .clock
            .now()
            .as_secs()
            .saturating_add(self.settings.max_bypass.as_secs());
        let bypass = bypass.filter(|bypass: &Bypass| bypass.until <= longest);
        self.bypass.store(bypass.map(Arc::new));
    }

    fn bypass_at(&self, now: UnixTime) -> Option<Arc<Bypass>> {
        self.bypass
            .load_full()
            .filter(|bypass| now.as_secs() < bypass.until)
    }

    fn bypass_path(&self) -> std::path::PathBuf {
        self.settings.folder.join("bypass.json")
    }

    fn tell(&self, event: &TrustEvent) {
        if let Err(error) = self.record(event) {
            tracing::error!(%error, "an event of the trust store is not in the audit trail");
        }
    }

    fn record(&self, event: &TrustEvent) -> std::io::Result<()> {
        let audit = self.audit.lock().clone();
        audit.map_or(Ok(()), |audit| audit.record(event))
    }
}

fn load_anchors(
    settings: &crate::config::Trust,
    known: &WebPkiSupportedAlgorithms,
) -> Result<Anchors, AnchorError> {
    let environment = match settings.environment {
        TrustEnvironment::Production => Environment::Production,
        TrustEnvironment::Test => Environment::Test,
    };
    Anchors::load(
        environment,
        &settings.authority_files,
        &settings.issuing_authorities,
        known,
    )
}

/// Reads a file that must have at most `limit` bytes.
///
/// # Errors
/// When it is not there, cannot be read, or is larger.
pub fn read_bounded(path: &std::path::Path, limit: usize) -> std::io::Result<Vec<u8>> {
    disk::read(path, limit)?.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

/// A host name as it is compared: lower case, without a final dot.
fn host(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
