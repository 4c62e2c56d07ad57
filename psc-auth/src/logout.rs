//! The end of a session: at PSC through the browser or directly, by revocation, and from PSC (back-channel logout).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::claims::Claims;
use crate::clock::UnixTime;
use crate::error::{Endpoint, PscError};
use crate::id_token::not_in_the_future;
use crate::jws::Jws;
use crate::login::RelyingParty;
use crate::session::Session;
use crate::token_fault::{TokenFault, TokenKind};
use crate::tokens::Tokens;
use crate::transport::TransportError;

const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How old a logout token may be.
const LOGOUT_TOKEN_AGE: Duration = Duration::from_secs(300);

/// What PSC asks to end: every session of `sub`, or the one called `sid`. At least one is there. `Debug` shows no `sub`:
/// it ends with the national id.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogoutNotice {
    /// Technical subject.
    pub sub: Option<String>,
    /// Session at PSC.
    pub sid: Option<String>,
}

impl fmt::Debug for LogoutNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogoutNotice")
            .field("sid", &self.sid)
            .finish_non_exhaustive()
    }
}

impl LogoutNotice {
    /// Whether it means this session.
    #[must_use]
    pub fn means(&self, session: &Session) -> bool {
        let user = session.user();
        let same_user = self.sub.as_ref().is_none_or(|sub| *sub == user.sub);
        let same_session = self
            .sid
            .as_ref()
            .is_none_or(|sid| user.sid.as_ref() == Some(sid));
        same_user && same_session
    }
}

