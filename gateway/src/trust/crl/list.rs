//! One certificate revocation list (RFC 5280 §5), read once, verified once, asked at each handshake.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use sha2::{Digest as _, Sha256};
use webpki::{BorrowedCertRevocationList, CertRevocationList};
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::super::anchors::Authority;
use super::super::der::{self, Element, Elements, Signed};
use super::super::points::full_names;

/// Bytes of a list: ten times what 100 000 entries take, rounded down.
pub const MAX_BYTES: usize = 20 << 20;
/// Bytes of a serial number (RFC 5280 §4.1.2.2 says 20), with one for the sign.
const MAX_SERIAL: usize = 21;
/// Names of its distribution point.
const MAX_NAMES: usize = 32;
/// How far ahead of this clock a list may say it was issued.
const SKEW: Duration = Duration::from_secs(3_600);

/// `id-ce-cRLNumber`, content of the OID.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];

/// Why a revocation list is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Larger than [`MAX_BYTES`].
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not a list of RFC 5280, or with something that is not supported, as a delta list.
    #[error("it is no revocation list that can be used: {0}")]
    Malformed(String),
    /// Not one of the known authorities.
    #[error("none of the authorities of `trust.authority_files` issued it")]
    UnknownIssuer,
    /// Signed by another key, or changed since.
    #[error("its signature is wrong")]
    BadSignature,
    /// Only part of what the authority issued.
    #[error("it lists only a part of the certificates of its authority")]
    Partial,
    /// Its date is ahead.
    #[error("it says it was issued in the future: check the clock of this machine")]
    Future,
    /// Older than the one in use.
    #[error("it is older than the list in use")]
    Older,
}

impl CrlError {
    /// A short, stable name for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSignature => "bad_signature",
            Self::Partial => "partial",
            Self::Future => "future",
            Self::Older => "older",
        }
    }
}

/// Which kind of certificate a list speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Everyone,
    EndEntities,
    Authorities,
}

/// Whom a list speaks of.
#[derive(Debug)]
struct Scope {
    kind: Kind,
    /// Names of its distribution point, each a GeneralName in DER: only certificates that have one of
    /// them are meant (RFC 5280 §6.3.3 (b)(2)(i)). `None` when it names none.
    names: Option<Vec<Box<[u8]>>>,
}

/// Serial numbers: contents of INTEGERs, as certificates have them.
type Serials = HashSet<Box<[u8]>>;

/// A list that an authority of this gateway signed.
#[derive(Debug)]
pub struct Crl {
    /// Common name of the authority.
    pub authority: String,
    /// When it was issued.
    pub this_update: UnixTime,
    /// When the next one is due; it counts for nothing from then on.
    pub next_update: UnixTime,
    /// SHA-256 of the bytes.
    pub fingerprint: [u8; 32],
    /// CRL number, big endian without leading zeros; empty when there is none.
    number: Vec<u8>,
    issuer: Vec<u8>,
    scope: Scope,
    revoked: Serials,
}

/// What a list says about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trust) enum Said {
    Good,
    Revoked,
    /// It does not speak of this certificate: of another kind, or of another distribution point.
    Nothing,
}

