//! Three years of a whole box: market certificates from two authorities that fail at times, certificates that people
//! renew when they are told to, alerts, swaps, restarts; and a client of each name at each day.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../../../acme/tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use acme::{Clock as _, FileStore, Tokens, UnixTime};
use axum::routing::get;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::client::Resumption;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::certificates::{Certificates, Stamps};
use super::names;
use crate::certs::alerts::state::Message;
use crate::certs::alerts::{Alerts, Channel, NotSent, Recipient, Settings, acknowledge};
use crate::certs::container;
use crate::certs::install::{self, Allowed, Context};
use crate::certs::inventory::{Finding, Inventory, Judges, examine_all};
use crate::certs::market::{self, Market, Means};
use crate::certs::place::{Place, all_places, places};
use crate::certs::presented::Recorder;
use crate::certs::request::{self, KeyKind, Subject, pending_key};
use crate::certs::watch::Watch;
use crate::config::{self, Config};
use crate::net::tls::{provider, read_identity};
use crate::net::{Capacity, Listener, ListenerKind, Routers, Security};
use support::authority::Internet;
use support::{MockAuthority, MovingClock, START, Told, Walk};

const DAY: Duration = Duration::from_secs(86_400);
const DAYS: u64 = 3 * 365;

const ANNE: &str = "mail:anne@centre.example";
const PAUL: &str = "mail:paul@centre.example";

/// A certificate that people renew, and the alert at which they do.
struct Kept {
    place: &'static str,
    file: &'static str,
    name: &'static str,
    /// The structure that it is given to.
    unit: Option<&'static str>,
    /// Days before the start at which the first one begins.
    age: i64,
    /// Its life in days, and that of those that follow.
    days: i64,
    /// The step of the alert that makes somebody act.
    acts_at: &'static str,
    /// Steps of all alerts of three years.
    told: &'static [&'static str],
}

const FINESS: &str = "5750000001";

const KEPT: [Kept; 6] = [
    Kept {
        place: "db:ct",
        file: "db1",
        name: "db1.centre.example",
        unit: None,
        age: 1_000,
        days: 1_095,
        acts_at: "J-30",
        told: &["J-90", "J-60", "J-30", "J-90"],
    },
    Kept {
        place: "db:mr",
        file: "db2",
        name: "db2.centre.example",
        unit: None,
        age: 700,
        days: 1_095,
        // Almost forgotten.
        acts_at: "J-2",
        told: &["J-90", "J-60", "J-30", "J-15", "J-7", "J-3", "J-2"],
    },
    Kept {
        place: "psc",
        file: "psc",
        name: "drimbox-centre",
        unit: None,
        age: 400,
        days: 1_095,
        acts_at: "J-60",
        told: &["J-90", "J-60"],
    },
    Kept {
        place: "dmp-auth:centre",
        file: "auth",
        name: "CENTRE",
        unit: Some(FINESS),
        age: 500,
        days: 1_095,
        acts_at: "J-15",
        told: &["J-90", "J-60", "J-30", "J-15"],
    },
    Kept {
        place: "dmp-sign:centre",
        file: "sign",
        name: "CENTRE",
        unit: Some(FINESS),
        age: 600,
        days: 1_095,
        acts_at: "J-30",
        told: &["J-90", "J-60", "J-30"],
    },
    // A market certificate that is bought.
    Kept {
        place: "vi:mr",
        file: "vi2",
        name: "vi2.centre.example",
        unit: None,
        age: 0,
        days: 397,
        acts_at: "9/10 de sa vie",
        told: &[
            "2/3 de sa vie",
            "3/4 de sa vie",
            "9/10 de sa vie",
            "2/3 de sa vie",
            "3/4 de sa vie",
            "9/10 de sa vie",
            "2/3 de sa vie",
            "3/4 de sa vie",
            "9/10 de sa vie",
        ],
    },
];

