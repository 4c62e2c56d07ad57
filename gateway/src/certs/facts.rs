//! What a certificate says of itself.

use std::fmt::Write as _;

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use super::structure::StructureId;

/// Names kept of one certificate.
const MAX_NAMES: usize = 100;

/// What a certificate says of itself; nothing here is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Subject, most specific attribute first, as the white list writes it.
    pub subject: String,
    /// First CN of the subject.
    pub common_name: Option<String>,
    /// All OU of the subject.
    pub organizational_units: Vec<String>,
    /// O of the subject.
    pub organization: Option<String>,
    /// ST of the subject: the department.
    pub state: Option<String>,
    /// Host names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// CN of the issuer, or all of its name.
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// First instant of its validity.
    pub not_before: OffsetDateTime,
    /// Last instant of its validity.
    pub not_after: OffsetDateTime,
    /// Extended key usages, by name; empty: any use.
    pub usages: Vec<String>,
    /// Key: `RSA-2048`, `P-256`…
    pub key: String,
}

/// A certificate that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate (X.509)")]
pub struct NotACertificate;

impl Facts {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`NotACertificate`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, NotACertificate> {
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| NotACertificate)?;
        if !rest.is_empty() {
            return Err(NotACertificate);
        }
        let subject = parsed.subject();
        let issuer = parsed.issuer();
        let validity = parsed.validity();
        Ok(Self {
            subject: readable(subject),
            common_name: texts(subject.iter_common_name()).into_iter().next(),
            organizational_units: texts(subject.iter_organizational_unit()),
            organization: texts(subject.iter_organization()).into_iter().next(),
            state: texts(subject.iter_state_or_province()).into_iter().next(),
            dns_names: dns_names(&parsed),
            issuer: texts(issuer.iter_common_name())
                .into_iter()
                .next()
                .unwrap_or_else(|| readable(issuer)),
            serial: hex(parsed.raw_serial()),
            fingerprint: hex(&Sha256::digest(certificate)),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
            usages: usages(&parsed),
            key: key(&parsed),
        })
    }

    /// The structure it was given to.
    #[must_use]
    pub fn structure(&self) -> Option<StructureId> {
        self.organizational_units
            .iter()
            .find_map(|unit| StructureId::parse(unit))
    }

    /// Whether it is for a host: a name of its alternative names, one label of which may be `*`
    /// (RFC 6125 §6.4), or, without any, its CN, as IGC Santé certificates may have it.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        if self.dns_names.is_empty() {
            return self
                .common_name
                .as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(host));
        }
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.dns_names.iter().any(|name| {
            let wildcard = name.strip_prefix("*.");
            name.eq_ignore_ascii_case(host)
                || wildcard.is_some_and(|w| parent.is_some_and(|p| p.eq_ignore_ascii_case(w)))
        })
    }

    /// Whether it comes from the test branch of IGC Santé, whose names say so.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.issuer.starts_with("TEST ")
    }

    /// Whether it may be put in service at `now`.
    ///
    /// # Errors
    /// Why not, as the end of a sentence about it.
    pub fn in_date(&self, now: OffsetDateTime) -> Result<(), &'static str> {
        match () {
            () if self.not_after < now => Err("is out of date"),
            () if self.not_before > now => Err("is not valid yet"),
            () => Ok(()),
        }
    }

    /// Whole days until it expires at `now`; negative after.
    #[must_use]
    pub fn days_left(&self, now: OffsetDateTime) -> i64 {
        (self.not_after - now).whole_seconds().div_euclid(86_400)
    }

    /// How much of its life is over at `now`, from 0 to 1; beyond: expired.
    #[must_use]
    pub fn age(&self, now: OffsetDateTime) -> f64 {
        let life = (self.not_after - self.not_before).as_seconds_f64();
        if life <= 0.0 {
            return f64::INFINITY;
        }
        (now - self.not_before).as_seconds_f64() / life
    }
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes
        .filter_map(|attribute| attribute.as_str().ok())
        .take(MAX_NAMES)
        .map(str::to_owned)
        .collect()
}

