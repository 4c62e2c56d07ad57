//! The two sites, and what their administrators do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::testkit::gateway::binary;
use conformance::testkit::igc::LeafSpec;
use conformance::testkit::network::addresses;
use conformance::testkit::psc::RADIOLOGIST;
use conformance::testkit::{
    Fault, FaultProxy, Gateway, GatewayConfig, Identity, Network, Orthanc, PacsConfig, free_port,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::task::JoinHandle;

use crate::support::study::Study;
use crate::support::trail;
use crate::support::{folder, metric, until};

/// The client that people log in to.
pub const CLIENT: &str = "drimbox-consumer";
const HOSTS: [&str; 2] = ["db1.north.example", "db1.south.example"];
/// In the white list besides them.
const OTHERS: [&str; 2] = ["db1.east.example", "db1.west.example"];

/// Both sites and their network.
pub struct Pair {
    pub network: Network,
    pub north: Site,
    pub south: Site,
    /// Lists of both kinds that were published, and serial numbers that were given.
    published: u32,
    revoked: Vec<u64>,
}

/// A hospital.
pub struct Site {
    pub host: &'static str,
    pub gateway: Gateway,
    pub study: Study,
    pub kos: PathBuf,
    /// Its certificate.
    pub identity: Identity,
    home: PathBuf,
    /// Between this site and who calls it.
    pub line: FaultProxy,
    serial: u64,
    _orthanc: Orthanc,
}

/// The sites of this program: stories have them one after the other.
pub async fn pair() -> MutexGuard<'static, Pair> {
    static PAIR: OnceCell<Mutex<Pair>> = OnceCell::const_new();
    let pair = PAIR.get_or_init(async || Mutex::new(Pair::start().await));
    let pair = pair.await.lock().await;
    // A story that failed may have left them so.
    pair.north.release();
    pair.south.release();
    pair
}

impl Pair {
    async fn start() -> Self {
        let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let clients = [CLIENT, HOSTS[0], HOSTS[1]];
        let listed = [HOSTS, OTHERS].concat();
        let at = folder("network");
        let network = Network::start(&at, build, &listed, &clients).await;
        let network = network.unwrap();
        let mut lines = Vec::new();
        let mut listen = Vec::new();
        for _ in HOSTS {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
            listen.push(address);
            lines.push(FaultProxy::start(address).await.unwrap());
        }
        let places: Vec<_> = HOSTS
            .iter()
            .zip(&lines)
            .map(|(host, line)| (*host, line.address().to_string()))
            .collect();
        let mut sites = Vec::new();
        for (at, line) in lines.into_iter().enumerate() {
            sites.push(Site::start(at, &network, listen[at], line, &places).await);
        }
        let south = sites.pop().unwrap();
        let north = sites.pop().unwrap();
        Self {
            network,
            north,
            south,
            published: 0,
            revoked: Vec::new(),
        }
    }

    /// A new token of a radiologist, and its session.
    pub async fn token(&self) -> (String, String) {
        self.network
            .provider
            .issue(RADIOLOGIST, CLIENT)
            .await
            .unwrap()
    }

    /// Puts a new token into a file for `drimbox fetch`.
    pub async fn token_file(&self, name: &str) -> PathBuf {
        let file = folder(name).join("token");
        std::fs::write(&file, self.token().await.0).unwrap();
        file
    }

