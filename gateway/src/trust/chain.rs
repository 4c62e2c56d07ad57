//! From a certificate to a root: signatures, dates, constraints, revocation of every certificate on
//! the way, then what the certificate is for and whom it names.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use webpki::{Cert, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_OCSP;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use super::anchors::{Anchors, Environment};
use super::crl::{Lists, Said};
use super::dn::DistinguishedName;
use super::points::{self, Points};
use super::refusal::TrustRefusal;

/// Largest certificate looked at, bytes.
pub(super) const MAX_CERTIFICATE: usize = 64 << 10;
/// Sizes of RSA keys that are accepted, bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Sizes of EC keys that are accepted, bits.
const EC_BITS: [usize; 3] = [256, 384, 521];

/// Which extended key usages let a peer in. What a real SERV_SSL certificate carries is not
/// confirmed by a published requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUsagePolicy {
    /// `clientAuth` or `serverAuth`, whichever side it is on; or none at all.
    Either,
    /// `clientAuth` for a caller, `serverAuth` for who is called; or none at all (RFC 5280
    /// §4.2.1.12).
    Strict,
}

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A peer calls.
    Client,
    /// A peer is called.
    Server,
    /// It signed the white list.
    WhiteListSigner,
}

/// Everything a decision rests on.
pub(super) struct Chain<'a> {
    pub(super) anchors: &'a Anchors,
    pub(super) lists: &'a Lists,
    /// Where certificates say that lists are.
    pub(super) points: &'a Points,
    /// An administrator accepts that revocation lists are missing or expired.
    pub(super) bypass: bool,
    pub(super) usage: KeyUsagePolicy,
    pub(super) known: &'a WebPkiSupportedAlgorithms,
}

/// A certificate whose chain is in order.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) dn: DistinguishedName,
    pub(super) common_name: String,
    pub(super) dns_names: Vec<String>,
    pub(super) fingerprint: [u8; 32],
    pub(super) not_after: UnixTime,
    /// Who answers about it, as it says (RFC 5280 §4.2.2.1); any address.
    pub(super) ocsp_url: Option<String>,
    /// It passed only because of the bypass.
    pub(super) bypassed: bool,
}

impl Chain<'_> {
    /// Verifies one certificate. Authorities that the other side sends are not needed, and not used:
    /// those of the configuration are the only ones.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        purpose: Purpose,
        now: UnixTime,
    ) -> Result<Leaf, TrustRefusal> {
        if certificate.len() > MAX_CERTIFICATE {
            return Err(malformed("it is too large"));
        }
        let (rest, parsed) = X509Certificate::from_der(certificate).map_err(malformed)?;
        if !rest.is_empty() {
            return Err(malformed("bytes after the certificate"));
        }
        // RFC 5280 §4.2: no extension twice, which readers of one and the other would take differently.
        parsed.extensions_map().map_err(malformed)?;
        let issuer = DistinguishedName::from_x509(parsed.issuer()).map_err(malformed)?;
        self.same_environment(&issuer)?;
        let leaf = EndEntityCert::try_from(certificate).map_err(malformed)?;
        let bypassed = self.path(&leaf, &parsed, &issuer, now)?;
        check_usage(&parsed, purpose, self.usage)?;
        check_key(&parsed)?;
        let dn =
            DistinguishedName::from_x509(parsed.subject()).map_err(|_| TrustRefusal::NoName)?;
        let common_name = dn
            .common_name()
            .ok_or(TrustRefusal::NoName)?
            .trim()
            .to_lowercase();
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Leaf {
            common_name,
            dns_names: dns_names(&parsed),
            ocsp_url: responder(&parsed),
            fingerprint: Sha256::digest(certificate).into(),
            not_after: UnixTime::since_unix_epoch(std::time::Duration::from_secs(not_after)),
            dn,
            bypassed,
        })
    }

    fn same_environment(&self, issuer: &DistinguishedName) -> Result<(), TrustRefusal> {
        let expected = self.anchors.environment();
        match Environment::of(issuer) {
            Some(found) if found != expected => {
                Err(TrustRefusal::OtherEnvironment { found, expected })
            }
            _ => Ok(()),
        }
    }

    /// Builds the path and checks revocation along it; returns whether the bypass was needed.
    fn path(
        &self,
        leaf: &EndEntityCert<'_>,
        parsed: &X509Certificate<'_>,
        issuer: &DistinguishedName,
        now: UnixTime,
    ) -> Result<bool, TrustRefusal> {
        let path = leaf
            .verify_for_usage(
                self.known.all,
                &self.anchors.roots,
                &self.anchors.intermediates,
                now,
                AnyUsage,
                None,
                None,
            )
            .map_err(|error| refused(&error, issuer))?;
        let issuer = issuer.common_name().unwrap_or_default();
        if !self.anchors.may_issue(issuer) {
            return Err(TrustRefusal::IssuerNotAllowed {
                issuer: issuer.to_owned(),
            });
        }
        // webpki takes roots as they are, whatever their dates.
        let root = path.anchor().subject.as_ref();
        if !self
            .anchors
            .with_subject(root)
            .any(|root| root.is_valid_at(now))
        {
            return Err(TrustRefusal::Expired);
        }
        // What it names counts now that its signature does.
        self.points.meet(parsed);
        let mut bypassed = self.revocation(leaf, false, now)?;
        for authority in path.intermediate_certificates() {
            bypassed |= self.revocation(authority, true, now)?;
        }
        Ok(bypassed)
    }

    /// What the list of its issuer says of a certificate; returns whether the bypass was needed.
    fn revocation(
        &self,
        certificate: &Cert<'_>,
        is_authority: bool,
        now: UnixTime,
    ) -> Result<bool, TrustRefusal> {
        let issuer = certificate.issuer();
        let der = certificate.der();
        let (_, parsed) = X509Certificate::from_der(&der).map_err(malformed)?;
        let points = points::names(&parsed);
        let list = self.lists.get(issuer);
        let said = list.map(|list| list.says(certificate.serial(), is_authority, &points));
        let refusal = match (list, said) {
            // Revoked stays revoked, however old the list.
            (_, Some(Said::Revoked)) => {
                let whom = if is_authority {
                    "authority"
                } else {
                    "certificate"
                };
                return Err(TrustRefusal::Revoked { whom });
            }
            (Some(list), Some(Said::Good)) if !list.is_expired_at(now) => return Ok(false),
            (Some(list), Some(Said::Good)) => TrustRefusal::CrlExpired {
                authority: list.authority.clone(),
                next_update: list.next_update,
            },
            _ => {
                let authority = self.anchors.with_subject(issuer).next();
                let name = authority.map(|authority| authority.common_name.clone());
                TrustRefusal::CrlMissing {
                    authority: name.unwrap_or_default(),
                }
            }
        };
        if self.bypass { Ok(true) } else { Err(refusal) }
    }
}

