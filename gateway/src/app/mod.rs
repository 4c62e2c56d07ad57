//! The composition root: builds every part, starts and stops listeners in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::Context as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, CacheHealth, Metrics, PacsHealth, Readiness};
use crate::cli::{Service, Verdict};
use crate::config::{Config, PacsDimse};
use crate::{notify, telemetry};

/// The gateway itself.
#[derive(Debug, Clone, Copy)]
pub struct App;

impl Service for App {
    async fn serve(&self, config: Config) -> anyhow::Result<()> {
        telemetry::init(&config.log)?;
        let metrics = Metrics::install()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = listen(config.admin.listen, "admin").await?;
        let state = Arc::new(State::new(&config));
        let router = admin::router(state.clone(), metrics.clone());
        tokio::spawn(metrics.upkeep());
        tokio::spawn(notify::watchdog());
        tracing::info!(admin = %listener.local_addr()?, "ready");
        notify::ready();
        axum::serve(listener, router)
            .with_graceful_shutdown(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                state.stopping.store(true, Ordering::Relaxed);
                notify::stopping(config.limits.grace_period);
                tracing::info!("stopping");
            })
            .await
            .context("admin listener")
    }

    async fn check_pacs(&self, config: &Config, name: &str) -> Vec<Verdict> {
        let pacs = config.pacs.iter().find(|pacs| pacs.name == name);
        match pacs {
            Some(pacs) => vec![connection(&pacs.dimse).await],
            None => Vec::new(),
        }
    }
}

async fn listen(address: SocketAddr, section: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| {
        format!(
            "cannot listen on {address} ([{section}] listen): choose a free address of this \
             machine, or stop what holds it (ss -ltnp)"
        )
    })
}

/// Whether the port of the PACS accepts a connection.
async fn connection(pacs: &PacsDimse) -> Verdict {
    let step = "Connexion TCP";
    let place = format!("{}:{}", pacs.host, pacs.port);
    match reach(pacs).await {
        Ok(address) => Verdict::ok(step, format!("{place} accepte la connexion ({address})")),
        Err(error) => Verdict::failed(
            step,
            format!("{place} ne répond pas ({error})"),
            "vérifier host et port dans [pacs.dimse], que le PACS est démarré, et que le pare-feu \
             laisse passer",
        ),
    }
}

async fn reach(pacs: &PacsDimse) -> std::io::Result<SocketAddr> {
    let connecting = TcpStream::connect((pacs.host.as_str(), pacs.port));
    let connected = tokio::time::timeout(pacs.connect_timeout, connecting).await;
    connected
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??
        .peer_addr()
}

/// What the health page tells.
struct State {
    pacs: Vec<(String, PacsDimse)>,
    cache: CacheHealth,
    stopping: AtomicBool,
}

impl State {
    fn new(config: &Config) -> Self {
        let pacs = config
            .pacs
            .iter()
            .map(|p| (p.name.clone(), p.dimse.clone()));
        Self {
            pacs: pacs.collect(),
            cache: CacheHealth {
                degraded: false,
                series: 0,
                bytes: 0,
                max_bytes: config.cache.max_bytes,
            },
            stopping: AtomicBool::new(false),
        }
    }
}

impl Readiness for State {
    fn pacs(&self) -> BoxFuture<'_, Vec<PacsHealth>> {
        let probes = self.pacs.iter().map(|(name, dimse)| async move {
            let up = reach(dimse).await.is_ok();
            PacsHealth {
                name: name.clone(),
                up,
                since: SystemTime::now(),
                last_error_kind: (!up).then_some("connect"),
            }
        });
        Box::pin(join_all(probes))
    }

    fn cache(&self) -> CacheHealth {
        self.cache
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
