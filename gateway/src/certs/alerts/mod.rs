//! Telling people, in time and once, that a certificate is about to expire.
//!
//! [`schedule`] says when, [`message`] what, [`Channel`]s by what way. What was said and what is still to
//! be delivered is one file ([`state`]): a message is in it, with the note that it was said, before it
//! leaves, and stays until the other side has taken it. So a server that is away delays a message, and a
//! restart repeats none. Between the answer of a server and the note of it a crash repeats one message,
//! with the same `Message-ID`.
//!
//! Mailboxes die without notice. Every month each address gets a test with a link to acknowledge it; the
//! others are told of the one that does not.

pub mod acknowledge;
pub mod mail;
pub mod message;
pub mod schedule;
pub mod state;
#[cfg(test)]
pub(crate) mod testdata;
#[cfg(test)]
mod tests;
pub mod webhook;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::facts::Facts;
use super::inventory::{Entry, Finding};
use super::presented::Presented;
use message::{Draft, Silence};
use state::{Message, State, Test};

/// Gauge: messages not delivered yet.
pub const WAITING: &str = "drimbox_alerts_waiting";
/// Counter: messages delivered, by channel.
pub const DELIVERED: &str = "drimbox_alerts_delivered_total";
/// Counter: deliveries that failed and are repeated, by channel.
pub const FAILURES: &str = "drimbox_alerts_failures_total";
/// Gauge: mail recipients that did not acknowledge their last test in time, or whose address is refused.
pub const SILENT: &str = "drimbox_alerts_silent_recipients";

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Looks between two examinations of the certificates: an hour.
const LOOKS: u32 = 60;
const DAY: i64 = 86_400;
/// Between two tests of a recipient.
const TEST_EVERY: i64 = 30 * DAY;
/// Time to acknowledge one, from its delivery.
const ACKNOWLEDGE_WITHIN: i64 = 7 * DAY;
/// How long a message to an address that the server refuses is tried (RFC 5321 §4.5.4.1: four to five
/// days), and longer while nobody else is told.
const GIVE_UP_REFUSED: i64 = 5 * DAY;
/// What is known of a certificate is kept this long after its end, and after it was last spoken of.
const FORGET: i64 = 60 * DAY;
/// First pause after a failure, seconds; it doubles.
const FIRST_PAUSE: i64 = 60;
/// Longest pause, seconds.
const LONGEST_PAUSE: i64 = 3_600;

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// A person, by mail.
    Mail(String),
    /// A program, by its name in the configuration.
    Webhook(String),
    /// The log of the service.
    Log,
}

impl Recipient {
    /// How it stands in the state.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Mail(address) => format!("mail:{}", address.to_ascii_lowercase()),
            Self::Webhook(name) => format!("webhook:{name}"),
            Self::Log => "log".to_owned(),
        }
    }

    /// Its kind, for metrics.
    #[must_use]
    pub fn channel(&self) -> &'static str {
        match self {
            Self::Mail(_) => "mail",
            Self::Webhook(_) => "webhook",
            Self::Log => "log",
        }
    }
}

/// A way to one or more recipients.
pub trait Channel: Send + Sync {
    /// Delivers a message. `Ok` when the other side has taken it.
    fn send<'a>(
        &'a self,
        to: &'a Recipient,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), NotSent>>;
}

/// Why a message was not delivered. The text names no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Worth trying again.
    #[error("{0}")]
    Later(String),
    /// This recipient is refused for good.
    #[error("{0}")]
    Refused(String),
}

/// Writes messages to the log.
#[derive(Debug)]
pub struct LogChannel;

impl Channel for LogChannel {
    fn send<'a>(
        &'a self,
        _: &'a Recipient,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async {
            tracing::warn!("{}", message.subject);
            Ok(())
        })
    }
}

/// Who is told, and how.
#[derive(Clone)]
pub struct Settings {
    /// Recipients and the way to each.
    pub recipients: Vec<(Recipient, Arc<dyn Channel>)>,
    /// The roles of certificates that a recipient is told of, as in the inventory; one without is told of all.
    pub roles: HashMap<Recipient, Vec<String>>,
    /// Name of the centre in messages.
    pub centre: Option<String>,
    /// Start of the links by which tests are acknowledged, without final `/`.
    pub link_url: String,
}

