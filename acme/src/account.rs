//! The account at each authority, shared by all names: made once, kept, rolled over, closed.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::Account;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::failure::{Cause, Failure, NonceRounds, kind};
use crate::key::{self, KeyType, PrivateKey};
use crate::signed::{self, AccountKey};
use crate::store::Store;
use crate::transport::{Exchange, Transport};

/// One certificate authority, and how to appear there.
#[derive(Debug, Clone)]
pub struct Authority {
    /// URL of its directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// Contact addresses as URLs, for example `mailto:it@centre.example`.
    pub contact: Vec<String>,
    /// Ties the account to one that exists there (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// Common name of the topmost issuer wanted when it offers several chains (RFC 8555 §7.4.2).
    pub preferred_chain: Option<String>,
}

/// How the account at an authority stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountStanding {
    /// None was made yet.
    None,
    /// The authority knows it, at this address.
    Open(String),
    /// The authority does not know it, or it was closed: the next order makes another.
    Lost,
}

/// The key that a commercial authority gave for an account.
#[derive(Clone)]
pub struct ExternalAccount {
    pub(crate) key_id: String,
    pub(crate) hmac: Zeroizing<Vec<u8>>,
}

impl ExternalAccount {
    /// From the two texts that the authority shows: the identifier, and the HMAC key in base64url.
    ///
    /// `None` when the second is not base64url, or empty.
    #[must_use]
    pub fn new(key_id: &str, hmac_base64url: &str) -> Option<Self> {
        let text = hmac_base64url.trim().trim_end_matches('=');
        // Some authorities show plain base64.
        let text = Zeroizing::new(text.replace('+', "-").replace('/', "_"));
        let hmac = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(text.as_bytes()).ok()?);
        (!hmac.is_empty()).then(|| Self {
            key_id: key_id.to_owned(),
            hmac,
        })
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount").finish_non_exhaustive()
    }
}

/// The accounts of this service.
#[derive(Debug)]
pub struct Accounts {
    transport: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// One account is made at a time, so that two names never make two.
    making: Mutex<()>,
}

/// An account as kept. A key is there before the authority hears of it.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    key: PrivateKey,
    /// The key that the authority was asked to change to; whether it did is not known yet.
    #[serde(default)]
    next_key: Option<PrivateKey>,
    /// The account's URL, known when the authority has answered.
    url: Option<String>,
    contact: Vec<String>,
}

/// An account that is open, and the memory of its exchanges.
pub(crate) struct Open {
    pub(crate) account: Account,
    pub(crate) exchange: Exchange,
}

