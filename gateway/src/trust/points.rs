//! Addresses that certificates of peers name: where the revocation list of their issuer is (RFC 5280
//! §4.2.1.13), and who answers about them (§4.2.2.1).
//!
//! A certificate can name any address. One is only looked at when an authority of ours signed it, and
//! an address is only used in plain HTTP, on a host that the configuration allows; there is room for a
//! few.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use url::Url;
use x509_parser::certificate::X509Certificate;

use super::anchors::distribution_points;

/// Addresses of revocation lists that are remembered.
const MAX_POINTS: usize = 16;
/// Longest address, bytes.
const MAX_LENGTH: usize = 512;

/// Where the certificates of peers say that revocation lists are.
#[derive(Debug)]
pub(super) struct Points {
    hosts: BTreeSet<String>,
    met: Mutex<BTreeSet<String>>,
    fresh: Notify,
}

impl Points {
    /// None yet; on these hosts they will be used.
    pub(super) fn new(hosts: &[String]) -> Self {
        Self {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            met: Mutex::default(),
            fresh: Notify::new(),
        }
    }

    /// Looks at a certificate that an authority of ours signed.
    pub(super) fn meet(&self, certificate: &X509Certificate<'_>) {
        for url in distribution_points(certificate) {
            if !self.allows(&url) {
                continue;
            }
            let mut met = self.met.lock();
            if met.len() < MAX_POINTS && met.insert(url) {
                self.fresh.notify_one();
            }
        }
    }

    /// Whether an address of a certificate may be asked.
    pub(super) fn allows(&self, url: &str) -> bool {
        if url.len() > MAX_LENGTH {
            return false;
        }
        let Ok(url) = Url::parse(url) else {
            return false;
        };
        url.scheme() == "http"
            && url.username().is_empty()
            && url.password().is_none()
            && url.host_str().is_some_and(|host| self.hosts.contains(host))
    }

    /// The addresses so far.
    pub(super) fn met(&self) -> Vec<String> {
        self.met.lock().iter().cloned().collect()
    }

    /// Waits for one that is new.
    pub(super) async fn one_more(&self) {
        self.fresh.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_on_an_allowed_host_is_asked() {
        let points = Points::new(&["CRL.example".to_owned(), "127.0.0.1".to_owned()]);
        for good in ["http://crl.example/list.crl", "http://127.0.0.1:8080/x"] {
            assert!(points.allows(good), "{good}");
        }
        let long = format!("http://crl.example/{}", "x".repeat(MAX_LENGTH));
        for bad in [
            "https://crl.example/list.crl",
            "ldap://crl.example/cn=x",
            "http://crl.example.attacker.example/",
            "http://attacker.example/crl.example",
            "http://crl.example@attacker.example/",
            "http://user@crl.example/",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "",
            &long,
        ] {
            assert!(!points.allows(bad), "{bad}");
        }
    }
}
