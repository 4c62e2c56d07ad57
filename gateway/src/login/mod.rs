//! People come in: login with Pro Santé Connect on the `vi` names, sessions, logout.
//!
//! [`Login`] holds what a login is made of; [`router`] is its pages. Who may come in is decided in
//! [`crate::access::professional`]. [`Sessions`] tells the other pages of a `vi` name who asks. Tokens of PSC stay
//! here: the browser holds a random id in a `__Host-` cookie, the disk holds ciphertext.

mod audit;
pub(crate) mod cookies;
mod failure;
mod flow;
pub(crate) mod guard;
mod handlers;
mod labels;
mod logout;
pub(crate) mod pages;
mod pending;
mod return_to;
mod secret;
mod session;
mod sessions;
mod tokens;
mod vault;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use psc_auth::{Clock, ProfessionPolicy, RelyingParty};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use audit::{AuditUnavailable, LoginAudit, LoginEvent, LoginRecord, NoAudit};
pub use failure::Failure;
pub use handlers::router;
pub(crate) use handlers::{fields, form, secure, see_other};
pub use pending::Destination;
pub use return_to::ReturnPath;
pub use secret::SessionKey;
pub(crate) use secret::{SessionId, is_same};
pub use sessions::{Behind, MAX_DATA, NotKept, SessionLimits, SessionView, Sessions};
pub use tokens::SessionTokens;
pub(crate) use vault::random;
pub use vault::{KeyFileError, NoRandom, Vault};

use pending::Pendings;

/// How often what is over is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// What a [`Login`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Asks PSC.
    pub party: RelyingParty,
    /// Who may come in.
    pub professions: ProfessionPolicy,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Each `vi` name with its return address, as registered at PSC.
    pub return_addresses: HashMap<Arc<str>, Url>,
    /// Logins under way at once.
    pub max_pending: usize,
    /// How long a login may take.
    pub login_lifetime: Duration,
    /// Who is told.
    pub audit: Arc<dyn LoginAudit>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Name of the centre on the pages.
    pub centre: Option<String>,
    /// Whom to call, as it stands on the pages.
    pub contact: Option<String>,
}

/// Login, logout and what lies between.
pub struct Login {
    parts: Parts,
    pendings: Pendings,
}

/// How a login ended; the same for every request that brings the same return.
type Outcome = Result<Entered, Failure>;

/// Someone is in.
#[derive(Debug, Clone)]
struct Entered {
    id: SessionId,
    key: SessionKey,
}

impl Login {
    /// Nothing is asked of PSC yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            pendings: Pendings::new(parts.max_pending, parts.login_lifetime),
            parts,
        }
    }

    /// The time of sessions.
    #[must_use]
    pub fn now(&self) -> psc_auth::UnixTime {
        self.parts.clock.now()
    }

    /// The sessions, for the other pages of a `vi` name.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.parts.sessions
    }

    /// Ends what is over, follows sessions at PSC and writes down uses, until `stop`.
    pub async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.sweep().await,
            }
        }
        self.parts.sessions.remove_ended().await;
        self.parts.sessions.save_all().await;
    }

    /// One round of [`maintain`](Self::maintain).
    async fn sweep(&self) {
        self.pendings.sweep(self.parts.clock.now());
        for (session, cause) in self.parts.sessions.over() {
            self.end(&session, cause, None).await;
        }
        self.parts.sessions.remove_ended().await;
        self.follow_psc().await;
        self.parts.sessions.save_uses().await;
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}
