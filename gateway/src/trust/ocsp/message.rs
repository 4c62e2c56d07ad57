//! Requests and answers of OCSP (RFC 6960 §4), with the exact bytes that were signed.

use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha1::{Digest as _, Sha1};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::super::anchors::{Anchors, Authority};
use super::super::crl::{Lists, Said as Listed};
use super::super::der::{
    self, ENUMERATED, Element, Elements, INTEGER, OCTET_STRING, OID, SEQUENCE, Signed,
};
use super::super::points;

/// How far ahead of this clock an answer may say it was made.
const SKEW: Duration = Duration::from_secs(300);
/// How long an answer counts that does not say it.
const WITHOUT_END: Duration = Duration::from_secs(24 * 3_600);
/// Certificates of an answer that are looked at.
const MAX_SIGNERS: usize = 4;

/// AlgorithmIdentifier of SHA-1, the one hash that every responder knows (RFC 6960 §4.3): it tells
/// which certificate is meant, and nothing rests on it.
const SHA1: &[u8] = &[
    0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00,
];
/// `id-sha1`, content of the OID.
const SHA1_OID: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// `id-pkix-ocsp-basic`, content of the OID.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Why nothing may be concluded from an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OcspError {
    /// The authority of the certificate is not one of ours.
    #[error("the authority of the certificate is not among `trust.authority_files`")]
    UnknownIssuer,
    /// It could not be fetched.
    #[error("{0}")]
    Unreachable(String),
    /// No answer of RFC 6960.
    #[error("it is no basic OCSP response")]
    Malformed,
    /// The responder does not want to answer.
    #[error("the responder answers with its status {0}")]
    NotSuccessful(u8),
    /// About another certificate.
    #[error("it says nothing of this certificate")]
    Silent,
    /// Signed by nobody who may.
    #[error(
        "neither the authority of the certificate signed it, nor a responder of this authority"
    )]
    Signature,
    /// Its time is over, or not come.
    #[error("it is not of now: check the clock of this machine")]
    NotCurrent,
}

/// What a responder says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trust) enum Status {
    Good,
    Revoked,
    Unknown,
}

impl Status {
    /// Its word in metrics.
    pub(in crate::trust) fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

/// What was said, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trust) struct Said {
    pub(in crate::trust) status: Status,
    pub(in crate::trust) this_update: UnixTime,
    pub(in crate::trust) next_update: UnixTime,
}

/// The certificate that is asked about: its authority, and how requests name it.
pub(super) struct About<'a> {
    authority: &'a Authority,
    name_hash: [u8; 20],
    key_hash: [u8; 20],
    serial: Vec<u8>,
}

impl<'a> About<'a> {
    pub(super) fn new(
        certificate: &CertificateDer<'_>,
        anchors: &'a Anchors,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<Self, OcspError> {
        let parsed = X509Certificate::from_der(certificate).ok();
        let (_, parsed) = parsed.ok_or(OcspError::UnknownIssuer)?;
        let authority = issuer(certificate, &parsed, anchors, known);
        let authority = authority.ok_or(OcspError::UnknownIssuer)?;
        let key = der::public_key(&authority.spki).ok_or(OcspError::UnknownIssuer)?;
        Ok(Self {
            authority,
            name_hash: Sha1::digest(parsed.issuer().as_raw()).into(),
            key_hash: Sha1::digest(key.1).into(),
            serial: parsed.raw_serial().to_vec(),
        })
    }

    /// An OCSPRequest about this certificate alone (§4.1.1), without extensions: answers may then come
    /// from a cache, as RFC 5019 has it.
    pub(super) fn request(&self) -> Vec<u8> {
        let id = [
            SHA1.to_vec(),
            element(OCTET_STRING, &self.name_hash),
            element(OCTET_STRING, &self.key_hash),
            element(INTEGER, &self.serial),
        ];
        // CertID, Request, requestList, TBSRequest, OCSPRequest.
        let inner = id.concat();
        (0..5).fold(inner, |inner, _| element(SEQUENCE, &inner))
    }