    /// The series that was under way when something changed came to its end: all its images are here, and
    /// the south has it on record as sent, of what it recorded after the first `from`. How many they are.
    pub async fn series_arrived_whole(&self, out: &Path, from: usize) -> usize {
        let ended = async || self.south.events(from, "request-ended");
        until("the end is on record", async || !ended().await.is_empty()).await;
        let ended = ended().await;
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0]["outcome"]["ending"], "success");
        let images = self.south.study.kos.series[0].instances.len();
        assert_eq!(ended[0]["outcome"]["instances"], images);
        assert_eq!(arrived(out), images);
        images
    }

    /// Publishes a white list without this host, and has both sites take it.
    pub async fn list_without(&mut self, left_out: &str) {
        self.published += 1;
        let mut hosts = [HOSTS, OTHERS].concat();
        hosts.retain(|host| *host != left_out);
        self.network.list(self.published.into(), &hosts).unwrap();
        self.refresh().await;
    }

    /// Revokes the certificate of the north, and has both sites learn it.
    pub async fn revoke_north(&mut self) {
        self.revoke(self.north.serial).await;
    }

    /// Revokes the certificate of the south, and has both sites learn it.
    pub async fn revoke_south(&mut self) {
        self.revoke(self.south.serial).await;
    }

    async fn revoke(&mut self, serial: u64) {
        self.published += 1;
        self.revoked.push(serial);
        let number = self.published.into();
        self.network.revoke(number, &self.revoked).unwrap();
        self.refresh().await;
    }

    /// Gives a site a new certificate and has it taken up.
    pub async fn renew(network: &Network, site: &mut Site) {
        site.serial += 1;
        site.write_identity(network);
        let reloaded = async || {
            let labels = [("outcome", "loaded")];
            metric(&site.gateway, "drimbox_tls_reloads_total", &labels).await
        };
        let before = reloaded().await;
        let pid = Pid::from_raw(i32::try_from(site.gateway.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        // The certificate, and the authorities of peers.
        until("the new certificate is in use", async || {
            reloaded().await >= before + 2
        })
        .await;
    }

    async fn refresh(&self) {
        for site in [&self.north, &self.south] {
            let done = site.run(&["trust", "refresh"]).await;
            assert!(done.status.success(), "{}", text(&done.stderr));
        }
    }
}

impl Site {
    async fn start(
        at: usize,
        network: &Network,
        listen: SocketAddr,
        line: FaultProxy,
        places: &[(&str, String)],
    ) -> Self {
        let host = HOSTS[at];
        let home = folder(host);
        let root = format!("https://{host}/dicom-web");
        let series: [&[usize]; 2] = [&[800, 450, 50], &[500, 420, 380]];
        let study = Study::of(host, &format!("2.25.47{at}"), &root, series[at]);
        let orthanc = Orthanc::builder(&folder(&format!("{host}-orthanc"))).start();
        let orthanc = orthanc.await.unwrap();
        orthanc.upload(study.paths()).await.unwrap();
        let serial = 0x10_0000 * (at as u64 + 1);
        let identity = network.identity(host, &spec(host, serial)).unwrap();
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let config = GatewayConfig::new(&home).unwrap();
        let config = network
            .join(config, host)
            .unwrap()
            .set("peer.listen", listen.to_string())
            // What comes is compared byte for byte.
            .set("peer.add_ins", false)
            .set("consumer.addresses", addresses(places))
            .set("consumer.series_at_once", 1)
            .set("consumer.attempts", 1)
            .pacs(pacs.db_host(host, &identity));
        let gateway = Gateway::start(config).await.unwrap();
        until("the white list is in use", async || {
            metric(&gateway, "drimbox_whitelist_domains", &[]).await == 4
        })
        .await;
        let kos = home.join("kos.dcm");
        study.kos.write(&kos).unwrap();
        let site = Self {
            host,
            gateway,
            study,
            kos,
            identity,
            home,
            line,
            serial,
            _orthanc: orthanc,
        };
        site.publish().await;
        site
    }

    fn write_identity(&self, network: &Network) {
        let spec = spec(self.host, self.serial);
        network.identity(self.host, &spec).unwrap();
    }

    /// Opens the exam, as its administrator does.
    pub async fn publish(&self) {
        let kos = self.kos.display().to_string();
        let arguments = ["exams", "add", "--pacs", "pacs", "--kos", &kos];
        let done = self.run(&arguments).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// Closes it.
    pub async fn withdraw(&self) {
        let study = &self.study.kos.study;
        let arguments = ["exams", "remove", "--pacs", "pacs", "--study", study];
        let done = self.run(&arguments).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// Runs a command of this site.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.begin(arguments).await.unwrap()
    }

    fn begin(&self, arguments: &[&str]) -> JoinHandle<Output> {
        let mut command = Command::new(binary().unwrap());
        command.args(arguments).arg("--config");
        command.arg(self.home.join("drimbox.toml"));
        tokio::task::spawn_blocking(move || command.output().unwrap())
    }

    /// Fetches the exam of a KOS.
    pub async fn fetch(&self, kos: &Path, out: &Path, token: Option<&Path>) -> Output {
        self.begin_fetch(kos, out, token).await.unwrap()
    }

    /// Begins to fetch it.
    pub fn begin_fetch(&self, kos: &Path, out: &Path, token: Option<&Path>) -> JoinHandle<Output> {
        let paths = [kos, out].map(|path| path.display().to_string());
        let mut arguments = vec!["fetch", "--kos", &paths[0], "--out", &paths[1]];
        let token = token.map(|path| path.display().to_string());
        if let Some(token) = &token {
            arguments.extend(["--token-file", token]);
        }
        self.begin(&arguments)
    }

    /// The events of its trail so far.
    pub fn trail(&self) -> Vec<Json> {
        trail::events(&self.home.join("data/audit"))
    }

    /// The events of one kind, of those after the first `from`.
    pub fn events(&self, from: usize, kind: &str) -> Vec<Json> {
        let all = self.trail().into_iter().skip(from);
        all.filter(|event| event["kind"] == kind).collect()
    }

    /// Its trail is whole, as an auditor finds it.
    pub async fn assert_trail(&self) {
        let done = self.run(&["audit", "verify"]).await;
        assert!(
            done.status.success(),
            "{}{}",
            text(&done.stdout),
            text(&done.stderr)
        );
    }

    /// Holds back what it sends, in the middle of the first series of its exam.
    pub fn hold(&self) {
        self.line.set(Fault::StallAfter(200_000));
    }

    /// Lets it go.
    pub fn release(&self) {
        self.line.set(Fault::None);
    }
}

/// Files that are whole in a folder of `drimbox fetch`.
pub fn arrived(out: &Path) -> usize {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let series = entries(out);
    let files = series.flat_map(|series| entries(&series.path()));
    files
        .filter(|file| file.path().extension().is_some_and(|kind| kind == "dcm"))
        .count()
}

/// Waits until a fetch is under way.
pub async fn under_way(out: &Path) {
    until("images arrive", async || arrived(out) > 0).await;
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The north has a certificate without any SAN, the south one with its name.
fn spec(host: &str, serial: u64) -> LeafSpec {
    let named = host == HOSTS[1];
    LeafSpec {
        serial,
        dns_names: if named {
            vec![host.to_owned()]
        } else {
            Vec::new()
        },
        ..LeafSpec::peer(host)
    }
}
