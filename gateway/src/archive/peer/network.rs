//! Which addresses a host name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses that may be asked: those of the public Internet, and networks that the administrator
/// names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Networks allowed though they are not public.
    pub networks: Vec<IpNet>,
}

impl AddressPolicy {
    /// Whether a connection to this address may be opened.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        // ::ffff:10.0.0.1 is 10.0.0.1 for the system that connects.
        let address = address.to_canonical();
        is_public(address)
            || self
                .networks
                .iter()
                .any(|network| network.contains(&address))
    }
}

/// Whether an address is one of the public Internet: neither private, nor of this machine or link, nor
/// reserved (RFC 6890 and the IANA registries of special-purpose addresses).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        // This network, private, loopback, multicast and reserved.
        0 | 10 | 127 | 224..=255 => true,
        // Shared by carriers (RFC 6598).
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        // Protocol assignments, documentation, 6to4 relays, private.
        192 => matches!((b, c), (0, 0 | 2) | (88, 99) | (168, _)),
        // Benchmarks and documentation.
        198 => matches!(b, 18 | 19) || (b, c) == (51, 100),
        203 => (b, c) == (0, 113),
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Global unicast is 2000::/3. Of it: documentation, protocol assignments with Teredo and ORCHID,
    // and 6to4, which hides an IPv4 address.
    let special = match (a, b) {
        (0x2001, 0x0db8) | (0x2002, _) => true,
        (0x2001, b) => b < 0x0200,
        (0x3fff, b) => b < 0x1000,
        _ => false,
    };
    // What is private, and 64:ff9b::/96 that hides an IPv4 address too, lie outside.
    (a & 0xe000) == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn private_loopback_link_local_and_reserved_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:0a00:0001::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
            assert!(
                !AddressPolicy::default().allows(text.parse().unwrap()),
                "{text}"
            );
        }
        for text in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.1.0.1",
            "198.20.0.1",
            "::ffff:8.8.8.8",
            "2001:4860:4860::8888",
            "2a01:e0a::1",
            "2606:4700::1111",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_network_that_is_named_is_allowed_in_either_notation() {
        let policy = AddressPolicy {
            networks: vec!["10.20.0.0/16".parse().unwrap()],
        };
        assert!(policy.allows("10.20.3.4".parse().unwrap()));
        assert!(policy.allows("::ffff:10.20.3.4".parse().unwrap()));
        assert!(!policy.allows("10.21.0.1".parse().unwrap()));
    }
}
