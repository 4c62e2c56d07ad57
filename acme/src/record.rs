//! What is kept of one name between steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::certificate::Issued;
use crate::clock::UnixTime;
use crate::failure::{Cause, Failure};
use crate::key::{self, PrivateKey};
use crate::name::DnsName;
use crate::schedule::Window;
use crate::store::Store;

/// What is known of one name, beside its certificate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The order under way.
    pub(crate) order: Option<Pending>,
    /// What the authority suggests for the certificate in use.
    pub(crate) window: Option<Window>,
    /// When to ask for that again.
    pub(crate) look_at: Option<UnixTime>,
    /// When the certificate in use is due without such a suggestion.
    pub(crate) due: Option<UnixTime>,
    /// When the certificate in use was put in service.
    pub(crate) installed: Option<UnixTime>,
    /// Renew now: revoked, or asked for.
    pub(crate) forced: bool,
    /// Failed attempts in a row.
    pub(crate) failures: u32,
    /// Not before this moment, after a failure.
    pub(crate) next_attempt: Option<UnixTime>,
    /// The last failure.
    pub(crate) last_failure: Option<Failure>,
    /// Authorities that asked to be left alone, and until when.
    pub(crate) blocked: BTreeMap<String, UnixTime>,
    /// A revocation that was asked for and is not done.
    pub(crate) revocation: Option<Revocation>,
}

/// A certificate to be revoked (RFC 8555 §7.6). It may be out of service by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revocation {
    /// Directory of the authority that issued it.
    pub(crate) directory: String,
    /// The certificate, DER in base64url.
    pub(crate) certificate: String,
    /// Others may know the key.
    pub(crate) key_compromised: bool,
    /// Its end: nothing is to be revoked after it.
    pub(crate) until: UnixTime,
}

/// Nothing is put off for longer: `Retry-After` counts up to a week, renewal information for less.
const FARTHEST: Duration = Duration::from_secs(8 * 86_400);

impl Record {
    /// Drops what is put off for longer than anything is: a clock that was ahead, and was set back since, noted it.
    pub(crate) fn forget_another_clock(&mut self, now: UnixTime) {
        let is_near = |at: &UnixTime| *at <= now.plus(FARTHEST);
        self.next_attempt = self.next_attempt.filter(is_near);
        self.look_at = self.look_at.filter(is_near);
        self.blocked.retain(|_, until| is_near(until));
    }

    /// Authorities that want to be left alone at `now`, and until when.
    pub(crate) fn blocked(&self, now: UnixTime) -> Vec<(String, UnixTime)> {
        let blocked = self.blocked.iter().filter(|(_, until)| **until > now);
        blocked
            .map(|(directory, until)| (directory.clone(), *until))
            .collect()
    }
}

/// An order that an authority has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// Directory of the authority.
    pub(crate) directory: String,
    /// URL of the order.
    pub(crate) url: String,
    /// Tokens published for it.
    pub(crate) tokens: Vec<String>,
    /// Whether the request for a certificate was, or may have been, sent.
    pub(crate) finalised: bool,
}

/// The records of one name.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    store: Arc<dyn Store>,
    name: DnsName,
}

/// The records with a private key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slot {
    /// In service.
    Current,
    /// Downloaded, to be put in service.
    Staged,
}

impl Records {
    pub(crate) fn new(store: Arc<dyn Store>, name: DnsName) -> Self {
        Self { store, name }
    }

    pub(crate) async fn load(&self) -> Result<Record, Failure> {
        Ok(self.read("state").await?.unwrap_or_default())
    }

    pub(crate) async fn save(&self, record: &Record) -> Result<(), Failure> {
        self.write("state", record).await
    }

    pub(crate) async fn certificate(&self, slot: Slot) -> Result<Option<Issued>, Failure> {
        self.read(slot.record()).await
    }

    pub(crate) async fn put(&self, slot: Slot, issued: &Issued) -> Result<(), Failure> {
        self.write(slot.record(), issued).await
    }

    pub(crate) async fn clear(&self, slot: Slot) -> Result<(), Failure> {
        Ok(self.store.remove(&self.path(slot.record())).await?)
    }

    /// The key of the order under way; none where its record cannot be read, as an order without a key is made anew.
    pub(crate) async fn key(&self) -> Result<Option<PrivateKey>, Failure> {
        let content = self.store.read(&self.path("order-key")).await?;
        Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
    }

    pub(crate) async fn put_key(&self, key: &PrivateKey) -> Result<(), Failure> {
        self.write("order-key", key).await
    }

    pub(crate) async fn clear_key(&self) -> Result<(), Failure> {
        Ok(self.store.remove(&self.path("order-key")).await?)
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<Option<T>, Failure> {
        let Some(content) = self.store.read(&self.path(what)).await? else {
            return Ok(None);
        };
        let value = serde_json::from_slice(&content).map_err(|error| self.damaged(&error))?;
        Ok(Some(value))
    }

    async fn write<T: Serialize>(&self, what: &str, value: &T) -> Result<(), Failure> {
        let content = key::record(value).map_err(|error| self.damaged(&error))?;
        Ok(self.store.write(&self.path(what), &content).await?)
    }

    fn path(&self, what: &str) -> String {
        format!("names/{}/{what}", self.name)
    }

    fn damaged(&self, error: &dyn std::error::Error) -> Failure {
        Failure::new(
            Cause::Store,
            &format!(
                "a record of {} is damaged: {error}. Move its folder away: a new certificate is ordered",
                self.name
            ),
        )
    }
}

/// The name in a [`crate::Store`] of the certificate in use for a name: an [`Issued`] in JSON.
#[must_use]
pub fn current_record(name: &DnsName) -> String {
    format!("names/{name}/{}", Slot::Current.record())
}

impl Slot {
    const fn record(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Staged => "staged",
        }
    }
}