impl Settings {
    fn tells(&self, recipient: &Recipient, role: &str) -> bool {
        let roles = self.roles.get(recipient);
        roles.is_none_or(|roles| roles.iter().any(|one| one == role))
    }
}

/// The alerts of the service.
#[derive(Clone)]
pub struct Alerts(Arc<Shared>);

struct Shared {
    settings: Settings,
    file: PathBuf,
    state: Mutex<State>,
    /// Hash of what the file holds; empty: not known.
    written: Mutex<String>,
    pauses: Mutex<HashMap<String, Pause>>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    failures: u32,
    until: i64,
}

impl Alerts {
    /// Goes on from what is kept in `folder`, which is made when it is not there. Blocks.
    ///
    /// # Errors
    /// When the folder or the file cannot be read or made.
    pub fn open(settings: Settings, folder: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let file = folder.join("state.json");
        let (mut state, damaged) = State::read(&file)?;
        if let Some(aside) = damaged {
            tracing::error!(
                file = %aside.display(),
                "what is known of alerts was damaged and is put aside: those that are due are sent again"
            );
        }
        // Whoever is no longer in the configuration gets nothing more.
        let keys: Vec<String> = settings.recipients.iter().map(|(r, _)| r.key()).collect();
        state.waiting.retain(|m| keys.contains(&m.recipient));
        state.tests.retain(|key, _| keys.contains(key));
        state.delivered.retain(|key, _| keys.contains(key));
        Ok(Self(Arc::new(Shared {
            settings,
            file,
            state: Mutex::new(state),
            written: Mutex::default(),
            pauses: Mutex::default(),
        })))
    }

