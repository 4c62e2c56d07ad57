//! The id_token of a login or a refresh (OpenID Connect Core §3.1.3.7).
//!
//! `openidconnect` checks header, issuer, audience, expiry and nonce. What it leaves out is here: `acr`, `iat`,
//! `auth_time`, `at_hash`, `azp`, `typ`, and tolerance for clocks that differ. It refuses a token with two `acr`; such
//! a token is given to it with one, after the signature over the original was verified.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier};
use openidconnect::{ClaimsVerificationError, ClientId, IssuerUrl, JsonWebKeySet, Nonce};
use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::clock::UnixTime;
use crate::error::Said;
use crate::identity::NationalId;
use crate::jws::{Jws, SigningKeys, is_hash_of};
use crate::settings::Settings;
use crate::token_fault::TokenFault;

/// Who logged in, as the id_token says. `Debug` shows no name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoggedIn {
    /// Technical subject, unique at PSC.
    pub sub: String,
    /// The session at PSC, which a back-channel logout names.
    pub sid: Option<String>,
    /// `session_state`, as the answer with the tokens gives it, else the id_token: the name of the session in the
    /// contract of a proxy e-santé.
    pub session_state: Option<String>,
    /// National id, when the id_token carries one.
    pub national_id: Option<NationalId>,
    /// Authentication level.
    pub acr: Option<String>,
    /// When the user proved who they are.
    pub auth_time: Option<UnixTime>,
    /// Given name.
    pub given_name: Option<String>,
    /// Family name.
    pub family_name: Option<String>,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedIn")
            .field("national_id", &self.national_id)
            .field("acr", &self.acr)
            .field("auth_time", &self.auth_time)
            .finish_non_exhaustive()
    }
}

/// What this id_token must fit.
pub(crate) struct Expected<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) keys: &'a SigningKeys,
    pub(crate) now: UnixTime,
    /// The nonce of the login; `None` where no browser took part.
    pub(crate) nonce: Option<&'a str>,
    /// The access token that came with it.
    pub(crate) access_token: &'a str,
}

impl Expected<'_> {
    pub(crate) fn check(&self, id_token: &str) -> Result<LoggedIn, TokenFault> {
        let jws = Jws::parse(id_token)?;
        let (claims, key) = jws.verify(self.keys)?;
        if claims.had_repeats() {
            let verifier = self.verifier(key.clone())?;
            self.standard_checks(
                &jws.with_claims(&claims),
                &verifier.insecure_disable_signature_check(),
            )?;
        } else {
            self.standard_checks(id_token, &self.verifier(key.clone())?)?;
        }
        self.further_checks(&claims)?;

        let text = |name| claims.text(name).map(str::to_owned);
        Ok(LoggedIn {
            sub: claims.needs_text("sub")?.to_owned(),
            sid: text("sid").or_else(|| text("session_state")),
            session_state: text("session_state"),
            national_id: national_id(&claims),
            acr: text("acr"),
            auth_time: claims.time("auth_time")?,
            given_name: text("given_name"),
            family_name: text("family_name"),
        })
    }

    fn verifier(
        &self,
        key: openidconnect::core::CoreJsonWebKey,
    ) -> Result<CoreIdTokenVerifier<'static>, TokenFault> {
        let issuer = IssuerUrl::new(self.settings.issuer.clone())
            .map_err(|_| TokenFault::Mismatch("iss"))?;
        let late = self
            .now
            .since(UnixTime::default())
            .saturating_sub(self.settings.leeway);
        let now: SystemTime = UNIX_EPOCH.checked_add(late).unwrap_or(UNIX_EPOCH);
        let client_id = ClientId::new(self.settings.client_id.clone());
        let keys = JsonWebKeySet::new(vec![key]);
        Ok(
            CoreIdTokenVerifier::new_public_client(client_id, issuer, keys)
                .set_time_fn(move || now.into()),
        )
    }

    fn standard_checks(
        &self,
        id_token: &str,
        verifier: &CoreIdTokenVerifier<'_>,
    ) -> Result<(), TokenFault> {
        // The error of the reader quotes what it read: it is not passed on.
        let token = CoreIdToken::from_str(id_token)
            .map_err(|_| TokenFault::NotJws("claims of another form than an id_token has"))?;
        let outcome = match self.nonce {
            Some(nonce) => token.claims(verifier, &Nonce::new(nonce.to_owned())),
            None => token.claims(verifier, |_: Option<&Nonce>| Ok(())),
        };
        outcome.map(drop).map_err(|error| self.library_fault(error))
    }

    fn library_fault(&self, error: ClaimsVerificationError) -> TokenFault {
        match error {
            ClaimsVerificationError::InvalidIssuer(_) => TokenFault::Mismatch("iss"),
            ClaimsVerificationError::InvalidAudience(_) => TokenFault::Mismatch("aud"),
            ClaimsVerificationError::InvalidNonce(_) => TokenFault::Mismatch("nonce"),
            ClaimsVerificationError::SignatureVerification(_) => TokenFault::Signature,
            ClaimsVerificationError::Expired(_) => TokenFault::Expired {
                seconds: self.settings.leeway.as_secs(),
            },
            other => TokenFault::Library(Said::new(&other.to_string())),
        }
    }

    fn further_checks(&self, claims: &Claims) -> Result<(), TokenFault> {
        let leeway = self.settings.leeway;
        not_in_the_future("iat", claims.needs_time("iat")?, self.now, leeway)?;
        let age = self.now.since(claims.needs_time("iat")?);
        if age > self.settings.id_token_age.saturating_add(leeway) {
            return Err(TokenFault::Age("iat"));
        }
        if let Some(auth_time) = claims.time("auth_time")? {
            not_in_the_future("auth_time", auth_time, self.now, leeway)?;
            if self.now.since(auth_time) > self.settings.session_lifetime.saturating_add(leeway) {
                return Err(TokenFault::Age("auth_time"));
            }
        }
        if claims.has("azp") && claims.text("azp") != Some(&self.settings.client_id) {
            return Err(TokenFault::Mismatch("azp"));
        }
        if claims.has("typ") && claims.text("typ") != Some("ID") {
            return Err(TokenFault::Mismatch("typ"));
        }
        if claims.has("at_hash") {
            let hash = claims.needs_text("at_hash")?;
            if !is_hash_of(hash, self.access_token) {
                return Err(TokenFault::Mismatch("at_hash"));
            }
        }
        let acr = match claims.get("acr") {
            None => None,
            Some(_) => Some(claims.needs_text("acr")?),
        };
        if !self.settings.acr.accepts(acr) {
            return Err(TokenFault::Acr(Said::new(acr.unwrap_or("none"))));
        }
        Ok(())
    }
}

pub(crate) fn not_in_the_future(
    claim: &'static str,
    time: UnixTime,
    now: UnixTime,
    leeway: Duration,
) -> Result<(), TokenFault> {
    let ahead = time.since(now);
    if ahead > leeway {
        return Err(TokenFault::Future {
            claim,
            seconds: ahead.as_secs(),
        });
    }
    Ok(())
}

/// `SubjectNameID`, else `preferred_username`; `None` when neither has the form of a national id.
pub(crate) fn national_id(claims: &Claims) -> Option<NationalId> {
    let text = claims
        .text("SubjectNameID")
        .or_else(|| claims.text("preferred_username"))?;
    NationalId::parse(text).ok()
}
