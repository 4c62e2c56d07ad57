//! The DNS as an authority sees it: addresses of a name, and which authorities its zone allows (CAA, RFC 8659).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::BoxFuture;
use crate::failure::bounded;
use crate::name::DnsName;

/// Time for one question, with one repetition.
const QUESTION: Duration = Duration::from_secs(3);
/// CAA records that are looked at.
const MAX_RECORDS: usize = 64;

/// Asks the DNS.
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The addresses of a name; empty when there are none, or no answer.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<IpAddr>>;

    /// The CAA records at exactly this name; `None` when there is no answer.
    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Vec<CaaRecord>>>;
}

/// One CAA record (RFC 8659 §4.1), without its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaaRecord {
    /// `issue`, `issuewild`, `iodef`…
    pub tag: String,
    /// The text after it.
    pub value: String,
}

/// Which authorities a name's zone allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caa {
    /// The DNS did not answer.
    Unknown,
    /// All of them: nothing restricts the name.
    Open,
    /// Only these.
    Only {
        /// Name that has the records: the name itself or one above it.
        at: String,
        /// Domain names of the authorities, in lower case; none: nobody may issue.
        issuers: Vec<String>,
    },
}

impl Caa {
    /// What counts for `name`: the records of the first name that has some, from itself upwards (RFC 8659 §3).
    pub async fn of(name: &DnsName, resolver: &dyn Resolver) -> Self {
        let mut at = name.as_str();
        loop {
            let Some(records) = resolver.caa(at).await else {
                return Self::Unknown;
            };
            if !records.is_empty() {
                return Self::from_records(at, &records);
            }
            match at.split_once('.') {
                Some((_, above)) => at = above,
                None => return Self::Open,
            }
        }
    }

    fn from_records(at: &str, records: &[CaaRecord]) -> Self {
        let issue = |record: &&CaaRecord| record.tag.eq_ignore_ascii_case("issue");
        let issue: Vec<_> = records.iter().filter(issue).collect();
        // Records that say nothing on certificates without wildcard restrict none (RFC 8659 §4.2).
        if issue.is_empty() {
            return Self::Open;
        }
        // After the name come parameters (`; accounturi=…`), which are between the zone and the authority.
        let issuers = issue
            .iter()
            .map(|record| record.value.split(';').next().unwrap_or_default().trim())
            .filter(|issuer| !issuer.is_empty())
            .map(|issuer| bounded(issuer).to_ascii_lowercase())
            .collect();
        Self::Only {
            at: at.to_owned(),
            issuers,
        }
    }

    /// Whether an authority with these CAA identities (RFC 8555 §9.7.6) may issue; `None` when that cannot be said.
    #[must_use]
    pub fn allows(&self, identities: &[String]) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Open => Some(true),
            Self::Only { issuers, .. } if issuers.is_empty() => Some(false),
            Self::Only { .. } if identities.is_empty() => None,
            Self::Only { issuers, .. } => Some(
                identities
                    .iter()
                    .any(|identity| issuers.contains(&identity.to_ascii_lowercase())),
            ),
        }
    }
}

impl fmt::Display for Caa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no answer on CAA"),
            Self::Open => f.write_str("no CAA record restricts the name"),
            Self::Only { at, issuers } if issuers.is_empty() => {
                write!(f, "CAA of {at} allows no authority")
            }
            Self::Only { at, issuers } => write!(f, "CAA of {at} allows {}", issuers.join(", ")),
        }
    }
}

/// The resolver of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
        Box::pin(async move {
            match tokio::net::lookup_host((name, 80)).await {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(_) => Vec::new(),
            }
        })
    }

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Vec<CaaRecord>>> {
        Box::pin(async move {
            // Read anew at each question: the machine's servers may change.
            let mut builder = TokioResolver::builder_tokio().ok()?;
            let options = builder.options_mut();
            (options.timeout, options.attempts, options.cache_size) = (QUESTION, 2, 0);
            caa(&builder.build().ok()?, name).await
        })
    }
}

/// Servers that are named: inside a centre the DNS may answer otherwise than on the Internet.
#[derive(Debug, Clone)]
pub struct DnsResolver {
    servers: Vec<SocketAddr>,
}

impl DnsResolver {
    /// Asks these servers, which answer for the whole of the DNS.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }

    fn resolver(&self) -> Option<TokioResolver> {
        let servers = self.servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut one| {
                one.port = server.port();
                one
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        let runtime = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, runtime);
        let options = builder.options_mut();
        (options.timeout, options.attempts, options.cache_size) = (QUESTION, 2, 0);
        builder.build().ok()
    }
}