impl Crl {
    /// Reads a list, DER or PEM, and verifies that one of these authorities signed it. This takes tenths of a second for
    /// 100 000 entries: call it where waiting is allowed.
    ///
    /// # Errors
    /// [`CrlError`], for every reason but [`CrlError::Older`].
    pub fn parse(
        bytes: &[u8],
        authorities: &[Arc<Authority>],
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<Self, CrlError> {
        if bytes.len() > MAX_BYTES {
            return Err(CrlError::TooLarge);
        }
        let unwrapped;
        let der = match bytes.first() {
            Some(&der::SEQUENCE) => bytes,
            _ => {
                unwrapped = unwrap_pem(bytes)?;
                &unwrapped
            }
        };
        let signed = Signed::parse(der).ok_or_else(|| malformed("not DER"))?;
        let head = Head::parse(signed.content).ok_or_else(|| malformed("unexpected fields"))?;
        let mut issuers = authorities
            .iter()
            .filter(|authority| authority.subject == head.issuer)
            .peekable();
        if issuers.peek().is_none() {
            return Err(CrlError::UnknownIssuer);
        }
        let authority: &Authority = issuers
            .find(|authority| signed.is_signed_by(&authority.spki, known))
            .ok_or(CrlError::BadSignature)?;
        if head.this_update.as_secs() > now.as_secs().saturating_add(SKEW.as_secs()) {
            return Err(CrlError::Future);
        }
        let (scope, revoked) = contents(der)?;
        Ok(Self {
            authority: authority.common_name.clone(),
            this_update: head.this_update,
            next_update: head.next_update,
            fingerprint: Sha256::digest(bytes).into(),
            number: head.number.to_vec(),
            issuer: head.issuer.to_vec(),
            scope,
            revoked,
        })
    }

    /// How many certificates it lists.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.revoked.len()
    }

    /// Subject of its authority (content, DER).
    pub(super) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// Whether it is past its `nextUpdate`.
    #[must_use]
    pub fn is_expired_at(&self, now: UnixTime) -> bool {
        now >= self.next_update
    }

    /// Whether it may take the place of another of the same authority (RFC 5280 §5.2.3: numbers
    /// never go down).
    pub(in crate::trust) fn may_replace(&self, other: &Self) -> bool {
        let age = |list: &Self| (list.number.len(), list.number.clone());
        match age(self).cmp(&age(other)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => self.this_update >= other.this_update,
            std::cmp::Ordering::Greater => true,
        }
    }

    /// What it says about a certificate of its authority with this serial number (content of the
    /// INTEGER) and these names of distribution points ([`super::super::points::names`]).
    pub(in crate::trust) fn says(
        &self,
        serial: &[u8],
        of_authority: bool,
        points: &[&[u8]],
    ) -> Said {
        if self.revoked.contains(serial) {
            Said::Revoked
        } else if self.scope.has(of_authority, points) {
            Said::Good
        } else {
            Said::Nothing
        }
    }
}

impl Scope {
    /// A list without the extension speaks of every certificate of its authority.
    const WHOLE: Self = Self {
        kind: Kind::Everyone,
        names: None,
    };

    /// Whether a certificate is in it (RFC 5280 §6.3.3 (b)(2)).
    fn has(&self, is_authority: bool, points: &[&[u8]]) -> bool {
        let kind = match self.kind {
            Kind::Everyone => true,
            Kind::EndEntities => !is_authority,
            Kind::Authorities => is_authority,
        };
        let named = self.names.as_ref().is_none_or(|names| {
            let mut names = names.iter();
            names.any(|name| points.contains(&&**name))
        });
        kind && named
    }
}

/// What is read of a TBSCertList besides its entries (RFC 5280 §5.1).
struct Head<'a> {
    issuer: &'a [u8],
    this_update: UnixTime,
    next_update: UnixTime,
    number: &'a [u8],
}

impl<'a> Head<'a> {
    fn parse(content: &'a [u8]) -> Option<Self> {
        let mut fields = Elements(content);
        fields.expect(der::INTEGER)?;
        fields.expect(der::SEQUENCE)?;
        let issuer = fields.expect(der::SEQUENCE)?.content;
        let this_update = time(fields.next()?)?;
        let next_update = time(fields.next()?)?;
        let mut number: &[u8] = &[];
        for field in fields {
            // [0] EXPLICIT Extensions
            if field.tag != 0xa0 {
                continue;
            }
            for extension in Elements(Elements(field.content).expect(der::SEQUENCE)?.content) {
                let mut parts = Elements(extension.content);
                if parts.expect(der::OID)?.content == CRL_NUMBER {
                    let value = parts.find(|part| part.tag == der::OCTET_STRING)?;
                    let mut digits = Elements(value.content).expect(der::INTEGER)?.content;
                    while let Some((0, rest)) = digits.split_first() {
                        digits = rest;
                    }
                    number = digits;
                }
            }
        }
        Some(Self {
            issuer,
            this_update,
            next_update,
            number,
        })
    }
}

