//! The two verifiers that rustls asks during a handshake. They read the state of the moment: new
//! anchors, lists or white list count from the next handshake on, open connections go on.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::chain::{MAX_CERTIFICATE, Purpose};
use super::refusal::TrustRefusal;
use super::whitelist::hex;
use super::{Inner, host};
use crate::net::RefusedCertificate;

/// Verifies peers that call: chain, revocation, usage. Whether they are in the white list is asked
/// for each request, with [`super::Trust::peer`].
#[derive(Debug)]
pub(super) struct PeerClients {
    trust: Arc<Inner>,
    hints: Vec<DistinguishedName>,
}

/// Verifies peers that are called: as for those that call, and they must be who was called, under
/// the subject of the white list.
#[derive(Debug)]
pub(super) struct PeerServers {
    trust: Arc<Inner>,
}

impl PeerClients {
    pub(super) fn new(trust: Arc<Inner>) -> Self {
        let hints = trust.anchors.load().subjects();
        Self { trust, hints }
    }
}

impl PeerServers {
    pub(super) fn new(trust: Arc<Inner>) -> Self {
        Self { trust }
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TrustRefusal> {
        let leaf = self.trust.verify(certificate, Purpose::Server, now)?;
        let expected = match name {
            ServerName::DnsName(name) => host(name.as_ref()),
            other => other.to_str().into_owned(),
        };
        let named = leaf.common_name == expected || leaf.dns_names.contains(&expected);
        if !named {
            return Err(TrustRefusal::Name {
                found: leaf.common_name,
                expected,
            });
        }
        let list = self.trust.white_list(now)?;
        let Some(domain) = list.domain(&expected) else {
            return Err(TrustRefusal::NotListed { dn: expected });
        };
        if domain.dn != leaf.dn {
            return Err(TrustRefusal::OtherSubject {
                host: expected,
                dn: leaf.dn.to_string(),
            });
        }
        Ok(())
    }
}

impl ClientCertVerifier for PeerClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.trust.verify(end_entity, Purpose::Client, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => {
                crate::net::certificate_refused(RefusedCertificate {
                    reason: refusal.label(),
                    subject: claimed_subject(end_entity),
                    fingerprint: hex(&Sha256::digest(end_entity)),
                });
                Err(told("caller", refusal))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.known.supported_schemes()
    }
}

impl ServerCertVerifier for PeerServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verify(end_entity, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(told("called", refusal)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.known.supported_schemes()
    }
}

/// The subject that a certificate claims, as text (RFC 4514), where it can be read: nothing vouches for
/// it here.
#[must_use]
pub fn claimed_subject(certificate: &CertificateDer<'_>) -> Option<String> {
    if certificate.len() > MAX_CERTIFICATE {
        return None;
    }
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = super::DistinguishedName::from_x509(parsed.subject()).ok()?;
    Some(subject.to_string())
}

/// Counts and logs a refusal; TLS itself only tells the other side an alert.
pub(super) fn told(side: &'static str, refusal: TrustRefusal) -> Error {
    let reason = refusal.label();
    metrics::counter!("drimbox_trust_refusals_total", "side" => side, "reason" => reason)
        .increment(1);
    if refusal.is_ours() {
        tracing::error!(side, reason, %refusal, "peer refused for want of proof");
    } else {
        tracing::warn!(side, reason, %refusal, "peer refused");
    }
    refusal.into()
}
