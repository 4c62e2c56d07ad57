//! The relying party: authorization code with PKCE (OpenID Connect Core §3.1, RFC 7636).

use std::fmt;
use std::sync::Arc;

use openidconnect::core::{CoreAuthPrompt, CoreAuthenticationFlow, CoreClient};
use openidconnect::{
    AuthUrl, AuthenticationContextClass, ClientId, CsrfToken, IssuerUrl, JsonWebKeySet, Nonce,
    PkceCodeChallenge, RedirectUrl, Scope,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use url::Url;
use zeroize::Zeroizing;

use crate::callback::Callback;
use crate::clock::UnixTime;
use crate::error::{CallbackFault, Endpoint, PscError};
use crate::id_token::{Expected, LoggedIn};
use crate::jws::Jws;
use crate::logout::SeenLogouts;
use crate::provider::Provider;
use crate::session::Session;
use crate::token_fault::{TokenFault, TokenKind};
use crate::tokens::Tokens;

/// Logs professionals in with Pro Santé Connect and keeps their sessions there alive.
#[derive(Debug, Clone)]
pub struct RelyingParty {
    pub(crate) provider: Arc<Provider>,
    pub(crate) seen_logouts: Arc<Mutex<SeenLogouts>>,
}

/// How the user is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoginChoice {
    /// Ask for a new proof of identity even when a session at PSC is open (`prompt=login`).
    pub fresh: bool,
}

/// A login under way: kept on the server, found again by its state, used once.
///
/// Bind it to the browser that started it (a cookie), or a login could be finished in another's browser.
pub struct PendingLogin {
    url: Url,
    state: SecretString,
    nonce: SecretString,
    verifier: SecretString,
    redirect_uri: Url,
    started_at: UnixTime,
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin")
            .field("started_at", &self.started_at)
            .finish_non_exhaustive()
    }
}

impl PendingLogin {
    /// Where to send the browser.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The `state` that comes back with the user.
    #[must_use]
    pub fn state(&self) -> &SecretString {
        &self.state
    }

    /// When it was started.
    #[must_use]
    pub fn started_at(&self) -> UnixTime {
        self.started_at
    }

