//! The composition root: builds every part, starts and stops listeners in order.

mod acme;
mod alerts;
mod certificates;
mod check;
mod check_dmp;
mod check_psc;
mod credentials;
mod exams;
mod fetch;
mod fetch_trail;
mod gate;
mod health;
mod login;
mod market;
mod names;
pub mod peer;
pub mod psc;
mod refusals;
#[cfg(all(test, feature = "aws_lc_rs"))]
mod three_years;
mod tls;
mod trail;
mod trust;
mod viewer;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Tokens};
use crate::admin::{
    self, AddressList, AdminToken, CertificatesApi, ExamsApi, FetchesApi, Metrics, Probe, TrustApi,
};
use crate::archive::Archive;
use crate::archive::dicomweb::DicomwebArchive;
use crate::archive::dimse::{DimseArchive, Moves, StorageScp};
use crate::audit::{Audit, Kind};
use crate::backup::fence::{self, FenceError};
use crate::cache::{Bounds, Cache};
use crate::certs::place::Role;
use crate::certs::presented::{self, Recorder};
use crate::certs::{self, inventory::Inventory};
use crate::cli::{
    AcmeCommand, ExamsCommand, Fetch, FetchError, Fetched, Progress, Service, TrustCommand, Verdict,
};
use crate::config::{
    self, Config, Pacs, PacsDimse, Pixels, ProxyConfig, Resource, UnnamedSyntax, Upstream,
};
use crate::dicom::reader::Limits;
use crate::dicomweb::images::Images;
use crate::dicomweb::negotiate::Unnamed;
use crate::dicomweb::roots::Roots;
use crate::dicomweb::service::{self, Texts};
use crate::dicomweb::spool::Spool;
use crate::dicomweb::trail::Trail;
use crate::dicomweb::transcoded::Transcoding;
use crate::login::Login;
use crate::net::{self, Capacity, Listener, ListenerKind, Routers, Security};
use crate::pixels::PixelLimits;
use crate::pixels::pool::{Pool, PoolLimits};
use crate::pixels::worker::{Codecs, WorkerSettings, Workers};
use crate::source::Exams;
use crate::store::{AttemptStore, ListingStore, SledStore};
use crate::studies::{self, Studies};
use crate::trust::Trust;
use crate::{notify, telemetry};
use certificates::{Certificates, Watched};
use health::Health;

/// The gateway itself.
#[derive(Debug, Clone, Copy)]
pub struct App;

