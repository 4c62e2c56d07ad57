//! Session ids: what the browser holds, what the gateway keeps of it, and the CSRF token made of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::vault;

/// Characters of an id: 32 bytes in base64url.
const LENGTH: usize = 43;

/// The value of a cookie: 256 random bits. Only the browser keeps it.
#[derive(Clone)]
pub(crate) struct SessionId(SecretString);

/// SHA-256 of a session id: finds the session, and gives nobody a cookie. `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionId {
    /// A new one.
    pub(crate) fn new() -> Result<Self, vault::NoRandom> {
        let random = vault::random::<32>()?;
        Ok(Self(URL_SAFE_NO_PAD.encode(random).into()))
    }

    /// What a cookie holds; `None` when it has not the form of an id.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (value.len() == LENGTH && value.bytes().all(allowed)).then(|| Self(value.into()))
    }

    /// The secret itself, for whoever is given it.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(crate) fn key(&self) -> SessionKey {
        SessionKey(digest(b"session", self.expose()))
    }

    /// The token that forms of this session carry: whoever does not have the cookie cannot make it.
    pub(crate) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(b"csrf", self.expose()))
    }

    pub(crate) fn csrf_fits(&self, token: &str) -> bool {
        is_same(&self.csrf(), token)
    }
}

/// Whether two secrets are the same, in a time that does not tell how much of them is.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

impl SessionKey {
    /// From the key of a store.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From the bytes of one.
    pub(crate) fn of(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key itself: it gives nobody the cookie.
    #[must_use]
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }
}

/// SHA-256 of a secret, for one use.
pub(super) fn digest(purpose: &[u8], secret: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"drimbox ");
    hash.update(purpose);
    hash.update([0]);
    hash.update(secret.as_bytes());
    hash.finalize().into()
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(***)")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(***)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_id_reads_back_and_two_differ() {
        let (one, other) = (SessionId::new().unwrap(), SessionId::new().unwrap());
        let again = SessionId::parse(one.expose()).unwrap();
        assert!(one.key() == again.key() && one.key() != other.key());
        assert!(one.csrf_fits(&again.csrf()) && !one.csrf_fits(&other.csrf()));
        assert!(!one.csrf_fits("") && !one.csrf_fits(one.expose()));
    }

    #[test]
    fn what_has_not_the_form_of_an_id_is_none() {
        for value in ["", "a", &"a".repeat(44), &"é".repeat(43), &" ".repeat(43)] {
            assert!(SessionId::parse(value).is_none(), "{value}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let id = SessionId::new().unwrap();
        assert_eq!(
            format!("{id:?} {:?}", id.key()),
            "SessionId(***) SessionKey(***)"
        );
    }
}
