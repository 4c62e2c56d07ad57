//! The certificate that a token is bound to (`cnf`, RFC 8705 §3.1).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::claims::Claims;
use crate::token_fault::TokenFault;

/// SHA-256 of a certificate in DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint of this certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Reads `x5t#S256` in either form: base64url of the 32 bytes, as in RFC 8705, or base64 of their
    /// hexadecimal text, as the ANS guide and its test server have it.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(bytes) = URL_SAFE_NO_PAD.decode(text)
            && let Ok(bytes) = <[u8; 32]>::try_from(bytes)
        {
            return Some(Self(bytes));
        }
        let hex = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0_u8; 32];
        for (position, byte) in bytes.iter_mut().enumerate() {
            let digits = hex.get(position * 2..position * 2 + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// What a token says of its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    Unbound,
    Bound(Thumbprint),
    /// Bound in a way that cannot be checked here.
    Unknown,
}

impl Binding {
    pub(crate) fn of(claims: &Claims) -> Self {
        match claims.get("cnf") {
            None | Some(Value::Null) => Self::Unbound,
            Some(confirmation) => confirmation
                .get("x5t#S256")
                .and_then(Value::as_str)
                .and_then(Thumbprint::parse)
                .map_or(Self::Unknown, Self::Bound),
        }
    }

    /// Whether whoever presents `peer` may use the token.
    pub(crate) fn allows(self, peer: Option<&Thumbprint>) -> Result<(), TokenFault> {
        let fits = match self {
            Self::Unbound => true,
            Self::Bound(expected) => peer.is_some_and(|peer| bool::from(peer.0.ct_eq(&expected.0))),
            Self::Unknown => false,
        };
        if fits {
            Ok(())
        } else {
            Err(TokenFault::OtherCertificate)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn binding(confirmation: &str) -> Binding {
        Binding::of(&Claims::parse(format!(r#"{{"cnf":{confirmation}}}"#).as_bytes()).unwrap())
    }

    fn hex(digest: &[u8]) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn both_encodings_bind_to_the_same_certificate() {
        let peer = Thumbprint::of(b"certificate");
        let other = Thumbprint::of(b"other");
        let digest = Sha256::digest(b"certificate");
        for text in [
            URL_SAFE_NO_PAD.encode(digest),
            STANDARD.encode(hex(&digest)),
        ] {
            let bound = binding(&format!(r#"{{"x5t#S256":"{text}"}}"#));
            assert_eq!(bound.allows(Some(&peer)), Ok(()));
            assert_eq!(
                bound.allows(Some(&other)),
                Err(TokenFault::OtherCertificate)
            );
            assert_eq!(bound.allows(None), Err(TokenFault::OtherCertificate));
        }
    }

    #[test]
    fn a_binding_that_is_not_understood_allows_nobody() {
        let peer = Thumbprint::of(b"certificate");
        for confirmation in [
            "{}",
            r#"{"jkt":"x"}"#,
            r#"{"x5t#S256":"AAAA"}"#,
            "7",
            "\"x\"",
        ] {
            assert!(
                binding(confirmation).allows(Some(&peer)).is_err(),
                "{confirmation}"
            );
        }
        assert_eq!(
            Binding::of(&Claims::parse(b"{}").unwrap()),
            Binding::Unbound
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,100}") {
            let _ = Thumbprint::parse(&text);
        }
    }
}