impl Service for App {
    async fn serve(&self, config: Config) -> anyhow::Result<()> {
        telemetry::init(&config.log)?;
        tls::install_provider();
        let metrics = Metrics::install()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;

        for place in certs::place::places(&config) {
            certs::install::recover(&place)?;
        }
        let mut watched = Vec::new();
        let parts = Parts::build(&config, &mut watched).await?;
        let mut certificates = Certificates::new(parts.trust.as_ref());
        let stop = CancellationToken::new();
        let background = CancellationToken::new();
        let mut listeners = Listeners::bind(&config, &parts, &mut certificates).await?;
        trail::service(&parts.audit, Kind::ServiceStarted).await?;

        let mut behind = JoinSet::new();
        trail::forward(
            &config.audit,
            &parts.audit,
            &background,
            &mut behind,
            &mut watched,
        )?;
        certificates.add(watched);
        tokio::spawn(metrics.clone().upkeep());
        tokio::spawn(notify::watchdog());
        if let Some(trust) = parts.trust.clone() {
            trust.audit_to(Arc::new(trail::TrustTrail::new(parts.audit.clone())));
            let hangup = signal(SignalKind::hangup())?;
            behind.spawn(gate::refresh_at(trust.clone(), hangup, background.clone()));
            behind.spawn(trust.maintain(background.clone()));
        }
        if let Some(psc) = parts.psc.clone() {
            let hangup = signal(SignalKind::hangup())?;
            let provider = Arc::clone(&psc.provider);
            behind.spawn(psc::follow_clock(provider, background.clone()));
            behind.spawn(psc.follow_certificate(parts.audit.clone(), hangup, background.clone()));
        }
        let inventory = Inventory::of(&config, parts.trust.clone());
        let market = listeners.market.as_ref().map(market::MarketParts::market);
        behind.spawn(certs::watch::run(
            inventory.clone(),
            market,
            background.clone(),
        ));
        if let Some(login) = parts.login.clone() {
            behind.spawn(login.maintain(background.clone()));
        }
        if let Some(comers) = parts.comers.clone() {
            behind.spawn(comers.maintain(background.clone()));
        }
        for archive in &parts.archives {
            let archive = Arc::clone(archive);
            let background = background.clone();
            behind.spawn(async move { archive.maintain(background).await });
        }
        let health = Health::start(&parts, config.cache.max_bytes, background.clone());
        let mut api = admin_api(&config, &parts)?;
        if let Some(market) = &listeners.market {
            let token = AdminToken::load_or_make(&config.data_dir)?;
            api = api.merge(market.api(parts.audit.clone(), token));
        }
        let alerts = parts.alerts.clone();
        if config.alerts.is_some() {
            api = api.merge(certs::alerts::acknowledge::router(alerts.clone()));
        } else if certs::place::igc_places(&config).next().is_some() {
            tracing::warn!(
                "nobody but this log is told before the certificates of IGC Santé expire: [alerts] is not configured"
            );
        }
        behind.spawn(alerts::run(alerts, inventory, background.clone()));
        listeners.start_background(&config, &health, metrics, api, &background, &mut behind);
        behind.spawn(certificates.watch(parts.audit.clone(), hangup, background.clone()));
        let routers = routers(&config, &parts, &health)?;
        let refusals = refusals::recorder(&parts.audit, &background, &mut behind);
        behind.spawn(Arc::clone(&parts.trail).keep(background.clone()));
        let mut serving = listeners.start_serving(&routers, &config.limits, &refusals, &stop);
        tracing::info!(pacs = parts.studies.len(), "ready");
        notify::ready();

        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = fenced(&config.data_dir) => tracing::error!(
                "this gateway is fenced: its contents go to another machine (drimbox backup --move) or were \
                 restored, and one certificate must not serve on two machines. It ends and does not start again \
                 without drimbox serve --i-am-the-only-one"
            ),
        }
        tracing::info!("stopping: no new request; running transfers may finish");
        health.stopping();
        notify::stopping(config.limits.grace_period);
        stop.cancel();
        // Listeners end when their connections have, or at the end of the grace period.
        while let Some(ended) = serving.join_next().await {
            ended.context("a listener failed while stopping")?;
        }
        for studies in parts.studies.values() {
            studies.close().await;
        }
        let noted = trail::service(&parts.audit, Kind::ServiceStopped).await;
        // What transfers need, and health, go last.
        background.cancel();
        while let Some(ended) = behind.join_next().await {
            ended.context("a part of the gateway failed while stopping")?;
        }
        parts.audit.close().await;
        noted
    }

    async fn check_pacs(&self, config: &Config, name: &str) -> Vec<Verdict> {
        check::pacs(config, name).await
    }

    async fn check_acme(&self, config: &Config) -> Vec<Verdict> {
        crate::certs::market::check::run(config).await
    }

    async fn fetch(
        &self,
        config: &Config,
        fetch: &Fetch,
        progress: &Arc<Progress>,
    ) -> Result<Fetched, FetchError> {
        tls::install_provider();
        let (config, fetch, progress) = (config.clone(), fetch.clone(), Arc::clone(progress));
        // On a worker, where what reads the connections runs: a thread that waits in `block_on` would have to be
        // woken for every piece that arrives.
        let fetching = async move { fetch::fetch(&config, &fetch, &progress).await };
        let fetched = tokio::spawn(fetching).await;
        fetched.unwrap_or_else(|error| Err(FetchError::Other(error.into())))
    }

    async fn check_dmp(&self, config: &Config) -> Vec<Verdict> {
        tls::install_provider();
        check_dmp::dmp(config).await
    }

    async fn check_psc(&self, config: &Config) -> Vec<Verdict> {
        tls::install_provider();
        check_psc::psc(config).await
    }

    async fn proxy(&self, config: ProxyConfig) -> anyhow::Result<()> {
        crate::proxy::serve(config).await
    }

    async fn exams(&self, config: &Config, command: &ExamsCommand) -> anyhow::Result<String> {
        exams::run(config, command).await
    }

    async fn acme(&self, config: &Config, command: &AcmeCommand) -> anyhow::Result<String> {
        acme::run(config, command).await
    }

    async fn trust(&self, config: &Config, command: &TrustCommand) -> anyhow::Result<String> {
        trust::run(config, command).await
    }
}

