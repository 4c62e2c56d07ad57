//! The enveloped XAdES-BASELINE-B signature of a white list (W3C XML Signature, ETSI EN 319 132-1),
//! in its two known profiles and in no other form.
//!
//! The form is compared, not interpreted: exactly the elements, references, transforms and
//! algorithms that the two profiles have. So nothing that an XML signature can also do (other
//! transforms, references elsewhere, several signatures) can move what is signed away from what is
//! read.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, alg_id};
use sha2::{Digest as _, Sha256, Sha512};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::super::der::{self, Elements};
use super::super::dn::DistinguishedName;
use super::c14n::canonical;
use super::xml::{Document, Element, Id};

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const XADES: &str = "http://uri.etsi.org/01903/v1.3.2#";
const SIGNED_PROPERTIES: &str = "http://uri.etsi.org/01903#SignedProperties";
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
const SHA512: &str = "http://www.w3.org/2001/04/xmlenc#sha512";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const FILTER: &str = "http://www.w3.org/2002/06/xmldsig-filter2";

/// Largest certificate in a signature, bytes.
const MAX_CERTIFICATE: usize = 64 << 10;

/// Why a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is none.
    #[error("the list is not signed")]
    Unsigned,
    /// More than one, or one that is not the last element of the list.
    #[error("the list must have one signature, as its last element")]
    Place,
    /// An `Id` twice.
    #[error("an identifier comes twice in the list")]
    DuplicateId,
    /// Another form than the two profiles.
    #[error("the signature is of another form than expected: {0}")]
    Form(&'static str),
    /// An algorithm that is not accepted.
    #[error("the signature uses an algorithm that is not accepted: {0}")]
    Algorithm(String),
    /// The list was changed after it was signed.
    #[error("the list was changed after it was signed")]
    Digest,
    /// The signed properties were changed.
    #[error("the properties of the signature were changed after it was made")]
    PropertiesDigest,
    /// The value of the signature is wrong.
    #[error("the signature was not made with the key of its certificate, or was changed")]
    Value,
    /// The certificate is not the one that was signed for.
    #[error("the certificate in the signature is not the one that the signer named")]
    OtherCertificate,
}

/// What a signature that holds says. Whether its certificate is to be trusted is another question.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) signing_time: OffsetDateTime,
}

/// Finds and verifies the signature of a list.
pub(super) fn verify(
    document: &Document,
    known: &WebPkiSupportedAlgorithms,
) -> Result<Signature, SignatureError> {
    let element = find(document)?;
    unique_ids(document)?;
    let parts = Parts::read(document, element)?;
    let certificate = parts.certificate(document)?;
    let (_, parsed) = X509Certificate::from_der(&certificate)
        .map_err(|_| SignatureError::Form("X509Certificate is no certificate"))?;

    let list = Sha256::digest(canonical(document, document.root(), Some(element)));
    if parts.list_digest != list.as_slice() {
        return Err(SignatureError::Digest);
    }
    let properties = Sha256::digest(canonical(document, parts.properties, None));
    if parts.properties_digest != properties.as_slice() {
        return Err(SignatureError::PropertiesDigest);
    }
    let holds = der::is_signature(
        parsed.public_key().raw,
        alg_id::RSA_PKCS1_SHA256.as_ref(),
        &canonical(document, parts.signed_info, None),
        &parts.value,
        known,
    );
    if !holds {
        return Err(SignatureError::Value);
    }
    let signing_time = same_certificate(document, parts.properties, &certificate, &parsed)?;
    Ok(Signature {
        certificate,
        signing_time,
    })
}

fn find(document: &Document) -> Result<Id, SignatureError> {
    let mut all = document.all().filter(|(_, e)| e.is(DSIG, "Signature"));
    let (id, _) = all.next().ok_or(SignatureError::Unsigned)?;
    let last = document.children(document.root()).last();
    let is_last = last.is_some_and(|(last, _)| last == id);
    if all.next().is_some() || !is_last {
        return Err(SignatureError::Place);
    }
    Ok(id)
}