    /// What an answer says of this certificate.
    pub(super) fn read(
        &self,
        answer: &[u8],
        lists: &Lists,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<Said, OcspError> {
        let basic = Basic::parse(answer)?;
        if !self.signed(&basic, lists, known, now) {
            return Err(OcspError::Signature);
        }
        let mut responses = basic.responses;
        let said = responses.find_map(|one| self.said(one));
        let said = said.ok_or(OcspError::Silent)?;
        let begun = said.this_update.as_secs() <= now.as_secs().saturating_add(SKEW.as_secs());
        if begun && now < said.next_update {
            Ok(said)
        } else {
            Err(OcspError::NotCurrent)
        }
    }

    /// What a SingleResponse says, when it is about this certificate.
    fn said(&self, single: Element<'_>) -> Option<Said> {
        let single = Single::parse(single)?;
        let same = single.name_hash == self.name_hash
            && single.key_hash == self.key_hash
            && single.serial == self.serial;
        same.then_some(single.said)
    }

    /// Whether the authority signed an answer, or a responder that it made one (§4.2.2.2).
    fn signed(
        &self,
        basic: &Basic<'_>,
        lists: &Lists,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> bool {
        basic.is_signed_by(&self.authority.spki, known)
            || basic.certificates.take(MAX_SIGNERS).any(|signer| {
                self.may_answer(signer.whole, lists, known, now)
                    .is_some_and(|spki| basic.is_signed_by(&spki, known))
            })
    }

    /// The key of a responder that the authority made one, and that is in its dates and not revoked.
    fn may_answer(
        &self,
        signer: &[u8],
        lists: &Lists,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Option<Vec<u8>> {
        let (_, parsed) = X509Certificate::from_der(signer).ok()?;
        let issuer = Elements(parsed.issuer().as_raw()).next()?.content;
        let usage = parsed.extended_key_usage().ok()??.value;
        let now = i64::try_from(now.as_secs()).ok()?;
        let validity = parsed.validity();
        let in_dates =
            validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp();
        let list = lists.get(&self.authority.subject);
        let said = list.map(|list| list.says(parsed.raw_serial(), false, &points::names(&parsed)));
        let revoked = said == Some(Listed::Revoked);
        let may = issuer == self.authority.subject
            && usage.ocsp_signing
            && in_dates
            && !revoked
            && Signed::parse(signer)?.is_signed_by(&self.authority.spki, known);
        may.then(|| parsed.public_key().raw.to_vec())
    }
}

/// A SingleResponse (§4.2.1) whose certificate is named by SHA-1, as it was asked.
struct Single<'a> {
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
    said: Said,
}

impl<'a> Single<'a> {
    fn parse(single: Element<'a>) -> Option<Self> {
        let is_hash = |element: &Element<'_>| element.content.len() == 20;
        let mut fields = Elements(single.content);
        let mut id = Elements(fields.expect(SEQUENCE)?.content);
        let mut algorithm = Elements(id.expect(SEQUENCE)?.content);
        algorithm
            .expect(OID)
            .filter(|oid| oid.content == SHA1_OID)?;
        let name_hash = id.expect(OCTET_STRING).filter(is_hash)?;
        let key_hash = id.expect(OCTET_STRING).filter(is_hash)?;
        let serial = id.expect(INTEGER)?.content;
        let status = match fields.next()?.tag {
            0x80 => Status::Good,
            0xa1 => Status::Revoked,
            0x82 => Status::Unknown,
            _ => return None,
        };
        let this_update = time(fields.next()?)?;
        let next_update = match fields.expect(0xa0) {
            Some(explicit) => time(Elements(explicit.content).next()?)?,
            None => after(this_update, WITHOUT_END),
        };
        let said = Said {
            status,
            this_update,
            next_update,
        };
        Some(Self {
            name_hash: name_hash.content,
            key_hash: key_hash.content,
            serial,
            said,
        })
    }
}

/// The authority that signed a certificate.
fn issuer<'a>(
    certificate: &CertificateDer<'_>,
    parsed: &X509Certificate<'_>,
    anchors: &'a Anchors,
    known: &WebPkiSupportedAlgorithms,
) -> Option<&'a Authority> {
    let name = Elements(parsed.issuer().as_raw()).next()?.content;
    let signed = Signed::parse(certificate)?;
    let mut authorities = anchors.with_subject(name).map(AsRef::as_ref);
    authorities.find(|authority: &&Authority| signed.is_signed_by(&authority.spki, known))
}

/// A BasicOCSPResponse (§4.2.1).
pub(super) struct Basic<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    responses: Elements<'a>,
    certificates: Elements<'a>,
}

