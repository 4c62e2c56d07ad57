//! The check of an access token that a peer presents: offline pre-filter, introspection over mutual TLS, UserInfo for the
//! profession. Whatever cannot be established is a refusal.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};

use crate::claims::Claims;
use crate::clock::UnixTime;
use crate::confirmation::{Binding, Thumbprint};
use crate::error::{Endpoint, PscError};
use crate::identity::NationalId;
use crate::presented::{Presented, not_over};
use crate::provider::Provider;
use crate::settings::AcrPolicy;
use crate::token_fault::{TokenFault, TokenKind};
use crate::transport::BoxFuture;
use crate::user_info::UserInfo;

/// Decides whether a presented token is good; what the gateway asks, and what its tests put something else behind.
pub trait TokenGate: Send + Sync + fmt::Debug {
    /// Checks `token`, presented by the peer whose certificate has this thumbprint.
    fn check<'a>(
        &'a self,
        token: &'a SecretString,
        peer: Option<&'a Thumbprint>,
    ) -> BoxFuture<'a, Result<Arc<CheckedToken>, GateError>>;
}

/// A token that is good now, and whose it is. `Debug` does not show the names.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckedToken {
    /// Technical subject at PSC.
    pub sub: String,
    /// Id of the token, for the audit.
    pub jti: String,
    /// Client ID that the token was given to, for the audit.
    pub azp: String,
    /// Session at PSC, for the audit.
    pub session: Option<String>,
    /// Authentication level.
    pub acr: Option<String>,
    /// The professional.
    pub national_id: NationalId,
    /// When the token is over.
    pub expires_at: UnixTime,
    /// What UserInfo says; `None` when the gate is set not to ask.
    pub user: Option<Arc<UserInfo>>,
}

impl fmt::Debug for CheckedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedToken")
            .field("azp", &self.azp)
            .field("national_id", &self.national_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GateError {
    /// It is not a token of PSC for this use: 401.
    #[error("access token refused: {0}")]
    Refused(TokenFault),
    /// PSC says that it is not active, by expiry, logout or revocation: 401.
    #[error("Pro Santé Connect says that the access token is not active")]
    Inactive,
    /// It was given to a client that is not in the list: 403.
    #[error("the access token was given to client `{0}`, which is not in the list")]
    Client(String),
    /// It cannot be known now: 503 with `Retry-After`.
    #[error("the access token could not be checked: {cause}")]
    Unavailable {
        /// Why.
        #[source]
        cause: Arc<PscError>,
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many checks at once: 503 with `Retry-After`.
    #[error("too many access tokens are being checked")]
    Busy,
}

/// Settings of [`PscTokenGate`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GateSettings {
    /// How long a token is still taken after its `exp`: 5 s.
    pub expiry_leeway: Duration,
    /// How far `iat` and `nbf` may lie in the future, because clocks differ: 30 s.
    pub clock_leeway: Duration,
    /// Longest life of an access token, from `iat` to `exp`: 10 min.
    pub longest_life: Duration,
    /// Scopes a token must have: `openid scope_all`.
    pub scopes: Vec<String>,
    /// Authentication levels; `None` leaves them to PSC, which gives no token below `eidas1`.
    pub acr: Option<AcrPolicy>,
    /// Client IDs that tokens may have been given to; empty when they are not known.
    pub clients: BTreeSet<String>,
    /// Whether a token of another client is refused, or only logged (no list of DRIMbox client ids is published).
    pub refuse_other_clients: bool,
    /// How long an active answer counts: 60 s.
    pub active_for: Duration,
    /// How long an inactive answer counts: 10 s.
    pub inactive_for: Duration,
    /// How long PSC is not asked again about a token after a failure: 5 s.
    pub unavailable_for: Duration,
    /// How long UserInfo of one session counts: 15 min.
    pub user_info_for: Duration,
    /// Whether UserInfo is asked: yes.
    pub ask_user_info: bool,
    /// Tokens and users remembered: 10,000 each.
    pub remembered: u64,
    /// Tokens being checked at PSC at once: 32.
    pub at_once: usize,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            expiry_leeway: Duration::from_secs(5),
            clock_leeway: Duration::from_secs(30),
            longest_life: Duration::from_secs(600),
            scopes: vec!["openid".to_owned(), "scope_all".to_owned()],
            acr: None,
            clients: BTreeSet::new(),
            refuse_other_clients: false,
            active_for: Duration::from_secs(60),
            inactive_for: Duration::from_secs(10),
            unavailable_for: Duration::from_secs(5),
            user_info_for: Duration::from_secs(15 * 60),
            ask_user_info: true,
            remembered: 10_000,
            at_once: 32,
        }
    }
}