/// Whatever a verifier elsewhere takes for an identifier: `Id`, `ID`, `id`, `xml:id`.
fn unique_ids(document: &Document) -> Result<(), SignatureError> {
    let mut seen = HashSet::new();
    let attributes = document.all().flat_map(|(_, element)| &element.attributes);
    let mut ids = attributes.filter(|a| a.local.eq_ignore_ascii_case("id"));
    match ids.all(|id| seen.insert(id.value.as_str())) {
        true => Ok(()),
        false => Err(SignatureError::DuplicateId),
    }
}

/// The parts of a signature of the right form.
struct Parts {
    signed_info: Id,
    list_digest: Vec<u8>,
    properties_digest: Vec<u8>,
    value: Vec<u8>,
    key_info: Id,
    properties: Id,
}

impl Parts {
    fn read(document: &Document, signature: Id) -> Result<Self, SignatureError> {
        let [signed_info, value, key_info, object] = exactly(
            document,
            signature,
            ["SignedInfo", "SignatureValue", "KeyInfo", "Object"],
        )?;
        let [c14n, method, first, second] = exactly(
            document,
            signed_info,
            [
                "CanonicalizationMethod",
                "SignatureMethod",
                "Reference",
                "Reference",
            ],
        )?;
        algorithm(document, c14n, EXCLUSIVE)?;
        algorithm(document, method, RSA_SHA256)?;
        let (properties, properties_id) = signed_properties(document, signature, object)?;
        let mut list_digest = None;
        let mut properties_digest = None;
        for reference in [first, second] {
            let Some(element) = document.get(reference) else {
                continue;
            };
            let uri = element.attribute("URI");
            let kind = element.attribute("Type");
            let [transforms, method, digest] = exactly(
                document,
                reference,
                ["Transforms", "DigestMethod", "DigestValue"],
            )?;
            algorithm(document, method, SHA256)?;
            let digest = base64(document, digest)?;
            match (uri, kind) {
                (Some(""), None) if list_digest.is_none() => {
                    list_transforms(document, transforms)?;
                    list_digest = Some(digest);
                }
                (Some(uri), Some(SIGNED_PROPERTIES))
                    if properties_digest.is_none()
                        && uri.strip_prefix('#') == Some(&properties_id) =>
                {
                    let [only] = exactly(document, transforms, ["Transform"])?;
                    algorithm(document, only, EXCLUSIVE)?;
                    properties_digest = Some(digest);
                }
                _ => {
                    return Err(SignatureError::Form(
                        "one reference to the list and one to the signed properties are needed",
                    ));
                }
            }
        }
        let missing = SignatureError::Form("a reference is missing");
        Ok(Self {
            signed_info,
            list_digest: list_digest.ok_or_else(|| missing.clone())?,
            properties_digest: properties_digest.ok_or(missing)?,
            value: base64(document, value)?,
            key_info,
            properties,
        })
    }

    fn certificate(&self, document: &Document) -> Result<CertificateDer<'static>, SignatureError> {
        let [data] = exactly(document, self.key_info, ["X509Data"])?;
        let mut found = document
            .children(data)
            .filter(|(_, e)| e.is(DSIG, "X509Certificate"));
        let (id, _) = found
            .next()
            .filter(|_| found.next().is_none())
            .ok_or(SignatureError::Form("one X509Certificate is needed"))?;
        let der = base64(document, id)?;
        if der.len() > MAX_CERTIFICATE {
            return Err(SignatureError::Form("X509Certificate is too large"));
        }
        Ok(CertificateDer::from(der))
    }
}

/// Either `enveloped-signature`, or the filter that takes away every `Signature`; then the
/// canonicalization. As there is one signature, both leave the list without it.
fn list_transforms(document: &Document, transforms: Id) -> Result<(), SignatureError> {
    let [first, second] = exactly(document, transforms, ["Transform", "Transform"])?;
    algorithm(document, second, EXCLUSIVE)?;
    let wrong = || SignatureError::Form("a transform of the list is not one of the two known");
    match document.get(first).and_then(|e| e.attribute("Algorithm")) {
        Some(ENVELOPED) => algorithm(document, first, ENVELOPED),
        Some(FILTER) => {
            let mut filters = document.children(first);
            let (id, filter) = filters
                .next()
                .filter(|_| filters.next().is_none())
                .ok_or_else(wrong)?;
            let fits = filter.is(FILTER, "XPath")
                && only_attribute(filter, "Filter") == Some("subtract")
                && document.has_no_text(first)
                && document
                    .get(first)
                    .and_then(|e| only_attribute(e, "Algorithm"))
                    .is_some()
                && is_every_signature(document, id);
            if fits { Ok(()) } else { Err(wrong()) }
        }
        other => Err(SignatureError::Algorithm(
            other.unwrap_or_default().to_owned(),
        )),
    }
}

