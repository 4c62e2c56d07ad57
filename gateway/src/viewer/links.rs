//! Links that were followed, until someone says who they are: in memory, for a while, a bounded number.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::UnixTime;

use super::patient::Codes;
use crate::access::ReportLink;
use crate::login::SessionKey;

/// Links at once; beyond, the oldest goes.
const MOST: usize = 10_000;
/// How long someone may take to say who they are.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Links that wait.
#[derive(Default)]
pub(super) struct Links(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    links: HashMap<SessionKey, Link>,
    order: VecDeque<SessionKey>,
}

#[derive(Clone)]
struct Link {
    host: Arc<str>,
    followed: Followed,
    since: UnixTime,
}

/// A link that a browser followed, and the one-time codes that were sent for it.
#[derive(Clone)]
pub(super) struct Followed {
    pub(super) link: Arc<ReportLink>,
    pub(super) codes: Arc<Codes>,
}

impl Links {
    pub(super) fn add(&self, key: SessionKey, host: Arc<str>, link: ReportLink, now: UnixTime) {
        let mut waiting = self.0.lock();
        while waiting.order.len() >= MOST {
            let Some(oldest) = waiting.order.pop_front() else {
                break;
            };
            waiting.links.remove(&oldest);
        }
        waiting.order.push_back(key);
        let link = Link {
            host,
            followed: Followed {
                link: Arc::new(link),
                codes: Arc::default(),
            },
            since: now,
        };
        waiting.links.insert(key, link);
    }

    /// The link of a browser, while it waits; on its own host only.
    pub(super) fn get(&self, key: SessionKey, host: &str, now: UnixTime) -> Option<Followed> {
        let waiting = self.0.lock();
        let link = waiting.links.get(&key)?;
        let here = *link.host == *host && now.since(link.since) < LIFETIME;
        here.then(|| link.followed.clone())
    }

    /// Forgets a link that opened its exam.
    pub(super) fn remove(&self, key: SessionKey) {
        self.0.lock().links.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::login::SessionId;

    fn link(study: usize) -> ReportLink {
        ReportLink::parse(&format!("studyUID=1.{study}&accessionNumber=A&idCDA=1.2")).unwrap()
    }

    #[test]
    fn a_link_waits_for_its_own_browser_and_host_a_while() {
        let links = Links::default();
        let (key, other) = (
            SessionId::new().unwrap().key(),
            SessionId::new().unwrap().key(),
        );
        let now = UnixTime::from_secs(1_000_000);
        links.add(key, "vi.a".into(), link(1), now);
        assert!(links.get(key, "vi.a", now).is_some());
        assert!(links.get(key, "vi.b", now).is_none());
        assert!(links.get(other, "vi.a", now).is_none());
        assert!(links.get(key, "vi.a", now.plus(LIFETIME)).is_none());
    }

    #[test]
    fn the_number_of_links_is_bounded() {
        let links = Links::default();
        let now = UnixTime::from_secs(1_000_000);
        let first = SessionId::new().unwrap().key();
        links.add(first, "vi.a".into(), link(1), now);
        for study in 0..MOST {
            let key = SessionId::new().unwrap().key();
            links.add(key, "vi.a".into(), link(study + 2), now);
        }
        assert!(links.get(first, "vi.a", now).is_none());
        assert_eq!(links.0.lock().links.len(), MOST);
    }
}
