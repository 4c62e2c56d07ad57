//! The consumer side put together: who the peers are, who checks their certificates, what they are shown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::archive::Archive;
use crate::archive::peer::{
    AddressPolicy, Listed, PeerDirectory, PeerExam, PeerSettings, Peers, Preference,
    SystemResolver, client_config,
};
use crate::cache::Cache;
use crate::certs::presented::{self, By, Recorder};
use crate::config::{Config, Consumer, KnownPeer, PreferredImages};
use crate::dicom::reader::Limits;
use crate::net;
use crate::store::ListingStore;
use crate::studies::{self, Studies};
use crate::trust::Trust;

/// The peers that this DRIMbox may ask: those of the white list, and those that the configuration adds.
///
/// # Errors
/// When a certificate file cannot be used.
pub fn peers(
    config: &Config,
    consumer: &Consumer,
    trust: Option<&Trust>,
) -> anyhow::Result<Arc<Peers>> {
    let known = consumer.peers.iter().map(|peer| peer.db_host.clone());
    let configured: Arc<HashSet<String>> = Arc::new(known.collect());
    let verifier = Verifier {
        of_configured: configured_verifier(consumer)?,
        configured: Arc::clone(&configured),
        of_white_list: trust.map(Trust::server_verifier),
    };
    let recorder = Recorder::new(&presented::folder(&config.data_dir))
        .context("the folder of certificates that were presented cannot be made")?;
    let verifier = recorder.servers(Arc::new(verifier), By::Called);
    let identity = net::tls::read_identity(&consumer.identity)?;
    let tls = client_config(verifier, Some(identity))
        .context("the certificate that other DRIMboxes are shown cannot be used")?;
    let directory = Directory {
        configured,
        trust: trust.cloned(),
    };
    if !consumer.peers.is_empty() {
        tracing::warn!(
            peers = consumer.peers.len(),
            "peers of [[consumer.peers]] are trusted without the white list"
        );
    }
    let settings = settings(config, consumer);
    Ok(Peers::new(
        settings,
        Arc::new(directory),
        Arc::new(SystemResolver),
        tls,
    ))
}

/// The images of an exam elsewhere, through the cache, as those of a PACS.
///
/// What is cached is that of `person` alone, and of this KOS: another person, or a newer KOS, asks the
/// source again. `person` is any text that tells persons apart; only its digest is kept.
#[must_use]
pub fn studies_of(
    exam: PeerExam,
    person: &str,
    config: &Config,
    cache: Arc<Cache>,
    store: Arc<dyn ListingStore>,
) -> Arc<Studies> {
    let mut digest = Sha256::new();
    // A UID has no zero byte: no two pairs give the same text.
    digest.update(exam.kos().instance.as_str());
    digest.update([0]);
    digest.update(person);
    let digest: String = digest
        .finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let settings = studies::Settings {
        pacs: format!("peer-{digest}"),
        revalidate_after: config.cache.revalidate_after,
        serve_when_unreachable: false,
        related_counts: true,
        relational_queries: true,
        by_series: true,
        limits: limits(config),
    };
    Studies::new(settings, Arc::new(exam) as Arc<dyn Archive>, cache, store)
}

fn configured_verifier(consumer: &Consumer) -> anyhow::Result<Option<Arc<dyn ServerCertVerifier>>> {
    let Some(file) = &consumer.ca_file else {
        return Ok(None);
    };
    let roots = Arc::new(net::tls::read_authorities(file)?);
    let builder = WebPkiServerVerifier::builder_with_provider(roots, net::tls::provider());
    let verifier = builder
        .build()
        .context("the authorities of other DRIMboxes cannot be used")?;
    Ok(Some(verifier))
}

fn settings(config: &Config, consumer: &Consumer) -> PeerSettings {
    let fixed = |peer: &KnownPeer| Some((peer.db_host.clone(), peer.address?));
    PeerSettings {
        preference: match consumer.prefer {
            PreferredImages::Lossless => Preference::Lossless,
            PreferredImages::Lossy => Preference::Lossy,
        },
        ports: consumer.ports.clone(),
        addresses: AddressPolicy {
            networks: consumer.private_networks.clone(),
        },
        fixed_addresses: consumer
            .peers
            .iter()
            .filter_map(fixed)
            .chain(consumer.addresses.iter().cloned())
            .collect::<HashMap<_, _>>(),
        max_requests: consumer.max_requests,
        series_at_once: consumer.series_at_once,
        ask_for_instances: consumer.ask_for_instances,
        attempts: consumer.attempts,
        connect_timeout: consumer.connect_timeout,
        response_timeout: consumer.response_timeout,
        idle_timeout: consumer.idle_timeout,
        max_instance_bytes: consumer.max_instance_bytes,
        max_series_bytes: consumer.max_series_bytes,
        data_set: limits(config),
        ..PeerSettings::default()
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        head_bytes: config.limits.max_head_bytes as u64,
        ..Limits::default()
    }
}

/// The white list, and the peers that the administrator adds to it.
struct Directory {
    configured: Arc<HashSet<String>>,
    trust: Option<Trust>,
}

impl PeerDirectory for Directory {
    fn lists(&self, db_host: &str) -> Listed {
        if self.configured.contains(db_host) {
            return Listed::Yes;
        }
        let Some(trust) = &self.trust else {
            return Listed::No;
        };
        if trust.domain_of_db_host(db_host).is_some() {
            return Listed::Yes;
        }
        match trust.list_status() {
            Some(status) if status.in_force => Listed::No,
            Some(_) => Listed::Unknown("the white list is too old".into()),
            None => Listed::Unknown("there is no white list yet".into()),
        }
    }
}

/// Checks the certificates of peers: those of the white list by the trust store, whatever the configured
/// authorities would say.
#[derive(Debug)]
struct Verifier {
    configured: Arc<HashSet<String>>,
    of_configured: Option<Arc<dyn ServerCertVerifier>>,
    of_white_list: Option<Arc<dyn ServerCertVerifier>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_configured = match server_name {
            ServerName::DnsName(name) => self.configured.contains(name.as_ref()),
            _ => false,
        };
        let verifier = match is_configured {
            true => &self.of_configured,
            false => &self.of_white_list,
        };
        let Some(verifier) = verifier else {
            return Err(rustls::Error::General(
                "nobody vouches for this name".into(),
            ));
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = net::tls::provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = net::tls::provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = net::tls::provider().signature_verification_algorithms;
        known.supported_schemes()
    }
}
