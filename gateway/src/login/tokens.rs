//! The tokens of someone who is logged in, for what is asked of other DRIMboxes in their name.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use psc_auth::PscError;
use secrecy::{ExposeSecret as _, SecretString};

use super::Login;
use super::secret::SessionKey;
use super::session::Session;
use crate::archive::peer::{AccessToken, TokenError, TokenSource};

/// Access tokens of one session, each good for a request that is made now: a transfer of many series outlives several
/// of them. They end with the session.
pub struct SessionTokens {
    login: Arc<Login>,
    session: Arc<Session>,
    /// The one that was given last. With another one the record of the session changed: a refresh token that was
    /// used would end the session after a restart.
    given: Mutex<Option<AccessToken>>,
}

impl Login {
    /// The tokens of a session; `None` when it is over.
    #[must_use]
    pub fn tokens(self: &Arc<Self>, key: SessionKey) -> Option<SessionTokens> {
        Some(SessionTokens {
            session: self.parts.sessions.get(key)?,
            login: Arc::clone(self),
            given: Mutex::default(),
        })
    }
}

impl SessionTokens {
    async fn at_hand(&self) -> Result<SecretString, TokenError> {
        let sessions = &self.login.parts.sessions;
        if sessions.get(self.session.key).is_none() {
            return Err(TokenError::LoginNeeded);
        }
        let party = &self.login.parts.party;
        party.access_token(&self.session.psc).await.map_err(said)
    }

    async fn give(&self, token: &SecretString) -> Result<AccessToken, TokenError> {
        let token = AccessToken::new(token.expose_secret())?;
        let before = self.given.lock().replace(token.clone());
        if before.is_none_or(|before| !before.is_same(&token)) {
            self.login.parts.sessions.save(&self.session).await;
        }
        Ok(token)
    }
}

impl TokenSource for SessionTokens {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        async { self.give(&self.at_hand().await?).await }.boxed()
    }

    fn renewed(&self, refused: &AccessToken) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        let refused = refused.clone();
        async move {
            let at_hand = self.at_hand().await?;
            let token = self.give(&at_hand).await?;
            if !token.is_same(&refused) {
                return Ok(token);
            }
            let party = &self.login.parts.party;
            let other = party.other_access_token(&self.session.psc, &at_hand);
            let token = self.give(&other.await.map_err(said)?).await?;
            if token.is_same(&refused) {
                let none = "Pro Santé Connect gives no other token just now";
                return Err(TokenError::Unavailable(none.to_owned()));
            }
            Ok(token)
        }
        .boxed()
    }
}

impl fmt::Debug for SessionTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionTokens").finish_non_exhaustive()
    }
}

fn said(error: PscError) -> TokenError {
    match error {
        PscError::SessionEnded(_) => TokenError::LoginNeeded,
        error if error.is_temporary() => TokenError::Unavailable(error.to_string()),
        PscError::Token { .. } => TokenError::LoginNeeded,
        error => TokenError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use http::StatusCode;

    use super::super::tests::{Pages, PscAnswers, begin, newcomer};
    use super::*;

    #[tokio::test]
    async fn a_transfer_in_somebody_s_name_has_a_good_token_for_every_series() {
        let psc = Arc::new(PscAnswers::default());
        let pages = Pages::at(Arc::clone(&psc) as _);
        let (_, session) = begin(pages.login.sessions(), newcomer("a", &["0"])).await;
        let source = pages.login.tokens(session.key).unwrap();
        let of_the_login = AccessToken::new("secret-access").unwrap();
        for _ in 0..3 {
            assert!(source.token().await.unwrap().is_same(&of_the_login));
        }
        // The token is good for two minutes, the transfer takes ten.
        let mut before = of_the_login;
        for _ in 0..5 {
            pages.place.clock.pass(120);
            let token = source.token().await.unwrap();
            assert!(!token.is_same(&before));
            before = token;
        }
        assert_eq!(psc.asked("token"), 5);
        // A source does not take it: once for all who were refused it.
        let other = source.renewed(&before).await.unwrap();
        assert!(source.renewed(&before).await.unwrap().is_same(&other));
        assert_eq!(psc.asked("token"), 6);
    }

    #[tokio::test]
    async fn the_tokens_end_with_the_session_here_or_at_pro_sante_connect() {
        let psc = Arc::new(PscAnswers::default());
        let pages = Pages::at(Arc::clone(&psc) as _);
        let sessions = pages.login.sessions();
        let (_, left) = begin(sessions, newcomer("a", &["0"])).await;
        let source = pages.login.tokens(left.key).unwrap();
        source.token().await.unwrap();
        sessions.end(&left).await;
        assert_eq!(source.token().await.unwrap_err(), TokenError::LoginNeeded);
        assert!(pages.login.tokens(left.key).is_none());

        let (_, ended) = begin(sessions, newcomer("b", &["0"])).await;
        let source = pages.login.tokens(ended.key).unwrap();
        psc.refuse(StatusCode::BAD_REQUEST, "invalid_grant");
        let token = source.token().await.unwrap();
        let refused = source.renewed(&token).await.unwrap_err();
        assert_eq!(refused, TokenError::LoginNeeded);
    }
}
