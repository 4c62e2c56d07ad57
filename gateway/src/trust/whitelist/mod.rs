//! The white list (Liste Blanche) of the DRIM-M trust space: read, verified, kept.
//!
//! A list counts when its XAdES signature holds ([`signature`]), its signer is the one of ANS with a
//! chain in order, and its content is sound ([`content`]). [`keeper`] replaces the list in use with
//! such a list only, and never with an older one: nor does one come back while none is in use.

mod c14n;
mod content;
mod keeper;
mod signature;
mod xml;

use std::collections::HashMap;

use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::chain::{Chain, Purpose};
use super::dn::DistinguishedName;
use super::refusal::TrustRefusal;
use content::Content;
pub use content::{ContentError, Domain};
pub(super) use keeper::{Active, Keeper, Policy, Recall, hex};
pub use keeper::{ListError, Outcome, Verdict};
pub use signature::SignatureError;
pub use xml::{Document, MAX_BYTES, XmlError};

/// How far ahead of this clock a list may say it was signed.
const SKEW: u64 = 86_400;

/// Who signs white lists: never a certificate, which is renewed, but a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Common name.
    pub common_name: String,
    /// Organisational unit: the structure's identifier.
    pub organisational_unit: String,
}

/// A white list whose signature, signer and content were verified.
#[derive(Debug)]
pub struct WhiteList {
    domains: Vec<Domain>,
    by_dn: HashMap<DistinguishedName, usize>,
    by_host: HashMap<String, usize>,
    /// `DateDeGeneration`: kept by hand, proves nothing about freshness.
    pub generated: Option<OffsetDateTime>,
    /// When it was signed, as the signer says.
    pub signing_time: OffsetDateTime,
    /// End of validity of the signer's certificate.
    pub signer_not_after: UnixTime,
    /// The signer's certificate.
    pub signer_certificate: CertificateDer<'static>,
    /// SHA-256 of the signer's certificate.
    pub signer_fingerprint: [u8; 32],
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// Subject of the signer's certificate.
    pub signer: DistinguishedName,
    /// Whether the signer was believed although his revocation status is unknown.
    pub(super) bypassed: bool,
}

/// Why a white list is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhiteListRefusal {
    /// Not XML, or XML that is not accepted.
    #[error("the list cannot be read: {0}")]
    Xml(#[from] XmlError),
    /// No signature, or one that does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signer's certificate is not in order.
    #[error("the certificate of the signer: {0}")]
    SignerChain(#[source] TrustRefusal),
    /// Somebody else signed it.
    #[error("the list is signed by {found}, not by the signer of the configuration")]
    OtherSigner {
        /// Subject of the certificate.
        found: String,
    },
    /// Its signing time is ahead.
    #[error("the list says it was signed in the future: check the clock of this machine")]
    Future,
    /// What it says is not sound.
    #[error("the content of the list: {0}")]
    Content(#[from] ContentError),
    /// Signed before a list that is in use, or was: also while none is.
    #[error(
        "the list was signed before the newest one that was in use ({signed}, the other one {newest})"
    )]
    Older {
        /// Its signing time.
        signed: OffsetDateTime,
        /// That of the newest list that was ever in use.
        newest: OffsetDateTime,
    },
    /// Far fewer domains than the list in use.
    #[error(
        "the list has {after} domains, the one in use {before}: confirm with `drimbox whitelist refresh --confirm` if this is meant"
    )]
    Shrunk {
        /// Domains in use.
        before: usize,
        /// Domains in this list.
        after: usize,
    },
}

impl WhiteListRefusal {
    /// A short, stable name for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Xml(_) => "xml",
            Self::Signature(SignatureError::Unsigned) => "unsigned",
            Self::Signature(_) => "signature",
            Self::SignerChain(refusal) => match refusal {
                TrustRefusal::Expired | TrustRefusal::NotYetValid => "signer_date",
                TrustRefusal::Revoked { .. } => "signer_revoked",
                TrustRefusal::CrlMissing { .. } | TrustRefusal::CrlExpired { .. } => {
                    "signer_unknown_status"
                }
                _ => "signer_chain",
            },
            Self::OtherSigner { .. } => "other_signer",
            Self::Future => "future",
            Self::Content(_) => "content",
            Self::Older { .. } => "older",
            Self::Shrunk { .. } => "shrunk",
        }
    }
}

impl WhiteList {
    /// Verifies a list, in this order: size and form of the XML, signature, signer and its chain,
    /// content.
    pub(super) fn verify(
        bytes: &[u8],
        signer: &Signer,
        chain: &Chain<'_>,
        now: UnixTime,
    ) -> Result<Self, WhiteListRefusal> {
        let document = Document::parse(bytes)?;
        let signature = signature::verify(&document, chain.known)?;
        let leaf = chain
            .verify(&signature.certificate, Purpose::WhiteListSigner, now)
            .map_err(WhiteListRefusal::SignerChain)?;
        let units: Vec<_> = leaf.dn.values("OU").map(str::trim).collect();
        let expected = leaf.dn.common_name().map(str::trim) == Some(&signer.common_name)
            && units == [signer.organisational_unit.as_str()];
        if !expected {
            return Err(WhiteListRefusal::OtherSigner {
                found: leaf.dn.to_string(),
            });
        }
        let signed = u64::try_from(signature.signing_time.unix_timestamp()).unwrap_or(0);
        if signed > now.as_secs().saturating_add(SKEW) {
            return Err(WhiteListRefusal::Future);
        }
        let content = Content::read(&document)?;
        let mut list = Self {
            by_dn: HashMap::new(),
            by_host: HashMap::new(),
            generated: content.generated,
            signing_time: signature.signing_time,
            signer_not_after: leaf.not_after,
            signer_certificate: signature.certificate,
            signer_fingerprint: leaf.fingerprint,
            digest: Sha256::digest(bytes).into(),
            signer: leaf.dn,
            bypassed: leaf.bypassed,
            domains: content.domains,
        };
        for (at, domain) in list.domains.iter().enumerate() {
            list.by_dn.insert(domain.dn.clone(), at);
            list.by_host.insert(domain.db_host.clone(), at);
        }
        Ok(list)
    }

    /// Every domain, in the order of the list.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The domain of a `db` host name, in lower case.
    #[must_use]
    pub fn domain(&self, db_host: &str) -> Option<&Domain> {
        self.domains.get(*self.by_host.get(db_host)?)
    }

    /// The domain whose certificates have this subject.
    #[must_use]
    pub fn domain_of(&self, dn: &DistinguishedName) -> Option<&Domain> {
        self.domains.get(*self.by_dn.get(dn)?)
    }
}

/// Reads a document and verifies whatever signature it has, without asking who signed: for fuzzing.
///
/// # Errors
/// As a white list is refused.
pub fn inspect(
    bytes: &[u8],
    known: &rustls::crypto::WebPkiSupportedAlgorithms,
) -> Result<usize, WhiteListRefusal> {
    let document = Document::parse(bytes)?;
    let content = Content::read(&document)?;
    signature::verify(&document, known)?;
    Ok(content.domains.len())
}

/// The canonical form of a document (exclusive, without comments): for fuzzing.
///
/// # Errors
/// When it is no XML that is accepted.
pub fn canonical_form(bytes: &[u8]) -> Result<Vec<u8>, XmlError> {
    let document = Document::parse(bytes)?;
    Ok(c14n::canonical(&document, document.root(), None))
}
