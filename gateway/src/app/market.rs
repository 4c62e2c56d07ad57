//! Market certificates, built from `[acme]` and the `vi` names.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{AcmeApi, AdminToken};
use crate::audit::Audit;
use crate::certs::market::{Market, port80};
use crate::config::Config;
use crate::net::{Capacity, Listener, ListenerKind, NamedConfigs, Security};

/// Port 80, bound, and the certificates behind it.
pub(super) struct MarketParts {
    market: Market,
    listener: Listener,
    router: axum::Router,
}

/// Builds them; `None` without `[acme]`.
pub(super) async fn bind(
    config: &Config,
    names: &Arc<NamedConfigs>,
    audit: &Audit,
) -> anyhow::Result<Option<MarketParts>> {
    let Some(acme) = &config.acme else {
        return Ok(None);
    };
    let market = Market::build(config, acme, names, Some(audit))?;
    let https_port = config
        .peer
        .as_ref()
        .map(|peer| peer.public_port.unwrap_or(peer.listen.port()))
        .filter(|port| *port != 443);
    let hosts = config.pacs.iter().filter_map(|pacs| pacs.vi_host.as_ref());
    let router = port80::router(port80::Port80 {
        tokens: market.tokens.clone(),
        names: hosts.map(|host| host.to_ascii_lowercase()).collect(),
        https_port,
    });
    let listener = Listener::bind(ListenerKind::Clear, acme.listen, Security::Plain).await?;
    Ok(Some(MarketParts {
        market,
        listener,
        router,
    }))
}

impl MarketParts {
    /// The certificates.
    pub(super) fn market(&self) -> Market {
        self.market.clone()
    }

    /// What an administrator with the token may ask and do.
    pub(super) fn api(&self, audit: Audit, token: AdminToken) -> axum::Router {
        let market = self.market.clone();
        AcmeApi {
            market,
            audit,
            token,
        }
        .router()
    }

    /// Answers port 80 from now on and until the very end, then keeps the certificates in date.
    pub(super) fn start(
        self,
        config: &Config,
        background: &CancellationToken,
        behind: &mut JoinSet<()>,
    ) {
        let stop = background.clone();
        // Places of its own: challenges are answered however busy the images are.
        let capacity = Capacity::new(&config.limits);
        let (listener, router) = (self.listener, self.router);
        behind.spawn(async move {
            listener.serve(router, capacity, stop).await;
        });
        behind.spawn(self.market.run(background.clone()));
    }
}