/// Ends when a fence was put up in the data folder, seen at the next look at the files.
async fn fenced(data_dir: &Path) {
    let mut looks = tokio::time::interval(certificates::LOOK_EVERY);
    loop {
        looks.tick().await;
        let data_dir = data_dir.to_owned();
        let passed = tokio::task::spawn_blocking(move || fence::pass(&data_dir, false));
        match passed.await {
            Ok(Ok(())) => {}
            Ok(Err(FenceError::File { path, source })) => tracing::warn!(
                file = %path.display(),
                error = %source,
                "whether this gateway was moved cannot be read"
            ),
            Ok(Err(_)) => return,
            Err(error) => {
                tracing::error!(%error, "looking for a fence failed: it is looked for again")
            }
        }
    }
}

/// The parts behind the listeners.
struct Parts {
    cache: Arc<Cache>,
    moves: Arc<Moves>,
    archives: Vec<Arc<dyn Archive>>,
    studies: HashMap<Arc<str>, Arc<Studies>>,
    service: Arc<service::Service>,
    psc: Option<psc::PscParts>,
    trust: Option<Trust>,
    audit: Audit,
    exams: Exams,
    login: Option<Arc<Login>>,
    comers: Option<Arc<crate::viewer::Comers>>,
    trail: Arc<Trail>,
    alerts: certs::alerts::Alerts,
    attempts: Arc<dyn AttemptStore>,
    recorder: Recorder,
}

impl Parts {
    async fn build(config: &Config, watched: &mut Vec<Watched>) -> anyhow::Result<Self> {
        let audit = trail::open(&config.audit).await?;
        let bounds = Bounds {
            max_bytes: config.cache.max_bytes,
            min_free_bytes: config.cache.min_free_bytes,
        };
        let dir = config.cache.dir.clone();
        let cache = tokio::task::spawn_blocking(move || Cache::open(&dir, bounds)).await?;
        let cache = cache.with_context(|| {
            format!(
                "the image cache {} cannot be opened: check that the service may write there",
                config.cache.dir.display()
            )
        })?;
        let data_dir = config.data_dir.clone();
        let store = tokio::task::spawn_blocking(move || SledStore::open(&data_dir)).await?;
        let store = store.with_context(|| {
            format!(
                "the store in {} cannot be opened: is another drimbox running on this folder?",
                config.data_dir.display()
            )
        })?;
        let trust = gate::trust(config).await?;
        let recorder = presented::folder(&config.data_dir);
        let recorder = Recorder::new(&recorder)
            .with_context(|| format!("{} cannot be made", recorder.display()))?;
        let psc = psc::build(config, Some(&recorder))?;
        let exams = gate::exams(&config.data_dir).await?;
        let mut access = access(config)?;
        access.gate = gate::peers(config, trust.as_ref(), psc.as_ref(), &exams)?;
        let login = login::build(config, psc.as_ref(), Arc::new(store.sessions()?), &audit)?;
        let trail = Arc::new(Trail::new(audit.clone()));
        let comers = match &login {
            Some(login) => Some(viewer::comers(config, login, &store)?),
            None => None,
        };
        access.links = comers
            .clone()
            .map(|comers| gate::links(config, comers, &exams));
        let attempts = viewer::attempts(config, &store)?;
        let store: Arc<dyn ListingStore> = Arc::new(store);
        let moves = Moves::new(config.dimse.ae_title.clone());
        let mut archives = Vec::new();
        let mut fronts = HashMap::new();
        let mut served = HashMap::new();
        for pacs in &config.pacs {
            let archive = archive(pacs, &moves, watched)?;
            let name: Arc<str> = pacs.name.as_str().into();
            let settings = studies::Settings {
                pacs: pacs.name.clone(),
                revalidate_after: config.cache.revalidate_after,
                serve_when_unreachable: config.cache.serve_when_unreachable,
                related_counts: pacs.quirks.related_counts,
                relational_queries: pacs.quirks.relational_queries,
                by_series: false,
                limits: Limits {
                    head_bytes: config.limits.max_head_bytes as u64,
                    ..Limits::default()
                },
            };
            let upstream = Arc::clone(&archive);
            let front = Studies::new(settings, upstream, Arc::clone(&cache), Arc::clone(&store));
            archives.push(archive);
            fronts.insert(Arc::clone(&name), Arc::clone(&front));
            served.insert(
                name,
                service::Pacs {
                    studies: front,
                    texts: Texts::new(&pacs.quirks),
                },
            );
        }
        let pixels = pool(&config.pixels);
        let service = Arc::new(service::Service {
            pacs: served,
            access,
            roots: roots(config),
            max_head_bytes: config.limits.max_head_bytes as u64,
            max_matches: config.limits.max_matches,
            transcoding: Transcoding {
                pool: pixels.clone(),
                spool: Spool::new(config.cache.dir.clone(), config.pixels.max_spool_bytes),
            },
            images: Images::new(pixels.clone()),
            pixels,
            unnamed: match config.dicomweb.unnamed_transfer_syntax {
                UnnamedSyntax::ExplicitVrLittleEndian => Unnamed::ExplicitVrLittleEndian,
                UnnamedSyntax::AsStored => Unnamed::AsStored,
            },
            cors_origins: config.dicomweb.cors_origins.clone(),
            add_ins: config.peer.as_ref().is_some_and(|peer| peer.add_ins),
            trail: Some(Arc::clone(&trail)),
        });
        let alerts = alerts::build(config).await?;
        Ok(Self {
            cache,
            moves,
            archives,
            studies: fronts,
            service,
            psc,
            trust,
            audit,
            exams,
            login,
            comers,
            trail,
            alerts,
            attempts,
            recorder,
        })
    }
}

