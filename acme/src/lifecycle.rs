//! The life of one certificate: when something is to be done, and how things stand.

use std::fmt;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    CertificateIdentifier, Error as AcmeError, RevocationReason, RevocationRequest,
};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use tokio::sync::{Mutex, Notify};

use crate::BoxFuture;
use crate::account::{Accounts, Authority, Open};
use crate::attempt::Attempt;
use crate::certificate::Issued;
use crate::clock::{Clock, Random, UnixTime};
use crate::failure::{Cause, Failure, NonceRounds, kind};
use crate::key::{KeyType, PrivateKey};
use crate::name::DnsName;
use crate::probe::Probe;
use crate::record::{Record, Records, Revocation, Slot};
use crate::schedule::{Validity, Window, backoff};
use crate::store::{Store, Tokens};

/// The longest sleep: a machine may be suspended, and its clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);
/// How often the authority's suggestion is asked for at most and at least, and after a failure to ask.
const LOOK_AT_MOST: Duration = Duration::from_secs(60);
const LOOK_AT_LEAST: Duration = Duration::from_secs(86_400);
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// How often a revocation is asked for that the authority has not answered.
const REVOKE_AGAIN: Duration = Duration::from_secs(300);

/// The name, and where its certificate comes from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The one name of the certificate.
    pub name: DnsName,
    /// The authorities, the first one preferred. The next one is asked when one cannot give a certificate.
    pub authorities: Vec<Authority>,
    /// Kind of key; a change counts from the next renewal.
    pub key_type: KeyType,
}

/// What a [`Lifecycle`] works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Accounts, which are those of all names; with them the way to the authorities.
    pub accounts: Arc<Accounts>,
    /// Where state lasts.
    pub store: Arc<dyn Store>,
    /// Where port 80 finds the answers to challenges.
    pub tokens: Tokens,
    /// Puts a certificate in service.
    pub installer: Arc<dyn Installer>,
    /// Explains failures of validation.
    pub probe: Arc<dyn Probe>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
}

/// Puts certificates in service.
pub trait Installer: Send + Sync + fmt::Debug {
    /// Serves `issued` for `name` from the next handshake on.
    ///
    /// An error leaves the certificate before in service.
    fn install<'a>(
        &'a self,
        name: &'a DnsName,
        issued: &'a Issued,
        occasion: Occasion<'a>,
    ) -> BoxFuture<'a, Result<(), InstallError>>;
}

/// Why a certificate is put in service.
#[derive(Debug, Clone, Copy)]
pub enum Occasion<'a> {
    /// The process starts: it is the one that was in service.
    Start,
    /// It is a new one, in the place of another or the first. Told again when the process ended before it was noted
    /// that it is in service.
    New(Option<&'a Issued>),
}

/// Why a certificate could not be put in service.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub struct InstallError(pub String);

/// Why the next attempt is when it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no certificate, or it has expired.
    Missing,
    /// An order, or a certificate that is not in service yet, is under way.
    UnderWay,
    /// It was asked for.
    Asked,
    /// The authority's suggestion (RFC 9773).
    Suggested,
    /// Two thirds of the life.
    TwoThirds,
    /// The last twentieth of the life.
    Emergency,
    /// After a failure.
    Retry,
}

/// How things stand.
#[derive(Debug, Clone)]
pub struct Status {
    /// The name.
    pub name: DnsName,
    /// Of the certificate in service; `None` when there is none.
    pub validity: Option<Validity>,
    /// Directory of the authority that issued it.
    pub directory: Option<String>,
    /// When the next attempt is due, and why then.
    pub next: (UnixTime, Reason),
    /// When to call [`Lifecycle::tick`] again.
    pub wake: UnixTime,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// Why the last attempt failed; `None` after a success.
    pub last_failure: Option<Failure>,
    /// Whether a certificate was obtained and put in service in this step.
    pub renewed: bool,
    /// Whether a revocation that was asked for is still to be done.
    pub revoking: bool,
    /// Authorities that asked to be left alone, with the end of that.
    pub blocked: Vec<(String, UnixTime)>,
    /// What stood in the way in this step, also where another authority then gave a certificate.
    pub met: Vec<Failure>,
}

