//! `drimbox proxy`: a proxy e-santé, a process of its own beside the gateway.
//!
//! It owns the way from the software of professionals to the "API Pro Santé Connectées": login at Pro Santé Connect by
//! CIBA, exchange of the token at every API, requests with the API's token and the certificate of the client, the end
//! of all of it, and the traces. It knows neither DICOM nor the gateway's configuration, and holds its own keys.
//!
//! The contract is that of the OpenAPI of ansforge/psc-edc-proxy-esante: paths, members, statuses.

mod answers;
mod clients;
mod connect;
mod exchange;
mod farewells;
mod follow;
mod health;
mod send;
mod sessions;
mod traces;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use futures_util::StreamExt as _;
use http::StatusCode;
use parking_lot::Mutex;
use psc_auth::{Clock, PscError, SystemClock, UnixTime};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admin::Metrics;
use crate::app::psc::follow_clock;
use crate::certs::{self, inventory::Inventory};
use crate::config::{ProxyApi, ProxyConfig};
use crate::net::{self, Capacity, Listener, ListenerKind, Security};
use crate::{notify, telemetry};

use answers::Refusal;
use clients::Client;
use farewells::{Farewell, Folder};
use follow::OfListener;
use sessions::{End, ProxySession, Sessions};
use traces::{Traces, TracesError};

/// How often sessions are looked at for their end.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Pause before somebody who could not be told of the end of a session is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Sessions that Pro Santé Connect is asked about, or told the end of, at the same time.
const AT_ONCE: usize = 8;

/// Time for the logouts of all sessions when the proxy stops.
const FAREWELL: Duration = Duration::from_secs(10);

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// When a certificate, the trace folder or the address cannot be used.
pub async fn serve(config: ProxyConfig) -> anyhow::Result<()> {
    telemetry::init(&config.log)?;
    // A second call in one process finds the provider in place.
    let _ = net::tls::provider().as_ref().clone().install_default();
    let metrics = Metrics::install()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    for place in certs::place::places_of_proxy(&config) {
        certs::install::recover(&place)?;
    }
    let proxy = Arc::new(Proxy::build(&config).await?);
    let own = config.tls.as_ref().map(OfListener::new).transpose()?;
    let security = security(&config, own.as_ref())?;
    let listener = Listener::bind(ListenerKind::Local, config.listen, security).await?;
    let admin = Listener::bind(ListenerKind::Admin, config.admin, Security::Plain).await?;
    let stop = CancellationToken::new();
    let background = CancellationToken::new();
    tokio::spawn(notify::watchdog());
    tokio::spawn(metrics.clone().upkeep());
    let mut behind = tokio::task::JoinSet::new();
    behind.spawn(Arc::clone(&proxy).sweep(background.clone()));
    behind.spawn(Arc::clone(&proxy).keep_alive(background.clone()));
    behind.spawn(Arc::clone(&proxy).finish(background.clone()));
    for client in proxy.clients.values() {
        let provider = Arc::clone(&client.provider);
        behind.spawn(follow_clock(provider, background.clone()));
    }
    let clients = proxy.clients.values().cloned();
    let clients = clients.map(|client| client as Arc<dyn follow::Followed>);
    let own = own.map(|own| Arc::new(own) as Arc<dyn follow::Followed>);
    for followed in clients.chain(own) {
        let hangup = signal(SignalKind::hangup())?;
        behind.spawn(follow::follow(followed, hangup, background.clone()));
    }
    behind.spawn(certs::watch::run(
        Inventory::of_proxy(&config),
        None,
        background.clone(),
    ));
    let vitals = health::router(&proxy, metrics, stop.clone());
    // Places of its own: health answers however many are served.
    let places = Capacity::new(&config.limits);
    let until = background.clone();
    behind.spawn(async move {
        admin.serve(vitals, places, until).await;
    });
    let address = listener.address();
    let capacity = Capacity::new(&config.limits);
    let serving = tokio::spawn(listener.serve(router(&proxy), capacity, stop.clone()));
    tracing::info!(%address, clients = proxy.clients.len(), apis = proxy.apis.len(), "proxy ready");
    notify::ready();

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::stopping(config.limits.grace_period);
    stop.cancel();
    serving
        .await
        .context("the listener failed while stopping")?;
    background.cancel();
    while behind.join_next().await.is_some() {}
    proxy.end_all().await;
    Ok(())
}

/// The parts behind the paths.
struct Proxy {
    clients: HashMap<String, Arc<Client>>,
    apis: HashMap<String, Arc<ProxyApi>>,
    sessions: Sessions,
    /// What a process after this one needs to end them.
    kept: Folder,
    /// Sessions that are over, and of whose end somebody could not be told yet.
    unfinished: Mutex<Vec<Farewell>>,
    traces: Arc<Traces>,
    serve_traces: bool,
    /// Logins that wait for their user.
    pending: Semaphore,
    /// Whether cookies may ask for encryption.
    secure: bool,
    lifetime: Duration,
    keep_alive_every: Duration,
    max_body_bytes: usize,
    clock: Arc<dyn Clock>,
}

