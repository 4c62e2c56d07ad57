//! The life of one certificate: when something is to be done, and how things stand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use instant_acme::{
    CertificateIdentifier, Error as AcmeError, RevocationReason, RevocationRequest,
};
use thiserror::Error;
use tokio::sync::{Mutex, Notify};

use crate::BoxFuture;
use crate::account::{Accounts, Authority, Open};
use crate::attempt::Attempt;
use crate::certificate::{Issued, KeyType};
use crate::clock::{Clock, Random, UnixTime};
use crate::failure::{Cause, Failure, NonceRounds};
use crate::name::DnsName;
use crate::probe::Probe;
use crate::record::{Record, Records, Slot};
use crate::schedule::{Validity, Window, backoff};
use crate::store::{Store, Tokens};

/// The longest sleep: a machine may be suspended, and its clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);
/// How often the authority's suggestion is asked for at most and at least, and after a failure to ask.
const LOOK_AT_MOST: Duration = Duration::from_secs(60);
const LOOK_AT_LEAST: Duration = Duration::from_secs(86_400);
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);

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
    /// Whether a new certificate was put in service in this step.
    pub renewed: bool,
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
    /// Whether the certificate that was kept is in service since the start.
    served: AtomicBool,
    busy: Mutex<()>,
    changed: Notify,
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
            served: AtomicBool::new(false),
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
        let validity = current.as_ref().and_then(|current| current.validity().ok());
        let next = match (record.next_attempt, &record.window, record.due) {
            (Some(at), _, _) => (at, Reason::Retry),
            (None, Some(window), _) => (window.chosen, Reason::Suggested),
            (None, None, Some(due)) => (due, Reason::TwoThirds),
            (None, None, None) => (self.parts.clock.now(), Reason::Missing),
        };
        Ok(Status {
            name: self.settings.name.clone(),
            validity,
            directory: current.map(|current| current.directory.clone()),
            next,
            wake: next.0,
            failures: record.failures,
            blocked: record.blocked(self.parts.clock.now()),
            last_failure: record.last_failure,
            renewed: false,
            met: Vec::new(),
        })
    }

    /// Renews at once, for example because the key may be known to others; back-off is forgotten.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn renew_now(&self) -> Result<(), Failure> {
        let _one = self.busy.lock().await;
        self.force().await
    }

    /// Revokes the certificate in service (RFC 8555 §7.6) and renews at once; `false` when there is none from an
    /// authority that is configured.
    ///
    /// # Errors
    /// When the authority refuses or cannot be reached; renewal is then under way all the same.
    pub async fn revoke(&self, key_compromised: bool) -> Result<bool, Failure> {
        let _one = self.busy.lock().await;
        let Some(current) = self.records.certificate(Slot::Current).await? else {
            return Ok(false);
        };
        let (Some(authority), Ok(chain)) = (self.issuer(&current), current.chain()) else {
            return Ok(false);
        };
        let Some(leaf) = chain.first() else {
            return Ok(false);
        };
        self.force().await?;
        let reason = if key_compromised {
            RevocationReason::KeyCompromise
        } else {
            RevocationReason::Superseded
        };
        let request = RevocationRequest {
            certificate: leaf,
            reason: Some(reason),
        };
        let mut rounds = NonceRounds::new();
        loop {
            let revoked = self.revoke_by(authority, &request).await;
            match revoked {
                Err(failure) if rounds.again(&failure) => {}
                outcome => return outcome.map(|()| true),
            }
        }
    }

    async fn revoke_by(
        &self,
        authority: &Authority,
        request: &RevocationRequest<'_>,
    ) -> Result<(), Failure> {
        let Open { account, exchange } = self.parts.accounts.open(authority).await?;
        account.revoke(request).await.map_err(|error| {
            Failure::of(&error, &exchange.take(), self.parts.clock.now()).by(&authority.directory)
        })
    }

    async fn force(&self) -> Result<(), Failure> {
        let mut record = self.records.load().await?;
        record.forced = true;
        record.next_attempt = None;
        self.records.save(&record).await?;
        self.changed.notify_one();
        Ok(())
    }

    async fn step(&self, met: &mut Vec<Failure>) -> Result<Status, Failure> {
        let mut record = self.records.load().await?;
        let mut current = self.records.certificate(Slot::Current).await?;
        if let Some(current) = &current
            && !self.served.load(Ordering::Relaxed)
        {
            match self
                .parts
                .installer
                .install(&self.settings.name, current, Occasion::Start)
                .await
            {
                Ok(()) => self.served.store(true, Ordering::Relaxed),
                Err(error) => met.push(Failure::new(Cause::Install, &error.0)),
            }
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
                    self.served.store(true, Ordering::Relaxed);
                    current = Some(issued);
                    renewed = true;
                }
                Err(failure) => self.put_off(&mut record, failure, current.as_ref()).await?,
            }
        }
        let next = self.plan(&mut record, current.as_ref()).await?;
        let validity = current.as_ref().and_then(|current| current.validity().ok());
        let look = record.look_at.unwrap_or(next.0);
        Ok(Status {
            name: self.settings.name.clone(),
            validity,
            directory: current.map(|current| current.directory.clone()),
            next,
            wake: next.0.min(look),
            failures: record.failures,
            blocked: record.blocked(self.parts.clock.now()),
            last_failure: record.last_failure,
            renewed,
            met: std::mem::take(met),
        })
    }

    /// When the next attempt is due. What is drawn or learnt for it is kept.
    async fn plan(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<(UnixTime, Reason), Failure> {
        let now = self.parts.clock.now();
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
        let authority = self.issuer(current).ok_or(None)?;
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

    /// The configured authority that issued a certificate.
    fn issuer(&self, current: &Issued) -> Option<&Authority> {
        let mut authorities = self.settings.authorities.iter();
        authorities.find(|authority| authority.directory == current.directory)
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
            met,
        }
    }
}
