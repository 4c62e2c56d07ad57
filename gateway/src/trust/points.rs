//! Addresses that certificates of peers name: where the revocation list of their issuer is (RFC 5280
//! §4.2.1.13), and who answers about them (§4.2.2.1); and the names that tie a certificate to a list.
//!
//! A certificate can name any address. One is only looked at when an authority of ours signed it, and
//! an address is only used in plain HTTP, on a host that the configuration allows; there is room for a
//! few.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use url::Url;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS;

use super::anchors::distribution_points;
use super::der::{self, Elements};

/// Addresses of revocation lists that are remembered.
const MAX_POINTS: usize = 16;
/// Longest address, bytes.
const MAX_LENGTH: usize = 512;

/// `distributionPoint` of a DistributionPoint, `[0]`.
const DISTRIBUTION_POINT: u8 = 0xa0;
/// `fullName` of a DistributionPointName, `[0]`.
const FULL_NAME: u8 = 0xa0;

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
        let url = plain(url);
        url.is_some_and(|url| url.host_str().is_some_and(|host| self.hosts.contains(host)))
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

/// Whether an address can be one that is asked: plain HTTP without credentials, of no unusual length.
pub(super) fn is_plain(url: &str) -> bool {
    plain(url).is_some()
}

fn plain(url: &str) -> Option<Url> {
    let is_short = url.len() <= MAX_LENGTH;
    let url = is_short.then(|| Url::parse(url).ok()).flatten()?;
    let no_credentials = url.username().is_empty() && url.password().is_none();
    (url.scheme() == "http" && url.host().is_some() && no_credentials).then_some(url)
}

/// Names of the distribution points of a certificate (RFC 5280 §4.2.1.13), each a GeneralName in DER,
/// of every form: a list that says which distribution point it is for speaks of those that have its
/// name (§6.3.3 (b)(2)(i)).
///
/// Points that somebody else than the issuer fills (`cRLIssuer`: an indirect list, (b)(1)) and those for
/// some reasons alone are left out: no list in use is one of these.
pub(super) fn names<'a>(certificate: &X509Certificate<'a>) -> Vec<&'a [u8]> {
    let mut all = Vec::new();
    for extension in certificate.extensions() {
        if extension.oid != OID_X509_EXT_CRL_DISTRIBUTION_POINTS {
            continue;
        }
        let Some(points) = Elements(extension.value).expect(der::SEQUENCE) else {
            continue;
        };
        for point in Elements(points.content) {
            let mut fields = Elements(point.content);
            let Some(name) = fields.expect(DISTRIBUTION_POINT) else {
                continue;
            };
            if fields.is_done() {
                all.extend(full_names(name.content).unwrap_or_default());
            }
        }
    }
    all
}

/// The names in a DistributionPointName (RFC 5280 §4.2.1.13), each a GeneralName in DER; `None` when it
/// is no full name, or none is in it.
pub(super) fn full_names(point: &[u8]) -> Option<Vec<&[u8]>> {
    let mut whole = Elements(point);
    let mut names = Elements(whole.expect(FULL_NAME)?.content);
    let all: Vec<_> = names.by_ref().map(|name| name.whole).collect();
    (whole.is_done() && names.is_done() && !all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_are_read_whole_or_not_at_all() {
        let two = [0xa0, 6, 0x86, 1, b'a', 0x86, 1, b'b'];
        let read: &[&[u8]] = &[&[0x86, 1, b'a'], &[0x86, 1, b'b']];
        assert_eq!(full_names(&two).as_deref(), Some(read));
        for bad in [
            &[][..],
            &[0xa0, 0],
            // A byte too few in a name, one behind them.
            &[0xa0, 3, 0x86, 2, b'a'],
            &[0xa0, 3, 0x86, 1, b'a', 0],
            // nameRelativeToCRLIssuer
            &[0xa1, 3, 0x86, 1, b'a'],
        ] {
            assert_eq!(full_names(bad), None, "{bad:?}");
        }
    }

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
