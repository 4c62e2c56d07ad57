//! Logins under way: each belongs to the browser that started it and is finished once. In memory only.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::{PendingLogin, UnixTime};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use super::Outcome;
use super::return_to::ReturnPath;
use super::secret::{SessionKey, digest};

/// Logins of one browser at once: its tabs.
const TABS: usize = 8;

/// How long the outcome of a login answers the same return of the same browser: a double click, a reload.
const OUTCOME_FOR: Duration = Duration::from_secs(60);

/// Where a login leads, and what for.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// The page after the login.
    pub return_to: ReturnPath,
    /// What the login is for, opaque here: the session has it until it is taken. 4 KiB at most.
    pub link: Option<Arc<str>>,
}

/// A login under way.
pub(super) struct Pending {
    state: [u8; 32],
    pub(super) host: Arc<str>,
    pub(super) destination: Destination,
    started_at: UnixTime,
    /// Taken by whoever finishes it.
    pub(super) login: Mutex<Option<PendingLogin>>,
    /// How it ended; a second request waits for the same.
    pub(super) outcome: OnceCell<Outcome>,
    /// 0 while it is under way.
    finished_at: AtomicU64,
}

impl Pending {
    pub(super) fn new(host: Arc<str>, destination: Destination, login: PendingLogin) -> Self {
        Self {
            state: state_digest(login.state()),
            host,
            destination,
            started_at: login.started_at(),
            login: Mutex::new(Some(login)),
            outcome: OnceCell::new(),
            finished_at: AtomicU64::new(0),
        }
    }

    /// A session came of it.
    pub(super) fn finished(&self, now: UnixTime) {
        self.finished_at.store(now.as_secs(), Ordering::Relaxed);
    }

    fn is_old(&self, now: UnixTime, lifetime: Duration) -> bool {
        let finished_at = self.finished_at.load(Ordering::Relaxed);
        let used = finished_at != 0 && now.since(UnixTime::from_secs(finished_at)) >= OUTCOME_FOR;
        used || now.since(self.started_at) >= lifetime
    }
}

/// All of them.
pub(super) struct Pendings {
    most: usize,
    /// How long a login may take.
    lifetime: Duration,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    browsers: HashMap<SessionKey, Browser>,
    total: usize,
}

struct Browser {
    remote: IpAddr,
    logins: VecDeque<Arc<Pending>>,
}

impl Pendings {
    pub(super) fn new(most: usize, lifetime: Duration) -> Self {
        Self {
            most,
            lifetime,
            open: Mutex::default(),
        }
    }

    pub(super) fn knows(&self, browser: SessionKey) -> bool {
        self.open.lock().browsers.contains_key(&browser)
    }

    pub(super) fn add(&self, browser: SessionKey, remote: IpAddr, pending: Pending) {
        let mut open = self.open.lock();
        while open.total >= self.most && open.drop_some_of_busiest(self.most / 64 + 1) {}
        let of_browser = open.browsers.entry(browser).or_insert_with(|| Browser {
            remote,
            logins: VecDeque::new(),
        });
        of_browser.logins.push_back(Arc::new(pending));
        let dropped = of_browser.logins.len() > TABS;
        if dropped {
            of_browser.logins.pop_front();
        } else {
            open.total += 1;
        }
    }

    /// The login of this browser with this state.
    pub(super) fn find(
        &self,
        browser: SessionKey,
        state: &SecretString,
        now: UnixTime,
    ) -> Option<Arc<Pending>> {
        let state = state_digest(state);
        let open = self.open.lock();
        let mut logins = open.browsers.get(&browser)?.logins.iter();
        logins
            .find(|pending| pending.state == state && !pending.is_old(now, self.lifetime))
            .cloned()
    }

    /// Where the last login of this browser was to lead, to start it again.
    pub(super) fn last_destination(&self, browser: SessionKey, host: &str) -> Option<Destination> {
        let open = self.open.lock();
        let logins = &open.browsers.get(&browser)?.logins;
        let last = logins.iter().rev().find(|pending| *pending.host == *host)?;
        Some(last.destination.clone())
    }

    /// Forgets a browser: it logged out.
    pub(super) fn forget(&self, browser: SessionKey) {
        self.open.lock().forget(browser);
    }

    /// Drops what is over.
    pub(super) fn sweep(&self, now: UnixTime) {
        let mut open = self.open.lock();
        let lifetime = self.lifetime;
        open.browsers.retain(|_, browser| {
            let logins = &mut browser.logins;
            logins.retain(|pending| !pending.is_old(now, lifetime));
            !logins.is_empty()
        });
        open.total = open.browsers.values().map(|one| one.logins.len()).sum();
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().total
    }
}

impl Open {
    /// Drops the oldest logins, a few at a time, of the address that has the most: who floods crowds out himself.
    fn drop_some_of_busiest(&mut self, some: usize) -> bool {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for browser in self.browsers.values() {
            *counts.entry(browser.remote).or_default() += browser.logins.len();
        }
        let busiest = counts.into_iter().max_by_key(|(_, count)| *count);
        let Some((address, _)) = busiest else {
            return false;
        };
        let of_address = self
            .browsers
            .iter()
            .filter(|(_, one)| one.remote == address);
        let mut oldest: Vec<_> = of_address
            .map(|(key, browser)| (browser.logins.front().map(|one| one.started_at), *key))
            .collect();
        oldest.sort_by_key(|(started_at, _)| *started_at);
        for (_, key) in oldest.into_iter().take(some) {
            self.forget(key);
        }
        true
    }

    fn forget(&mut self, browser: SessionKey) {
        if let Some(gone) = self.browsers.remove(&browser) {
            self.total = self.total.saturating_sub(gone.logins.len());
        }
    }
}

fn state_digest(state: &SecretString) -> [u8; 32] {
    digest(b"state", state.expose_secret())
}
