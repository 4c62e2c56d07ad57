//! A professional's session at Pro Santé Connect: tokens that are renewed before they are used up, one renewal at a
//! time, until the session ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::error::{ErrorCode, PscError, SessionEnd};
use crate::id_token::LoggedIn;
use crate::login::{RelyingParty, in_clear};
use crate::token_fault::{TokenFault, TokenKind};
use crate::tokens::{Tokens, TokensRecord};
use crate::user_info::UserInfo;

/// A session. Clones share one set of tokens; `Debug` shows none of them.
#[derive(Clone)]
pub struct Session {
    user: Arc<LoggedIn>,
    ends_at: UnixTime,
    state: Arc<Mutex<State>>,
}

pub(crate) enum State {
    Open(Tokens),
    Ended(SessionEnd),
}

impl State {
    /// Ends the session, for the reason that is given back.
    fn end(&mut self, end: SessionEnd) -> PscError {
        *self = Self::Ended(end);
        PscError::SessionEnded(end)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// The 4 hours of PSC count from the proof of identity, which may be older than the login here.
    pub(crate) fn new(user: LoggedIn, tokens: Tokens, now: UnixTime, lifetime: Duration) -> Self {
        let from = user.auth_time.unwrap_or(now).min(now);
        Self {
            user: Arc::new(user),
            ends_at: from.plus(lifetime),
            state: Arc::new(Mutex::new(State::Open(tokens))),
        }
    }

    /// Who logged in.
    #[must_use]
    pub fn user(&self) -> &LoggedIn {
        &self.user
    }

    /// When the session is over at the latest.
    #[must_use]
    pub fn ends_at(&self) -> UnixTime {
        self.ends_at
    }

    /// Why the session is over; `None` while it is open.
    pub async fn ended(&self) -> Option<SessionEnd> {
        match &*self.state.lock().await {
            State::Open(_) => None,
            State::Ended(end) => Some(*end),
        }
    }

    /// Forgets the tokens, and gives them to whoever ends the session at PSC.
    pub(crate) async fn close(&self) -> Option<Tokens> {
        let mut state = self.state.lock().await;
        match std::mem::replace(&mut *state, State::Ended(SessionEnd::Closed)) {
            State::Open(tokens) => Some(tokens),
            State::Ended(end) => {
                *state = State::Ended(end);
                None
            }
        }
    }

    /// The content in clear, for a store that encrypts it; `None` when the session is over.
    pub async fn export(&self) -> Option<Zeroizing<Vec<u8>>> {
        let record = match &*self.state.lock().await {
            State::Open(tokens) => SessionRecord {
                user: (*self.user).clone(),
                ends_at: self.ends_at,
                tokens: tokens.to_record(),
            },
            State::Ended(_) => return None,
        };
        Some(in_clear(&record))
    }

    /// What [`export`](Self::export) wrote; `None` when it is something else.
    #[must_use]
    pub fn import(content: &[u8]) -> Option<Self> {
        let record: SessionRecord = serde_json::from_slice(content).ok()?;
        let tokens = Tokens::from_record(&record.tokens);
        Some(Self {
            user: Arc::new(record.user),
            ends_at: record.ends_at,
            state: Arc::new(Mutex::new(State::Open(tokens))),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct SessionRecord {
    user: LoggedIn,
    ends_at: UnixTime,
    tokens: TokensRecord,
}

impl RelyingParty {
    /// An access token with life left, renewed if it is due. Concurrent calls share one renewal, and a caller that
    /// goes away does not stop it: the rotated refresh token would be lost.
    ///
    /// # Errors
    /// [`PscError::SessionEnded`] when the user has to log in again; another error when PSC cannot be asked and the
    /// token at hand is used up.
    pub async fn access_token(&self, session: &Session) -> Result<SecretString, PscError> {
        let mut state = Arc::clone(&session.state).lock_owned().await;
        let now = self.provider.clock.now();
        let tokens = match &*state {
            State::Ended(end) => return Err(PscError::SessionEnded(*end)),
            State::Open(tokens) => tokens,
        };
        if now >= session.ends_at {
            return Err(state.end(SessionEnd::TooOld));
        }
        if !tokens.is_due(now, self.provider.settings.refresh_margin) {
            return Ok(tokens.access.clone());
        }
        self.renewed(state, session).await
    }

    /// Another access token than this one, which somebody did not accept though it has life left. Whoever else
    /// was refused the same one shares the renewal.
    ///
    /// # Errors
    /// As [`access_token`](Self::access_token).
    pub async fn other_access_token(
        &self,
        session: &Session,
        refused: &SecretString,
    ) -> Result<SecretString, PscError> {
        let state = Arc::clone(&session.state).lock_owned().await;
        let is_refused = matches!(
            &*state,
            State::Open(tokens) if tokens.access.expose_secret() == refused.expose_secret()
        );
        if is_refused && self.provider.clock.now() < session.ends_at {
            return self.renewed(state, session).await;
        }
        drop(state);
        self.access_token(session).await
    }

    async fn renewed(
        &self,
        state: OwnedMutexGuard<State>,
        session: &Session,
    ) -> Result<SecretString, PscError> {
        let party = self.clone();
        let user = Arc::clone(&session.user);
        tokio::spawn(async move { party.renew(state, &user).await })
            .await
            .unwrap_or(Err(PscError::Interrupted))
    }

    async fn renew(
        &self,
        mut state: OwnedMutexGuard<State>,
        user: &LoggedIn,
    ) -> Result<SecretString, PscError> {
        let held = match &*state {
            State::Open(tokens) => tokens.clone(),
            State::Ended(end) => return Err(PscError::SessionEnded(*end)),
        };
        // The one at hand, for when there is no other yet.
        let now = self.provider.clock.now();
        let usable = held.is_usable(now).then(|| held.access.clone());
        let Some(refresh) = &held.refresh else {
            return usable.ok_or_else(|| state.end(SessionEnd::NoRefreshToken));
        };
        let later = |error: PscError| {
            tracing::warn!(%error, remedy = error.remedy(), "a session was not renewed yet");
            usable.ok_or(error)
        };
        let mut renewed = match self.refresh(refresh, &held).await {
            Ok(renewed) => renewed,
            Err(PscError::Refused {
                code: ErrorCode::InvalidGrant,
                ..
            }) => return Err(state.end(SessionEnd::NotRenewed)),
            Err(error) => return later(error),
        };
        // PSC has taken the refresh token of before: what comes next must not lose the new one.
        renewed.checked = renewed.id.is_none() && held.checked;
        if renewed.id.is_none() {
            renewed.id.clone_from(&held.id);
        }
        *state = State::Open(renewed.clone());
        if !renewed.checked {
            match self.check_same_user(&renewed, user).await {
                Ok(()) => {}
                Err(error @ PscError::Token { .. }) if !error.is_temporary() => {
                    state.end(SessionEnd::NotRenewed);
                    return Err(error);
                }
                // The keys that it is signed with cannot be read now.
                Err(error) => return later(error),
            }
            renewed.checked = true;
        }
        let access = renewed.access.clone();
        *state = State::Open(renewed);
        Ok(access)
    }

    async fn refresh(&self, refresh: &SecretString, held: &Tokens) -> Result<Tokens, PscError> {
        let mut renewed = self
            .obtain(&[
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh.expose_secret()),
            ])
            .await?;
        // RFC 6749 §6: without a new refresh token the old one stays.
        renewed.refresh = renewed.refresh.or_else(|| held.refresh.clone());
        Ok(renewed)
    }

    /// OpenID Connect Core §12.2: the same user, whatever else changed.
    async fn check_same_user(&self, renewed: &Tokens, user: &LoggedIn) -> Result<(), PscError> {
        let again = self.check_id_token(renewed, None).await?;
        if again.sub == user.sub {
            return Ok(());
        }
        Err(PscError::Token {
            token: TokenKind::Id,
            fault: TokenFault::Mismatch("sub"),
        })
    }

    /// What PSC says of the professional.
    ///
    /// # Errors
    /// As [`access_token`](Self::access_token); and when the answer is of another user or not readable.
    pub async fn user_info(&self, session: &Session) -> Result<UserInfo, PscError> {
        let token = self.access_token(session).await?;
        let client = Some(self.provider.settings.client_id.as_str());
        self.provider
            .user_info(&token, &session.user.sub, client)
            .await
    }
}