/// The gate that asks Pro Santé Connect.
#[derive(Debug)]
pub struct PscTokenGate {
    provider: Arc<Provider>,
    settings: GateSettings,
    /// By SHA-256 of the token: the tokens themselves are not kept.
    tokens: Cache<[u8; 32], Arc<Slot<Verdict>>>,
    /// By session at PSC.
    users: Cache<UserKey, Arc<Slot<Arc<UserInfo>>>>,
    asking: Semaphore,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct UserKey {
    sub: String,
    session: String,
}

/// One remembered answer, asked for by one task at a time.
#[derive(Debug)]
struct Slot<T> {
    answer: ArcSwapOption<Answer<T>>,
    asking: Mutex<()>,
}

#[derive(Debug)]
struct Answer<T> {
    value: T,
    until: UnixTime,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            answer: ArcSwapOption::empty(),
            asking: Mutex::new(()),
        }
    }
}

impl<T: Clone> Slot<T> {
    fn fresh(&self, now: UnixTime) -> Option<T> {
        let answer = self.answer.load();
        let answer = answer.as_ref()?;
        (now < answer.until).then(|| answer.value.clone())
    }

    fn keep(&self, value: T, until: UnixTime) {
        self.answer.store(Some(Arc::new(Answer { value, until })));
    }
}

#[derive(Debug, Clone)]
struct Verdict(Result<Good, GateError>);

#[derive(Debug, Clone)]
struct Good {
    token: Arc<CheckedToken>,
    /// Of the token, and of the introspection answer.
    bindings: [Binding; 2],
}

impl PscTokenGate {
    /// A gate at this provider, whose certificate authenticates the introspection.
    #[must_use]
    pub fn new(provider: Arc<Provider>, settings: GateSettings) -> Self {
        Self {
            tokens: Cache::new(settings.remembered),
            users: Cache::new(settings.remembered),
            asking: Semaphore::new(settings.at_once),
            provider,
            settings,
        }
    }

    async fn decide(
        &self,
        token: &SecretString,
        peer: Option<&Thumbprint>,
    ) -> Result<Arc<CheckedToken>, GateError> {
        let key: [u8; 32] = Sha256::digest(token.expose_secret().as_bytes()).into();
        // Only tokens with a signature of PSC get a place in the cache and a question.
        let (slot, presented) = match self.tokens.get(&key).await {
            Some(slot) => (slot, None),
            None => {
                let presented = self.prefilter(token).await?;
                let slot = self.tokens.get_with(key, async { Arc::default() }).await;
                (slot, Some(presented))
            }
        };
        if let Some(verdict) = slot.fresh(self.provider.clock.now()) {
            return self.apply(verdict, peer);
        }
        let asking = slot.asking.lock().await;
        if let Some(verdict) = slot.fresh(self.provider.clock.now()) {
            return self.apply(verdict, peer);
        }
        let Ok(_permit) = self.asking.try_acquire() else {
            return Err(GateError::Busy);
        };
        let outcome = self.filter_and_ask(token, presented).await;
        let now = self.provider.clock.now();
        let until = match &outcome {
            Ok(good) => good
                .token
                .expires_at
                .plus(self.settings.expiry_leeway)
                .min(now.plus(self.settings.active_for)),
            Err(GateError::Unavailable { .. }) => now.plus(self.settings.unavailable_for),
            Err(_) => now.plus(self.settings.inactive_for),
        };
        let verdict = Verdict(outcome);
        slot.keep(verdict.clone(), until);
        drop(asking);
        self.apply(verdict, peer)
    }

    /// What was remembered of a token is over: one task looks at the token again, for all that wait.
    async fn filter_and_ask(
        &self,
        token: &SecretString,
        presented: Option<Presented>,
    ) -> Result<Good, GateError> {
        let presented = match presented {
            Some(presented) => presented,
            None => self.prefilter(token).await?,
        };
        self.ask(token, presented).await
    }

    /// What depends on the moment and on the peer, for remembered answers too.
    fn apply(
        &self,
        verdict: Verdict,
        peer: Option<&Thumbprint>,
    ) -> Result<Arc<CheckedToken>, GateError> {
        let good = verdict.0?;
        let now = self.provider.clock.now();
        not_over(good.token.expires_at, now, self.settings.expiry_leeway)
            .map_err(GateError::Refused)?;
        for binding in good.bindings {
            binding.allows(peer).map_err(GateError::Refused)?;
        }
        Ok(good.token)
    }