impl<'a> Basic<'a> {
    pub(super) fn parse(answer: &'a [u8]) -> Result<Self, OcspError> {
        let status = Self::status(answer).ok_or(OcspError::Malformed)?;
        if status != 0 {
            return Err(OcspError::NotSuccessful(status));
        }
        Self::body(answer).ok_or(OcspError::Malformed)
    }

    fn status(answer: &[u8]) -> Option<u8> {
        let mut fields = Elements(Elements(answer).expect(SEQUENCE)?.content);
        fields.expect(ENUMERATED)?.content.first().copied()
    }

    fn body(answer: &'a [u8]) -> Option<Self> {
        let mut fields = Elements(Elements(answer).expect(SEQUENCE)?.content);
        fields.expect(ENUMERATED)?;
        let bytes = Elements(fields.expect(0xa0)?.content).expect(SEQUENCE)?;
        let mut bytes = Elements(bytes.content);
        if bytes.expect(OID)?.content != BASIC {
            return None;
        }
        let basic = Elements(bytes.expect(OCTET_STRING)?.content).expect(SEQUENCE)?;
        let mut parts = Elements(basic.content);
        let data = parts.expect(SEQUENCE)?;
        let algorithm = parts.expect(SEQUENCE)?.content;
        let signature = der::bits(parts.expect(der::BIT_STRING)?.content)?;
        let certificates = match parts.expect(0xa0) {
            Some(explicit) => Elements(explicit.content).expect(SEQUENCE)?.content,
            None => &[],
        };
        let mut inner = Elements(data.content);
        // [0] version, then who answers ([1] by name, [2] by key), then when.
        inner.expect(0xa0);
        inner.next().filter(|who| matches!(who.tag, 0xa1 | 0xa2))?;
        inner.next()?;
        let responses = Elements(inner.expect(SEQUENCE)?.content);
        Some(Self {
            message: data.whole,
            algorithm,
            signature,
            responses,
            certificates: Elements(certificates),
        })
    }

    /// Statements about certificates that can be read.
    pub(super) fn statements(&self) -> usize {
        self.responses.filter_map(Single::parse).count()
    }

    /// Certificates of responders that can be read.
    pub(super) fn signers(&self) -> usize {
        let signers = self.certificates.take(MAX_SIGNERS);
        let read = |signer: Element<'_>| {
            let (_, parsed) = X509Certificate::from_der(signer.whole).ok()?;
            let usage = parsed.extended_key_usage().ok()??.value;
            usage
                .ocsp_signing
                .then(|| Signed::parse(signer.whole))?
                .map(drop)
        };
        signers.filter_map(read).count()
    }

    fn is_signed_by(&self, spki: &[u8], known: &WebPkiSupportedAlgorithms) -> bool {
        der::is_signature(spki, self.algorithm, self.message, self.signature, known)
    }
}

/// GeneralizedTime.
fn time(element: Element<'_>) -> Option<UnixTime> {
    let (_, time) = ASN1Time::from_der(element.whole).ok()?;
    let seconds = u64::try_from(time.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

fn after(time: UnixTime, more: Duration) -> UnixTime {
    let seconds = time.as_secs().saturating_add(more.as_secs());
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// An element of DER; what is written here is short.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut written = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => written.push(length),
        Ok(length) => written.extend([0x81, length]),
        Err(_) => {
            let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
            written.push(0x82);
            written.extend(length.to_be_bytes());
        }
    }
    written.extend_from_slice(content);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_answer_is_refused() {
        let of = |bytes: &[u8]| Basic::parse(bytes).map(drop);
        assert_eq!(of(b""), Err(OcspError::Malformed));
        assert_eq!(of(b"<html>"), Err(OcspError::Malformed));
        // tryLater, then successful without anything.
        let [later, empty] = [[0x30, 3, 0x0a, 1, 3], [0x30, 3, 0x0a, 1, 0]];
        assert_eq!(of(&later), Err(OcspError::NotSuccessful(3)));
        assert_eq!(of(&empty), Err(OcspError::Malformed));
    }

    #[test]
    fn elements_have_the_shortest_length() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1234] {
            let written = element(SEQUENCE, &vec![7; length]);
            let mut read = Elements(&written);
            let read_length = read.expect(SEQUENCE).map(|element| element.content.len());
            assert_eq!(read_length, Some(length));
            assert!(read.is_done());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Basic::parse(&bytes);
        }
    }
}
