//! TLS of the DIMSE side: towards a PACS, and of the gateway's own storage SCP.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::WebPkiServerVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::archive::socket::Tls;
use crate::config::{ClientTls, Dimse};
use crate::net;

/// Makes the chosen cryptography that of the process.
pub(super) fn install_provider() {
    let provider = net::tls::provider();
    // The first random bytes of a process cost up to 200 ms (entropy is gathered from the jitter of
    // the processor): better now than in the first handshake. A failure shows there again.
    let _ = provider.secure_random.fill(&mut [0; 32]);
    // A second call in one process finds the provider in place.
    let _ = provider.as_ref().clone().install_default();
}

/// What associations with a PACS over TLS need.
pub(super) fn connector(settings: &ClientTls) -> anyhow::Result<Tls> {
    let roots = Arc::new(net::tls::read_authorities(&settings.ca_file)?);
    let provider = net::tls::provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .context("the authorities of the PACS cannot be used")?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_webpki_verifier(verifier);
    let config = match &settings.identity {
        Some(identity) => {
            let (chain, key) = net::tls::read_identity(identity)?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from(settings.server_name.clone())
        .with_context(|| format!("{:?} is not a host name", settings.server_name))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// TLS of the storage SCP, if it has it.
pub(super) fn storage_acceptor(dimse: &Dimse) -> anyhow::Result<Option<TlsAcceptor>> {
    let Some(identity) = &dimse.tls else {
        return Ok(None);
    };
    let provider = net::tls::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &dimse.client_ca_file {
        Some(file) => {
            let roots = Arc::new(net::tls::read_authorities(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = net::tls::read_identity(identity)?;
    Ok(Some(TlsAcceptor::from(Arc::new(
        builder.with_single_cert(chain, key)?,
    ))))
}