impl Resolver for DnsResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let Some(resolver) = self.resolver() else {
                return Vec::new();
            };
            let name = format!("{name}.");
            let (four, six) = tokio::join!(
                resolver.lookup(name.as_str(), RecordType::A),
                resolver.lookup(name.as_str(), RecordType::AAAA),
            );
            let records = [four, six].into_iter().flatten();
            let mut found = Vec::new();
            for answer in records {
                for record in answer.answers() {
                    found.extend(match &record.data {
                        RData::A(address) => Some(IpAddr::V4(address.0)),
                        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                        _ => None,
                    });
                }
            }
            found
        })
    }

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Vec<CaaRecord>>> {
        Box::pin(async move { caa(&self.resolver()?, name).await })
    }
}

async fn caa(resolver: &TokioResolver, name: &str) -> Option<Vec<CaaRecord>> {
    // Ends with a dot: the machine's search list must not be tried.
    match resolver.lookup(format!("{name}."), RecordType::CAA).await {
        Ok(answer) => {
            let records = answer.answers().iter().filter_map(|record| {
                let RData::CAA(caa) = &record.data else {
                    return None;
                };
                Some(CaaRecord {
                    tag: caa.tag.clone(),
                    value: String::from_utf8_lossy(&caa.value).into_owned(),
                })
            });
            Some(records.take(MAX_RECORDS).collect())
        }
        Err(error) if error.is_no_records_found() => Some(Vec::new()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashMap;

    use super::*;

    /// Zones with their `issue` values; a name that is not there has no answer when `silent`.
    #[derive(Debug, Default)]
    struct Zones {
        records: HashMap<&'static str, Vec<(&'static str, &'static str)>>,
        silent: bool,
    }

    impl Resolver for Zones {
        fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
            Box::pin(async { Vec::new() })
        }

        fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Vec<CaaRecord>>> {
            Box::pin(async move {
                let Some(records) = self.records.get(name) else {
                    return (!self.silent).then(Vec::new);
                };
                let record = |(tag, value): &(&str, &str)| CaaRecord {
                    tag: (*tag).to_owned(),
                    value: (*value).to_owned(),
                };
                Some(records.iter().map(record).collect())
            })
        }
    }

    async fn seen(records: &[(&'static str, &'static str, &'static str)]) -> Caa {
        let mut zones = Zones::default();
        for (at, tag, value) in records {
            zones.records.entry(at).or_default().push((tag, value));
        }
        let name = DnsName::parse("vi1.centre.example").unwrap();
        Caa::of(&name, &zones).await
    }

    fn allowed(caa: &Caa, identity: &str) -> Option<bool> {
        caa.allows(&[identity.to_owned()])
    }

    #[tokio::test]
    async fn the_nearest_name_with_records_decides_who_may_issue() {
        assert_eq!(seen(&[]).await, Caa::Open);
        let above = ("centre.example", "issue", "letsencrypt.org");
        let caa = seen(&[above]).await;
        assert_eq!(allowed(&caa, "LetsEncrypt.org"), Some(true));
        assert_eq!(allowed(&caa, "other.example"), Some(false));
        assert_eq!(
            caa.to_string(),
            "CAA of centre.example allows letsencrypt.org"
        );
        let own = ("vi1.centre.example", "issue", " Other.Example ; policy=ev");
        let caa = seen(&[above, own]).await;
        assert_eq!(allowed(&caa, "other.example"), Some(true));
        assert_eq!(allowed(&caa, "letsencrypt.org"), Some(false));
    }

    #[tokio::test]
    async fn records_on_wildcards_alone_restrict_nothing_and_an_empty_issuer_everything() {
        let caa = seen(&[("vi1.centre.example", "issuewild", ";")]).await;
        assert_eq!(allowed(&caa, "any.example"), Some(true));
        let caa = seen(&[("centre.example", "issue", ";")]).await;
        assert_eq!(allowed(&caa, "any.example"), Some(false));
        assert_eq!(caa.allows(&[]), Some(false));
    }

    #[tokio::test]
    async fn what_cannot_be_known_is_not_said() {
        let zones = Zones {
            silent: true,
            ..Zones::default()
        };
        let name = DnsName::parse("vi1.centre.example").unwrap();
        let caa = Caa::of(&name, &zones).await;
        assert_eq!((&caa, caa.allows(&[])), (&Caa::Unknown, None));
        // An authority that does not say by which names it goes.
        let caa = seen(&[("centre.example", "issue", "letsencrypt.org")]).await;
        assert_eq!(caa.allows(&[]), None);
    }
}