/// Where pixels are decoded; codecs that are not Rust in processes of their own.
fn pool(config: &Pixels) -> Pool {
    let mut limits = PoolLimits {
        queue: config.max_waiting,
        memory: config.max_memory_bytes,
        ..PoolLimits::default()
    };
    if let Some(jobs) = config.jobs {
        limits.workers = jobs;
    }
    let pixels = PixelLimits {
        frame_bytes: config.max_frame_bytes,
        stored_frame_bytes: config.max_frame_bytes,
        ..PixelLimits::default()
    };
    let settings = WorkerSettings::of_this_program(
        limits.workers.get(),
        config.max_memory_bytes,
        config.codec_timeout,
    );
    let workers = Arc::new(Workers::new(settings));
    Pool::new(limits).with(pixels, Codecs::Workers(workers))
}

/// The archive of a PACS; the gateway's certificate towards it is added to those that are read again.
fn archive(
    pacs: &Pacs,
    moves: &Arc<Moves>,
    watched: &mut Vec<Watched>,
) -> anyhow::Result<Arc<dyn Archive>> {
    let tls = match pacs.tls() {
        Some(settings) => {
            let place = format!("pacs:{}", pacs.name);
            let tls = tls::connector(settings, place, Role::PacsClient, watched);
            Some(tls.with_context(|| {
                format!("TLS towards the PACS {:?} cannot be set up", pacs.name)
            })?)
        }
        None => None,
    };
    Ok(match &pacs.upstream {
        Upstream::Dimse(dimse) => Arc::new(DimseArchive::new(
            &pacs.name,
            dimse,
            &pacs.quirks,
            tls,
            Arc::clone(moves),
        )),
        Upstream::Dicomweb(web) => {
            let credentials = credentials::load(&web.authentication)
                .with_context(|| format!("credentials for the PACS {:?}", pacs.name))?;
            Arc::new(DicomwebArchive::new(
                &pacs.name,
                web,
                &pacs.quirks,
                tls,
                credentials,
            ))
        }
    })
}

fn access(config: &Config) -> anyhow::Result<Access> {
    let mut access = Access::default();
    for pacs in &config.pacs {
        let name: Arc<str> = pacs.name.as_str().into();
        access.names.insert(Arc::clone(&name));
        if let Some(host) = &pacs.vi_host {
            let host = host.to_ascii_lowercase();
            access.viewers.insert(host, Arc::clone(&name));
        }
        if let Some(host) = &pacs.db_host {
            access.hosts.insert(host.to_ascii_lowercase(), name);
        }
    }
    access.visitors = [Resource::Wado, Resource::Qido].into();
    if let Some(peer) = &config.peer {
        access.peer = peer.resources.clone();
    }
    if let Some(local) = &config.local {
        access.local = local.resources.clone();
        access.default_pacs = Some(local.default_pacs.as_str().into());
        if let Some(file) = &local.tokens_file {
            access.tokens = Some(Tokens::load(file).with_context(|| {
                format!("bearer tokens of the local listener: {}", file.display())
            })?);
        }
    }
    Ok(access)
}