impl RelyingParty {
    /// Ends the session here, and gives the address that ends it at PSC through the browser
    /// (OpenID Connect RP-Initiated Logout §2). The address holds the id_token: it goes to this user's browser and
    /// nowhere else. Prefer [`logout`](Self::logout) where no return through PSC is needed.
    ///
    /// # Errors
    /// When the addresses of PSC are not known, or there is none for logout. The session is over here in any case.
    pub async fn logout_url(
        &self,
        session: &Session,
        back_to: &Url,
        state: Option<&str>,
    ) -> Result<SecretString, PscError> {
        let tokens = session.close().await;
        let known = self.provider.known().await?;
        let mut url = known.metadata.needs(Endpoint::Logout)?.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(id_token) = tokens.as_ref().and_then(|tokens| tokens.id.as_ref()) {
                query.append_pair("id_token_hint", id_token.expose_secret());
            }
            query.append_pair("client_id", &self.provider.settings.client_id);
            query.append_pair("post_logout_redirect_uri", back_to.as_str());
            if let Some(state) = state {
                query.append_pair("state", state);
            }
        }
        Ok(String::from(url).into())
    }

    /// Ends the session here, then at PSC without the browser, then revokes its refresh token. What fails at PSC is
    /// reported, but the session is over here in any case.
    ///
    /// # Errors
    /// When PSC cannot be asked.
    pub async fn logout(&self, session: &Session) -> Result<(), PscError> {
        let Some(tokens) = session.close().await else {
            return Ok(());
        };
        let ended = match &tokens.id {
            Some(id_token) => self.end_at_psc(id_token).await,
            None => Ok(()),
        };
        let revoked = self.revoke_all(&tokens).await;
        match (ended, revoked) {
            // Of two failures the one that may succeed later: the caller asks again for it.
            (Err(_), Err(revoked)) if revoked.is_temporary() => Err(revoked),
            (ended, revoked) => ended.and(revoked),
        }
    }

    /// Ends the session here and revokes its refresh token; the session at PSC, which may serve other services of the
    /// user, goes on. The session is over here in any case.
    ///
    /// # Errors
    /// When PSC cannot be asked.
    pub async fn forget(&self, session: &Session) -> Result<(), PscError> {
        match session.close().await {
            Some(tokens) => self.revoke_all(&tokens).await,
            None => Ok(()),
        }
    }

    /// Gives tokens back: PSC revokes with the refresh token what was given for it.
    pub(crate) async fn revoke_all(&self, tokens: &Tokens) -> Result<(), PscError> {
        match &tokens.refresh {
            Some(refresh) => self.revoke(refresh, "refresh_token").await,
            None => self.revoke(&tokens.access, "access_token").await,
        }
    }

    async fn end_at_psc(&self, id_token: &SecretString) -> Result<(), PscError> {
        let known = self.provider.known().await?;
        let mut url = known.metadata.needs(Endpoint::Logout)?.clone();
        url.query_pairs_mut()
            .append_pair("id_token_hint", id_token.expose_secret());
        match self.provider.get(Endpoint::Logout, &url, None).await {
            // PSC wants to show its page: the session is ended, the page is not for us.
            Err(PscError::Transport {
                failure: TransportError::Redirected { .. },
                ..
            }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Revokes a token (RFC 7009). PSC may have no such address: then nothing is done.
    async fn revoke(&self, token: &SecretString, hint: &str) -> Result<(), PscError> {
        let known = self.provider.known().await?;
        let Ok(url) = known.metadata.needs(Endpoint::Revocation) else {
            return Ok(());
        };
        let fields = [("token", token.expose_secret()), ("token_type_hint", hint)];
        self.provider
            .post_form(Endpoint::Revocation, url, &fields)
            .await
            .map(drop)
    }

    /// Checks a logout token that PSC posted (OpenID Connect Back-Channel Logout §2.6). The caller ends the sessions
    /// that the notice means and answers 200; on an error it answers 400.
    ///
    /// # Errors
    /// When the token does not stand the checks, was used before, or the keys cannot be read.
    pub async fn receive_logout(&self, logout_token: &str) -> Result<LogoutNotice, PscError> {
        let refused = |fault| PscError::Token {
            token: TokenKind::Logout,
            fault,
        };
        let jws = Jws::parse(logout_token).map_err(refused)?;
        let typ = jws.typ.as_deref();
        if !matches!(typ, None | Some("jwt" | "logout+jwt")) {
            return Err(refused(TokenFault::Mismatch("typ")));
        }
        let claims = self
            .provider
            .verify_signature(TokenKind::Logout, logout_token)
            .await?;
        let now = self.provider.clock.now();
        let notice = self.check_logout(&claims, now).map_err(refused)?;
        let jti = claims.needs_text("jti").map_err(refused)?;
        if !self.seen_logouts.lock().await.is_new(jti, now) {
            return Err(refused(TokenFault::Replayed));
        }
        Ok(notice)
    }

    fn check_logout(&self, claims: &Claims, now: UnixTime) -> Result<LogoutNotice, TokenFault> {
        let settings = &self.provider.settings;
        if claims.needs_text("iss")? != settings.issuer {
            return Err(TokenFault::Mismatch("iss"));
        }
        if !claims.audience_has(&settings.client_id) {
            return Err(TokenFault::Mismatch("aud"));
        }
        let issued = claims.needs_time("iat")?;
        not_in_the_future("iat", issued, now, settings.leeway)?;
        if now.since(issued) > LOGOUT_TOKEN_AGE.saturating_add(settings.leeway) {
            return Err(TokenFault::Age("iat"));
        }
        if let Some(expiry) = claims.time("exp")?
            && now.since(expiry) > settings.leeway
        {
            return Err(TokenFault::Expired {
                seconds: now.since(expiry).as_secs(),
            });
        }
        let event = claims
            .get("events")
            .and_then(|events| events.get(LOGOUT_EVENT));
        if !event.is_some_and(serde_json::Value::is_object) {
            return Err(TokenFault::Missing("events"));
        }
        // An id_token must never pass for a logout token.
        if claims.has("nonce") {
            return Err(TokenFault::Mismatch("nonce"));
        }
        let notice = LogoutNotice {
            sub: claims.text("sub").map(str::to_owned),
            sid: claims.text("sid").map(str::to_owned),
        };
        if notice.sub.is_none() && notice.sid.is_none() {
            return Err(TokenFault::Missing("sid"));
        }
        Ok(notice)
    }
}

/// Logout tokens that were used, for as long as they could be used again.
#[derive(Debug, Default)]
pub(crate) struct SeenLogouts(HashMap<String, UnixTime>);

impl SeenLogouts {
    /// Above this the oldest is forgotten: to end a session twice does no harm.
    const MOST: usize = 4096;

    fn is_new(&mut self, jti: &str, now: UnixTime) -> bool {
        let kept = LOGOUT_TOKEN_AGE.saturating_mul(2);
        self.0.retain(|_, seen| now.since(*seen) < kept);
        if self.0.len() >= Self::MOST
            && let Some(oldest) = self
                .0
                .iter()
                .min_by_key(|(_, seen)| **seen)
                .map(|(jti, _)| jti.clone())
        {
            self.0.remove(&oldest);
        }
        self.0.insert(jti.to_owned(), now).is_none()
    }
}
