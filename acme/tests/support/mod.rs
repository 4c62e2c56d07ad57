//! A certificate authority in the test's own process, and the parts of a life under its control.

#![allow(dead_code, unused_imports, unreachable_pub)]

pub mod authority;
mod jws;
mod stop;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme::{
    Accounts, Authority, BoxFuture, Caa, Clock, DnsName, FileStore, InstallError, Installer,
    Issued, KeyType, Lifecycle, Occasion, Parts, Port80, Probe, Random, Seen, Settings, Store,
    StoreError, Tokens, Transport, UnixTime,
};

use zeroize::Zeroizing;

pub use authority::{MockAuthority, Validation};
pub use stop::{Moment, Stop};

/// The host name of every test.
pub const NAME: &str = "vi1.centre.example";

/// The first moment of the tests: 2026-11-01.
pub const START: u64 = 1_793_491_200;

/// A clock that stands still, and jumps when somebody sleeps on it.
#[derive(Debug)]
pub struct MovingClock(AtomicU64);

impl MovingClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(START * 1_000)))
    }

    pub fn advance(&self, span: Duration) {
        let span = u64::try_from(span.as_millis()).unwrap();
        self.0.fetch_add(span, Ordering::Relaxed);
    }

    pub fn set(&self, moment: UnixTime) {
        self.0.store(moment.as_secs() * 1_000, Ordering::Relaxed);
    }
}

impl Clock for MovingClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(self.0.load(Ordering::Relaxed) / 1_000)
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'_, ()> {
        self.advance(span);
        Box::pin(std::future::ready(()))
    }
}

/// Chance that is the same in every run: a walk through the numbers from 0 to 1.
#[derive(Debug, Default)]
pub struct Walk(AtomicU64);

impl Random for Walk {
    fn fraction(&self) -> f64 {
        let step = self.0.fetch_add(1, Ordering::Relaxed);
        f64::from(u32::try_from(step * 618_033 % 1_000_000).unwrap()) / 1_000_000.0
    }
}

/// Keeps what was put in service.
#[derive(Debug, Default)]
pub struct Served {
    pub installed: Mutex<Vec<Issued>>,
    /// What was told to be new, with what was before it.
    pub swaps: Mutex<Vec<(Option<Issued>, Issued)>>,
    pub refuse: Mutex<Option<String>>,
}

impl Served {
    pub fn count(&self) -> usize {
        self.installed.lock().unwrap().len()
    }

    /// Whether this certificate was told to be new, in the place of another or the first.
    pub fn was_told_new(&self, issued: &Issued, in_place: bool) -> bool {
        let swaps = self.swaps.lock().unwrap();
        swaps
            .iter()
            .any(|(before, new)| new.chain_pem == issued.chain_pem && before.is_some() == in_place)
    }

    pub fn last(&self) -> Option<Issued> {
        self.installed.lock().unwrap().last().cloned()
    }
}

impl Installer for Served {
    fn install<'a>(
        &'a self,
        _: &'a DnsName,
        issued: &'a Issued,
        occasion: Occasion<'a>,
    ) -> BoxFuture<'a, Result<(), InstallError>> {
        Box::pin(async move {
            if let Some(reason) = self.refuse.lock().unwrap().clone() {
                return Err(InstallError(reason));
            }
            self.installed.lock().unwrap().push(issued.clone());
            if let Occasion::New(before) = occasion {
                let swap = (before.cloned(), issued.clone());
                self.swaps.lock().unwrap().push(swap);
            }
            Ok(())
        })
    }
}

/// A probe that sees what it is told.
#[derive(Debug)]
pub struct Told(pub Mutex<Seen>, pub Mutex<Caa>);

impl Default for Told {
    fn default() -> Self {
        let seen = Seen {
            addresses: vec![[192, 0, 2, 1].into()],
            elsewhere: Vec::new(),
            port80: Port80::Ours,
        };
        Self(Mutex::new(seen), Mutex::new(Caa::Open))
    }
}

