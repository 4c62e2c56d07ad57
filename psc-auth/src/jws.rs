//! Signed tokens (JWS compact serialisation, RFC 7515 §3.1): reading and verification with the keys of PSC.
//!
//! RS256 alone is accepted, whatever the discovery document offers. The cryptography is that of
//! `openidconnect`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::JsonWebKey;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::error::Said;
use crate::token_fault::TokenFault;

/// Largest token that is looked at, in bytes.
pub(crate) const TOKEN_LIMIT: usize = 8 * 1024;

/// A token whose signature has not been verified.
pub(crate) struct Jws<'a> {
    signing_input: &'a str,
    payload: Zeroizing<Vec<u8>>,
    signature: Vec<u8>,
    pub(crate) kid: String,
    /// Header `typ`, in lower case.
    pub(crate) typ: Option<String>,
}

impl<'a> Jws<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, TokenFault> {
        if token.len() > TOKEN_LIMIT {
            return Err(TokenFault::TooLong {
                found: token.len(),
                limit: TOKEN_LIMIT,
            });
        }
        let (signing_input, signature) = token
            .rsplit_once('.')
            .ok_or(TokenFault::NotJws("not three segments"))?;
        let (header, payload) = signing_input
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(TokenFault::NotJws("not three segments"))?;

        let header = Claims::parse(&decode(header)?)?;
        let algorithm = header.needs_text("alg")?;
        if algorithm != "RS256" {
            return Err(TokenFault::Algorithm(Said::new(algorithm)));
        }
        // RFC 7515 §4.1.11: an extension that is not understood makes the token invalid.
        if header.has("crit") || header.has("b64") {
            return Err(TokenFault::NotJws("critical header fields"));
        }
        Ok(Self {
            signing_input,
            payload: Zeroizing::new(decode(payload)?),
            signature: decode(signature)?,
            kid: header.needs_text("kid")?.to_owned(),
            typ: header.text("typ").map(str::to_ascii_lowercase),
        })
    }

    /// The claims, once the signature is verified with one of `keys`, and that key.
    pub(crate) fn verify<'k>(
        &self,
        keys: &'k SigningKeys,
    ) -> Result<(Claims, &'k CoreJsonWebKey), TokenFault> {
        let mut known = keys.with_id(&self.kid).peekable();
        if known.peek().is_none() {
            return Err(TokenFault::UnknownKey);
        }
        let key = known
            .find(|key| {
                key.verify_signature(
                    &CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
                    self.signing_input.as_bytes(),
                    &self.signature,
                )
                .is_ok()
            })
            .ok_or(TokenFault::Signature)?;
        Ok((Claims::parse(&self.payload)?, key))
    }

    /// The same token with these claims, for a reader that stumbles over repeated members. Its signature
    /// does not fit any more.
    pub(crate) fn with_claims(&self, claims: &Claims) -> String {
        let header = self.signing_input.split('.').next().unwrap_or_default();
        let payload = URL_SAFE_NO_PAD.encode(claims.to_json());
        let signature = URL_SAFE_NO_PAD.encode(&self.signature);
        format!("{header}.{payload}.{signature}")
    }
}

/// Whether `hash` is the `at_hash` of this access token under RS256: the left half of its SHA-256
/// (OpenID Connect Core §3.1.3.6).
pub(crate) fn is_hash_of(hash: &str, access_token: &str) -> bool {
    let digest = Sha256::digest(access_token.as_bytes());
    let half = digest.get(..16).unwrap_or_default();
    decode(hash).is_ok_and(|found| bool::from(found.ct_eq(half)))
}

/// The keys that PSC signs with.
#[derive(Clone, Default)]
pub(crate) struct SigningKeys(Vec<CoreJsonWebKey>);

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

impl SigningKeys {
    const MOST: usize = 64;
    /// RFC 7518 §3.3: RSA keys of 2048 bits or more. The library takes up to 4096.
    const SHORTEST_MODULUS: usize = 256;

    /// The RSA signing keys of a JWK set (RFC 7517 §5); keys for other uses are passed over.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, &'static str> {
        let set: Value = serde_json::from_slice(json).map_err(|_| "not JSON")?;
        let keys = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or("`keys` is missing")?;
        if keys.len() > Self::MOST {
            return Err("too many keys");
        }
        let usable: Vec<CoreJsonWebKey> = keys.iter().filter_map(signing_key).collect();
        if usable.is_empty() {
            return Err("there is no RSA signing key");
        }
        Ok(Self(usable))
    }

    fn with_id<'k, 'i>(
        &'k self,
        kid: &'i str,
    ) -> impl Iterator<Item = &'k CoreJsonWebKey> + use<'k, 'i> {
        self.0
            .iter()
            .filter(move |key| key.key_id().is_some_and(|id| id.as_str() == kid))
    }

    pub(crate) fn knows(&self, kid: &str) -> bool {
        self.with_id(kid).next().is_some()
    }
}