/// Whether an XPath is `/descendant::P:Signature`, with P a prefix of XML Signature.
fn is_every_signature(document: &Document, id: Id) -> bool {
    let text = document.text(id).unwrap_or_default();
    let prefix = text
        .trim()
        .strip_prefix("/descendant::")
        .and_then(|step| step.strip_suffix(":Signature"));
    prefix
        .is_some_and(|prefix| !prefix.is_empty() && document.namespace_at(id, prefix) == Some(DSIG))
}

/// The signed properties of this signature, and their `Id`.
fn signed_properties(
    document: &Document,
    signature: Id,
    object: Id,
) -> Result<(Id, String), SignatureError> {
    let form = |what| SignatureError::Form(what);
    let mut inside = document.children(object);
    let (qualifying, element) = inside
        .next()
        .filter(|(_, e)| e.is(XADES, "QualifyingProperties") && inside.next().is_none())
        .ok_or(form("one QualifyingProperties is needed"))?;
    let id = document.get(signature).and_then(|e| e.attribute("Id"));
    let target = element
        .attribute("Target")
        .and_then(|t| t.strip_prefix('#'));
    if id.is_none() || id != target {
        return Err(form("QualifyingProperties belongs to another signature"));
    }
    let mut inside = document.children(qualifying);
    let (id, properties) = inside
        .next()
        .filter(|(_, e)| e.is(XADES, "SignedProperties"))
        .ok_or(form("SignedProperties is missing"))?;
    if inside.any(|(_, e)| !e.is(XADES, "UnsignedProperties")) {
        return Err(form("QualifyingProperties holds something unexpected"));
    }
    let name = properties.attribute("Id").unwrap_or_default();
    if name.is_empty() {
        return Err(form("SignedProperties has no Id"));
    }
    Ok((id, name.to_owned()))
}

/// Compares the certificate with the one that the signed properties name, and returns the signing
/// time.
fn same_certificate(
    document: &Document,
    properties: Id,
    certificate: &CertificateDer<'_>,
    parsed: &X509Certificate<'_>,
) -> Result<OffsetDateTime, SignatureError> {
    let form = SignatureError::Form;
    let child = |of: Id, local: &'static str| {
        let mut found = document
            .children(of)
            .filter(move |(_, e)| e.is(XADES, local));
        let first = found.next().map(|(id, _)| id);
        first.filter(|_| found.next().is_none())
    };
    let signed = child(properties, "SignedSignatureProperties")
        .ok_or(form("SignedSignatureProperties is missing"))?;
    let time = child(signed, "SigningTime")
        .and_then(|id| document.text(id))
        .and_then(|text| instant(text.trim()))
        .ok_or(form("SigningTime is missing or wrong"))?;
    let (holder, serial) = match (
        child(signed, "SigningCertificateV2"),
        child(signed, "SigningCertificate"),
    ) {
        (Some(v2), None) => (v2, "IssuerSerialV2"),
        (None, Some(v1)) => (v1, "IssuerSerial"),
        _ => {
            return Err(form(
                "one SigningCertificate or SigningCertificateV2 is needed",
            ));
        }
    };
    let cert = child(holder, "Cert").ok_or(form("one Cert is needed"))?;
    let digest = child(cert, "CertDigest").ok_or(form("CertDigest is missing"))?;
    let [method, value] = exactly(document, digest, ["DigestMethod", "DigestValue"])?;
    let named = base64(document, value)?;
    let own = match document.get(method).and_then(|e| e.attribute("Algorithm")) {
        Some(SHA256) => Sha256::digest(certificate).to_vec(),
        Some(SHA512) => Sha512::digest(certificate).to_vec(),
        other => {
            return Err(SignatureError::Algorithm(
                other.unwrap_or_default().to_owned(),
            ));
        }
    };
    let same_serial = match child(cert, serial) {
        None => true,
        Some(id) if serial == "IssuerSerialV2" => {
            names_der(&base64(document, id)?, parsed).unwrap_or(false)
        }
        Some(id) => names_text(document, id, parsed)?,
    };
    if named == own && same_serial {
        Ok(time)
    } else {
        Err(SignatureError::OtherCertificate)
    }
}