impl Probe for Told {
    fn look<'a>(&'a self, _: &'a DnsName, _: &'a str, _: &'a str) -> BoxFuture<'a, Seen> {
        Box::pin(async { self.0.lock().unwrap().clone() })
    }

    fn caa<'a>(&'a self, _: &'a DnsName) -> BoxFuture<'a, Caa> {
        Box::pin(async { self.1.lock().unwrap().clone() })
    }
}

/// A disk without the wait for one, for tests of many steps.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Store for Memory {
    fn read<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, StoreError>> {
        let found = self.0.lock().unwrap().get(name).cloned();
        Box::pin(async { Ok(found.map(Zeroizing::new)) })
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        content: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut records = self.0.lock().unwrap();
            records.insert(name.to_owned(), content.to_vec());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.0.lock().unwrap().remove(name);
            Ok(())
        })
    }
}

/// One box: its disk, its clock, and what it serves.
pub struct Bench {
    pub folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    pub clock: Arc<MovingClock>,
    pub random: Arc<Walk>,
    pub served: Arc<Served>,
    pub probe: Arc<Told>,
    pub authorities: Vec<Arc<MockAuthority>>,
    pub key_type: KeyType,
}

impl Bench {
    /// A box with `authorities` authorities, `ca0.example`, `ca1.example` and so on.
    pub fn new(authorities: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::new(folder.path()));
        Self::on(folder, store, authorities)
    }

    /// One whose disk is memory.
    pub fn in_memory(authorities: usize) -> Self {
        Self::on(
            tempfile::tempdir().unwrap(),
            Arc::new(Memory::default()),
            authorities,
        )
    }

    fn on(folder: tempfile::TempDir, store: Arc<dyn Store>, authorities: usize) -> Self {
        let clock = MovingClock::new();
        let tokens = Tokens::new(Arc::clone(&store));
        let authorities = (0..authorities)
            .map(|n| MockAuthority::new(&format!("ca{n}.example"), clock.clone(), tokens.clone()))
            .collect();
        Self {
            folder,
            store,
            clock,
            random: Arc::default(),
            served: Arc::default(),
            probe: Arc::default(),
            authorities,
            key_type: KeyType::P256,
        }
    }

    pub fn authority(&self) -> &MockAuthority {
        &self.authorities[0]
    }

    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(authority::Internet(self.authorities.clone()))
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub fn configured(&self) -> Vec<Authority> {
        self.authorities
            .iter()
            .map(|ca| ca.as_configured())
            .collect()
    }

    /// The process after a start: nothing in memory, everything from the disk.
    pub fn start(&self) -> Lifecycle {
        self.start_with(self.transport(), self.store(), self.configured())
    }

    pub fn start_with(
        &self,
        transport: Arc<dyn Transport>,
        store: Arc<dyn Store>,
        authorities: Vec<Authority>,
    ) -> Lifecycle {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let accounts = Accounts::new(transport, Arc::clone(&store), Arc::clone(&clock));
        let parts = Parts {
            accounts: Arc::new(accounts),
            tokens: Tokens::new(Arc::clone(&store)),
            store,
            installer: self.served.clone(),
            probe: self.probe.clone(),
            clock,
            random: self.random.clone(),
        };
        let settings = Settings {
            name: DnsName::parse(NAME).unwrap(),
            authorities,
            key_type: self.key_type,
        };
        Lifecycle::new(settings, parts)
    }

    /// The accounts of a process, besides those that a life has.
    pub fn accounts_with(&self, transport: Arc<dyn Transport>, store: Arc<dyn Store>) -> Accounts {
        Accounts::new(transport, store, self.clock.clone())
    }

    /// The files below a folder of the disk.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let read = std::fs::read_dir(self.folder.path().join(Path::new(folder)));
        let mut names: Vec<String> = read
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
