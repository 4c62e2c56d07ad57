//! How a certificate of the gateway itself stands with the authorities that peers believe.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::chain::Purpose;
use super::der::Signed;
use super::{Trust, TrustRefusal};

/// How a certificate stands with the authorities of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Issued by one of them, and not revoked.
    Good,
    /// Revoked, itself or an authority on its way.
    Revoked,
    /// Whether it is revoked cannot be told now, and why, in French.
    Unknown(String),
    /// Not one that peers believe.
    Refused(TrustRefusal),
}

/// Whether `issuer` is an authority of the name that `certificate` gives, and signed it. Dates and usages are not
/// looked at.
#[must_use]
pub fn is_issued_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let known = crate::net::tls::provider().signature_verification_algorithms;
    let (Ok((_, issued)), Ok((_, above))) = (
        X509Certificate::from_der(certificate),
        X509Certificate::from_der(issuer),
    ) else {
        return false;
    };
    above.is_ca()
        && issued.issuer().as_raw() == above.subject().as_raw()
        && Signed::parse(certificate)
            .is_some_and(|signed| signed.is_signed_by(above.public_key().raw, &known))
}

impl Trust {
    /// How a certificate stands at `now`, by the revocation lists kept. A bypass does not count, and what
    /// the certificate is for is not looked at. Nothing is downloaded.
    #[must_use]
    pub fn standing(&self, certificate: &CertificateDer<'_>, now: OffsetDateTime) -> Standing {
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        // Of all purposes, that of a signer asks nothing of the extended usages.
        let purpose = Purpose::WhiteListSigner;
        let verified = self
            .0
            .with_chain(false, |chain| chain.verify(certificate, purpose, now));
        match verified {
            Ok(_) => Standing::Good,
            Err(TrustRefusal::Revoked { .. }) => Standing::Revoked,
            Err(refusal) if refusal.is_ours() => Standing::Unknown(refusal.in_french()),
            Err(refusal) => Standing::Refused(refusal),
        }
    }
}
