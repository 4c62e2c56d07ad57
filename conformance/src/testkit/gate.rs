//! A token gate without Pro Santé Connect, for whoever asks a gate: it knows the tokens it was told of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use psc_auth::{BoxFuture, CheckedToken, GateError, NationalId, Thumbprint, TokenGate, UnixTime};
use secrecy::{ExposeSecret, SecretString};

use super::KitError;

/// Accepts the tokens it was given, to the certificates it was given, and no other.
#[derive(Debug, Default)]
pub struct KnownTokens {
    tokens: HashMap<String, Known>,
    asked: AtomicU64,
}

#[derive(Debug)]
struct Known {
    answer: Result<Arc<CheckedToken>, GateError>,
    only: Option<Thumbprint>,
}

impl KnownTokens {
    /// A gate that knows no token.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts `token` as one of this professional (national id in its prefixed form) whatever the certificate.
    ///
    /// # Errors
    /// When the id is none.
    pub fn accept(self, token: &str, national_id: &str) -> Result<Self, KitError> {
        let id = NationalId::parse(national_id).map_err(|error| KitError::Invalid {
            what: format!("national id {national_id}"),
            reason: error.to_string(),
        })?;
        let answer = CheckedToken {
            sub: format!("f:kit:{national_id}"),
            jti: format!("jti-{}", self.tokens.len()),
            azp: "kit".to_owned(),
            session: None,
            acr: Some("eidas1".to_owned()),
            national_id: id,
            expires_at: UnixTime::from_secs(u64::MAX),
            user: None,
        };
        Ok(self.answer(token, Ok(answer)))
    }

    /// Answers this for `token`.
    #[must_use]
    pub fn answer(mut self, token: &str, answer: Result<CheckedToken, GateError>) -> Self {
        let known = Known {
            answer: answer.map(Arc::new),
            only: None,
        };
        self.tokens.insert(token.to_owned(), known);
        self
    }

    /// Accepts `token`, which must be known, from this certificate alone.
    #[must_use]
    pub fn bound(mut self, token: &str, certificate: Thumbprint) -> Self {
        if let Some(known) = self.tokens.get_mut(token) {
            known.only = Some(certificate);
        }
        self
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn decide(
        &self,
        token: &SecretString,
        peer: Option<&Thumbprint>,
    ) -> Result<Arc<CheckedToken>, GateError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let known = self.tokens.get(token.expose_secret());
        let known = known.ok_or(GateError::Inactive)?;
        if known.only.is_some() && known.only.as_ref() != peer {
            return Err(GateError::Refused(psc_auth::TokenFault::OtherCertificate));
        }
        known.answer.clone()
    }
}

impl TokenGate for KnownTokens {
    fn check<'a>(
        &'a self,
        token: &'a SecretString,
        peer: Option<&'a Thumbprint>,
    ) -> BoxFuture<'a, Result<Arc<CheckedToken>, GateError>> {
        let outcome = self.decide(token, peer);
        Box::pin(async move { outcome })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn only_the_tokens_that_it_was_told_of_are_accepted() {
        let gate = KnownTokens::new()
            .accept("good", "899700218896")
            .unwrap()
            .answer("busy", Err(GateError::Busy));
        let good = gate.check(&"good".into(), None).await.unwrap();
        assert_eq!(good.national_id.as_str(), "899700218896");
        assert_eq!(gate.check(&"busy".into(), None).await, Err(GateError::Busy));
        let other = gate.check(&"other".into(), None).await;
        assert_eq!(other, Err(GateError::Inactive));
        assert_eq!(gate.asked(), 3);
    }

    #[tokio::test]
    async fn a_bound_token_is_accepted_from_its_certificate_alone() {
        let mine = Thumbprint::of(b"mine");
        let gate = KnownTokens::new()
            .accept("bound", "899700218896")
            .unwrap()
            .bound("bound", mine);
        let other = Thumbprint::of(b"other");
        assert!(gate.check(&"bound".into(), Some(&mine)).await.is_ok());
        assert!(gate.check(&"bound".into(), Some(&other)).await.is_err());
        assert!(gate.check(&"bound".into(), None).await.is_err());
    }
}