/// `IssuerSerial` of XAdES 1.3.2: name as text, serial number in decimal.
fn names_text(
    document: &Document,
    id: Id,
    certificate: &X509Certificate<'_>,
) -> Result<bool, SignatureError> {
    let [name, number] = exactly(document, id, ["X509IssuerName", "X509SerialNumber"])?;
    let name: Option<DistinguishedName> = document
        .text(name)
        .and_then(|text| text.trim().parse().ok());
    let number = document.text(number).unwrap_or_default();
    let number = number.trim();
    let plain = number.len() <= 64 && number.bytes().all(|b| b.is_ascii_digit());
    let number: Option<BigUint> = plain.then(|| number.parse().ok()).flatten();
    let issuer = DistinguishedName::from_x509(certificate.issuer()).ok();
    Ok(issuer.is_some() && name == issuer && number.as_ref() == Some(&certificate.serial))
}

/// `IssuerSerialV2` (RFC 5035 §4): GeneralNames with one directoryName, and the serial number.
fn names_der(bytes: &[u8], certificate: &X509Certificate<'_>) -> Option<bool> {
    let mut parts = Elements(Elements(bytes).expect(der::SEQUENCE)?.content);
    let mut names = Elements(parts.expect(der::SEQUENCE)?.content);
    let serial = parts.expect(der::INTEGER)?.content;
    // [4] EXPLICIT Name
    let (_, name) = X509Name::from_der(names.expect(0xa4)?.content).ok()?;
    let same = |name| DistinguishedName::from_x509(name).ok();
    Some(
        names.is_done()
            && same(&name)? == same(certificate.issuer())?
            && BigUint::from_bytes_be(serial) == certificate.serial,
    )
}

/// The children of an element, when they are exactly these elements of XML Signature, in this
/// order, without text between them.
fn exactly<const N: usize>(
    document: &Document,
    id: Id,
    names: [&'static str; N],
) -> Result<[Id; N], SignatureError> {
    let wrong = SignatureError::Form("an element is missing, or there is one too many");
    let children: Vec<_> = document.children(id).collect();
    let fit = children.len() == N
        && children
            .iter()
            .zip(names)
            .all(|((_, e), name)| e.is(DSIG, name))
        && document.has_no_text(id);
    if !fit {
        return Err(wrong);
    }
    let ids: Vec<_> = children.into_iter().map(|(id, _)| id).collect();
    ids.try_into().map_err(|_| wrong)
}

/// Checks that an element names this algorithm and has no parameters.
fn algorithm(document: &Document, id: Id, expected: &str) -> Result<(), SignatureError> {
    let element = document.get(id);
    let found = element.and_then(|e| only_attribute(e, "Algorithm"));
    if found != Some(expected) {
        return Err(SignatureError::Algorithm(
            found.unwrap_or_default().to_owned(),
        ));
    }
    if document.children(id).next().is_some() {
        return Err(SignatureError::Form("an algorithm with parameters"));
    }
    Ok(())
}

fn only_attribute<'a>(element: &'a Element, local: &str) -> Option<&'a str> {
    element
        .attribute(local)
        .filter(|_| element.attributes.len() == 1)
}

fn base64(document: &Document, id: Id) -> Result<Vec<u8>, SignatureError> {
    let wrong = SignatureError::Form("a value that is no base64");
    let mut text = document.text(id).ok_or_else(|| wrong.clone())?;
    text.retain(|c| !c.is_ascii_whitespace());
    STANDARD.decode(text).map_err(|_| wrong)
}

/// `xs:dateTime`; UTC when no zone is given.
pub(super) fn instant(text: &str) -> Option<OffsetDateTime> {
    let read = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    read(text).or_else(|| read(&format!("{text}Z")))
}