#[tokio::test]
async fn for_three_years_no_client_is_refused_and_each_alert_comes_once() {
    let world = World::new();
    let mut running = world.start().await;
    let mut swaps = 0;
    let mut served: HashSet<Vec<u8>> = HashSet::new();
    let mut presented: HashSet<Vec<u8>> = HashSet::new();
    for day in 0..DAYS {
        world.weather(day);
        for quarter in 0..4 {
            world
                .clock
                .set(UnixTime::from_secs(START + day * 86_400 + quarter * 21_600));
            for lifecycle in running.market.lifecycles() {
                lifecycle.tick().await;
            }
        }
        let now = world.now();
        let entries = examine_all(all_places(&world.config), &Judges::default(), now);
        running.alerts.note(&entries, &[], now);
        running.alerts.deliver(now).await;
        world.acknowledge(&running.alerts, now);
        swaps += world.people_act(now);
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(world.clock.now().as_secs());
        for read in running.certificates.look(&mut running.seen, false, moment) {
            assert!(read.outcome.is_ok(), "day {day}: {:?}", read.outcome);
        }
        for name in ["db1", "db2", "vi1", "vi2"] {
            let name = format!("{name}.centre.example");
            let leaf = world.visit(&name, running.address).await;
            let leaf = leaf.unwrap_or_else(|error| panic!("day {day}, {name}: {error}"));
            served.insert(leaf);
        }
        for place in ["psc", "dmp-auth:centre", "dmp-sign:centre"] {
            let shown = world.present(place).await;
            let leaf = shown.unwrap_or_else(|error| panic!("day {day}, {place}: {error}"));
            presented.insert(leaf);
        }
        if day % 97 == 96 {
            running.end().await;
            running = world.start().await;
        }
    }
    running.end().await;

    assert_eq!(swaps, 8, "people acted on every alert that was theirs");
    let obtained: usize = world.authorities.iter().map(|ca| ca.issued()).sum();
    assert!(
        (25..=45).contains(&obtained),
        "{obtained} market certificates"
    );
    // Two of each `db` name, four that were bought, and every one that was obtained.
    assert_eq!(served.len(), 2 + 2 + 4 + obtained);
    assert_eq!(presented.len(), 3 * 2, "each was renewed once");
    world.told_once();
}

#[tokio::test]
async fn a_market_certificate_that_is_revoked_is_renewed_at_once_and_once() {
    let world = World::new();
    world.weather(1);
    let running = world.start().await;
    let tick = async || {
        for lifecycle in running.market.lifecycles() {
            lifecycle.tick().await;
        }
        world
            .authorities
            .iter()
            .map(|ca| ca.issued())
            .sum::<usize>()
    };
    let examine = || examine_all(all_places(&world.config), &Judges::default(), world.now());
    assert_eq!(tick().await, 1);
    let before = world.visit("vi1.centre.example", running.address).await;
    let watch = Watch::new(
        Inventory::of(&world.config, None),
        Some(running.market.clone()),
    );
    assert!(!watch.renew(&examine()).await);
    assert_eq!(tick().await, 1, "nothing is wrong");

    let mut entries = examine();
    for entry in &mut entries {
        entry.findings.push(Finding::Revoked);
    }
    assert!(watch.renew(&entries).await, "another process orders");
    assert_eq!(tick().await, 1);
    running.market.take_orders();
    for _ in 0..2 {
        assert!(!watch.renew(&entries).await);
    }
    assert_eq!(tick().await, 2);
    let after = world.visit("vi1.centre.example", running.address).await;
    assert_ne!(before.unwrap(), after.unwrap());
    assert!(!watch.renew(&entries).await);
    assert_eq!(tick().await, 2, "another certificate is in service");
    running.end().await;
}

/// The folder of the box, those it deals with, and its clock.
struct World {
    folder: tempfile::TempDir,
    config: Config,
    clock: Arc<MovingClock>,
    authorities: Vec<Arc<MockAuthority>>,
    igc: Authority,
    mailbox: Arc<Mailbox>,
    client: TlsConnector,
}

