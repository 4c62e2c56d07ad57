//! A list of addresses in a file, read again when it changes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// Time between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Largest file read, bytes: thousands of networks.
const MAX_BYTES: u64 = 1 << 20;

/// Addresses and networks, one a line (`192.0.2.7`, `2001:db8::/32`); what follows `#` is not read.
///
/// The file may be replaced at any time: it is looked at while it is asked about. One that cannot
/// be used leaves the list as it was.
#[derive(Debug)]
pub struct AddressList {
    file: PathBuf,
    networks: ArcSwap<Vec<Network>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    modified: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a list of addresses cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressListError {
    /// The system does not let us read it.
    #[error("{path}: cannot be read: {source}. Check that the service's account may read it.")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A line is no address.
    #[error(
        "{path}: line {line} is no address. Write one IP address or network (a.b.c.d/n) a line."
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
}

impl AddressList {
    /// Reads a list.
    ///
    /// # Errors
    /// [`AddressListError`].
    pub fn load(file: &Path) -> Result<Self, AddressListError> {
        let modified = modified(file);
        Ok(Self {
            file: file.to_owned(),
            networks: ArcSwap::from_pointee(read(file)?),
            seen: Mutex::new(Seen {
                at: Instant::now(),
                modified,
            }),
        })
    }

    /// Whether an address is in the list, as the file is now, or was a second ago.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.look_again();
        let address = address.to_canonical();
        self.networks.load().iter().any(|n| n.holds(address))
    }

    fn look_again(&self) {
        let mut seen = self.seen.lock();
        if seen.at.elapsed() < LOOK_EVERY {
            return;
        }
        seen.at = Instant::now();
        let modified = modified(&self.file);
        if modified == seen.modified {
            return;
        }
        seen.modified = modified;
        drop(seen);
        match read(&self.file) {
            Ok(networks) => {
                tracing::info!(networks = networks.len(), "list of addresses read again");
                self.networks.store(Arc::new(networks));
            }
            Err(error) => tracing::warn!("{error} The list stays as it was."),
        }
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn holds(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u128::from(own.to_bits() ^ other.to_bits());
                differ >> (32 - self.bits.min(32)) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = own.to_bits() ^ other.to_bits();
                differ.checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).ok()?.modified().ok()
}

fn read(file: &Path) -> Result<Vec<Network>, AddressListError> {
    let unreadable = |source| AddressListError::Read {
        path: file.to_owned(),
        source,
    };
    if std::fs::metadata(file).map_err(unreadable)?.len() > MAX_BYTES {
        return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let mut networks = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let network = Network::parse(line).ok_or_else(|| AddressListError::Line {
            path: file.to_owned(),
            line: at + 1,
        })?;
        networks.push(network);
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::unchecked_time_subtraction)]
    use super::*;

    fn list(text: &str) -> (tempfile::TempDir, Result<AddressList, AddressListError>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("addresses");
        std::fs::write(&file, text).unwrap();
        let list = AddressList::load(&file);
        (folder, list)
    }

    #[test]
    fn addresses_and_networks_of_both_families_are_known() {
        let (_folder, list) = list("192.0.2.7 # probe\n\n10.0.0.0/8\n2001:db8::/32\n");
        let list = list.unwrap();
        for (address, known) in [
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(list.holds(address.parse().unwrap()), known, "{address}");
        }
        let (_folder, all) = super::tests::list("0.0.0.0/0\n::/0\n");
        let all = all.unwrap();
        assert!(all.holds("8.8.8.8".parse().unwrap()) && all.holds("::1".parse().unwrap()));
    }

    #[test]
    fn a_line_that_is_no_address_is_named() {
        for text in [
            "192.0.2.7\nexample.org",
            "192.0.2.7\n10.0.0.0/33",
            "\n1.2.3",
        ] {
            let (_folder, list) = list(text);
            assert!(
                matches!(list, Err(AddressListError::Line { line: 2, .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_wrong_one_changes_nothing() {
        let (folder, list) = list("192.0.2.7\n");
        let list = list.unwrap();
        let change = |text: &str, minutes: u64| {
            let file = folder.path().join("addresses");
            std::fs::write(&file, text).unwrap();
            let later = SystemTime::now() + Duration::from_secs(60 * minutes);
            let file = std::fs::File::open(&file).unwrap();
            file.set_modified(later).unwrap();
            let mut seen = list.seen.lock();
            seen.at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        };
        let other = "192.0.2.8".parse().unwrap();
        assert!(!list.holds(other));
        change("192.0.2.8\n", 1);
        assert!(list.holds(other));
        change("nonsense\n", 2);
        assert!(list.holds(other));
    }
}