/// The life of the certificate of one name.
#[derive(Debug)]
pub struct Lifecycle {
    settings: Settings,
    parts: Parts,
    records: Records,
    serving: Lock<Serving>,
    busy: Mutex<()>,
    changed: Notify,
}

/// What this process serves.
#[derive(Debug, Clone, Default)]
struct Serving {
    /// Whether the store was looked at since the start.
    looked: bool,
    /// The certificate, without its key.
    certificate: Option<Issued>,
    /// When a certificate had been put in service at the last look of [`Lifecycle::follow`].
    seen: Option<UnixTime>,
}

impl Lifecycle {
    /// The life of the certificate of `settings.name`, as far as the store knows it.
    #[must_use]
    pub fn new(settings: Settings, parts: Parts) -> Self {
        let records = Records::new(Arc::clone(&parts.store), settings.name.clone());
        Self {
            settings,
            parts,
            records,
            serving: Lock::default(),
            busy: Mutex::new(()),
            changed: Notify::new(),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &DnsName {
        &self.settings.name
    }

    /// Does what is due, for ever, and reports after each step. Drop it to stop: what was begun goes on at the next
    /// start.
    pub async fn run(&self, report: impl Fn(&Status) + Send + Sync) {
        loop {
            let status = self.tick().await;
            report(&status);
            let wait = status.wake.since(self.parts.clock.now());
            let wait = wait.clamp(Duration::from_secs(1), LONGEST_SLEEP);
            tokio::select! {
                () = self.parts.clock.sleep(wait) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Puts the kept certificate in service at the first call, then does what is due now, which may be nothing.
    pub async fn tick(&self) -> Status {
        let _one = self.busy.lock().await;
        let mut met = Vec::new();
        match self.step(&mut met).await {
            Ok(status) => status,
            Err(failure) => self.unreadable(failure, met),
        }
    }

    /// Serves what another process obtains, which shares the store: at the first call what there is, later what came in
    /// its place. Nothing is written and nobody is asked.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn follow(&self) -> Result<Status, Failure> {
        let _one = self.busy.lock().await;
        let record = self.records.load().await?;
        let mut met = Vec::new();
        // The record is written after the certificate: who sees the one finds the other.
        let before = self.serving();
        if !before.looked || before.seen != record.installed {
            let current = self.records.certificate(Slot::Current).await?;
            match self.serve(current.as_ref()).await {
                Ok(()) => self.now_serving(|serving| serving.seen = record.installed),
                Err(failure) => met.push(failure),
            }
        }
        let serving = self.serving();
        let mut status = self.told(record, serving.certificate.as_ref());
        status.met = met;
        Ok(status)
    }

    /// Whether a step is under way now; an order may take minutes.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.try_lock().is_err()
    }

    /// How things stand, from what is kept: nothing is done, nobody is asked, and a step under way is not waited for.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn standing(&self) -> Result<Status, Failure> {
        let record = self.records.load().await?;
        let current = self.records.certificate(Slot::Current).await?;
        Ok(self.told(record, current.as_ref()))
    }

    fn told(&self, record: Record, current: Option<&Issued>) -> Status {
        let now = self.parts.clock.now();
        let next = match (record.next_attempt, &record.window, record.due) {
            (Some(at), _, _) => (at, Reason::Retry),
            (None, Some(window), _) => (window.chosen, Reason::Suggested),
            (None, None, Some(due)) => (due, Reason::TwoThirds),
            (None, None, None) => (now, Reason::Missing),
        };
        Status {
            name: self.settings.name.clone(),
            validity: current.and_then(|current| current.validity().ok()),
            directory: current.map(|current| current.directory.clone()),
            next,
            wake: next.0,
            failures: record.failures,
            blocked: record.blocked(now),
            last_failure: record.last_failure,
            renewed: false,
            revoking: record.revocation.is_some(),
            met: Vec::new(),
        }
    }

    /// Renews at once, for example because the key may be known to others; back-off is forgotten.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn renew_now(&self) -> Result<(), Failure> {
        let _one = self.busy.lock().await;
        let mut record = self.records.load().await?;
        self.force(&mut record).await
    }

    /// Renews because the certificate in service, which `is_revoked` knows, was found revoked; whether that was noted now.
    /// A renewal that is asked for or under way is let alone, and so is the time until the next attempt after failures.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn renew_revoked(
        &self,
        is_revoked: impl Fn(&CertificateDer<'_>) -> bool,
    ) -> Result<bool, Failure> {
        // A step under way may end with another certificate.
        let Ok(_one) = self.busy.try_lock() else {
            return Ok(false);
        };
        let current = self.records.certificate(Slot::Current).await?;
        let chain = current.and_then(|current| current.chain().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        let mut record = self.records.load().await?;
        let staged = self.records.certificate(Slot::Staged).await?;
        let under_way = record.forced || record.order.is_some() || staged.is_some();
        if under_way || !leaf.is_some_and(is_revoked) {
            return Ok(false);
        }
        record.forced = true;
        self.records.save(&record).await?;
        self.changed.notify_one();
        Ok(true)
    }

    /// Revokes the certificate in service (RFC 8555 §7.6) and renews at once; `false` when there is none from an
    /// authority that is configured.
    ///
    /// Both are kept first: after an end of the process, the next step does them.
    ///
    /// # Errors
    /// When the authority refuses or cannot be reached; renewal is then under way all the same, and an authority that
    /// did not refuse is asked again.
    pub async fn revoke(&self, key_compromised: bool) -> Result<bool, Failure> {
        let _one = self.busy.lock().await;
        let Some(current) = self.records.certificate(Slot::Current).await? else {
            return Ok(false);
        };
        let (Some(authority), Ok(chain)) = (self.issuer(&current.directory), current.chain())
        else {
            return Ok(false);
        };
        let (Some(leaf), Ok(validity)) = (chain.first(), current.validity()) else {
            return Ok(false);
        };
        let mut record = self.records.load().await?;
        record.revocation = Some(Revocation {
            directory: authority.directory.clone(),
            certificate: BASE64_URL_SAFE_NO_PAD.encode(leaf),
            key_compromised,
            until: validity.not_after,
        });
        self.force(&mut record).await?;
        self.take_back(&mut record).await.map(|()| true)
    }

    /// Does the revocation that was asked for; without one, nothing.
    async fn take_back(&self, record: &mut Record) -> Result<(), Failure> {
        let Some(wish) = &record.revocation else {
            return Ok(());
        };
        let authority = self.issuer(&wish.directory);
        let der = BASE64_URL_SAFE_NO_PAD.decode(&wish.certificate);
        let outcome = match (authority, der) {
            (Some(authority), Ok(der)) if self.parts.clock.now() < wish.until => {
                let certificate = CertificateDer::from(der);
                let reason = match wish.key_compromised {
                    true => RevocationReason::KeyCompromise,
                    false => RevocationReason::Superseded,
                };
                let request = RevocationRequest {
                    certificate: &certificate,
                    reason: Some(reason),
                };
                self.revoke_by(authority, &request).await
            }
            _ => Ok(()),
        };
        if !matches!(&outcome, Err(failure) if !failure.refused) {
            record.revocation = None;
            self.records.save(record).await?;
        }
        outcome
    }

    async fn revoke_by(
        &self,
        authority: &Authority,
        request: &RevocationRequest<'_>,
    ) -> Result<(), Failure> {
        let mut rounds = NonceRounds::new();
        loop {
            let Open { account, exchange } = self.parts.accounts.open(authority).await?;
            let error = match account.revoke(request).await {
                Ok(()) => return Ok(()),
                Err(AcmeError::Api(problem)) if kind(&problem) == "alreadyRevoked" => return Ok(()),
                Err(error) => error,
            };
            let failure = Failure::of(&error, &exchange.take(), self.parts.clock.now());
            if !rounds.again(&failure) {
                return Err(failure.by(&authority.directory));
            }
        }
    }

    async fn force(&self, record: &mut Record) -> Result<(), Failure> {
        record.forced = true;
        record.next_attempt = None;
        self.records.save(record).await?;
        self.changed.notify_one();
        Ok(())
    }

    async fn step(&self, met: &mut Vec<Failure>) -> Result<Status, Failure> {
        let mut record = self.records.load().await?;
        let mut current = self.records.certificate(Slot::Current).await?;
        if let Err(failure) = self.serve(current.as_ref()).await {
            met.push(failure);
        }
        if let Err(failure) = self.take_back(&mut record).await {
            met.push(failure);
        }
        let attempt = Attempt {
            parts: &self.parts,
            settings: &self.settings,
            records: &self.records,
        };
        attempt.tidy(&mut record, current.as_ref()).await?;
        let (at, _) = self.plan(&mut record, current.as_ref()).await?;
        let mut renewed = false;
        if at <= self.parts.clock.now() {
            match attempt.run(&mut record, current.as_ref(), met).await {
                Ok(issued) => {
                    self.now_serving(|serving| serving.certificate = Some(shown(&issued)));
                    current = Some(issued);
                    renewed = true;
                }
                Err(failure) => self.put_off(&mut record, failure, current.as_ref()).await?,
            }
        }
        let next = self.plan(&mut record, current.as_ref()).await?;
        let validity = current.as_ref().and_then(|current| current.validity().ok());
        let mut wake = record.look_at.unwrap_or(next.0).min(next.0);
        if record.revocation.is_some() {
            wake = wake.min(self.parts.clock.now().plus(REVOKE_AGAIN));
        }
        Ok(Status {
            name: self.settings.name.clone(),
            validity,
            directory: current.map(|current| current.directory.clone()),
            next,
            wake,
            failures: record.failures,
            blocked: record.blocked(self.parts.clock.now()),
            last_failure: record.last_failure,
            renewed,
            revoking: record.revocation.is_some(),
            met: std::mem::take(met),
        })
    }

    /// Puts what is kept in service unless it is: since the start, as what was in service before it.
    async fn serve(&self, current: Option<&Issued>) -> Result<(), Failure> {
        let Serving {
            looked,
            certificate: before,
            ..
        } = self.serving();
        let serves = |before: &Issued, current: &Issued| before.chain_pem == current.chain_pem;
        if let Some(current) = current
            && !before
                .as_ref()
                .is_some_and(|before| serves(before, current))
        {
            let occasion = match looked {
                true => Occasion::New(before.as_ref()),
                false => Occasion::Start,
            };
            let installer = &self.parts.installer;
            installer
                .install(&self.settings.name, current, occasion)
                .await
                .map_err(|error| Failure::new(Cause::Install, &error.0))?;
        }
        self.now_serving(|serving| {
            serving.looked = true;
            if let Some(current) = current {
                serving.certificate = Some(shown(current));
            }
        });
        Ok(())
    }

    fn serving(&self) -> Serving {
        let serving = self.serving.lock();
        serving.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn now_serving(&self, change: impl FnOnce(&mut Serving)) {
        let serving = self.serving.lock();
        change(&mut serving.unwrap_or_else(PoisonError::into_inner));
    }

    /// When the next attempt is due. What is drawn or learnt for it is kept.
    async fn plan(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<(UnixTime, Reason), Failure> {
        let now = self.parts.clock.now();
        record.forget_another_clock(now);
        if let Some(at) = record.next_attempt
            && at > now
        {
            return Ok((at, Reason::Retry));
        }
        if record.order.is_some() || self.records.certificate(Slot::Staged).await?.is_some() {
            return Ok((now, Reason::UnderWay));
        }
        if record.forced {
            return Ok((now, Reason::Asked));
        }
        let validity = current.and_then(|current| current.validity().ok());
        // A moment that the clock has not reached was noted by a clock that was set back since.
        let rest = record
            .installed
            .zip(validity)
            .and_then(|(at, validity)| (at <= now).then(|| at.plus(validity.rest())));
        let (at, reason) = self.due(record, current.zip(validity)).await?;
        Ok((rest.map_or(at, |rest| rest.max(at)), reason))
    }

    /// When the certificate in use is to be replaced. What is drawn or learnt for it is kept.
    async fn due(
        &self,
        record: &mut Record,
        current: Option<(&Issued, Validity)>,
    ) -> Result<(UnixTime, Reason), Failure> {
        let now = self.parts.clock.now();
        let alive = current.filter(|(_, validity)| !validity.left(now).is_zero());
        let Some((current, validity)) = alive else {
            return Ok((now, Reason::Missing));
        };
        let before = (record.window.clone(), record.look_at, record.due);
        if record.look_at.is_none_or(|at| at <= now) {
            self.look(record, current).await;
        }
        let due = *record
            .due
            .get_or_insert_with(|| validity.due(self.parts.random.as_ref()));
        if (&record.window, record.look_at, record.due) != (&before.0, before.1, before.2) {
            self.records.save(record).await?;
        }
        let (at, reason) = match &record.window {
            Some(window) => (window.chosen, Reason::Suggested),
            None => (due, Reason::TwoThirds),
        };
        let emergency = validity.emergency();
        if emergency < at || emergency <= now {
            return Ok((emergency, Reason::Emergency));
        }
        Ok((at, reason))
    }

    /// Asks the authority when it would like the certificate to be renewed (RFC 9773 §4.3). A failure to ask changes
    /// nothing: what was known stays, else two thirds of the life count.
    async fn look(&self, record: &mut Record, current: &Issued) {
        let now = self.parts.clock.now();
        let again = match self.suggestion(current).await {
            Ok((start, end, again)) => {
                let before = record.window.take();
                let random = self.parts.random.as_ref();
                record.window = Window::choose(start, end, before.as_ref(), random);
                again.clamp(LOOK_AT_MOST, LOOK_AT_LEAST)
            }
            Err(Some(AcmeError::Unsupported(_)) | None) => {
                record.window = None;
                LOOK_AT_LEAST
            }
            Err(Some(error)) => {
                tracing::debug!(name = %self.settings.name, %error, "no renewal information");
                LOOK_AGAIN
            }
        };
        record.look_at = Some(now.plus(again));
    }

    /// The suggested window and when to ask again; `Err(None)` when nobody can be asked.
    async fn suggestion(
        &self,
        current: &Issued,
    ) -> Result<(UnixTime, UnixTime, Duration), Option<AcmeError>> {
        let authority = self.issuer(&current.directory).ok_or(None)?;
        let chain = current.chain().map_err(|_| None)?;
        let leaf = chain.first().ok_or(None)?;
        let id = CertificateIdentifier::try_from(leaf).map_err(|_| None)?;
        let open = self.parts.accounts.open(authority).await;
        let Open { account, .. } =
            open.map_err(|failure| Some(AcmeError::Other(Box::new(failure))))?;
        let (info, again) = account.renewal_info(&id).await.map_err(Some)?;
        let window = info.suggested_window;
        Ok((
            UnixTime::from_timestamp(window.start.unix_timestamp()),
            UnixTime::from_timestamp(window.end.unix_timestamp()),
            again,
        ))
    }

    /// The configured authority with this directory.
    fn issuer(&self, directory: &str) -> Option<&Authority> {
        let mut authorities = self.settings.authorities.iter();
        authorities.find(|authority| authority.directory == directory)
    }

    /// Keeps a failure and when to try again: after the back-off, and not before every authority may be asked again.
    async fn put_off(
        &self,
        record: &mut Record,
        failure: Failure,
        current: Option<&Issued>,
    ) -> Result<(), Failure> {
        let now = self.parts.clock.now();
        record.failures = record.failures.saturating_add(1);
        let left = current
            .and_then(|current| current.validity().ok())
            .map(|validity| validity.left(now));
        let mut at = now.plus(backoff(record.failures, left, self.parts.random.as_ref()));
        let free = self
            .settings
            .authorities
            .iter()
            .map(|authority| record.blocked.get(&authority.directory).copied());
        // `None` sorts first: an authority that asked for nothing.
        if let Some(Some(until)) = free.min() {
            at = at.max(until);
        }
        record.next_attempt = Some(at);
        record.last_failure = Some(failure);
        self.records.save(record).await
    }

    /// The state when the store itself does not work: nothing is known, and it is tried again soon.
    fn unreadable(&self, failure: Failure, mut met: Vec<Failure>) -> Status {
        let at = self.parts.clock.now().plus(Duration::from_secs(60));
        met.push(failure.clone());
        Status {
            name: self.settings.name.clone(),
            validity: None,
            directory: None,
            next: (at, Reason::Retry),
            wake: at,
            failures: 1,
            blocked: Vec::new(),
            last_failure: Some(failure),
            renewed: false,
            revoking: false,
            met,
        }
    }
}

/// A certificate as it is shown to anybody: without its key.
fn shown(issued: &Issued) -> Issued {
    Issued {
        directory: issued.directory.clone(),
        order: issued.order.clone(),
        chain_pem: issued.chain_pem.clone(),
        key: PrivateKey::default(),
    }
}
