//! Who is believed: certificates of peers, revocation lists, the signed white list.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/believed.rs"]
mod believed;
mod command;
mod downloads;
mod handshakes;
mod lists;
mod ocsp;
mod peers;
mod real;
mod revocation;
#[path = "../support/web.rs"]
mod web;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use conformance::testkit::igc::{Authority, CrlSpec, Igc, Leaf, LeafSpec};
use conformance::testkit::whitelist::{Entry, ListSpec, Profile};
use drimbox::config::{Trust as Settings, TrustEnvironment};
use drimbox::trust::{Clock, Trust, TrustAudit, TrustEvent};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;
use time::OffsetDateTime;

use believed::settings;

/// A trail that keeps what it is told.
#[derive(Default)]
struct Journal(Mutex<Vec<TrustEvent>>);

impl TrustAudit for Journal {
    fn record(&self, event: &TrustEvent) -> std::io::Result<()> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

/// 2026-10-01 00:00:00 UTC.
const START: u64 = 1_790_812_800;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// A test IGC Santé, a folder, and a clock that the test moves.
struct World {
    folder: TempDir,
    now: Arc<AtomicU64>,
    igc: Igc,
}

impl World {
    fn new() -> Self {
        Self::with(Igc::new(true, date(START)).unwrap())
    }

    fn with(igc: Igc) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicU64::new(START)),
            igc,
        }
    }

    fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)))
    }

    fn at(&self, seconds: u64) {
        self.now.store(seconds, Ordering::SeqCst);
    }

    fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.now.load(Ordering::SeqCst)))
    }

    fn settings(&self) -> Settings {
        let files = self
            .igc
            .write(
                self.folder.path(),
                &[Authority::Root, Authority::Organisations],
            )
            .unwrap();
        settings(self.folder.path(), TrustEnvironment::Test, files)
    }

    /// Without any list.
    fn bare(&self) -> Trust {
        Trust::open(self.settings(), self.clock()).unwrap()
    }

    /// With good revocation lists, and a white list of these hosts.
    fn trust(&self, hosts: &[&str]) -> Trust {
        self.trust_with(self.settings(), hosts)
    }

    fn trust_with(&self, settings: Settings, hosts: &[&str]) -> Trust {
        let trust = Trust::open(settings, self.clock()).unwrap();
        self.give_crls(&trust, &CrlSpec::default(), &CrlSpec::default());
        let signer = self.signer();
        trust
            .take_list(
                self.list(hosts).sign(&signer).unwrap().as_bytes(),
                "test",
                false,
            )
            .unwrap();
        trust
    }

    fn give_crls(&self, trust: &Trust, root: &CrlSpec, organisations: &CrlSpec) {
        let list = self.igc.crl(Authority::Root, root).unwrap();
        trust.take_crl(&list).unwrap();
        let list = self
            .igc
            .crl(Authority::Organisations, organisations)
            .unwrap();
        trust.take_crl(&list).unwrap();
    }

    fn signer(&self) -> Leaf {
        self.igc.leaf(&LeafSpec::signer()).unwrap()
    }

    fn list(&self, hosts: &[&str]) -> ListSpec {
        let entries = hosts.iter().map(|host| Entry::peer(host)).collect();
        ListSpec::new(Profile::One, entries, date(START - DAY))
    }

    fn peer(&self, host: &str) -> Leaf {
        self.igc.leaf(&LeafSpec::peer(host)).unwrap()
    }
}

fn date(unix: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix.try_into().unwrap()).unwrap()
}
