//! TLS of the DIMSE side: towards a PACS, and of the gateway's own storage SCP.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificates::Watched;
use crate::archive::socket::Tls;
use crate::certs::place::Role;
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

/// What connections over TLS need, for `place`; a client certificate is added to those that are read again.
pub(super) fn connector(
    settings: &ClientTls,
    place: String,
    role: Role,
    watched: &mut Vec<Watched>,
) -> anyhow::Result<Tls> {
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
            let (own, key) = Watched::alone(place, role, identity)?;
            watched.push(own);
            let mut config = builder.with_client_cert_resolver(key);
            // The other side of a resumed session goes by the certificate of its first handshake.
            config.resumption = Resumption::disabled();
            config
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from(settings.server_name.clone())
        .with_context(|| format!("{:?} is not a host name", settings.server_name))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// TLS of the storage SCP, if it has it.
pub(super) fn storage_acceptor(
    dimse: &Dimse,
    watched: &mut Vec<Watched>,
) -> anyhow::Result<Option<TlsAcceptor>> {
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
    let (own, key) = Watched::alone("dicom".into(), Role::Dicom, identity)?;
    watched.push(own);
    let config = builder.with_cert_resolver(key);
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
