//! A look from here at what the authority could not see: the name in the DNS, and port 80 behind it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dns::{Caa, Resolver, SystemResolver};
use crate::name::DnsName;
use crate::{BoxFuture, CHALLENGE_PATH};

/// Bytes read of an answer at most: a key authorization is some hundred bytes.
const MAX_ANSWER: u64 = 16 * 1024;
/// Addresses of a name that are tried at most.
const MAX_ADDRESSES: usize = 8;

/// What answers on port 80 under the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port80 {
    /// This service: it gave the expected answer.
    Ours,
    /// Something else.
    Other,
    /// Nobody listens, or a firewall refuses.
    Refused,
    /// No answer in time: most often a firewall that drops.
    Silent,
    /// Not tried: the name has no address.
    NotTried,
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Addresses of the name.
    pub addresses: Vec<IpAddr>,
    /// Those among them that are not this service's, as far as its addresses are known.
    pub elsewhere: Vec<IpAddr>,
    /// The worst of what its addresses answered: an authority may ask any of them.
    pub port80: Port80,
}

/// Looks at the name as the authority would, as far as that can be done from here.
pub trait Probe: Send + Sync + fmt::Debug {
    /// Asks for the challenge `token` under `name`; the right answer is `expected`.
    fn look<'a>(
        &'a self,
        name: &'a DnsName,
        token: &'a str,
        expected: &'a str,
    ) -> BoxFuture<'a, Seen>;

    /// Asks which authorities the name's zone allows.
    fn caa<'a>(&'a self, name: &'a DnsName) -> BoxFuture<'a, Caa>;
}

/// Looks over the network of this machine. Behind some routers the public address cannot be reached from inside: what
/// it sees explains a failure, and is never a reason not to try.
#[derive(Debug, Clone)]
pub struct SystemProbe {
    resolver: Arc<dyn Resolver>,
    /// The public addresses of this service; empty: not known.
    ours: Vec<IpAddr>,
    port: u16,
    timeout: Duration,
}

impl SystemProbe {
    /// Names by `resolver`, challenges on `port` (80, but for tests), `timeout` for each address.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, port: u16, timeout: Duration) -> Self {
        Self {
            resolver,
            ours: Vec::new(),
            port,
            timeout,
        }
    }

    /// One that knows the public addresses at which the name should point.
    #[must_use]
    pub fn at(self, ours: Vec<IpAddr>) -> Self {
        Self { ours, ..self }
    }

    /// One that asks this resolver.
    #[must_use]
    pub fn asking(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, ..self }
    }
}

impl Default for SystemProbe {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver), 80, Duration::from_secs(5))
    }
}

impl Probe for SystemProbe {
    fn look<'a>(
        &'a self,
        name: &'a DnsName,
        token: &'a str,
        expected: &'a str,
    ) -> BoxFuture<'a, Seen> {
        Box::pin(async move {
            let found = self.resolver.addresses(name.as_str());
            let found = tokio::time::timeout(self.timeout, found).await;
            let mut addresses = found.unwrap_or_default();
            addresses.truncate(MAX_ADDRESSES);
            addresses.sort_unstable();
            addresses.dedup();
            let mut port80 = None;
            for address in &addresses {
                let asked = ask(SocketAddr::new(*address, self.port), name, token);
                let here = match tokio::time::timeout(self.timeout, asked).await {
                    Err(_) => Port80::Silent,
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
                        Port80::Silent
                    }
                    Ok(Err(_)) => Port80::Refused,
                    Ok(Ok(body)) if body.trim_ascii_end() == expected.as_bytes() => Port80::Ours,
                    Ok(Ok(_)) => Port80::Other,
                };
                if port80.is_none() || here != Port80::Ours {
                    port80 = Some(here);
                }
            }
            let known = |address: &IpAddr| self.ours.is_empty() || self.ours.contains(address);
            let elsewhere = addresses.iter().filter(|address| !known(address));
            Seen {
                elsewhere: elsewhere.copied().collect(),
                addresses,
                port80: port80.unwrap_or(Port80::NotTried),
            }
        })
    }

    fn caa<'a>(&'a self, name: &'a DnsName) -> BoxFuture<'a, Caa> {
        Box::pin(Caa::of(name, self.resolver.as_ref()))
    }
}

/// One plain request, whose redirects are not followed: the body of its answer.
async fn ask(address: SocketAddr, name: &DnsName, token: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {CHALLENGE_PATH}{token} HTTP/1.0\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream)
        .take(MAX_ANSWER)
        .read_to_end(&mut answer)
        .await?;
    let end_of_head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end_of_head.and_then(|at| answer.get(at + 4..));
    Ok(body.unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::net::TcpListener;

    use super::*;
    use crate::dns::CaaRecord;

    #[derive(Debug)]
    struct Fixed(Vec<IpAddr>);

    impl Resolver for Fixed {
        fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Vec<IpAddr>> {
            Box::pin(async { self.0.clone() })
        }

        fn caa<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Vec<CaaRecord>>> {
            Box::pin(async { None })
        }
    }

    async fn look(addresses: &[&str], port: u16) -> Seen {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let probe = SystemProbe::new(Arc::new(Fixed(addresses)), port, Duration::from_secs(20));
        let name = DnsName::parse("vi1.centre.example").unwrap();
        probe.look(&name, "token", "token.thumb").await
    }

    async fn answering(body: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_name_without_address_another_machine_and_a_closed_port_are_told_apart() {
        assert_eq!(look(&[], 80).await.port80, Port80::NotTried);
        let ours = answering("token.thumb\n").await;
        assert_eq!(look(&["127.0.0.1"], ours).await.port80, Port80::Ours);
        let other = answering("It works!").await;
        assert_eq!(look(&["127.0.0.1"], other).await.port80, Port80::Other);
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        assert_eq!(look(&["127.0.0.1"], port).await.port80, Port80::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_says_nothing_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(look(&["127.0.0.1"], port).await.port80, Port80::Silent);
    }

    #[tokio::test]
    async fn of_several_addresses_one_that_is_not_ours_counts() {
        for addresses in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
            let ours = answering("token.thumb").await;
            assert_eq!(look(&addresses, ours).await.port80, Port80::Refused);
        }
    }

    #[tokio::test]
    async fn a_name_that_points_at_another_address_is_told_where_the_own_one_is_known() {
        let ours = answering("token.thumb").await;
        let name = DnsName::parse("vi1.centre.example").unwrap();
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let resolver = Arc::new(Fixed(vec![loopback]));
        let probe = SystemProbe::new(resolver, ours, Duration::from_secs(20));
        let probe = probe.at(vec![[192, 0, 2, 1].into()]);
        let seen = probe.look(&name, "token", "token.thumb").await;
        assert_eq!(seen.elsewhere, [loopback]);
        assert!(look(&["127.0.0.1"], ours).await.elsewhere.is_empty());
    }
}