/// One run of the service.
struct Running {
    market: Market,
    alerts: Alerts,
    certificates: Certificates,
    seen: Stamps,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        super::tls::install_provider();
        let folder = tempfile::tempdir().unwrap();
        let igc = Authority::new();
        std::fs::write(folder.path().join("ca.pem"), &igc.pem).unwrap();
        let start = OffsetDateTime::from_unix_timestamp(i64::try_from(START).unwrap()).unwrap();
        for kept in &KEPT {
            let key = KeyPair::generate().unwrap();
            let begins = start - time::Duration::days(kept.age);
            let chain = igc.issue(kept, &key, begins);
            secret(&folder.path().join(format!("{}.pem", kept.file)), &chain);
            let file = folder.path().join(format!("{}.key", kept.file));
            secret(&file, &key.serialize_pem());
        }
        let config = configuration(folder.path());
        let clock = MovingClock::new();
        let acme = market::folder(&config.data_dir, config.acme.as_ref().unwrap());
        let tokens = Tokens::new(Arc::new(FileStore::new(&acme)));
        let authorities: Vec<_> = ["ca0.example", "ca1.example"]
            .map(|host| MockAuthority::new(host, clock.clone(), tokens.clone()))
            .into();
        let mut roots = RootCertStore::empty();
        for pem in [&igc.pem]
            .into_iter()
            .map(String::as_str)
            .chain(authorities.iter().map(|ca| ca.issuer_pem()))
        {
            let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            roots.add(root).unwrap();
        }
        let client = igc.client(roots, &clock);
        Self {
            folder,
            config,
            clock,
            authorities,
            igc,
            mailbox: Arc::default(),
            client,
        }
    }

    fn now(&self) -> OffsetDateTime {
        let seconds = i64::try_from(self.clock.now().as_secs()).unwrap();
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    /// Everything from the disk, as at a start of the service.
    async fn start(&self) -> Running {
        for place in places(&self.config) {
            install::recover(&place).unwrap();
        }
        let peer = self.config.peer.as_ref().unwrap();
        let recorder = Recorder::new(&self.config.data_dir.join("presented")).unwrap();
        let mut certificates = Certificates::new(None);
        let names = names::load(&self.config, peer, None, &recorder, &mut certificates).unwrap();
        let means = Means {
            transport: Arc::new(Internet(self.authorities.clone())),
            probe: Arc::new(Told::default()),
            clock: self.clock.clone(),
            random: Arc::new(Walk::default()),
        };
        let acme = self.config.acme.as_ref().unwrap();
        let market = Market::with(means, &self.config, acme, &names, None).unwrap();
        let way = |recipient| {
            let channel = Arc::clone(&self.mailbox) as Arc<dyn Channel>;
            (recipient, channel)
        };
        let settings = Settings {
            recipients: ["anne@centre.example", "paul@centre.example"]
                .map(|address| way(Recipient::Mail(address.into())))
                .into(),
            roles: std::collections::HashMap::new(),
            centre: None,
            link_url: "https://vi1.centre.example".into(),
        };
        let alerts = Alerts::open(settings, &self.folder.path().join("alerts")).unwrap();
        let security = Security::Named(names);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(ListenerKind::Peer, any, security)
            .await
            .unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let capacity = Capacity::new(&self.config.limits);
        let until = stop.clone();
        let here = || axum::Router::new().route("/", get(async || "here"));
        let router = Routers::new(here()).viewer(here());
        let serving = tokio::spawn(async move {
            listener.serve(router, capacity, until).await;
        });
        Running {
            market,
            alerts,
            seen: certificates.stamps(),
            certificates,
            address,
            stop,
            serving,
        }
    }

    /// What the authorities are like on a day: lives shrink as the calendar of the CA/Browser Forum says; ten days of
    /// every ninety the first one is away, and on one of them both are.
    fn weather(&self, day: u64) {
        let life = match day {
            0..130 => 90,
            130..470 => 64,
            _ => 45,
        };
        for (number, authority) in self.authorities.iter().enumerate() {
            authority.behave(|b| {
                b.life = DAY * life;
                b.window = (number == 0 && day % 300 < 150).then_some((0.6, 0.7));
                b.unreachable = day > 0 && ((number == 0 && day % 90 < 10) || day % 90 == 5);
            });
        }
    }

    /// Whoever is told and must act asks for a certificate, gets it, and imports it; how many did.
    fn people_act(&self, now: OffsetDateTime) -> usize {
        let fresh: Vec<Message> = self.mailbox.unread.lock().drain(..).collect();
        let mut done = 0;
        for kept in &KEPT {
            let mine = |message: &&Message| {
                message.data["place"] == kept.place && message.data["step"] == kept.acts_at
            };
            if fresh.iter().any(|message| mine(&message)) {
                self.renew(kept, now);
                done += 1;
            }
        }
        done
    }

    fn renew(&self, kept: &Kept, now: OffsetDateTime) {
        let all = places(&self.config);
        let place: &Place = all.iter().find(|place| place.id == kept.place).unwrap();
        let subject = Subject {
            common_name: kept.name.into(),
            organizational_unit: kept.unit.map(str::to_owned),
            ..Subject::default()
        };
        let key_file = &place.identity.key_file;
        request::make(key_file, &subject, KeyKind::P256, false).unwrap();
        let pending = std::fs::read_to_string(pending_key(key_file)).unwrap();
        let chain = self
            .igc
            .issue(kept, &KeyPair::from_pem(&pending).unwrap(), now);
        let content = container::read(chain.as_bytes(), None).unwrap();
        let context = Context {
            places: &all,
            judges: &Judges::default(),
            allowed: Allowed::default(),
            now,
        };
        let candidate = install::check(place, content, &context).unwrap();
        install::swap(place, &candidate).unwrap();
    }

    /// Both open the link of each test and press the button.
    fn acknowledge(&self, alerts: &Alerts, now: OffsetDateTime) {
        for test in self.mailbox.tests.lock().drain(..) {
            let (_, token) = test.text.split_once(acknowledge::PATH).unwrap();
            assert!(alerts.acknowledge(&token[1..65], now));
        }
    }

    /// A new client of a name, which verifies its certificate by the clock of the box: the certificate it saw.
    async fn visit(&self, name: &str, address: SocketAddr) -> std::io::Result<Vec<u8>> {
        let tcp = TcpStream::connect(address).await?;
        let host = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = self.client.connect(host, tcp).await?;
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"HTTP/1.1 200");
        let (_, session) = stream.get_ref();
        Ok(session.peer_certificates().unwrap()[0].to_vec())
    }

    /// Shows the certificate of a place to a server that verifies it by the clock of the box, as it is on the disk: the
    /// one that was seen.
    async fn present(&self, place: &str) -> std::io::Result<Vec<u8>> {
        let all = places(&self.config);
        let identity = |id: &str| &all.iter().find(|place| place.id == id).unwrap().identity;
        let time = || Arc::new(Simulated(Arc::clone(&self.clock)));
        let mut roots = RootCertStore::empty();
        let igc = CertificateDer::from_pem_slice(self.igc.pem.as_bytes()).unwrap();
        roots.add(igc).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider());
        let (chain, key) = read_identity(identity("db:ct")).unwrap();
        let server = ServerConfig::builder_with_details(provider(), time())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        let (chain, key) = read_identity(identity(place)).unwrap();
        let client = ClientConfig::builder_with_details(provider(), time())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(std::io::Error::other)?;
        let (client, server) = (Arc::new(client), Arc::new(server));
        let (near, far) = tokio::io::duplex(64 << 10);
        let host = ServerName::try_from("db1.centre.example").unwrap();
        let (_near, far) = tokio::try_join!(
            TlsConnector::from(client).connect(host, near),
            TlsAcceptor::from(server).accept(far),
        )?;
        let (_, session) = far.get_ref();
        Ok(session.peer_certificates().unwrap()[0].to_vec())
    }

    /// Each recipient got each alert of each certificate once, in order, and none of what the box renews itself.
    fn told_once(&self) {
        let all = self.mailbox.got.lock();
        for recipient in [ANNE, PAUL] {
            let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (_, message) in all.iter().filter(|(to, _)| to == recipient) {
                if message.data["kind"] == "certificate_expiry" {
                    let text = |key: &str| message.data[key].as_str().unwrap().to_owned();
                    told.entry(text("place")).or_default().push(text("step"));
                }
            }
            let wanted = KEPT.iter().map(|kept| {
                let steps = kept.told.iter().map(|step| (*step).to_owned());
                (kept.place.to_owned(), steps.collect::<Vec<_>>())
            });
            let wanted: BTreeMap<String, Vec<String>> = wanted.collect();
            assert_eq!(told, wanted, "{recipient}");
        }
        let silent = all
            .iter()
            .filter(|(_, m)| m.data["kind"] == "silent_recipient");
        assert_eq!(silent.count(), 0);
    }
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// The issuer of all certificates that people renew.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "AC IGC-SANTE");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate with its issuer, PEM.
    fn issue(&self, kept: &Kept, key: &KeyPair, begins: OffsetDateTime) -> String {
        let names = match kept.place {
            "psc" | "dmp-auth:centre" | "dmp-sign:centre" => Vec::new(),
            _ => vec![kept.name.to_owned()],
        };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, kept.name);
        if let Some(unit) = kept.unit {
            let name = &mut params.distinguished_name;
            name.push(DnType::OrganizationalUnitName, unit);
        }
        params.not_before = begins;
        params.not_after = begins + time::Duration::days(kept.days);
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        format!("{}{}", leaf.pem(), self.pem)
    }

    /// Another DRIMbox, which believes `roots` and tells the time by `clock`.
    fn client(&self, roots: RootCertStore, clock: &Arc<MovingClock>) -> TlsConnector {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["peer.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let time = Arc::new(Simulated(Arc::clone(clock)));
        let mut config = ClientConfig::builder_with_details(provider(), time)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        config.resumption = Resumption::disabled();
        TlsConnector::from(Arc::new(config))
    }
}

