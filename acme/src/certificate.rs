//! A certificate with its key, and what it must be to be used.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::clock::UnixTime;
use crate::key::PrivateKey;
use crate::name::DnsName;
use crate::schedule::Validity;

/// Certificates in a chain at most.
const MAX_CHAIN: usize = 8;

/// A certificate in use or about to be: the chain, in PEM, and the private key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Issued {
    /// Directory of the authority that issued it; empty for one that was bought.
    pub directory: String,
    /// URL of the order it came from; empty for one that was bought.
    #[serde(default)]
    pub order: String,
    /// The certificate first, then its intermediates.
    pub chain_pem: String,
    /// Its private key.
    pub key: PrivateKey,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Why a certificate cannot be used for its name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotUsable {
    /// Not PEM, not X.509, or no certificate at all.
    #[error("the chain cannot be read: {0}")]
    Unreadable(String),
    /// It is for other names, or for more than the one.
    #[error("the certificate is for {found:?} instead of {wanted} alone")]
    Names {
        /// The one name.
        wanted: String,
        /// The names in it.
        found: Vec<String>,
    },
    /// Its public key is not that of the private key.
    #[error("the certificate is for another key")]
    Key,
    /// It is over.
    #[error("the certificate has expired")]
    Expired,
}

impl Issued {
    /// When its certificate is valid.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub fn validity(&self) -> Result<Validity, NotUsable> {
        let chain = self.chain()?;
        with_leaf(&chain, |leaf| Ok(validity(leaf)))
    }

    /// The certificates, the leaf first.
    ///
    /// # Errors
    /// When the chain cannot be read, is empty or too long.
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, NotUsable> {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes())
            .take(MAX_CHAIN + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| NotUsable::Unreadable(error.to_string()))?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            let found = format!("it holds {} certificates", chain.len());
            return Err(NotUsable::Unreadable(found));
        }
        Ok(chain)
    }

    /// Checks that it may be put in service for `name` at `now`: that name and no other, the key that goes with it,
    /// not expired. `not_before` may lie a little ahead: clocks differ.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, name: &DnsName, now: UnixTime) -> Result<Validity, NotUsable> {
        let chain = self.chain()?;
        with_leaf(&chain, |leaf| {
            let found = names(leaf);
            if found.len() != 1
                || !found
                    .iter()
                    .all(|one| one.eq_ignore_ascii_case(name.as_str()))
            {
                return Err(NotUsable::Names {
                    wanted: name.to_string(),
                    found,
                });
            }
            let key = self.key.pair().map_err(|_| NotUsable::Key)?;
            let public = rcgen::PublicKeyData::subject_public_key_info(&*key);
            if leaf.public_key().raw != public {
                return Err(NotUsable::Key);
            }
            let validity = validity(leaf);
            if validity.left(now).is_zero() {
                return Err(NotUsable::Expired);
            }
            Ok(validity)
        })
    }
}

/// The request for a certificate (RFC 2986): the name as the only dNSName, an empty subject.
pub(crate) fn request(name: &DnsName, key: &PrivateKey) -> Result<Vec<u8>, rcgen::Error> {
    let key = key.pair()?;
    let mut params = CertificateParams::new(vec![name.as_str().to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&*key)?.der().to_vec())
}

/// The common name of the issuer of a chain's last certificate.
pub(crate) fn topmost_issuer(chain_pem: &str) -> Option<String> {
    let last = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .take(MAX_CHAIN)
        .last()?
        .ok()?;
    let (_, certificate) = X509Certificate::from_der(&last).ok()?;
    let name = certificate.issuer().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn with_leaf<T>(
    chain: &[CertificateDer<'_>],
    look: impl FnOnce(&X509Certificate<'_>) -> Result<T, NotUsable>,
) -> Result<T, NotUsable> {
    let unreadable = |reason: String| NotUsable::Unreadable(reason);
    let leaf = chain
        .first()
        .ok_or_else(|| unreadable("it is empty".to_owned()))?;
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    look(&leaf)
}

fn validity(leaf: &X509Certificate<'_>) -> Validity {
    Validity {
        not_before: UnixTime::from_timestamp(leaf.validity().not_before.timestamp()),
        not_after: UnixTime::from_timestamp(leaf.validity().not_after.timestamp()),
    }
}

/// What the subject alternative names of a certificate are; a name of another kind shows as such.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    let shown = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => format!("{other:?}"),
    };
    extension.value.general_names.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::key::KeyType;

    fn issued(names: &[&str], key: &PrivateKey, other: Option<&PrivateKey>) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let pair = key.pair().unwrap();
        Issued {
            directory: String::new(),
            order: String::new(),
            chain_pem: params.self_signed(&*pair).unwrap().pem(),
            key: other.unwrap_or(key).clone(),
        }
    }

    #[test]
    fn only_a_certificate_for_the_one_name_and_the_own_key_is_used() {
        let name = DnsName::parse("vi1.centre.example").unwrap();
        let now = UnixTime::from_secs(1_769_000_000);
        let key = PrivateKey::generate(KeyType::P256).unwrap();
        let good = issued(&["vi1.centre.example"], &key, None);
        assert!(good.check(&name, now).is_ok());

        let more = issued(&["vi1.centre.example", "vi2.centre.example"], &key, None);
        assert!(matches!(
            more.check(&name, now),
            Err(NotUsable::Names { .. })
        ));
        let wild = issued(&["*.centre.example"], &key, None);
        assert!(matches!(
            wild.check(&name, now),
            Err(NotUsable::Names { .. })
        ));
        let other = PrivateKey::generate(KeyType::P256).unwrap();
        let foreign = issued(&["vi1.centre.example"], &key, Some(&other));
        assert_eq!(foreign.check(&name, now), Err(NotUsable::Key));
        let late = UnixTime::from_secs(1_800_000_000);
        assert_eq!(good.check(&name, late), Err(NotUsable::Expired));
    }

    #[test]
    fn a_request_names_the_one_name_and_no_subject() {
        let name = DnsName::parse("vi1.centre.example").unwrap();
        for kind in [KeyType::P256, KeyType::Rsa2048] {
            let key = PrivateKey::generate(kind).unwrap();
            let der = request(&name, &key).unwrap();
            use x509_parser::prelude::{ParsedExtension, X509CertificationRequest};
            let (_, csr) = X509CertificationRequest::from_der(&der).unwrap();
            assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
            let names: Vec<_> = csr
                .requested_extensions()
                .unwrap()
                .filter_map(|extension| match extension {
                    ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                    _ => None,
                })
                .flatten()
                .collect();
            assert_eq!(names, [&GeneralName::DNSName("vi1.centre.example")]);
        }
    }
}
