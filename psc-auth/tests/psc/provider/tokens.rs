//! Signs tokens with a key made for this run, or in the ways that must be refused.

use std::sync::OnceLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signer {
    #[default]
    Good,
    /// `alg: none`, no signature.
    Unsigned,
    /// HS256 with the public modulus as secret: the confusion of algorithms.
    HmacWithPublicKey,
    /// Another RSA key under the known `kid`.
    OtherKey,
    /// The right key under a `kid` that is not published.
    UnknownKid,
    /// Header type of an access token profile.
    AccessTokenType,
}

fn keys() -> &'static [KeyPair; 2] {
    static KEYS: OnceLock<[KeyPair; 2]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let make = || KeyPair::generate(KeySize::Rsa2048).unwrap();
        [make(), make()]
    })
}

struct Public {
    n: Vec<u8>,
    e: Vec<u8>,
}

/// From the RSAPublicKey of RFC 8017 §A.1.1: nine bytes stand before a modulus of 2048 bits, two before the exponent.
fn public() -> Public {
    let der = keys()[0].public_key().as_ref();
    Public {
        n: der[9..265].to_vec(),
        e: der[267..].to_vec(),
    }
}

pub fn jwks(kid: &str) -> Value {
    let public = public();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"keys": [
        {"kty": "RSA", "kid": "encryption", "use": "enc", "alg": "RSA-OAEP", "n": encode(&public.n), "e": encode(&public.e)},
        {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": encode(&public.n), "e": encode(&public.e), "x5c": ["x"]},
    ]})
}

pub fn sign(payload: &str, signer: Signer, kid: &str) -> String {
    let (alg, typ) = match signer {
        Signer::Unsigned => ("none", "JWT"),
        Signer::HmacWithPublicKey => ("HS256", "JWT"),
        Signer::AccessTokenType => ("RS256", "at+jwt"),
        _ => ("RS256", "JWT"),
    };
    let kid = if signer == Signer::UnknownKid {
        "not-published"
    } else {
        kid
    };
    let header = json!({"alg": alg, "typ": typ, "kid": kid}).to_string();
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = match signer {
        Signer::Unsigned => Vec::new(),
        Signer::HmacWithPublicKey => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &public().n);
            hmac::sign(&key, input.as_bytes()).as_ref().to_vec()
        }
        Signer::OtherKey => rsa(&keys()[1], input.as_bytes()),
        _ => rsa(&keys()[0], input.as_bytes()),
    };
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn rsa(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    )
    .unwrap();
    signature
}