/// Extended key usages are judged afterwards, by [`check_usage`].
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}

fn check_usage(
    certificate: &X509Certificate<'_>,
    purpose: Purpose,
    policy: KeyUsagePolicy,
) -> Result<(), TrustRefusal> {
    let usage = |found: &str| TrustRefusal::Usage {
        found: found.to_owned(),
    };
    let key_usage = certificate.key_usage().map_err(malformed)?;
    let signs = key_usage.as_ref().is_none_or(|usage| {
        let usage = usage.value;
        usage.digital_signature()
            || (purpose == Purpose::WhiteListSigner && usage.non_repudiation())
    });
    if !signs {
        return Err(usage("a key that may not sign"));
    }
    let Some(extended) = certificate.extended_key_usage().map_err(malformed)? else {
        return Ok(());
    };
    let extended = extended.value;
    let (client, server) = (extended.client_auth, extended.server_auth);
    let fits = match (purpose, policy) {
        // The known signers have emailProtection alone: nothing is asked of them here.
        (Purpose::WhiteListSigner, _) => true,
        (_, KeyUsagePolicy::Either) => client || server,
        (Purpose::Client, KeyUsagePolicy::Strict) => client,
        (Purpose::Server, KeyUsagePolicy::Strict) => server,
    };
    if fits {
        return Ok(());
    }
    Err(usage(match (client, server, extended.email_protection) {
        (true, ..) => "clientAuth",
        (_, true, _) => "serverAuth",
        (_, _, true) => "emailProtection",
        _ => "neither clientAuth nor serverAuth",
    }))
}

fn check_key(certificate: &X509Certificate<'_>) -> Result<(), TrustRefusal> {
    let strong = match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => RSA_BITS.contains(&key.key_size()),
        Ok(PublicKey::EC(_)) => ec_bits(certificate).is_some_and(|bits| EC_BITS.contains(&bits)),
        _ => false,
    };
    if strong {
        Ok(())
    } else {
        Err(TrustRefusal::WeakKey)
    }
}

/// The size of a named curve (RFC 5480 §2.1.1.1).
fn ec_bits(certificate: &X509Certificate<'_>) -> Option<usize> {
    let parameters = certificate.public_key().algorithm.parameters.as_ref()?;
    let curve = parameters.as_oid().ok()?.to_id_string();
    match curve.as_str() {
        "1.2.840.10045.3.1.7" => Some(256),
        "1.3.132.0.34" => Some(384),
        "1.3.132.0.35" => Some(521),
        _ => None,
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// The first OCSP responder that a certificate names.
fn responder(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut extensions = certificate.extensions().iter();
    extensions.find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            let mut all = access.accessdescs.iter();
            all.find_map(|one| match &one.access_location {
                GeneralName::URI(url) if one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_OCSP => {
                    Some((*url).to_owned())
                }
                _ => None,
            })
        }
        _ => None,
    })
}

fn malformed(reason: impl ToString) -> TrustRefusal {
    TrustRefusal::Malformed(reason.to_string())
}

fn refused(error: &webpki::Error, issuer: &DistinguishedName) -> TrustRefusal {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } | Error::InvalidCertValidity => TrustRefusal::Expired,
        Error::CertNotValidYet { .. } => TrustRefusal::NotYetValid,
        Error::UnknownIssuer => TrustRefusal::UnknownIssuer {
            issuer: issuer.to_string(),
        },
        Error::InvalidSignatureForPublicKey => TrustRefusal::BadSignature,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => TrustRefusal::WeakSignature,
        Error::PathLenConstraintViolated
        | Error::NameConstraintViolation
        | Error::EndEntityUsedAsCa
        | Error::CaUsedAsEndEntity
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => {
            TrustRefusal::Constraint(error.to_string())
        }
        other => malformed(other),
    }
}