/// A name with its most specific attribute first (RFC 4514 §2.1), without escapes.
fn readable(name: &X509Name<'_>) -> String {
    let mut attributes: Vec<String> = name
        .iter_attributes()
        .take(MAX_NAMES)
        .map(|attribute| {
            let kind = attribute.attr_type();
            let known =
                x509_parser::objects::oid2abbrev(kind, x509_parser::objects::oid_registry());
            let value = attribute.as_str().unwrap_or("?");
            match known {
                Ok(known) => format!("{known}={value}"),
                Err(_) => format!("{}={value}", kind.to_id_string()),
            }
        })
        .collect();
    attributes.reverse();
    attributes.join(",")
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match **bytes {
                [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
                _ => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            },
            _ => None,
        })
        .take(MAX_NAMES)
        .collect()
}

fn usages(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let usage = usage.value;
    let named = [
        (usage.any, "anyExtendedKeyUsage"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let named = named.into_iter().filter(|(has, _)| *has);
    let others = usage.other.iter().take(MAX_NAMES);
    named
        .map(|(_, name)| name.to_owned())
        .chain(others.map(|oid| oid.to_id_string()))
        .collect()
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA-{}", rsa.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            // x509-parser rounds the size of a coordinate to bytes.
            528 => "P-521".to_owned(),
            bits => format!("P-{bits}"),
        },
        _ => key.algorithm.algorithm.to_id_string(),
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::certs::testdata::{Profile, certificate};

    #[test]
    fn an_igc_like_certificate_is_read() {
        let profile = Profile {
            common_name: "db3.test.exemple.fr",
            unit: Some("318751275100020"),
            ..Profile::default()
        };
        let facts = Facts::of(&certificate(&profile).0).unwrap();
        assert_eq!(facts.common_name.as_deref(), Some("db3.test.exemple.fr"));
        assert_eq!(
            facts.structure().unwrap().to_string(),
            "SIRET 18751275100020"
        );
        assert!(
            facts
                .subject
                .starts_with("CN=db3.test.exemple.fr,OU=318751275100020,")
        );
        assert_eq!(facts.key, "P-256");
        assert_eq!(facts.fingerprint.len(), 64);
        assert!(
            facts.covers("DB3.test.exemple.fr"),
            "a CN without any alternative name counts"
        );
        assert!(!facts.covers("db4.test.exemple.fr"));
    }

    #[test]
    fn alternative_names_count_alone_when_there_are_any() {
        let profile = Profile {
            common_name: "a.exemple.fr",
            names: &["b.exemple.fr", "*.exemple.org"],
            ..Profile::default()
        };
        let facts = Facts::of(&certificate(&profile).0).unwrap();
        assert!(!facts.covers("a.exemple.fr"));
        assert!(facts.covers("B.exemple.fr"));
        assert!(facts.covers("www.exemple.org"));
        assert!(!facts.covers("exemple.org") && !facts.covers("a.b.exemple.org"));
    }

    #[test]
    fn days_and_age_follow_the_clock() {
        let profile = Profile::default();
        let facts = Facts::of(&certificate(&profile).0).unwrap();
        let day = time::Duration::DAY;
        assert_eq!(facts.days_left(facts.not_after), 0);
        assert_eq!(facts.days_left(facts.not_after - day * 15), 15);
        assert_eq!(
            facts.days_left(facts.not_after + time::Duration::SECOND),
            -1
        );
        assert!(facts.age(facts.not_before).abs() < 1e-9);
        assert!((facts.age(facts.not_after) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_certificate_is_said() {
        let (der, _) = certificate(&Profile::default());
        assert_eq!(
            Facts::of(&CertificateDer::from(vec![])),
            Err(NotACertificate)
        );
        let cut = der.split_last().unwrap().1.to_vec();
        assert_eq!(Facts::of(&CertificateDer::from(cut)), Err(NotACertificate));
        let mut longer = der.to_vec();
        longer.push(0);
        assert_eq!(
            Facts::of(&CertificateDer::from(longer)),
            Err(NotACertificate)
        );
    }
}
