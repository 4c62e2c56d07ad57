//! Private keys that are looked for in the memory of a gateway.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use conformance::testkit::Gateway;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use super::until;

/// Parts of a private key that nobody can guess.
pub struct Secret {
    /// As they stand in a file: as bytes, and in the base64 of PEM and of JSON.
    read: Vec<Vec<u8>>,
    /// As the library for cryptography keeps them while it signs.
    used: Vec<Vec<u8>>,
}

impl Secret {
    /// Of a key that is not encrypted, PEM.
    pub fn of_pem(pem: &str) -> Self {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let secret = Self::of_der(key.secret_der());
        secret.stands_in(pem);
        secret
    }

    /// Of the key of a record over ACME.
    pub fn of_record(record: &str) -> Self {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        let text = record["key"].as_str().unwrap();
        let secret = Self::of_der(&URL_SAFE_NO_PAD.decode(text).unwrap());
        secret.stands_in(text);
        secret
    }

    /// Its text can be found at all.
    fn stands_in(&self, text: &str) {
        let is_there = |part: &Vec<u8>| memchr::memmem::find(text.as_bytes(), part).is_some();
        assert!(self.read.iter().any(is_there), "not in the text of the key");
    }

    fn of_der(der: &[u8]) -> Self {
        // ECPrivateKey: version 1, then an OCTET STRING of 32 bytes (RFC 5915 §3).
        let scalar = memchr::memmem::find(der, &[2, 1, 1, 4, 32]).map(|at| at + 5);
        let places = match scalar {
            Some(at) => vec![at],
            // RSA 2048 (RFC 8017 §A.1.2): within the private exponent and the two primes.
            None => vec![400, 600, 750],
        };
        let mut secret = Self {
            read: Vec::new(),
            used: Vec::new(),
        };
        for at in places {
            let part = &der[at..at + 32];
            secret.read.push(part.to_vec());
            // As many characters as lie within it, and on one line of a PEM file.
            let (from, to) = (at.div_ceil(3) * 4, (at + 32) / 3 * 4);
            let line = to / 64 * 64;
            let (from, to) = match line {
                line if line <= from || line >= to => (from, to),
                line if line - from > to - line => (from, line),
                line => (line, to),
            };
            for text in [STANDARD.encode(der), URL_SAFE.encode(der)] {
                secret.read.push(text.as_bytes()[from..to].to_vec());
            }
            // Limbs of large numbers, the least significant first.
            secret.used.push(part.iter().rev().copied().collect());
        }
        secret
    }

    /// Waits until none of it stands in the memory of a gateway as it does in a file: who reads a file just now has it there.
    pub async fn leaves(&self, gateway: &Gateway, when: &str) {
        let is_gone = async || !gateway.remembers(&self.read).unwrap().contains(&true);
        until(&format!("a key that is gone from memory, {when}"), is_gone).await;
    }

    /// Whether a gateway can sign with it.
    pub fn is_used_by(&self, gateway: &Gateway) -> bool {
        gateway.remembers(&self.used).unwrap().contains(&true)
    }
}