impl Accounts {
    /// Accounts kept in `store`, reached by `transport`.
    #[must_use]
    pub fn new(
        transport: Arc<dyn Transport>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            transport,
            store,
            clock,
            making: Mutex::new(()),
        }
    }

    /// Changes the account's key (RFC 8555 §7.3.5), for example after an incident.
    ///
    /// Both keys are kept until the authority has answered: after an end of the process in between, the next use asks
    /// which of them counts.
    ///
    /// # Errors
    /// When the authority refuses or cannot be reached; the key that counts is then found out at the next use.
    pub async fn roll_over(&self, authority: &Authority) -> Result<(), Failure> {
        let mut rounds = NonceRounds::new();
        loop {
            match self.change_key(authority).await {
                Err(failure) if rounds.again(&failure) => {}
                outcome => return outcome,
            }
        }
    }

    async fn change_key(&self, authority: &Authority) -> Result<(), Failure> {
        let _one = self.making.lock().await;
        let (Open { account, exchange }, mut kept) = self.opened(authority).await?;
        let failed = |error| self.failure(&error, &exchange, authority);
        let next = PrivateKey::generate(KEY)?;
        let old = AccountKey::of(&kept.key).map_err(failed)?;
        let new = AccountKey::of(&next).map_err(failed)?;
        kept.next_key = Some(next);
        self.keep(&kept).await?;
        signed::change_key(&exchange, &authority.directory, account.id(), &old, &new)
            .await
            .map_err(failed)?;
        kept.change_key();
        self.keep(&kept).await
    }

    /// Closes the account for good (RFC 8555 §7.3.6); certificates issued under it stay valid. Where there is none, or
    /// it was closed before and the process ended, nothing is opened to be closed.
    ///
    /// # Errors
    /// When the authority refuses or cannot be reached; the account then stays.
    pub async fn deactivate(&self, authority: &Authority) -> Result<(), Failure> {
        let mut rounds = NonceRounds::new();
        loop {
            match self.close(authority).await {
                Err(failure) if rounds.again(&failure) => {}
                outcome => return outcome,
            }
        }
    }

    async fn close(&self, authority: &Authority) -> Result<(), Failure> {
        let _one = self.making.lock().await;
        let Some(kept) = self.kept(authority).await? else {
            return Ok(());
        };
        let exchange = Exchange::new(Arc::clone(&self.transport));
        if self.found(&kept, authority, &exchange).await?.is_none() {
            return self.forget(authority).await;
        }
        let (Open { account, exchange }, _) = self.opened(authority).await?;
        exchange.take();
        let outcome = account.deactivate().await;
        let noticed = exchange.take();
        // instant-acme takes every answer for a yes.
        let refused = noticed.status.is_some_and(|status| !status.is_success());
        match outcome {
            Err(error) => {
                Err(Failure::of(&error, &noticed, self.clock.now()).by(&authority.directory))
            }
            Ok(()) if refused => {
                let said = "the authority did not deactivate the account";
                let mut failure = Failure::new(Cause::Account, said).by(&authority.directory);
                // Why is not told: a refused nonce has this status (RFC 8555 §6.5).
                failure.nonce_refused = noticed.status == Some(http::StatusCode::BAD_REQUEST);
                Err(failure)
            }
            Ok(()) => self.forget(authority).await,
        }
    }

    /// The account at `authority`, made when there is none.
    pub(crate) async fn open(&self, authority: &Authority) -> Result<Open, Failure> {
        let _one = self.making.lock().await;
        Ok(self.opened(authority).await?.0)
    }

    /// The same for who has `making`, with the account as kept.
    async fn opened(&self, authority: &Authority) -> Result<(Open, Kept), Failure> {
        let exchange = Exchange::new(Arc::clone(&self.transport));
        let kept = match self.kept(authority).await? {
            Some(kept) => self.with_one_key(kept, authority, &exchange).await?,
            None => {
                let kept = Kept {
                    directory: authority.directory.clone(),
                    key: PrivateKey::generate(KEY)?,
                    next_key: None,
                    url: None,
                    contact: Vec::new(),
                };
                self.keep(&kept).await?;
                kept
            }
        };
        let (account, kept) = self.restore(kept, authority, &exchange).await?;
        Ok((Open { account, exchange }, kept))
    }

    /// Ends a change of the key whose answer was not noted: the key that the authority knows stays; both do while it
    /// knows neither.
    async fn with_one_key(
        &self,
        mut kept: Kept,
        authority: &Authority,
        exchange: &Exchange,
    ) -> Result<Kept, Failure> {
        let Some(next) = &kept.next_key else {
            return Ok(kept);
        };
        if self.known(next, authority, exchange).await?.is_some() {
            kept.change_key();
        } else if self.known(&kept.key, authority, exchange).await?.is_some() {
            kept.next_key = None;
        } else {
            return Ok(kept);
        }
        self.keep(&kept).await?;
        Ok(kept)
    }

    /// Asks the authority how the account stands, with the key at hand; makes none and changes nothing.
    ///
    /// # Errors
    /// When the authority cannot be reached, or the store cannot be read.
    pub async fn standing(&self, authority: &Authority) -> Result<AccountStanding, Failure> {
        let _one = self.making.lock().await;
        let Some(kept) = self.kept(authority).await? else {
            return Ok(AccountStanding::None);
        };
        let exchange = Exchange::new(Arc::clone(&self.transport));
        let mut rounds = NonceRounds::new();
        loop {
            match self.found(&kept, authority, &exchange).await {
                Err(failure) if rounds.again(&failure) => {}
                found => {
                    return Ok(match (found?, &kept.url) {
                        (Some(url), _) => AccountStanding::Open(url),
                        (None, Some(_)) => AccountStanding::Lost,
                        (None, None) => AccountStanding::None,
                    });
                }
            }
        }
    }

    /// Asks the authority whether it knows the account, and forgets it when it does not (RFC 8555 §7.3.1): its data were
    /// lost there, or it was closed.
    pub(crate) async fn confirm(&self, authority: &Authority) -> Result<(), Failure> {
        let _one = self.making.lock().await;
        let Some(kept) = self.kept(authority).await? else {
            return Ok(());
        };
        let exchange = Exchange::new(Arc::clone(&self.transport));
        match self.found(&kept, authority, &exchange).await {
            Ok(None) => self.forget(authority).await,
            _ => Ok(()),
        }
    }

    /// The address of the account, by whichever of its keys the authority knows it.
    async fn found(
        &self,
        kept: &Kept,
        authority: &Authority,
        exchange: &Exchange,
    ) -> Result<Option<String>, Failure> {
        for key in [Some(&kept.key), kept.next_key.as_ref()]
            .into_iter()
            .flatten()
        {
            let known = self.known(key, authority, exchange).await?;
            if known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }

    /// The address of the account with this key (RFC 8555 §7.3.1, `onlyReturnExisting`); `None` when the authority has
    /// none.
    async fn known(
        &self,
        key: &PrivateKey,
        authority: &Authority,
        exchange: &Exchange,
    ) -> Result<Option<String>, Failure> {
        let failed = |error| self.failure(&error, exchange, authority);
        let key = AccountKey::of(key).map_err(failed)?;
        match signed::known_account(exchange, &authority.directory, &key).await {
            Ok(address) => Ok(Some(address)),
            Err(instant_acme::Error::Api(problem))
                if matches!(kind(&problem), "accountDoesNotExist" | "unauthorized") =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Forgets an account that its authority does not know, so that the next use makes one.
    async fn forget(&self, authority: &Authority) -> Result<(), Failure> {
        Ok(self.store.remove(&record(authority)).await?)
    }

    async fn restore(
        &self,
        mut kept: Kept,
        authority: &Authority,
        exchange: &Exchange,
    ) -> Result<(Account, Kept), Failure> {
        let failed = |error| self.failure(&error, exchange, authority);
        let url = match &kept.url {
            Some(url) => url.clone(),
            None => {
                let (url, told) = self.made(&kept, authority, exchange).await?;
                if told {
                    kept.contact.clone_from(&authority.contact);
                }
                kept.url = Some(url.clone());
                self.keep(&kept).await?;
                url
            }
        };
        let account = Account::builder_with_http(Box::new(exchange.clone()))
            .from_parts(url, kept.key.pkcs8(), authority.directory.clone())
            .await
            .map_err(failed)?;
        if kept.contact != authority.contact {
            let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
            account.update_contacts(&contact).await.map_err(failed)?;
            kept.contact.clone_from(&authority.contact);
            self.keep(&kept).await?;
        }
        Ok((account, kept))
    }

    /// The address of the account with a key that the authority may not have heard of, and whether it was made now, with
    /// the contact addresses.
    async fn made(
        &self,
        kept: &Kept,
        authority: &Authority,
        exchange: &Exchange,
    ) -> Result<(String, bool), Failure> {
        let is_bound = authority.external_account.is_some();
        // What binds an account may be good for one only. The authority that has it already is not asked to bind again.
        if is_bound {
            match self.known(&kept.key, authority, exchange).await {
                Ok(Some(url)) => return Ok((url, false)),
                Err(failure) if !failure.refused => return Err(failure),
                Ok(None) | Err(_) => {}
            }
        }
        let failed = |error| {
            let mut failure = self.failure(&error, exchange, authority);
            if is_bound && failure.cause == Cause::Account {
                failure.cause = Cause::ExternalAccount;
            }
            failure
        };
        let key = AccountKey::of(&kept.key).map_err(failed)?;
        let made = signed::new_account(exchange, authority, &key).await;
        made.map_err(failed)
    }

    async fn kept(&self, authority: &Authority) -> Result<Option<Kept>, Failure> {
        let Some(content) = self.store.read(&record(authority)).await? else {
            return Ok(None);
        };
        match serde_json::from_slice(&content) {
            Ok(kept) => Ok(Some(kept)),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }

    async fn keep(&self, kept: &Kept) -> Result<(), Failure> {
        let content = key::record(kept).map_err(|error| damaged(&error.to_string()))?;
        Ok(self.store.write(&name(&kept.directory), &content).await?)
    }

    fn failure(
        &self,
        error: &instant_acme::Error,
        exchange: &Exchange,
        authority: &Authority,
    ) -> Failure {
        Failure::of(error, &exchange.take(), self.clock.now()).by(&authority.directory)
    }
}

impl Kept {
    /// The next key is the key from now on.
    fn change_key(&mut self) {
        if let Some(next) = self.next_key.take() {
            self.key = next;
        }
    }
}

/// The kind of key of an account, which every authority takes (RFC 8555 §6.2).
const KEY: KeyType = KeyType::P256;

fn damaged(reason: &str) -> Failure {
    Failure::new(
        Cause::Store,
        &format!(
            "the record of the account is damaged: {reason}. Remove it: a new account is made"
        ),
    )
}

fn record(authority: &Authority) -> String {
    name(&authority.directory)
}

/// The record of the account at a directory: the URL, with what cannot stand in the name of a record as its code.
fn name(directory: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::from("accounts/");
    let url = directory.strip_prefix("https://").unwrap_or(directory);
    for byte in url.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            _ => {
                let _ = write!(name, "_{byte:02x}");
            }
        }
    }
    name
}