/// Whom it speaks of, and the serial numbers on it. webpki reads all of it, strictly: version, dates,
/// extensions, entries.
fn contents(der: &[u8]) -> Result<(Scope, Serials), CrlError> {
    let strict = BorrowedCertRevocationList::from_der(der).map_err(malformed)?;
    let mut revoked = Serials::new();
    for entry in &strict {
        let serial = entry.map_err(malformed)?.serial_number;
        if serial.len() > MAX_SERIAL {
            return Err(malformed("a serial number is too long"));
        }
        revoked.insert(serial.into());
    }
    let scope = match CertRevocationList::from(strict).issuing_distribution_point() {
        None => Scope::WHOLE,
        Some(point) => scope(point)?,
    };
    Ok((scope, revoked))
}

/// Reads a list, DER, without asking who signed it, and counts its entries: for fuzzing.
///
/// # Errors
/// When it is no list that can be used.
pub fn inspect(der: &[u8]) -> Result<usize, CrlError> {
    let signed = Signed::parse(der).ok_or_else(|| malformed("not DER"))?;
    Head::parse(signed.content).ok_or_else(|| malformed("unexpected fields"))?;
    let (_, revoked) = contents(der)?;
    Ok(revoked.len())
}

/// UTCTime or GeneralizedTime.
fn time(element: Element<'_>) -> Option<UnixTime> {
    let (_, time) = ASN1Time::from_der(element.whole).ok()?;
    let seconds = u64::try_from(time.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// RFC 5280 §5.2.5.
fn scope(point: &[u8]) -> Result<Scope, CrlError> {
    // webpki gives the content of the extension: with or without its SEQUENCE.
    let mut whole = Elements(point);
    let content = match whole.expect(der::SEQUENCE) {
        Some(sequence) if whole.is_done() => sequence.content,
        _ => point,
    };
    let mut scope = Scope::WHOLE;
    for field in Elements(content) {
        let set = field.content.first().is_some_and(|byte| *byte != 0);
        match field.tag {
            // distributionPoint
            0xa0 => {
                let names = full_names(field.content)
                    .filter(|names| names.len() <= MAX_NAMES)
                    .ok_or_else(|| malformed("the name of its distribution point"))?;
                scope.names = Some(names.into_iter().map(Box::from).collect());
            }
            // onlyContainsUserCerts, onlyContainsCACerts
            0x81 if set => scope.kind = Kind::EndEntities,
            0x82 if set => scope.kind = Kind::Authorities,
            0x81 | 0x82 => {}
            // onlySomeReasons, indirectCRL, onlyContainsAttributeCerts
            0x84 | 0x85 if !set => {}
            _ => return Err(CrlError::Partial),
        }
    }
    Ok(scope)
}

fn unwrap_pem(bytes: &[u8]) -> Result<Vec<u8>, CrlError> {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
    let found = sections.find_map(|section| match section {
        Ok((SectionKind::Crl, der)) => Some(der),
        _ => None,
    });
    found.ok_or_else(|| malformed("neither DER nor PEM"))
}

fn malformed(reason: impl ToString) -> CrlError {
    CrlError::Malformed(reason.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = match length {
            [0, short @ ..=0x7f] => vec![tag, short],
            [0, long] => vec![tag, 0x81, long],
            [high, low] => vec![tag, 0x82, high, low],
        };
        [head, content.to_vec()].concat()
    }

    /// `[0] { fullName }` of these addresses.
    fn point(urls: &[&str]) -> Vec<u8> {
        let names = urls.iter().map(|url| element(0x86, url.as_bytes()));
        element(0xa0, &element(0xa0, &names.collect::<Vec<_>>().concat()))
    }

    /// A list without entries and with a signature of nobody, its extensions besides the number being
    /// these: last byte of the OID 2.5.29, criticality, content.
    fn list(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
        // ecdsa-with-SHA256
        let algorithm = element(
            der::SEQUENCE,
            &element(der::OID, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
        );
        let name = element(der::OID, &[0x55, 4, 3]);
        let name = [name, element(0x0c, b"AC")].concat();
        let name = element(
            der::SEQUENCE,
            &element(0x31, &element(der::SEQUENCE, &name)),
        );
        let time = |text: &str| element(0x17, text.as_bytes());
        let extension = |last: u8, critical: bool, content: &[u8]| {
            let critical = if critical { &[1, 1, 0xff][..] } else { &[] };
            let oid = element(der::OID, &[0x55, 0x1d, last]);
            let value = element(der::OCTET_STRING, content);
            element(der::SEQUENCE, &[&oid, critical, &value].concat())
        };
        let mut all = extension(20, false, &[2, 1, 10]);
        for (last, content) in extensions {
            all.extend(extension(*last, true, content));
        }
        let content = [
            element(der::INTEGER, &[1]),
            algorithm.clone(),
            name,
            time("261001000000Z"),
            time("261007000000Z"),
            element(0xa0, &element(der::SEQUENCE, &all)),
        ];
        let content = element(der::SEQUENCE, &content.concat());
        let signature = element(der::BIT_STRING, &[0; 9]);
        element(der::SEQUENCE, &[content, algorithm, signature].concat())
    }

    /// As [`list`], with an IssuingDistributionPoint of these fields.
    fn part(fields: &[Vec<u8>]) -> Vec<u8> {
        list(&[(28, element(der::SEQUENCE, &fields.concat()))])
    }

    #[test]
    fn what_speaks_of_a_part_of_the_reasons_or_of_other_authorities_is_refused() {
        let here = point(&["http://crl.example/a.crl"]);
        assert_eq!(inspect(&list(&[])), Ok(0));
        assert_eq!(inspect(&part(std::slice::from_ref(&here))), Ok(0));
        for (what, bad) in [
            ("a delta list", list(&[(27, vec![2, 1, 9])])),
            (
                "onlySomeReasons",
                part(&[here.clone(), element(0x83, &[1, 0x40])]),
            ),
            ("indirectCRL", part(&[here.clone(), element(0x84, &[0xff])])),
            (
                "onlyContainsAttributeCerts",
                part(&[here.clone(), element(0x85, &[0xff])]),
            ),
            (
                "a name relative to the issuer",
                part(&[element(0xa0, &element(0xa1, &element(der::SEQUENCE, &[])))]),
            ),
            (
                "a point without name",
                part(&[element(0xa0, &element(0xa0, &[]))]),
            ),
            (
                "too many names",
                part(&[point(&["http://crl.example/"; MAX_NAMES + 1])]),
            ),
        ] {
            assert!(
                matches!(
                    inspect(&bad),
                    Err(CrlError::Malformed(_) | CrlError::Partial)
                ),
                "{what}: {:?}",
                inspect(&bad)
            );
        }
    }

    #[test]
    fn the_extension_alone_refuses_what_it_does_not_know() {
        for (tag, content) in [
            (0x83, &[1, 0x40][..]),
            (0x84, &[0xff]),
            (0x85, &[0xff]),
            (0x86, &[0]),
        ] {
            let refused = scope(&element(der::SEQUENCE, &element(tag, content)));
            assert_eq!(refused.err(), Some(CrlError::Partial), "{tag:#x}");
        }
    }

    #[test]
    fn a_list_speaks_of_the_certificates_that_have_one_of_its_names() {
        let two = point(&["http://crl.example/a.crl", "ldap://crl.example/a"]);
        let (scope, _) = contents(&part(&[two])).unwrap();
        let name = |url: &str| element(0x86, url.as_bytes());
        let http = name("http://crl.example/a.crl");
        let ldap = name("ldap://crl.example/a");
        let other = name("http://crl.example/b.crl");
        for is_authority in [true, false] {
            assert!(scope.has(is_authority, &[&other, &ldap]));
            assert!(scope.has(is_authority, &[&http]));
            assert!(!scope.has(is_authority, &[&other]));
            assert!(!scope.has(is_authority, &[]));
            assert!(Scope::WHOLE.has(is_authority, &[]));
        }
    }
}