    /// Looks at the certificates and the time until `stop`.
    pub async fn run(
        self,
        examine: impl Fn(OffsetDateTime) -> (Vec<Entry>, Vec<Presented>) + Send + Sync + 'static,
        stop: CancellationToken,
    ) {
        let examine = Arc::new(examine);
        let mut looks = 0;
        loop {
            let now = OffsetDateTime::now_utc();
            if looks % LOOKS == 0 {
                let (alerts, examine) = (self.clone(), Arc::clone(&examine));
                let note = move || {
                    let (own, presented) = examine(now);
                    alerts.note(&own, &presented, now);
                };
                if let Err(error) = tokio::task::spawn_blocking(note).await {
                    tracing::error!(%error, "certificates could not be looked at for alerts");
                }
            }
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = self.deliver(now) => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Writes the messages that are due at `now`: on the gateway's own certificates, and on those that others present
    /// to it. Blocks.
    pub fn note(&self, own: &[Entry], presented: &[Presented], now: OffsetDateTime) {
        let shared = &self.0;
        shared.change(|state| {
            for entry in own {
                shared.expiry(state, entry, now);
                shared.revoked(state, entry, now);
            }
            for one in presented {
                shared.of_another(state, one, now);
            }
            state
                .said
                .retain(|_, said| now.unix_timestamp() < said.not_after.saturating_add(FORGET));
            shared.tests(state, now);
            shared.silent(state, now);
        });
    }

    /// Tries to deliver what waits. A recipient that failed is left alone for a while.
    pub async fn deliver(&self, now: OffsetDateTime) {
        let shared = &self.0;
        let seconds = now.unix_timestamp();
        for (recipient, channel) in &shared.settings.recipients {
            let key = recipient.key();
            if shared
                .pauses
                .lock()
                .get(&key)
                .is_some_and(|pause| seconds < pause.until)
            {
                continue;
            }
            let waiting: Vec<Message> = {
                let state = shared.state.lock();
                let own = state.waiting.iter().filter(|m| m.recipient == key);
                own.cloned().collect()
            };
            for message in waiting {
                let outcome = channel.send(recipient, &message).await;
                if !self.outcome(recipient, message, outcome, now).await {
                    break;
                }
            }
        }
        shared.measure();
    }

    /// Notes how a delivery ended; whether to go on with this recipient.
    async fn outcome(
        &self,
        recipient: &Recipient,
        message: Message,
        outcome: Result<(), NotSent>,
        now: OffsetDateTime,
    ) -> bool {
        let (shared, key) = (&self.0, recipient.key());
        let seconds = now.unix_timestamp();
        let failure = match outcome {
            Ok(()) => {
                shared.pauses.lock().remove(&key);
                metrics::counter!(DELIVERED, "channel" => recipient.channel()).increment(1);
                self.settle(message, key, Some(seconds)).await;
                return true;
            }
            Err(failure) => failure,
        };
        metrics::counter!(FAILURES, "channel" => recipient.channel()).increment(1);
        tracing::warn!(channel = recipient.channel(), "an alert waits: {failure}");
        {
            let mut pauses = shared.pauses.lock();
            let failures = pauses.get(&key).map_or(0, |pause| pause.failures);
            let pause = FIRST_PAUSE
                .saturating_mul(1 << failures.min(6))
                .min(LONGEST_PAUSE);
            let until = seconds.saturating_add(pause);
            pauses.insert(
                key.clone(),
                Pause {
                    failures: failures.saturating_add(1),
                    until,
                },
            );
        }
        if matches!(failure, NotSent::Refused(_)) {
            let alerts = self.clone();
            let report = move || alerts.refused(&key, now);
            let _ = tokio::task::spawn_blocking(report).await;
            // A server that refuses everybody says nothing about one mailbox: then nobody would have been told.
            if seconds.saturating_sub(message.written) > GIVE_UP_REFUSED
                && shared.another_was_told(recipient, &message)
            {
                tracing::error!(
                    "an alert is given up: its recipient has been refused for five days, and others were told"
                );
                self.settle(message, recipient.key(), None).await;
            }
        }
        false
    }

    /// A message is over: delivered then, or given up.
    async fn settle(&self, message: Message, key: String, delivered: Option<i64>) {
        let alerts = self.clone();
        let note = move || {
            alerts.0.change(|state| {
                state.waiting.retain(|other| other.id != message.id);
                if let Some(at) = delivered {
                    state.delivered.insert(key.clone(), at);
                }
                if let Some(test) = state.tests.get_mut(&key)
                    && test.message == message.id
                {
                    test.delivered = test.delivered.or(delivered);
                }
            });
        };
        // Not cancelled with the caller: what the other side has taken is noted.
        let _ = tokio::task::spawn_blocking(note).await;
    }

    /// The server refuses the address of this recipient: the others are told, once a test.
    fn refused(&self, key: &str, now: OffsetDateTime) {
        let shared = &self.0;
        shared.change(|state| {
            if let Some(test) = state.tests.get_mut(key)
                && !std::mem::replace(&mut test.reported, true)
            {
                shared.tell_others(state, key, Silence::Refused, now);
            }
        });
    }

    /// A recipient acknowledges its test; whether the token is one of a current test. Blocks.
    #[must_use]
    pub fn acknowledge(&self, token: &str, now: OffsetDateTime) -> bool {
        let hash = hash(&[token]);
        self.0.change(|state| {
            // The hash of a random token: how long the comparison takes tells nothing about it.
            let test = state.tests.values_mut().find(|test| test.token == hash);
            if let Some(test) = test {
                test.acknowledged = test.acknowledged.or(Some(now.unix_timestamp()));
                return true;
            }
            false
        })
    }

    /// Whether a token is one of a current test.
    #[must_use]
    pub fn knows(&self, token: &str) -> bool {
        let hash = hash(&[token]);
        let state = self.0.state.lock();
        state.tests.values().any(|test| test.token == hash)
    }
}

impl Shared {
    /// Changes the state and writes it. What cannot be written still counts while the service runs.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        let mut written = self.written.lock();
        match state.write_unless(&self.file, &written) {
            Ok(hash) => *written = hash,
            Err(error) => tracing::error!(
                %error,
                file = %self.file.display(),
                "what is known of alerts cannot be written: after a restart some are sent again"
            ),
        }
        result
    }

    fn expiry(&self, state: &mut State, entry: &Entry, now: OffsetDateTime) {
        let Some(facts) = &entry.facts else { return };
        let ended = |finding: &Finding| matches!(finding, Finding::AuthorityEnded(_));
        if entry.is_superseded || entry.findings.iter().any(ended) {
            return;
        }
        let place = &entry.place;
        let Some(step) = schedule::step(facts, place.role, place.is_from_acme(), now) else {
            return;
        };
        let subject = format!("{}|{}", place.id, facts.fingerprint);
        let draft = message::expiry(place, facts, &step, self.settings.centre.as_deref(), now);
        let role = place.role.code();
        self.say(state, &subject, role, facts, step.order, &draft, now);
    }

    /// A certificate that was revoked is spoken of each day, as one that has expired.
    fn revoked(&self, state: &mut State, entry: &Entry, now: OffsetDateTime) {
        let Some(facts) = &entry.facts else { return };
        if !entry.findings.contains(&Finding::Revoked) {
            return;
        }
        let place = &entry.place;
        let subject = format!("{}|{}|revoked", place.id, facts.fingerprint);
        let draft = message::revoked(place, facts, self.settings.centre.as_deref(), now);
        let day = now.unix_timestamp().div_euclid(DAY);
        let role = place.role.code();
        self.say(state, &subject, role, facts, day, &draft, now);
    }

    /// What [`Presented::findings`] says of a certificate that the gateway depends on and that others renew.
    fn of_another(&self, state: &mut State, one: &Presented, now: OffsetDateTime) {
        let (facts, role) = (&one.facts, one.by.code());
        let centre = self.settings.centre.as_deref();
        for finding in one.findings(now) {
            let subject = format!("{role}|{}|{}", one.name(), facts.fingerprint);
            if finding == Finding::Revoked {
                let draft = message::presented(one, None, centre, now);
                let day = now.unix_timestamp().div_euclid(DAY);
                let subject = format!("{subject}|revoked");
                self.say(state, &subject, role, facts, day, &draft, now);
            } else if let Some(step) = schedule::step_of_others(facts, now) {
                let draft = message::presented(one, Some(&step), centre, now);
                self.say(state, &subject, role, facts, step.order, &draft, now);
            }
        }
    }

    /// Says something of a certificate to each recipient that is told of its role, and has not had it, nor anything
    /// later.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that a message is made of"
    )]
    fn say(
        &self,
        state: &mut State,
        subject: &str,
        role: &str,
        facts: &Facts,
        order: i64,
        draft: &Draft,
        now: OffsetDateTime,
    ) {
        for (recipient, _) in &self.settings.recipients {
            if !self.settings.tells(recipient, role) {
                continue;
            }
            let key = recipient.key();
            let said = state.said.entry(subject.to_owned()).or_default();
            // One that expired long ago is still spoken of once a day.
            said.not_after = facts.not_after.max(now).unix_timestamp();
            if is_ahead(said.at, now) {
                said.steps.clear();
            }
            if said.steps.get(&key).is_some_and(|last| order <= *last) {
                continue;
            }
            said.steps.insert(key.clone(), order);
            said.at = now.unix_timestamp();
            let id = hash(&[subject, &order.to_string(), &key]);
            self.queue(state, id, key, subject, draft.clone(), now);
        }
    }

    /// Whether another person or program, told of the same certificate, got a message since this one was written.
    fn another_was_told(&self, than: &Recipient, message: &Message) -> bool {
        let state = self.state.lock();
        let said = state.said.get(&message.about);
        let is_told = |other: &Recipient| {
            let said = said.is_some_and(|said| said.steps.contains_key(&other.key()));
            message.about.is_empty() || said
        };
        let others = self.settings.recipients.iter().map(|(other, _)| other);
        others
            .filter(|other| *other != than && **other != Recipient::Log && is_told(other))
            .filter_map(|other| state.delivered.get(&other.key()))
            .any(|at| *at >= message.written)
    }

    fn tests(&self, state: &mut State, now: OffsetDateTime) {
        let seconds = now.unix_timestamp();
        for (recipient, _) in &self.settings.recipients {
            let (Recipient::Mail(_), key) = (recipient, recipient.key()) else {
                continue;
            };
            if let Some(test) = state.tests.get(&key) {
                // One that has not left yet is not followed by another.
                let waits = state
                    .waiting
                    .iter()
                    .any(|message| message.id == test.message);
                let is_recent = seconds < test.written.saturating_add(TEST_EVERY);
                if waits || is_recent && !is_ahead(test.written, now) {
                    continue;
                }
            }
            let Some(token) = random_token() else {
                tracing::error!("the system gives no random bytes for the test of alerts");
                return;
            };
            let link = format!("{}{}/{token}", self.settings.link_url, acknowledge::PATH);
            let draft = message::test(self.settings.centre.as_deref(), Some(&link), now);
            let id = hash(&["test", &token]);
            state.tests.insert(
                key.clone(),
                Test {
                    token: hash(&[&token]),
                    message: id.clone(),
                    written: seconds,
                    delivered: None,
                    acknowledged: None,
                    reported: false,
                },
            );
            self.queue(state, id, key, "", draft, now);
        }
    }

    fn silent(&self, state: &mut State, now: OffsetDateTime) {
        let seconds = now.unix_timestamp();
        // For a day the server has taken the tests of others: not it is away, but this address.
        let taken: Vec<i64> = state
            .tests
            .values()
            .filter_map(|test| test.delivered)
            .collect();
        let others_get = |since: i64| {
            let mut taken = taken.iter();
            taken.any(|at| *at >= since && seconds >= at.saturating_add(DAY))
        };
        let late: Vec<(String, Silence)> = state
            .tests
            .iter_mut()
            .filter(|(_, test)| !test.reported)
            .filter_map(|(key, test)| {
                let silence = match test.delivered {
                    Some(_) if is_late(test, seconds) => Silence::Unconfirmed,
                    None if seconds >= test.written.saturating_add(ACKNOWLEDGE_WITHIN)
                        && others_get(test.written) =>
                    {
                        Silence::Undeliverable
                    }
                    _ => return None,
                };
                test.reported = true;
                Some((key.clone(), silence))
            })
            .collect();
        for (key, silence) in late {
            self.tell_others(state, &key, silence, now);
        }
    }

    fn tell_others(&self, state: &mut State, silent: &str, silence: Silence, now: OffsetDateTime) {
        let recipients = &self.settings.recipients;
        let found = recipients
            .iter()
            .enumerate()
            .find_map(|(rank, (one, _))| match one {
                Recipient::Mail(address) if one.key() == silent => Some((rank + 1, address)),
                _ => None,
            });
        let Some((rank, address)) = found else { return };
        let centre = self.settings.centre.as_deref();
        let draft = message::silent(centre, rank, address, silence, now);
        let test = state.tests.get(silent).map(|test| test.message.clone());
        let test = test.unwrap_or_default();
        for (other, _) in recipients.iter().filter(|(other, _)| other.key() != silent) {
            let id = hash(&["silent", silent, &test, &other.key()]);
            self.queue(state, id, other.key(), "", draft.clone(), now);
        }
    }

    fn queue(
        &self,
        state: &mut State,
        id: String,
        recipient: String,
        about: &str,
        draft: Draft,
        now: OffsetDateTime,
    ) {
        let dropped = state.queue(Message {
            id,
            recipient,
            subject: draft.subject,
            text: draft.text,
            data: draft.data,
            written: now.unix_timestamp(),
            about: about.to_owned(),
        });
        if dropped > 0 {
            tracing::error!(dropped, "too many alerts wait: the oldest are dropped");
        }
    }

    fn measure(&self) {
        let state = self.state.lock();
        let silent = state.tests.values().filter(|test| test.reported).count();
        metrics::gauge!(WAITING).set(count(state.waiting.len()));
        metrics::gauge!(SILENT).set(count(silent));
    }
}

/// Whether a moment was noted by a clock that was ahead, and was set back since: then it says nothing of what is due.
fn is_ahead(at: i64, now: OffsetDateTime) -> bool {
    at > now.unix_timestamp().saturating_add(DAY)
}

fn is_late(test: &Test, now: i64) -> bool {
    let delivered = test.delivered.filter(|_| test.acknowledged.is_none());
    delivered.is_some_and(|at| now >= at.saturating_add(ACKNOWLEDGE_WITHIN))
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// 32 bytes that nobody can foresee, hexadecimal.
fn random_token() -> Option<String> {
    let mut bytes = [0; 32];
    let provider = crate::net::tls::provider();
    provider.secure_random.fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

/// SHA-256 of texts, hexadecimal.
fn hash(texts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update(text.len().to_be_bytes());
        digest.update(text);
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