impl Proxy {
    async fn build(config: &ProxyConfig) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut clients = HashMap::new();
        for client in &config.clients {
            let built = Client::build(config, client, &clock)
                .with_context(|| format!("client {}", client.client_id))?;
            clients.insert(client.client_id.clone(), Arc::new(built));
        }
        let settings = config.traces.clone();
        let traces = tokio::task::spawn_blocking(move || Traces::open(&settings)).await??;
        let (dir, key) = (
            config.sessions_dir.clone(),
            config.sessions_key_file.clone(),
        );
        let opened = tokio::task::spawn_blocking(move || Folder::open(&dir, &key)).await?;
        let (kept, left) = opened?;
        if !left.is_empty() {
            tracing::warn!(
                sessions = left.len(),
                "a process before this one left sessions open: they are ended now"
            );
        }
        let apis = config.apis.iter();
        Ok(Self {
            kept,
            unfinished: Mutex::new(left),
            clients,
            apis: apis
                .map(|api| (api.name.clone(), Arc::new(api.clone())))
                .collect(),
            sessions: Sessions::new(config.max_sessions),
            traces: Arc::new(traces),
            serve_traces: config.traces.serve,
            pending: Semaphore::new(config.max_pending),
            secure: config.tls.is_some(),
            lifetime: config.session_lifetime,
            keep_alive_every: config.keep_alive,
            max_body_bytes: config.max_body_bytes,
            clock,
        })
    }

    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Writes a trace to disk; nothing is done that could not be traced.
    async fn trace(&self, trace: traces::Trace) -> Result<(), Refusal> {
        let traces = Arc::clone(&self.traces);
        let written = tokio::task::spawn_blocking(move || traces.append(&trace)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                metrics::counter!("drimbox_proxy_trace_failures_total").increment(1);
                Err(untraceable(&error))
            }
            Err(_) => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "le proxy s'arrête",
            )),
        }
    }

    /// Ends a session that was taken out of the table: trace, logout at PSC, revocation at the APIs.
    async fn end(&self, session: &ProxySession, end: End) {
        // Nothing is written any more by who still uses it.
        *session.over.lock().await = true;
        let mut farewell = Farewell::of(session).await;
        session.drop_tokens().await;
        self.trace_end(&mut farewell, end).await;
        if self.tell(&farewell, Some(session.psc.clone())).await {
            self.forget(&farewell.id).await;
        } else {
            self.tell_again(farewell).await;
        }
    }

    async fn trace_end(&self, farewell: &mut Farewell, end: End) {
        metrics::counter!("drimbox_proxy_sessions_ended_total", "cause" => end.as_str())
            .increment(1);
        let trace = traces::Trace::disconnect(farewell, end, self.now());
        match self.trace(trace).await {
            Ok(()) => farewell.traced = true,
            Err(refusal) => {
                tracing::error!("the end of a session is not traced: {}", refusal.message());
            }
        }
    }

    /// Tells the APIs and PSC of the end of a session; `false` when one of them could not be told.
    async fn tell(&self, farewell: &Farewell, psc: Option<psc_auth::Session>) -> bool {
        let Some(client) = self.clients.get(&farewell.client_id) else {
            tracing::warn!(
                client = farewell.client_id,
                "a session of a client that is not in the configuration any more: nobody is told of its end"
            );
            return true;
        };
        let mut told = true;
        for (api, token) in &farewell.tokens {
            if let Some(api) = self.apis.get(api) {
                told &= exchange::revoke(client, api, token).await;
            }
        }
        if let Some(psc) = psc
            && let Err(error) = client.party.logout(&psc).await
        {
            told &= !error.is_temporary();
            tracing::warn!(%error, remedy = error.remedy(), "a session is over here, but Pro Santé Connect could not be told");
        }
        told
    }

    /// Has somebody told later, by this process or the next.
    async fn tell_again(&self, farewell: Farewell) {
        if let Err(error) = self.kept.write(&farewell).await {
            tracing::error!(%error, "the end of a session is told by this process, or never");
        }
        self.unfinished.lock().push(farewell);
    }

    /// Ends what a process before left, and tells those again who could not be told, until `stop`.
    async fn finish(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                // What is under way is on disk until it is done.
                () = stop.cancelled() => return,
                () = self.finish_all() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TELL_AGAIN) => {}
            }
        }
    }

    async fn finish_all(&self) {
        let left = std::mem::take(&mut *self.unfinished.lock());
        let ends = left.into_iter().map(|farewell| self.finish_one(farewell));
        let ends = futures_util::stream::iter(ends).buffer_unordered(AT_ONCE);
        ends.collect::<()>().await;
    }

    async fn finish_one(&self, mut farewell: Farewell) {
        if !farewell.traced {
            self.trace_end(&mut farewell, End::Interrupted).await;
        }
        let told = self.tell(&farewell, farewell.psc()).await;
        // Later than that nothing of it is good for anything at PSC.
        let over = self.now() >= farewell.ends_at;
        if told || over {
            if !told {
                tracing::warn!(
                    "nobody could be told of the end of a session before its time was over"
                );
            }
            self.forget(&farewell.id).await;
        } else {
            self.tell_again(farewell).await;
        }
    }

    /// Keeps a new session on disk: one that could not be ended after a crash is not opened.
    async fn keep(&self, session: &ProxySession) -> Result<(), Refusal> {
        self.kept.keep(session).await.map_err(|error| {
            tracing::error!(%error, "a session could not be written to disk: it is not opened");
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "les sessions ne peuvent pas être écrites : prévenir l'exploitant du proxy",
            )
        })
    }

    /// Keeps a session whose tokens changed.
    async fn remember(&self, session: &ProxySession) {
        if let Err(error) = self.kept.keep(session).await {
            tracing::warn!(%error, "after a crash, renewed tokens of a session would not be revoked");
        }
    }

    async fn forget(&self, id: &str) {
        if let Err(error) = self.kept.forget(id).await {
            tracing::warn!(%error, "a session that is over is still on disk, and is ended again at the next start");
        }
    }

    /// Ends sessions when their time has come, until `stop`.
    async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            for session in self.sessions.take_over(self.now()) {
                self.end(&session, End::Expired).await;
            }
        }
    }

    /// Renews the tokens of Pro Santé Connect of the sessions in use, until `stop`: it ends a session about which it was
    /// not asked for half an hour, and without it the APIs exchange nothing when their own tokens are over.
    async fn keep_alive(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.keep_alive_every.min(SWEEP_EVERY)) => {}
            }
            let unheard = self.sessions.unheard(self.now(), self.keep_alive_every);
            let renewals = unheard.into_iter().map(|session| self.renew(session));
            let renewals = futures_util::stream::iter(renewals).buffer_unordered(AT_ONCE);
            tokio::select! {
                () = stop.cancelled() => return,
                () = renewals.collect::<()>() => {}
            }
        }
    }

    async fn renew(&self, session: Arc<ProxySession>) {
        let Some(client) = self.clients.get(&session.client_id) else {
            return;
        };
        let now = self.now();
        match client.party.access_token(&session.psc).await {
            Ok(_) => {
                session.heard(now);
                self.remember(&session).await;
            }
            // Tokens that the APIs gave before are good until they are over.
            Err(PscError::SessionEnded(end)) => {
                session.heard(now);
                tracing::info!(
                    %end,
                    "Pro Santé Connect ended a session in use: it goes on until an API wants another token"
                );
            }
            Err(error) => {
                tracing::warn!(%error, remedy = error.remedy(), "a session was not kept alive at Pro Santé Connect");
            }
        }
    }

    /// No session outlives its process: at the stop all of them end. Whom time did not allow to be told is told by
    /// the next process.
    async fn end_all(&self) {
        let farewells = self.sessions.take_all();
        let ends = farewells
            .iter()
            .map(|session| self.end(session, End::Stopped));
        let all = futures_util::future::join_all(ends);
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("Pro Santé Connect was not told of the end of every session in time");
        }
    }
}