    async fn prefilter(&self, token: &SecretString) -> Result<Presented, GateError> {
        let claims = self
            .provider
            .verify_signature(TokenKind::Access, token.expose_secret())
            .await
            .map_err(|error| self.cannot_tell(error))?;
        let issuer = &self.provider.settings.issuer;
        let now = self.provider.clock.now();
        let presented =
            Presented::check(&claims, issuer, &self.settings, now).map_err(GateError::Refused)?;
        let listed = self.settings.clients.contains(&presented.azp);
        if !listed && self.settings.refuse_other_clients {
            return Err(GateError::Client(presented.azp));
        }
        if !listed && !self.settings.clients.is_empty() {
            tracing::warn!(azp = %presented.azp, "an access token of a client that is not in the list");
        }
        Ok(presented)
    }

    async fn ask(&self, token: &SecretString, presented: Presented) -> Result<Good, GateError> {
        let answer = self
            .introspect(token)
            .await
            .map_err(|error| self.cannot_tell(error))?;
        if answer.get("active") != Some(&Value::Bool(true)) {
            return Err(GateError::Inactive);
        }
        presented
            .is_described_by(&answer)
            .map_err(GateError::Refused)?;
        let user = if self.settings.ask_user_info {
            let user = self.user(token, &presented).await;
            Some(user.map_err(|error| self.cannot_tell(error))?)
        } else {
            None
        };
        Ok(Good {
            bindings: [presented.binding, Binding::of(&answer)],
            token: Arc::new(CheckedToken {
                sub: presented.sub,
                jti: presented.jti,
                azp: presented.azp,
                session: presented.session,
                acr: presented.acr,
                national_id: presented.national_id,
                expires_at: presented.expires_at,
                user,
            }),
        })
    }

    /// RFC 7662 §2.1.
    async fn introspect(&self, token: &SecretString) -> Result<Claims, PscError> {
        let known = self.provider.known().await?;
        let url = known.metadata.needs(Endpoint::Introspection)?;
        let fields = [
            ("token", token.expose_secret()),
            ("token_type_hint", "access_token"),
        ];
        let answer = self
            .provider
            .post_form(Endpoint::Introspection, url, &fields)
            .await?;
        let answer = Claims::parse(&answer.body);
        answer
            .ok()
            .filter(|claims| claims.get("active").is_some_and(Value::is_boolean))
            .ok_or(PscError::Malformed {
                endpoint: Endpoint::Introspection,
                what: "`active` is missing",
            })
    }

    async fn user(
        &self,
        token: &SecretString,
        presented: &Presented,
    ) -> Result<Arc<UserInfo>, PscError> {
        let sub = presented.sub.clone();
        // Without a session the token stands for itself.
        let session = presented.session.as_ref().unwrap_or(&presented.jti).clone();
        let slot = self
            .users
            .get_with(UserKey { sub, session }, async { Arc::default() })
            .await;
        let _asking = slot.asking.lock().await;
        let now = self.provider.clock.now();
        if let Some(user) = slot.fresh(now) {
            return Ok(user);
        }
        // A signed answer is for the consumer's client, not for this one.
        let client = Some(presented.azp.as_str());
        let user = self
            .provider
            .user_info(token, &presented.sub, client)
            .await?;
        let user = Arc::new(user);
        slot.keep(Arc::clone(&user), now.plus(self.settings.user_info_for));
        Ok(user)
    }

    /// A fault of the token is a refusal; anything else means that nothing is known.
    fn cannot_tell(&self, error: PscError) -> GateError {
        match error {
            PscError::Token {
                token: TokenKind::Access,
                fault,
            } => GateError::Refused(fault),
            cause => {
                tracing::warn!(error = %cause, remedy = cause.remedy(), "an access token could not be checked");
                GateError::Unavailable {
                    cause: Arc::new(cause),
                    retry_after: self.settings.unavailable_for,
                }
            }
        }
    }
}

impl TokenGate for PscTokenGate {
    fn check<'a>(
        &'a self,
        token: &'a SecretString,
        peer: Option<&'a Thumbprint>,
    ) -> BoxFuture<'a, Result<Arc<CheckedToken>, GateError>> {
        Box::pin(self.decide(token, peer))
    }
}

/// Refusal of a token, as [`TokenFault`] explains it.
impl GateError {
    /// What it means and what to do, for an operator.
    #[must_use]
    pub fn explained(&self) -> (&'static str, &'static str) {
        match self {
            Self::Refused(fault) => fault.explained(),
            Self::Inactive => (
                "the user logged out, or the token is over",
                "log in again at the consumer",
            ),
            Self::Client(_) => (
                "the consumer's Client ID is not in the list of this box",
                "add it to the list if the consumer is legitimate",
            ),
            Self::Unavailable { cause, .. } => (cause.meaning(), cause.remedy()),
            Self::Busy => ("too many users arrive at once", "try again in a moment"),
        }
    }
}