fn roots(config: &Config) -> Roots {
    let mut roots = Roots::default();
    if let Some(local) = &config.local {
        roots.local.clone_from(&local.base_path);
        roots.local_public.clone_from(&local.public_url);
        roots.local_tls = local.tls.is_some();
    }
    if let Some(peer) = &config.peer {
        roots.peer.clone_from(&peer.base_path);
        roots.peer_port =
            Some(peer.public_port.unwrap_or(peer.listen.port())).filter(|port| *port != 443);
    }
    roots
}

/// What an administrator with the token may ask and change.
fn admin_api(config: &Config, parts: &Parts) -> anyhow::Result<axum::Router> {
    let token = AdminToken::load_or_make(&config.data_dir)?;
    let exams = ExamsApi {
        exams: parts.exams.clone(),
        audit: parts.audit.clone(),
        token: token.clone(),
        pacs: Arc::new(config.pacs.iter().map(|pacs| pacs.name.clone()).collect()),
    };
    let fetches = FetchesApi {
        audit: parts.audit.clone(),
        token: token.clone(),
    };
    let certificates = CertificatesApi {
        inventory: Arc::new(Inventory::of(config, parts.trust.clone())),
        token: token.clone(),
    };
    let router = exams.router().merge(fetches.router());
    let router = router.merge(certificates.router());
    let Some(trust) = parts.trust.clone() else {
        return Ok(router);
    };
    let again = trust.clone();
    let refresh: admin::Refresh = Arc::new(move || {
        let trust = again.clone();
        Box::pin(async move { gate::refresh(&trust).await })
    });
    let trust = TrustApi {
        trust,
        refresh,
        token,
    };
    Ok(router.merge(trust.router()))
}

/// What answers on each listener, and on the names of the public one.
fn routers(
    config: &Config,
    parts: &Parts,
    health: &Arc<Health>,
) -> anyhow::Result<HashMap<ListenerKind, Routers>> {
    let images = || service::router(Arc::clone(&parts.service));
    let mut routers = HashMap::from([(ListenerKind::Local, Routers::new(images()))]);
    if let Some(peer) = &config.peer {
        let addresses = peer.healthcheck.addresses_file.as_deref();
        let addresses = addresses.map(AddressList::load).transpose()?;
        let hosts = config.pacs.iter().flat_map(|pacs| {
            let hosts = [&pacs.db_host, &pacs.vi_host].into_iter().flatten();
            hosts.map(|host| (host.to_ascii_lowercase(), pacs.name.clone()))
        });
        let probe = Arc::new(Probe {
            paths: peer.healthcheck.paths.clone(),
            pacs: hosts.collect(),
            addresses,
            readiness: Arc::clone(health) as Arc<dyn admin::Readiness>,
        });
        let pages = match &parts.comers {
            Some(comers) => crate::login::router(Arc::clone(&comers.login))
                .merge(crate::viewer::router(viewer::build(config, parts, comers)?))
                .merge(crate::viewer::images(images())),
            None => Routers::nothing(),
        };
        let pages = match config.alerts.is_some() {
            true => pages.merge(certs::alerts::acknowledge::router(parts.alerts.clone())),
            false => pages,
        };
        let routers_of_names = Routers::new(probe.before(images())).viewer(probe.before(pages));
        routers.insert(ListenerKind::Peer, routers_of_names);
    }
    Ok(routers)
}

/// Bound sockets, not yet accepting: a port in use is known before anything starts.
struct Listeners {
    admin: Option<Listener>,
    http: Vec<Listener>,
    market: Option<market::MarketParts>,
    dimse: Option<(TcpListener, StorageScp)>,
}

