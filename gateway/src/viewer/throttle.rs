//! How often one address may follow links, and how often links to one study may fail.
//!
//! Counters live in memory: a restart forgets them.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::UnixTime;

use crate::dicom::uid::StudyUid;

/// Links that one address follows in a window: a practice behind one address opens many.
const OF_ADDRESS: Limit = Limit {
    most: 120,
    window: Duration::from_secs(600),
};
/// Refused links of one address in a window.
const REFUSED_OF_ADDRESS: Limit = Limit {
    most: 20,
    window: Duration::from_secs(3600),
};
/// Refused links to one study in a window: someone guesses its accession number or report.
const REFUSED_OF_STUDY: Limit = Limit {
    most: 20,
    window: Duration::from_secs(3600),
};
/// Counters kept; beyond, those of old windows go, then the table starts again.
const MOST: usize = 100_000;

struct Limit {
    most: u32,
    window: Duration,
}

/// The counters.
#[derive(Default)]
pub(super) struct Throttle {
    followed: Counters<IpAddr>,
    refused: Counters<IpAddr>,
    studies: Counters<StudyUid>,
}

impl Throttle {
    /// Whether an address may follow another link now; counts it.
    pub(super) fn may_follow(&self, address: IpAddr, now: UnixTime) -> bool {
        let address = network(address);
        let refused = self.refused.count(&address, &REFUSED_OF_ADDRESS, now);
        self.followed.add(address, &OF_ADDRESS, now) <= OF_ADDRESS.most
            && refused < REFUSED_OF_ADDRESS.most
    }

    /// Whether links to a study are looked at now.
    pub(super) fn may_open(&self, study: &StudyUid, now: UnixTime) -> bool {
        self.studies.count(study, &REFUSED_OF_STUDY, now) < REFUSED_OF_STUDY.most
    }

    /// Counts a refused link. `true` when it is the one after which the study is locked.
    pub(super) fn refused(&self, address: IpAddr, study: &StudyUid, now: UnixTime) -> bool {
        self.refused.add(network(address), &REFUSED_OF_ADDRESS, now);
        self.studies.add(study.clone(), &REFUSED_OF_STUDY, now) == REFUSED_OF_STUDY.most
    }
}

/// One subscriber has 2^64 addresses of IPv6: the network counts.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(network.into())
        }
        address => address.to_canonical(),
    }
}

struct Counters<K>(Mutex<HashMap<K, (UnixTime, u32)>>);

impl<K> Default for Counters<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Counters<K> {
    fn add(&self, key: K, limit: &Limit, now: UnixTime) -> u32 {
        let mut counters = self.0.lock();
        if counters.len() >= MOST {
            counters.retain(|_, (since, _)| now.since(*since) < limit.window);
            if counters.len() >= MOST {
                counters.clear();
            }
        }
        let (since, count) = counters.entry(key).or_insert((now, 0));
        if now.since(*since) >= limit.window {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count
    }

    fn count(&self, key: &K, limit: &Limit, now: UnixTime) -> u32 {
        let counters = self.0.lock();
        match counters.get(key) {
            Some((since, count)) if now.since(*since) < limit.window => *count,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: u64 = 1_000_000;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_secs(NOW + seconds)
    }

    #[test]
    fn an_address_that_guesses_is_locked_out_and_the_others_are_not() {
        let throttle = Throttle::default();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for study in 0..REFUSED_OF_ADDRESS.most {
            assert!(throttle.may_follow(one, at(0)));
            let study = StudyUid::parse(&format!("1.{study}")).unwrap();
            assert!(!throttle.refused(one, &study, at(0)));
        }
        assert!(!throttle.may_follow(one, at(1)));
        assert!(throttle.may_follow(other, at(1)));
        assert!(throttle.may_follow(one, at(3600)));
    }

    #[test]
    fn a_study_that_is_guessed_at_is_locked_whoever_asks() {
        let throttle = Throttle::default();
        let study = StudyUid::parse("1.2").unwrap();
        let mut locked = 0;
        for address in 0..REFUSED_OF_STUDY.most {
            assert!(throttle.may_open(&study, at(0)));
            let address = IpAddr::from([198, 51, 100, address as u8]);
            locked += u32::from(throttle.refused(address, &study, at(0)));
        }
        assert_eq!(locked, 1, "the lock is told once");
        assert!(!throttle.may_open(&study, at(0)));
        assert!(throttle.may_open(&StudyUid::parse("1.3").unwrap(), at(0)));
        assert!(throttle.may_open(&study, at(3600)));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let throttle = Throttle::default();
        let study = |n: u32| StudyUid::parse(&format!("1.{n}")).unwrap();
        for n in 0..REFUSED_OF_ADDRESS.most {
            let address: IpAddr = format!("2001:db8::{n:x}").parse().unwrap();
            throttle.refused(address, &study(n), at(0));
        }
        assert!(!throttle.may_follow("2001:db8::ffff".parse().unwrap(), at(0)));
        assert!(throttle.may_follow("2001:db8:0:1::1".parse().unwrap(), at(0)));
    }
}
