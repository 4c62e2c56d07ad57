//! The DRIMboxes that exams are fetched from: one client for each, shared by every exam.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::ClientConfig;

use super::dial::{PeerDial, Resolve};
use super::location::{PeerDirectory, SeriesLocation};
use super::network::AddressPolicy;
use super::request::Preference;
use super::transfer::TransferLimits;
use crate::archive::dicomweb::client::{Client, ClientSettings, Credentials};
use crate::dicom::scan::Limits;

/// How peers are asked.
#[derive(Debug, Clone)]
pub struct PeerSettings {
    /// Form of images that is preferred.
    pub preference: Preference,
    /// Ports that a Retrieve URL may have.
    pub ports: Vec<u16>,
    /// Addresses that may be connected to.
    pub addresses: AddressPolicy,
    /// Where some peers are, by host name in lower case; no name is resolved for these.
    pub fixed_addresses: HashMap<String, SocketAddr>,
    /// Requests to one peer at once, all exams together.
    pub max_requests: usize,
    /// Requests to one peer that wait for their turn at most.
    pub max_waiting: usize,
    /// Series of one exam fetched at once.
    pub series_at_once: usize,
    /// Whether single instances are asked for when a series came short.
    pub ask_for_instances: bool,
    /// Times that a series is asked for, when it breaks off or the peer is not available.
    pub attempts: u32,
    /// First pause before another attempt; doubled each time.
    pub first_pause: Duration,
    /// Longest pause, whatever `Retry-After` says.
    pub longest_pause: Duration,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time without any byte while an answer is due.
    pub response_timeout: Duration,
    /// Time an idle connection is kept for the next request.
    pub idle_timeout: Duration,
    /// Bytes of one instance.
    pub max_instance_bytes: u64,
    /// Bytes of one series.
    pub max_series_bytes: u64,
    /// Limits of what is read from a data set.
    pub data_set: Limits,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            preference: Preference::Lossless,
            ports: vec![443],
            addresses: AddressPolicy::default(),
            fixed_addresses: HashMap::new(),
            max_requests: 4,
            max_waiting: 1_000,
            series_at_once: 4,
            ask_for_instances: true,
            attempts: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(20),
            max_instance_bytes: 4 << 30,
            max_series_bytes: 64 << 30,
            data_set: Limits::default(),
        }
    }
}

impl PeerSettings {
    pub(super) fn transfer(&self) -> TransferLimits {
        TransferLimits {
            instance_bytes: self.max_instance_bytes,
            answer_bytes: self.max_series_bytes,
            response_timeout: self.response_timeout,
            data_set: self.data_set,
        }
    }

    /// The pause before an attempt, counted from 1 for the second one.
    pub(super) fn pause(&self, attempt: u32, wanted: Option<Duration>) -> Duration {
        let factor = 1_u32
            .checked_shl(attempt.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let own = self.first_pause.saturating_mul(factor);
        wanted.unwrap_or(own).max(own).min(self.longest_pause)
    }
}

/// The peers of this DRIMbox.
pub struct Peers {
    settings: PeerSettings,
    directory: Arc<dyn PeerDirectory>,
    resolver: Arc<dyn Resolve>,
    tls: Mutex<Arc<ClientConfig>>,
    sources: Mutex<HashMap<(String, u16), Arc<Source>>>,
}

/// One DRIMbox that exams are fetched from.
pub(super) struct Source {
    pub host: String,
    pub client: Client,
    /// It refused to send a single instance: it is not asked for one again.
    no_instances: AtomicBool,
}

impl Source {
    pub fn sends_instances(&self) -> bool {
        !self.no_instances.load(Ordering::Relaxed)
    }

    pub fn refuses_instances(&self) {
        self.no_instances.store(true, Ordering::Relaxed);
    }
}

impl Peers {
    /// The peers that this directory lists, asked over this TLS.
    #[must_use]
    pub fn new(
        settings: PeerSettings,
        directory: Arc<dyn PeerDirectory>,
        resolver: Arc<dyn Resolve>,
        tls: Arc<ClientConfig>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            directory,
            resolver,
            tls: Mutex::new(tls),
            sources: Mutex::default(),
        })
    }

    /// How peers are asked.
    #[must_use]
    pub fn settings(&self) -> &PeerSettings {
        &self.settings
    }

    /// Who knows the peers.
    #[must_use]
    pub fn directory(&self) -> &dyn PeerDirectory {
        &*self.directory
    }

    /// Takes another certificate, or other authorities: every connection made from now on has them.
    pub fn renew_tls(&self, tls: Arc<ClientConfig>) {
        *self.tls.lock() = tls;
        // Transfers under way go on with what they have.
        self.connect_anew();
    }

    /// Has every connection made anew: the certificates of peers are looked at again. Transfers under way
    /// go on.
    pub fn connect_anew(&self) {
        self.sources.lock().clear();
    }

    /// The peer where a series is. The location was checked: nobody else is ever connected to.
    pub(super) fn source(&self, location: &SeriesLocation) -> Arc<Source> {
        let key = (location.host().to_owned(), location.port());
        let tls = Arc::clone(&self.tls.lock());
        let mut sources = self.sources.lock();
        let source = sources.entry(key).or_insert_with(|| {
            let host = location.host();
            let authority = match location.port() {
                443 => host.to_owned(),
                port => format!("{host}:{port}"),
            };
            let client = ClientSettings {
                root: format!("https://{authority}"),
                address: authority,
                max_requests: self.settings.max_requests,
                max_waiting: self.settings.max_waiting,
                idle_timeout: self.settings.idle_timeout,
                connect_timeout: self.settings.connect_timeout,
                response_timeout: self.settings.response_timeout,
            };
            let dial = PeerDial {
                host: host.to_owned(),
                port: location.port(),
                fixed: self.settings.fixed_addresses.get(host).copied(),
                resolver: Arc::clone(&self.resolver),
                policy: self.settings.addresses.clone(),
                tls,
            };
            let gauge = "drimbox_peer_breaker_open";
            Arc::new(Source {
                host: host.to_owned(),
                client: Client::over(host, gauge, client, Arc::new(dial), Credentials::None),
                no_instances: AtomicBool::new(false),
            })
        });
        Arc::clone(source)
    }
}