fn signing_key(jwk: &Value) -> Option<CoreJsonWebKey> {
    let is = |name: &str, wanted: &str| match jwk.get(name) {
        None => true,
        Some(value) => value.as_str() == Some(wanted),
    };
    let rsa = jwk.get("kty").and_then(Value::as_str) == Some("RSA");
    if !rsa || !is("use", "sig") || !is("alg", "RS256") {
        return None;
    }
    let modulus = decode(jwk.get("n")?.as_str()?).ok()?;
    let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
    if significant < SigningKeys::SHORTEST_MODULUS {
        return None;
    }
    serde_json::from_value(jwk.clone()).ok()
}

fn decode(segment: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD
        .decode(segment)
        .map_err(|_| TokenFault::NotJws("not base64url"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn token(header: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", encode(header), encode("{}"), encode("s"))
    }

    fn fault(token: &str) -> Option<TokenFault> {
        Jws::parse(token).err()
    }

    #[test]
    fn algorithms_other_than_rs256_are_refused_before_any_key_is_looked_for() {
        for algorithm in ["none", "None", "HS256", "RS512", "PS256", "ES256", "rs256"] {
            let header = format!(r#"{{"alg":"{algorithm}","kid":"k"}}"#);
            assert_eq!(
                fault(&token(&header)),
                Some(TokenFault::Algorithm(Said::new(algorithm)))
            );
        }
    }

    #[test]
    fn critical_extensions_missing_kid_and_two_algorithms_are_refused() {
        assert!(fault(&token(r#"{"alg":"RS256","kid":"k"}"#)).is_none());
        assert!(fault(&token(r#"{"alg":"RS256","kid":"k","crit":["b64"]}"#)).is_some());
        assert!(fault(&token(r#"{"alg":"RS256"}"#)).is_some());
        assert!(fault(&token(r#"{"alg":"none","kid":"k","alg":"RS256"}"#)).is_some());
    }

    #[test]
    fn two_four_or_five_segments_are_refused() {
        for count in [1, 2, 4, 5] {
            let segments = vec!["e30"; count].join(".");
            assert!(matches!(fault(&segments), Some(TokenFault::NotJws(_))));
        }
    }

    #[test]
    fn a_token_above_the_cap_is_not_decoded() {
        let long = "e".repeat(TOKEN_LIMIT + 1);
        assert!(matches!(fault(&long), Some(TokenFault::TooLong { .. })));
    }

    #[test]
    fn keys_for_encryption_short_keys_and_other_kinds_are_passed_over() {
        let modulus = URL_SAFE_NO_PAD.encode([0xC5_u8; 256]);
        let short = URL_SAFE_NO_PAD.encode([0xC5_u8; 128]);
        let padded_short = {
            let mut bytes = vec![0_u8; 128];
            bytes.extend([0xC5_u8; 128]);
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let json = format!(
            r#"{{"keys":[
                {{"kty":"RSA","kid":"enc","use":"enc","alg":"RSA-OAEP","n":"{modulus}","e":"AQAB"}},
                {{"kty":"RSA","kid":"short","use":"sig","alg":"RS256","n":"{short}","e":"AQAB"}},
                {{"kty":"RSA","kid":"zeros","use":"sig","alg":"RS256","n":"{padded_short}","e":"AQAB"}},
                {{"kty":"RSA","kid":"512","use":"sig","alg":"RS512","n":"{modulus}","e":"AQAB"}},
                {{"kty":"oct","kid":"oct","k":"AAAA"}},
                {{"kty":"RSA","kid":"good","use":"sig","alg":"RS256","n":"{modulus}","e":"AQAB"}}
            ]}}"#
        );
        let keys = SigningKeys::parse(json.as_bytes()).unwrap();
        assert!(keys.knows("good"));
        for kid in ["enc", "short", "zeros", "512", "oct"] {
            assert!(!keys.knows(kid), "{kid}");
        }
        assert!(SigningKeys::parse(br#"{"keys":[]}"#).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,300}") {
            let _ = Jws::parse(&text);
        }

        #[test]
        fn any_header_is_read_or_refused(header in "\\PC{0,200}") {
            let _ = Jws::parse(&token(&header));
        }

        #[test]
        fn any_key_set_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SigningKeys::parse(&bytes);
        }
    }
}
