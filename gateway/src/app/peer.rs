//! The consumer side put together: who the peers are, who checks their certificates, what they are shown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use sha2::{Digest as _, Sha256};

use crate::archive::Archive;
use crate::archive::peer::{
    AddressPolicy, Listed, PeerDirectory, PeerExam, PeerSettings, Peers, Preference,
    SystemResolver, client_config,
};
use crate::cache::Cache;
use crate::config::{Config, Consumer, KnownPeer, PreferredImages};
use crate::dicom::reader::Limits;
use crate::net;
use crate::store::ListingStore;
use crate::studies::{self, Studies};

/// The peers that the configuration lets this DRIMbox ask.
///
/// `white_list` knows the `db` names of the network, `verifier` checks the certificates of peers. Without
/// them, the configured peers and authorities are all there is.
///
/// # Errors
/// When a certificate file cannot be used.
pub fn peers(
    config: &Config,
    consumer: &Consumer,
    white_list: Option<Arc<dyn PeerDirectory>>,
    verifier: Option<Arc<dyn ServerCertVerifier>>,
) -> anyhow::Result<Arc<Peers>> {
    let verifier = match verifier {
        Some(verifier) => verifier,
        None => configured_verifier(consumer)?,
    };
    let identity = net::tls::read_identity(&consumer.identity)?;
    let tls = client_config(verifier, Some(identity))
        .context("the certificate that other DRIMboxes are shown cannot be used")?;
    let directory = Directory {
        configured: consumer
            .peers
            .iter()
            .map(|peer| peer.db_host.clone())
            .collect(),
        white_list,
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

fn configured_verifier(consumer: &Consumer) -> anyhow::Result<Arc<dyn ServerCertVerifier>> {
    let roots = Arc::new(net::tls::read_authorities(&consumer.ca_file)?);
    let builder = WebPkiServerVerifier::builder_with_provider(roots, net::tls::provider());
    let verifier = builder
        .build()
        .context("the authorities of other DRIMboxes cannot be used")?;
    Ok(verifier)
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
    configured: HashSet<String>,
    white_list: Option<Arc<dyn PeerDirectory>>,
}

impl PeerDirectory for Directory {
    fn lists(&self, db_host: &str) -> Listed {
        if self.configured.contains(db_host) {
            return Listed::Yes;
        }
        match &self.white_list {
            Some(white_list) => white_list.lists(db_host),
            None => Listed::No,
        }
    }
}
