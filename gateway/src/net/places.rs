//! How many connections one address may hold open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections open now, by the address they come from. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection of an address; its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// A place for one more connection of this address; `None` when it has as many as it may.
    pub(super) fn take(&self, address: IpAddr) -> Option<Place> {
        let address = one_client(address);
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            address,
            open: Arc::clone(&self.open),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// One client has a whole /64 of IPv6 (RFC 6177), and one address of IPv4.
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_its_places_and_takes_none_of_another() {
        let places = Places::new(2);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(one).unwrap();
        let _second = places.take(one).unwrap();
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(first);
        assert!(places.take(one).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let places = Places::new(1);
        let _taken = places.take("2001:db8::1".parse().unwrap()).unwrap();
        assert!(places.take("2001:db8::2:1".parse().unwrap()).is_none());
        assert!(places.take("2001:db8:0:1::1".parse().unwrap()).is_some());
        // An IPv4 address is the same one when it comes by a socket of IPv6.
        let _mapped = places.take("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(places.take("10.0.0.1".parse().unwrap()).is_none());
        assert!(places.take("10.0.0.2".parse().unwrap()).is_some());
    }

    #[test]
    fn nothing_is_kept_of_an_address_that_left() {
        let places = Places::new(1);
        drop(places.take(IpAddr::from([10, 0, 0, 1])));
        assert!(places.open.lock().is_empty());
    }
}