fn untraceable(error: &TracesError) -> Refusal {
    tracing::error!(%error, "a trace could not be written: nothing is let through");
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "les traces ne peuvent pas être écrites : prévenir l'exploitant du proxy",
    )
}

fn router(proxy: &Arc<Proxy>) -> Router {
    Router::new()
        .route("/connect", post(connect::connect))
        .route("/disconnect", delete(connect::disconnect))
        .route("/send/{api}/{*endpoint}", any(send::send))
        .route("/traces", get(served_traces))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "adresse inconnue").into_answer())
        .layer(DefaultBodyLimit::max(proxy.max_body_bytes))
        .with_state(Arc::clone(proxy))
}

async fn served_traces(State(proxy): State<Arc<Proxy>>, uri: http::Uri) -> Response {
    if !proxy.serve_traces {
        let off = "les traces ne sont servies que pour l'essai de conformité (clé traces.serve)";
        return Refusal::new(StatusCode::NOT_FOUND, off).into_answer();
    }
    let range = match traces::Range::parse(uri.query().unwrap_or_default()) {
        Ok(range) => range,
        Err(what) => return Refusal::new(StatusCode::BAD_REQUEST, what).into_answer(),
    };
    let traces = Arc::clone(&proxy.traces);
    match tokio::task::spawn_blocking(move || traces.read(range)).await {
        Ok(Ok(found)) => answers::json(StatusCode::OK, &found),
        Ok(Err(error)) => untraceable(&error).into_answer(),
        Err(_) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "le proxy s'arrête").into_answer(),
    }
}

/// TLS of the listener: software shows a certificate wherever `client_ca_file` is set.
fn security(config: &ProxyConfig, own: Option<&OfListener>) -> anyhow::Result<Security> {
    let Some(own) = own else {
        return Ok(Security::Plain);
    };
    let provider = net::tls::provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca_file {
        Some(file) => {
            let roots = Arc::new(net::tls::read_authorities(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut tls = builder.with_cert_resolver(own.key());
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A session of TLS that is taken up again would skip the check of the certificate.
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(Security::Tls(Arc::new(tls)))
}
