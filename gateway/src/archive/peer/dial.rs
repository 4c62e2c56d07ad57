//! Connections with a listed DRIMbox: the name is resolved first, and only an address that may be asked
//! is connected to, so that what was checked is what is used.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, Resumption};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::PeerError;
use super::network::AddressPolicy;
use crate::archive::ArchiveError;
use crate::archive::dicomweb::client::Dial;
use crate::archive::socket::{Socket, Tls};

/// Addresses of one name tried at most.
const MAX_ADDRESSES: usize = 8;

/// Finds the addresses of a host name.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses, in the order to try them.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        async move {
            // Without a final dot the search domains of the machine would be tried too.
            let found = tokio::net::lookup_host((format!("{host}."), 0)).await;
            let found = match found {
                Ok(found) => found,
                // Some resolvers do not know the names of their hosts file with a final dot.
                Err(_) => return tokio::net::lookup_host((host, 0)).await.map(addresses),
            };
            Ok(addresses(found))
        }
        .boxed()
    }
}

fn addresses(found: impl Iterator<Item = SocketAddr>) -> Vec<IpAddr> {
    found.map(|address| address.ip()).collect()
}

/// TLS towards peers: this DRIMbox's certificate, and who checks theirs.
///
/// Sessions are never resumed: every connection is checked against the white list and the revocation
/// lists of its moment.
///
/// # Errors
/// rustls's, when certificate and key do not fit.
pub fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(crate::net::tls::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens connections with one peer.
pub(super) struct PeerDial {
    pub host: String,
    pub port: u16,
    /// Where it is, when the administrator says so: no name is resolved then.
    pub fixed: Option<SocketAddr>,
    pub resolver: Arc<dyn Resolve>,
    pub policy: AddressPolicy,
    pub tls: Arc<ClientConfig>,
}

impl PeerDial {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ArchiveError> {
        if let Some(fixed) = self.fixed {
            return Ok(vec![fixed]);
        }
        let found = self.resolver.resolve(&self.host).await;
        let found = found.map_err(|error| self.unreachable(&error))?;
        let some = !found.is_empty();
        let allowed = found.into_iter().filter(|ip| self.policy.allows(*ip));
        let allowed = allowed.map(|ip| SocketAddr::new(ip, self.port));
        let allowed: Vec<SocketAddr> = allowed.take(MAX_ADDRESSES).collect();
        if allowed.is_empty() && some {
            return Err(ArchiveError::Peer(PeerError::PrivateAddress {
                host: self.host.clone(),
            }));
        }
        Ok(allowed)
    }

    async fn connect(&self) -> Result<Socket, ArchiveError> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| self.unreachable(&io::Error::other(error)))?;
        let tls: Tls = (TlsConnector::from(Arc::clone(&self.tls)), name);
        let mut last = self.unreachable(&io::Error::other("the name has no address"));
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Socket::over(tcp, &self.address(), Some(&tls)).await,
                Err(error) => last = self.unreachable(&error),
            }
        }
        Err(last)
    }

    fn unreachable(&self, error: &io::Error) -> ArchiveError {
        ArchiveError::Unreachable {
            address: self.address(),
            detail: error.to_string(),
        }
    }
}

impl Dial for PeerDial {
    fn dial(&self) -> BoxFuture<'_, Result<Socket, ArchiveError>> {
        self.connect().boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers with these addresses, whatever the name.
    struct Answers(Vec<IpAddr>);

    impl Resolve for Answers {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            let answers = self.0.clone();
            async move { Ok(answers) }.boxed()
        }
    }

    fn dial(answers: &[&str], networks: &[&str], port: u16) -> PeerDial {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["ca".into()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(params.self_signed(&key).unwrap().der().clone())
            .unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            crate::net::tls::provider(),
        );
        PeerDial {
            host: "db1.example.org".into(),
            port,
            fixed: None,
            resolver: Arc::new(Answers(
                answers.iter().map(|ip| ip.parse().unwrap()).collect(),
            )),
            policy: AddressPolicy {
                networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            },
            tls: client_config(verifier.build().unwrap(), None).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for answer in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let refused = dial(&[answer], &[], port).dial().await.unwrap_err();
            assert!(matches!(
                refused,
                ArchiveError::Peer(PeerError::PrivateAddress { .. })
            ));
        }
        // The first connection that arrives is that of a peer whose network is allowed: no other came.
        let allowed = dial(&["127.0.0.1"], &["127.0.0.0/8"], port);
        let (came, _) = tokio::join!(listener.accept(), async {
            tokio::time::timeout(std::time::Duration::from_millis(1), allowed.dial()).await
        });
        came.unwrap();
    }

    #[tokio::test]
    async fn of_several_addresses_those_that_are_allowed_are_tried() {
        let mixed = dial(&["10.0.0.1", "127.0.0.1"], &["127.0.0.1/32"], 7);
        let addresses = mixed.addresses().await.unwrap();
        assert_eq!(addresses, ["127.0.0.1:7".parse().unwrap()]);
        let none = dial(&[], &[], 7).dial().await.unwrap_err();
        assert!(matches!(none, ArchiveError::Unreachable { .. }));
    }
}