    /// The content in clear, for a store that encrypts it.
    #[must_use]
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        let record = PendingRecord {
            url: Zeroizing::new(self.url.to_string()),
            state: Zeroizing::new(self.state.expose_secret().to_owned()),
            nonce: Zeroizing::new(self.nonce.expose_secret().to_owned()),
            verifier: Zeroizing::new(self.verifier.expose_secret().to_owned()),
            redirect_uri: self.redirect_uri.clone(),
            started_at: self.started_at,
        };
        in_clear(&record)
    }

    /// What [`export`](Self::export) wrote; `None` when it is something else.
    #[must_use]
    pub fn import(content: &[u8]) -> Option<Self> {
        let record: PendingRecord = serde_json::from_slice(content).ok()?;
        Some(Self {
            url: Url::parse(&record.url).ok()?,
            state: record.state.as_str().into(),
            nonce: record.nonce.as_str().into(),
            verifier: record.verifier.as_str().into(),
            redirect_uri: record.redirect_uri,
            started_at: record.started_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct PendingRecord {
    url: Zeroizing<String>,
    state: Zeroizing<String>,
    nonce: Zeroizing<String>,
    verifier: Zeroizing<String>,
    redirect_uri: Url,
    started_at: UnixTime,
}

/// With room from the start: growing would leave copies behind.
pub(crate) fn in_clear(record: &impl Serialize) -> Zeroizing<Vec<u8>> {
    const ROOM: usize = 64 * 1024;
    let mut content = Zeroizing::new(Vec::with_capacity(ROOM));
    if serde_json::to_writer(&mut *content, record).is_err() {
        content.clear();
    }
    content
}

impl RelyingParty {
    /// A relying party at this provider.
    #[must_use]
    pub fn new(provider: Arc<Provider>) -> Self {
        Self {
            provider,
            seen_logouts: Arc::default(),
        }
    }

    /// Starts a login: makes state, nonce and PKCE verifier, and the address to send the browser to, which comes back
    /// at the return address of the settings.
    ///
    /// # Errors
    /// When the addresses of PSC are not known and cannot be read.
    pub async fn begin_login(&self, choice: LoginChoice) -> Result<PendingLogin, PscError> {
        let back_to = self.provider.settings.redirect_uri.clone();
        self.begin_login_at(choice, back_to).await
    }

    /// As [`begin_login`](Self::begin_login), for a client with several registered return addresses, of which this is
    /// one.
    ///
    /// # Errors
    /// When the addresses of PSC are not known and cannot be read.
    pub async fn begin_login_at(
        &self,
        choice: LoginChoice,
        redirect_uri: Url,
    ) -> Result<PendingLogin, PscError> {
        let settings = &self.provider.settings;
        let known = self.provider.known().await?;
        let malformed = || PscError::Malformed {
            endpoint: Endpoint::Discovery,
            what: "the issuer is not an address",
        };
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|_| malformed())?;
        let client_id = ClientId::new(settings.client_id.clone());
        let client = CoreClient::new(client_id, issuer, JsonWebKeySet::default())
            .set_auth_uri(AuthUrl::from_url(known.metadata.authorization.clone()))
            .set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone()));

        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge)
            .add_auth_context_value(AuthenticationContextClass::new(
                settings.acr.requested.clone(),
            ));
        // The library adds `openid` itself.
        for scope in settings.scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if choice.fresh {
            request = request.add_prompt(CoreAuthPrompt::Login);
        }
        if let Some(hint) = &settings.identity_provider_hint {
            request = request.add_extra_param("kc_idp_hint", hint.clone());
        }
        let (url, state, nonce) = request.url();
        Ok(PendingLogin {
            url,
            state: state.secret().as_str().into(),
            nonce: nonce.secret().as_str().into(),
            verifier: verifier.secret().as_str().into(),
            redirect_uri,
            started_at: self.provider.clock.now(),
        })
    }

    /// Finishes a login: checks the return, exchanges the code, checks the id_token.
    ///
    /// The pending login is used up, whatever the outcome.
    ///
    /// # Errors
    /// When the return is not of this login, the user was refused, PSC cannot be asked, or a token does not stand
    /// the checks.
    pub async fn complete_login(
        &self,
        pending: PendingLogin,
        callback: Callback,
    ) -> Result<Session, PscError> {
        let settings = &self.provider.settings;
        let returned = callback.state.expose_secret().as_bytes();
        if !bool::from(returned.ct_eq(pending.state.expose_secret().as_bytes())) {
            return Err(CallbackFault::State.into());
        }
        let now = self.provider.clock.now();
        if now.since(pending.started_at) > settings.login_lifetime {
            return Err(CallbackFault::Late.into());
        }
        let known = self.provider.known().await?;
        match &callback.iss {
            Some(iss) if *iss != settings.issuer => return Err(CallbackFault::Issuer.into()),
            None if known.metadata.sends_iss => return Err(CallbackFault::Missing("iss").into()),
            _ => {}
        }
        let code = callback.code()?;
        let tokens = self
            .obtain(&[
                ("grant_type", "authorization_code"),
                ("code", code.expose_secret()),
                ("redirect_uri", pending.redirect_uri.as_str()),
                ("code_verifier", pending.verifier.expose_secret()),
            ])
            .await?;
        let nonce = pending.nonce.expose_secret();
        let user = self.checked_or_revoked(&tokens, Some(nonce)).await?;
        Ok(Session::new(user, tokens, now, settings.session_lifetime))
    }

    /// Asks the token endpoint.
    pub(crate) async fn obtain(&self, fields: &[(&str, &str)]) -> Result<Tokens, PscError> {
        let known = self.provider.known().await?;
        let asked_at = self.provider.clock.now();
        let answer = self
            .provider
            .post_form(Endpoint::Token, &known.metadata.token, fields)
            .await?;
        Tokens::parse(&answer.body, asked_at)
    }

    /// As [`check_id_token`](Self::check_id_token), for the tokens of a login: when it does not come about, nobody uses
    /// them, and they are given back.
    pub(crate) async fn checked_or_revoked(
        &self,
        tokens: &Tokens,
        nonce: Option<&str>,
    ) -> Result<LoggedIn, PscError> {
        let checked = self.check_id_token(tokens, nonce).await;
        if checked.is_err() {
            // What became of giving them back changes nothing.
            let _ = self.revoke_all(tokens).await;
        }
        checked
    }

    /// Checks the id_token that came with these tokens.
    pub(crate) async fn check_id_token(
        &self,
        tokens: &Tokens,
        nonce: Option<&str>,
    ) -> Result<LoggedIn, PscError> {
        let refused = |fault| PscError::Token {
            token: TokenKind::Id,
            fault,
        };
        let id_token = tokens
            .id
            .as_ref()
            .ok_or_else(|| refused(TokenFault::Missing("id_token")))?
            .expose_secret();
        let kid = Jws::parse(id_token).map_err(refused)?.kid;
        let keys = self.provider.keys_for(&kid).await?;
        let expected = Expected {
            settings: &self.provider.settings,
            keys: &keys,
            now: self.provider.clock.now(),
            nonce,
            access_token: tokens.access.expose_secret(),
        };
        let mut user = expected.check(id_token).map_err(refused)?;
        if let Some(state) = &tokens.session_state {
            user.session_state = Some(state.clone());
            user.sid.get_or_insert_with(|| state.clone());
        }
        Ok(user)
    }
}