impl Listeners {
    async fn bind(
        config: &Config,
        parts: &Parts,
        certificates: &mut Certificates,
    ) -> anyhow::Result<Self> {
        let admin =
            Listener::bind(ListenerKind::Admin, config.admin.listen, Security::Plain).await?;
        let (mut http, mut market) = (Vec::new(), None);
        if let Some(local) = &config.local {
            let security = match &local.tls {
                Some(identity) => {
                    let (own, key) = Watched::alone("local".into(), Role::Local, identity)?;
                    certificates.add([own]);
                    Security::Tls(net::tls::server_config_with(key))
                }
                None => Security::Plain,
            };
            http.push(Listener::bind(ListenerKind::Local, local.listen, security).await?);
        }
        if let Some(peer) = &config.peer {
            let trust = parts.trust.as_ref();
            let names = names::load(config, peer, trust, &parts.recorder, certificates)?;
            market = market::bind(config, &names, &parts.audit).await?;
            let security = Security::Named(names);
            http.push(Listener::bind(ListenerKind::Peer, peer.listen, security).await?);
        }
        let dimse = match config.dimse.listen {
            Some(address) => Some((
                storage_listener(address).await?,
                storage_scp(config, &parts.moves, certificates)?,
            )),
            None => None,
        };
        Ok(Self {
            admin: Some(admin),
            http,
            market,
            dimse,
        })
    }

    /// Health, metrics and the storage SCP: they outlive the requests.
    fn start_background(
        &mut self,
        config: &Config,
        health: &Arc<Health>,
        metrics: Metrics,
        api: axum::Router,
        background: &CancellationToken,
        behind: &mut JoinSet<()>,
    ) {
        if let Some(admin) = self.admin.take() {
            let router =
                admin::router(Arc::clone(health) as Arc<dyn admin::Readiness>, metrics).merge(api);
            // Places of its own: health answers however busy the images are.
            let capacity = Capacity::new(&config.limits);
            let background = background.clone();
            behind.spawn(async move {
                admin.serve(router, capacity, background).await;
            });
        }
        if let Some(market) = self.market.take() {
            market.start(config, background, behind);
        }
        if let Some((listener, scp)) = self.dimse.take() {
            behind.spawn(scp.run(listener, background.clone()));
        }
    }

    /// DICOMweb.
    fn start_serving(
        self,
        routers: &HashMap<ListenerKind, Routers>,
        limits: &config::Limits,
        refusals: &Arc<dyn net::Refusals>,
        stop: &CancellationToken,
    ) -> JoinSet<()> {
        let mut serving = JoinSet::new();
        for listener in self.http {
            let Some(routers) = routers.get(&listener.kind()).cloned() else {
                continue;
            };
            // Places of its own: whoever fills the public port does not close the centre's.
            let capacity = Capacity::new(limits);
            let stop = stop.clone();
            let listener = match listener.kind() {
                ListenerKind::Peer => listener.telling(Arc::clone(refusals)),
                _ => listener,
            };
            tracing::info!(address = %listener.address(), "listening");
            serving.spawn(async move {
                let drained = listener.serve(routers, capacity, stop).await;
                tracing::info!(
                    finished = drained.finished,
                    aborted = drained.aborted,
                    "drained"
                );
            });
        }
        serving
    }
}

async fn storage_listener(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "cannot listen on {address} (`dimse.listen`): choose a free address of this machine"
        )
    })
}

fn storage_scp(
    config: &Config,
    moves: &Arc<Moves>,
    certificates: &mut Certificates,
) -> anyhow::Result<StorageScp> {
    let mut watched = Vec::new();
    let tls = tls::storage_acceptor(&config.dimse, &mut watched)?;
    certificates.add(watched);
    let dimse = || config.pacs.iter().filter_map(Pacs::dimse);
    let title = |pacs: &PacsDimse| pacs.ae_title.to_string();
    let callers: HashSet<String> = dimse().map(title).collect();
    let widest = dimse().map(|pacs| pacs.max_pdu).max();
    let longest = dimse().map(|pacs| pacs.response_timeout).max();
    Ok(StorageScp {
        moves: Arc::clone(moves),
        callers: Arc::new(callers),
        tls,
        max_associations: config.dimse.max_associations,
        max_pdu: widest.unwrap_or(131_072),
        idle_timeout: longest.unwrap_or(std::time::Duration::from_secs(60)),
    })
}
