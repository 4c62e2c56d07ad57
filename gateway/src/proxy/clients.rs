//! A Client ID of the proxy: its certificate, its way to Pro Santé Connect and to the APIs.

use std::sync::Arc;

use anyhow::Context as _;
use psc_auth::{
    ClientIdentity, Clock, Environment, HttpsTransport, Provider, RelyingParty, Settings,
    Transport, TransportSettings,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::app::psc::is_of_client;
use crate::config::{HttpProxy, ProxyClient, ProxyConfig, PscEnvironment, ServerIdentity};
use crate::net;

use super::follow::Followed;

/// One client of the proxy.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) party: RelyingParty,
    /// What is known of Pro Santé Connect.
    pub(super) provider: Arc<Provider>,
    /// Towards the APIs.
    pub(super) apis: Arc<HttpsTransport>,
    psc: Arc<HttpsTransport>,
    identity: ServerIdentity,
    subject: arc_swap::ArcSwap<String>,
}

impl Client {
    pub(super) fn build(
        config: &ProxyConfig,
        client: &ProxyClient,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let shared = &config.psc;
        let roots = net::tls::read_authorities(&shared.ca_file)
            .context("authorities of the servers (`psc.ca_file`)")?;
        let (identity, subject) = identity(&client.identity)?;
        let towards_psc = TransportSettings {
            timeout: shared.timeout,
            connect_timeout: shared.connect_timeout,
            proxy: shared.http_proxy.as_ref().map(HttpProxy::url),
            ..TransportSettings::default()
        };
        let longest = config.apis.iter().map(|api| api.timeout).max();
        let towards_apis = TransportSettings {
            timeout: longest.unwrap_or(shared.timeout),
            body_limit: config.max_body_bytes,
            ..towards_psc.clone()
        };
        let psc = Arc::new(HttpsTransport::new(
            towards_psc,
            roots.clone(),
            Some(identity),
        )?);
        let (identity, _) = self::identity(&client.identity)?;
        let apis = Arc::new(HttpsTransport::new(towards_apis, roots, Some(identity))?);
        let transport: Arc<dyn Transport> = Arc::<HttpsTransport>::clone(&psc);
        let settings = settings(config, client)?;
        let provider = Arc::new(Provider::new(settings, transport, Arc::clone(clock)));
        Ok(Self {
            id: client.client_id.clone(),
            party: RelyingParty::new(Arc::clone(&provider)),
            provider,
            apis,
            psc,
            identity: client.identity.clone(),
            subject: arc_swap::ArcSwap::from_pointee(subject),
        })
    }

    /// Subject of the certificate in use, for the traces.
    pub(super) fn subject(&self) -> String {
        self.subject.load().as_ref().clone()
    }
}

impl Followed for Client {
    fn name(&self) -> &str {
        &self.id
    }

    fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    fn reload(&self) -> anyhow::Result<()> {
        let (chain, _) = net::tls::read_identity(&self.identity)?;
        is_of_client(&chain, &self.id)?;
        let (first, subject) = identity(&self.identity)?;
        let (second, _) = identity(&self.identity)?;
        self.psc.replace_identity(first)?;
        self.apis.replace_identity(second)?;
        self.subject.store(Arc::new(subject));
        Ok(())
    }
}

/// Certificate and key, and the subject of the certificate.
fn identity(files: &ServerIdentity) -> anyhow::Result<(ClientIdentity, String)> {
    let (chain, key) = net::tls::read_identity(files)?;
    let first = chain.first().context("no certificate")?;
    let (_, certificate) =
        X509Certificate::from_der(first).context("the certificate cannot be read")?;
    let subject = certificate.subject().to_string();
    Ok((ClientIdentity::new(chain, key), subject))
}

fn settings(config: &ProxyConfig, client: &ProxyClient) -> anyhow::Result<Settings> {
    let environment = match &config.psc.environment {
        PscEnvironment::Bas => Environment::Sandbox,
        PscEnvironment::Production => Environment::Production,
        PscEnvironment::Custom { issuer, .. } => Environment::Issuer(issuer.clone()),
    };
    // CIBA has no return address: this one is never sent.
    let mut settings = Settings::new(environment, &client.client_id, "https://localhost/")
        .context("section `[psc]`")?;
    if let PscEnvironment::Custom {
        discovery_url: Some(url),
        ..
    } = &config.psc.environment
    {
        settings.discovery_url = url.clone();
    }
    settings.leeway = config.psc.clock_leeway;
    Ok(settings)
}