/// The clock of the box, for whoever verifies its certificates.
#[derive(Debug)]
struct Simulated(Arc<MovingClock>);

impl TimeProvider for Simulated {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let since_epoch = Duration::from_secs(self.0.now().as_secs());
        Some(rustls_pki_types::UnixTime::since_unix_epoch(since_epoch))
    }
}

/// The mail of both recipients.
#[derive(Default)]
struct Mailbox {
    got: Mutex<Vec<(String, Message)>>,
    /// Of Anne, who deals with certificates, since she last looked.
    unread: Mutex<Vec<Message>>,
    tests: Mutex<Vec<Message>>,
}

impl Channel for Mailbox {
    fn send<'a>(
        &'a self,
        to: &'a Recipient,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async move {
            self.got.lock().push((to.key(), message.clone()));
            if message.data["kind"] == "test" {
                self.tests.lock().push(message.clone());
            } else if to.key() == ANNE {
                self.unread.lock().push(message.clone());
            }
            Ok(())
        })
    }
}

fn configuration(folder: &Path) -> Config {
    let mut text = String::from(
        r#"
        data_dir = "data"
        [admin]
        listen = "127.0.0.1:7001"
        [peer]
        listen = "127.0.0.1:7002"
        base_path = "/dicom-web"
        gate = "none"
        client_ca_file = "ca.pem"
        [dimse]
        ae_title = "DRIMBOX"
        [acme]
        listen = "127.0.0.1:7003"
        accept_terms = true
        contact = ["it@centre.example"]
        ca_file = "ca.pem"
        [[acme.authority]]
        directory = "https://ca0.example/directory"
        [[acme.authority]]
        directory = "https://ca1.example/directory"
        [psc]
        environment = "custom"
        issuer = "https://psc.example/realms/esante"
        client_id = "drimbox-centre"
        certificate_file = "psc.pem"
        key_file = "psc.key"
        ca_file = "ca.pem"
        [[dmp.structures]]
        name = "centre"
        structure = "5750000001"
        auth = { certificate_file = "auth.pem", key_file = "auth.key" }
        sign = { certificate_file = "sign.pem", key_file = "sign.key" }
        "#,
    );
    for (pacs, number) in [("ct", 1), ("mr", 2)] {
        let bought = match number {
            2 => "vi_tls = { certificate_file = \"vi2.pem\", key_file = \"vi2.key\" }",
            _ => "",
        };
        text.push_str(&format!(
            r#"
            [[pacs]]
            name = "{pacs}"
            db_host = "db{number}.centre.example"
            db_tls = {{ certificate_file = "db{number}.pem", key_file = "db{number}.key" }}
            vi_host = "vi{number}.centre.example"
            {bought}
            [pacs.dimse]
            host = "127.0.0.1"
            port = 104
            ae_title = "PACS"
            "#
        ));
    }
    let file: PathBuf = folder.join("drimbox.toml");
    std::fs::write(&file, text).unwrap();
    config::load(&file).unwrap_or_else(|error| panic!("{error}"))
}

fn secret(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
