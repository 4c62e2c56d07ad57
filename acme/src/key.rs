//! Private keys: no copy of one stays in memory once it is dropped, as far as the library for cryptography wipes what it
//! frees: aws-lc does, ring (0.17) does not.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::failure::{Cause, Failure};

/// The kind of key of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// ECDSA on P-256: small and fast; every browser of the last ten years knows it.
    #[default]
    P256,
    /// RSA of 2048 bits, for older clients. Such keys can be made with aws-lc-rs only, not with ring.
    Rsa2048,
}

/// A private key (RFC 5958, `PrivateKeyInfo`), wiped from memory when it is dropped; base64url in a record.
#[derive(Clone, Default)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// The key of this DER document, which is not looked at before it is used.
    #[must_use]
    pub fn from_pkcs8(der: &[u8]) -> Self {
        Self(Zeroizing::new(der.to_vec()))
    }

    /// A new one. Takes up to a second for RSA.
    pub(crate) fn generate(kind: KeyType) -> Result<Self, Failure> {
        let made = match kind {
            KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyType::Rsa2048 => KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256),
        };
        let key = Zeroizing::new(made.map_err(|error| {
            Failure::new(Cause::Store, &format!("no key can be made: {error}"))
        })?);
        Ok(Self::from_pkcs8(key.serialized_der()))
    }

    /// As rustls takes it.
    #[must_use]
    pub fn to_der(&self) -> Zeroizing<PrivateKeyDer<'static>> {
        let copy = self.0.to_vec();
        Zeroizing::new(PrivatePkcs8KeyDer::from(copy).into())
    }

    /// For those who keep no copy of it.
    pub(crate) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'_> {
        self.0.as_slice().into()
    }

    /// What signs with it.
    pub(crate) fn pair(&self) -> Result<Zeroizing<KeyPair>, rcgen::Error> {
        KeyPair::try_from(&self.pkcs8()).map(Zeroizing::new)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(&*self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64)
    }
}

/// Reads a key where its text stands. No character of base64url is escaped in JSON: no copy is made for that.
struct Base64;

impl Visitor<'_> for Base64 {
    type Value = PrivateKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a private key in base64url")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PrivateKey, E> {
        let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        match BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut der) {
            Ok(length) => {
                der.truncate(length);
                Ok(PrivateKey(der))
            }
            Err(_) => Err(E::custom("not a private key in base64url")),
        }
    }
}

/// A record with keys, in JSON.
///
/// # Errors
/// Those of [`serde_json`].
pub(crate) fn record(value: &impl Serialize) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut out = Wiped::default();
    serde_json::to_writer(&mut out, value)?;
    Ok(out.0)
}

/// Bytes that leave no copy behind when they grow.
#[derive(Default)]
struct Wiped(Zeroizing<Vec<u8>>);

impl io::Write for Wiped {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + more.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * needed).max(4096)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_record_and_what_is_none_does_not() {
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let text = record(&[&key, &key]).unwrap();
        let [first, second]: [PrivateKey; 2] = serde_json::from_slice(&text).unwrap();
        assert_eq!(first.0, key.0);
        assert!(second.pair().is_ok());
        assert!(serde_json::from_str::<PrivateKey>("\"not base64!\"").is_err());
        assert!(PrivateKey::from_pkcs8(b"no key").pair().is_err());
        assert_eq!(format!("{key:?}"), "PrivateKey");
    }

    #[test]
    fn a_record_larger_than_any_guess_is_whole() {
        let values: Vec<String> = (0..2000).map(|number: u32| number.to_string()).collect();
        assert_eq!(
            *record(&values).unwrap(),
            serde_json::to_vec(&values).unwrap()
        );
    }
}
