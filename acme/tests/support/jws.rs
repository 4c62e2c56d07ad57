//! Signed requests as an authority reads them (RFC 8555 §6.2, RFC 7515).

use aws_lc_rs::{digest, hmac, signature};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

/// A request whose signature is not yet checked.
pub struct Jws {
    pub header: Value,
    /// `Null` for POST-as-GET.
    pub payload: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Jws {
    pub fn read(body: &[u8]) -> Option<Self> {
        Self::of(&serde_json::from_slice(body).ok()?)
    }

    pub fn of(outer: &Value) -> Option<Self> {
        let protected = outer.get("protected")?.as_str()?;
        let payload = outer.get("payload")?.as_str()?;
        let signature = decode(outer.get("signature")?.as_str()?)?;
        Some(Self {
            header: serde_json::from_slice(&decode(protected)?).ok()?,
            payload: if payload.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&decode(payload)?).ok()?
            },
            signed: format!("{protected}.{payload}"),
            signature,
        })
    }

    pub fn text(&self, key: &str) -> &str {
        self.header
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether it is signed with this key, ES256.
    pub fn is_signed_by(&self, jwk: &Value) -> bool {
        let coordinate = |name| jwk.get(name).and_then(Value::as_str).and_then(decode);
        let (Some(x), Some(y)) = (coordinate("x"), coordinate("y")) else {
            return false;
        };
        let point: Vec<u8> = [vec![4], x, y].concat();
        let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
        self.text("alg") == "ES256" && key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Whether it is signed with this secret, HS256.
    pub fn is_signed_with(&self, secret: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        self.text("alg") == "HS256"
            && hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

/// RFC 7638 §3.
pub fn thumbprint(jwk: &Value) -> String {
    let text = |name| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
    let canonical = format!(
        r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#,
        text("crv"),
        text("kty"),
        text("x"),
        text("y")
    );
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
