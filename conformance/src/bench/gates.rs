//! What the gates between two DRIMboxes cost a transfer: the same exam from the same PACS, by
//! `drimbox fetch`, through the white list, revocation lists, a professional's token, the KOS and the
//! audit trail, and past all of it with a certificate alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::samples::kos::Kos;
use crate::samples::{self, Exam, Profile};
use crate::testkit::gateway::binary;
use crate::testkit::igc::LeafSpec;
use crate::testkit::network::addresses;
use crate::testkit::psc::RADIOLOGIST;
use crate::testkit::{
    Client, Gateway, GatewayConfig, Identity, KitError, Network, Orthanc, PacsConfig, free_port,
};

use super::report::{Bar, Row, Unit};

/// The measures by name.
pub const KEYS: [&str; 2] = ["gates-warm", "gates-cold"];

const SOURCE: &str = "db1.source.bench";
const CONSUMER: &str = "db1.consumer.bench";
const CLIENT: &str = "drimbox-consumer";
/// Share of the throughput without gates that is left with them.
const BAR: f64 = 0.95;
/// Time for a gateway to be ready, and for its white list to be in use.
const READY: Duration = Duration::from_secs(60);

/// Two pairs of DRIMboxes in front of one PACS.
pub struct GatesBench {
    folder: PathBuf,
    /// Where what arrives is written: in memory, where the system has a folder for that. Two hospitals do not share a
    /// disk: an audit trail that is synced on the one would wait for the images that are written to the other.
    out: TempDir,
    network: Network,
    bytes: u64,
    images: usize,
    /// Every gate closed.
    closed: Pair,
    /// A certificate is enough.
    open: Pair,
    _pacs: Orthanc,
}

/// A source, and who fetches from it.
struct Pair {
    source: Gateway,
    /// Of the source.
    folder: PathBuf,
    consumer: Gateway,
    config: PathBuf,
    kos: PathBuf,
}

impl GatesBench {
    /// Makes the exams unless `folder` has them, and starts everything.
    ///
    /// # Errors
    /// When an exam cannot be made or a program does not start.
    pub async fn start(folder: &Path) -> Result<Self, KitError> {
        let folder = std::path::absolute(folder).map_err(KitError::io("find", folder))?;
        let manifest = samples::generate(Profile::Bench, &folder.join("samples"))
            .map_err(KitError::http("make the exams"))?;
        let exam = manifest.exam("ct").ok_or_else(|| KitError::Invalid {
            what: "the exams".into(),
            reason: "no exam ct".into(),
        })?;
        let home = folder.join("gates");
        if home.exists() {
            std::fs::remove_dir_all(&home).map_err(KitError::io("empty", &home))?;
        }
        let names = [SOURCE, CONSUMER];
        let clients = [CLIENT, SOURCE, CONSUMER];
        let network = Network::start(&home.join("network"), &folder, &names, &clients).await?;
        network
            .provider
            .set(json!({"accessTokenSeconds": 600}))
            .await?;
        let pacs = Orthanc::builder(&home.join("pacs"))
            .verbose(false)
            .start()
            .await?;
        let files: Vec<PathBuf> = exam.instances().map(|one| manifest.path(one)).collect();
        let sizes = files.iter().filter_map(|file| file.metadata().ok());
        let bytes = sizes.map(|file| file.len()).sum();
        pacs.upload(files).await?;
        let identities = [
            identity(&network, SOURCE, 0x33_0001)?,
            identity(&network, CONSUMER, 0x33_0002)?,
        ];
        let at = home.join("closed");
        let closed = Pair::start(&at, &network, &pacs, exam, &identities, true).await?;
        let at = home.join("open");
        let open = Pair::start(&at, &network, &pacs, exam, &identities, false).await?;
        let memory = Path::new("/dev/shm");
        let within = if memory.is_dir() { memory } else { &home };
        let out = TempDir::new_in(within).map_err(KitError::io("make a folder in", within))?;
        Ok(Self {
            folder: home,
            out,
            network,
            bytes,
            images: exam.instances().count(),
            closed,
            open,
            _pacs: pacs,
        })
    }

    /// Makes one measure; runs alternate between with and without the gates.
    ///
    /// # Errors
    /// When a transfer fails or is not whole.
    pub async fn measure(&mut self, key: &str, runs: usize) -> Result<Row, KitError> {
        let (key, cold, what) = match key {
            "gates-warm" => (
                KEYS[0],
                false,
                "transfer between two gateways, warm, with every gate",
            ),
            _ => (
                KEYS[1],
                true,
                "transfer between two gateways, cold, with every gate",
            ),
        };
        let unit = Unit::Throughput(self.bytes);
        let mut row = Row::new(key, what, unit, Bar::ThroughputOfPeer(BAR));
        row.peer_name = "the same with certificates alone".into();
        row.paired = true;
        row.note = format!(
            "drimbox fetch, {} images to files: white list, revocation lists, token, KOS and audit \
             trail; the INS of the KOS is written into every head; the whole program is timed, its start \
             included. The files are in memory: two hospitals share no disk. One token for all transfers: a \
             source that was restarted has it checked again. The ratio is the median of those of pairs \
             of transfers, whose order changes",
            self.images
        );
        self.issue().await?;
        if !cold {
            self.transfer(true).await?;
            self.transfer(false).await?;
        }
        for run in 0..runs {
            for gated in [run % 2 == 0, run % 2 != 0] {
                if cold {
                    let pair = if gated {
                        &mut self.closed
                    } else {
                        &mut self.open
                    };
                    pair.cold().await?;
                }
                let time = self.transfer(gated).await?.as_secs_f64();
                if gated { &mut row.ours } else { &mut row.peer }.push(time);
            }
        }
        Ok(row)
    }

    /// A token for every transfer of a row: a source that was not restarted knows it.
    async fn issue(&self) -> Result<(), KitError> {
        let file = self.token_file();
        let (token, _) = self.network.provider.issue(RADIOLOGIST, CLIENT).await?;
        std::fs::write(&file, token).map_err(KitError::io("write", &file))
    }

    fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    /// One transfer; the time that it took.
    async fn transfer(&self, gated: bool) -> Result<Duration, KitError> {
        let pair = if gated { &self.closed } else { &self.open };
        let out = self.out.path().join("out");
        let program = binary()?;
        let mut command = Command::new(&program);
        command.arg("fetch").arg("--kos").arg(&pair.kos);
        command.arg("--out").arg(&out);
        command.arg("--token-file").arg(self.token_file());
        command.arg("--config").arg(&pair.config);
        let timed = move || {
            let started = Instant::now();
            command.output().map(|done| (done, started.elapsed()))
        };
        let ran = tokio::task::spawn_blocking(timed).await;
        let ran = ran.map_err(KitError::http("run drimbox fetch"))?;
        let (done, time) = ran.map_err(KitError::io("run", &program))?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        std::fs::remove_dir_all(&out).map_err(KitError::io("empty", &out))?;
        let whole = said.contains(&format!("{} images (0 déjà là)", self.images));
        if done.status.success() && whole {
            return Ok(time);
        }
        let reason = String::from_utf8_lossy(&done.stderr).into_owned() + &said;
        Err(KitError::http("fetch an exam")(reason))
    }
}

impl Pair {
    async fn start(
        at: &Path,
        network: &Network,
        pacs: &Orthanc,
        exam: &Exam,
        [served, shown]: &[Identity; 2],
        gated: bool,
    ) -> Result<Self, KitError> {
        let text = |path: &Path| path.display().to_string();
        let listen = format!("127.0.0.1:{}", free_port()?);
        let root = network.root_file()?;
        let folder = at.join("source");
        let config = GatewayConfig::new(&folder)?;
        let section = PacsConfig::new("pacs", pacs.ae_title(), pacs.dicom_port());
        let config = match gated {
            true => network.join(config, SOURCE)?,
            false => config
                .set("peer.base_path", "/dicom-web")
                .set("peer.gate", "none")
                .set("peer.client_ca_file", text(&root)),
        };
        let config = config.set("peer.listen", listen.clone());
        let source = Gateway::start(config.pacs(section.db_host(SOURCE, served))).await?;

        let config = GatewayConfig::new(&at.join("consumer"))?
            .set(
                "consumer.identity.certificate_file",
                text(&shown.certificate_file),
            )
            .set("consumer.identity.key_file", text(&shown.key_file));
        let none = PacsConfig::new("none", "NONE", 104);
        let config = match gated {
            true => network
                .join(config, CONSUMER)?
                .set("peer.listen", format!("127.0.0.1:{}", free_port()?))
                .set("consumer.addresses", addresses(&[(SOURCE, listen)]))
                .pacs(none.db_host(CONSUMER, shown)),
            false => {
                let mut peer = Table::new();
                peer.insert("db_host".into(), SOURCE.into());
                peer.insert("address".into(), listen.into());
                config
                    .set("consumer.ca_file", text(&root))
                    .set("consumer.peers", vec![Value::Table(peer)])
                    .pacs(none)
            }
        };
        let consumer = Gateway::start(config).await?;
        let kos = at.join("kos.dcm");
        let of_exam = Kos::of(exam, &format!("https://{SOURCE}/dicom-web"));
        of_exam.write(&kos).map_err(KitError::http("write a KOS"))?;
        let mut pair = Self {
            source,
            folder,
            consumer,
            config: at.join("consumer/drimbox.toml"),
            kos,
        };
        if gated {
            pair.publish().await?;
            listed(&mut pair.source).await?;
            listed(&mut pair.consumer).await?;
        }
        Ok(pair)
    }

    /// Opens the exam.
    async fn publish(&self) -> Result<(), KitError> {
        let program = binary()?;
        let mut command = Command::new(&program);
        command.args(["exams", "add", "--pacs", "pacs", "--kos"]);
        command.arg(&self.kos).arg("--config");
        command.arg(self.folder.join("drimbox.toml"));
        let ran = tokio::task::spawn_blocking(move || command.output()).await;
        let ran = ran.map_err(KitError::http("run drimbox exams"))?;
        let done = ran.map_err(KitError::io("run", &program))?;
        if done.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&done.stderr).into_owned();
        Err(KitError::http("publish an exam")(reason))
    }

    /// Restarts the source with an empty cache.
    async fn cold(&mut self) -> Result<(), KitError> {
        self.source.kill();
        let cache = self.folder.join("data/cache");
        std::fs::remove_dir_all(&cache).map_err(KitError::io("empty", &cache))?;
        self.source.restart().await?;
        let url = format!("{}/health/ready", self.source.admin_url());
        let client = Client::plain()?;
        let ready = async || {
            let answer = client.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        self.source.process().ready(READY, ready).await
    }
}

/// Waits until a gateway has its white list.
async fn listed(gateway: &mut Gateway) -> Result<(), KitError> {
    let url = format!("{}/metrics", gateway.admin_url());
    let client = Client::plain()?;
    let has_list = async || {
        let Ok(answer) = client.get(&url).send().await else {
            return false;
        };
        let text = answer.text().await.unwrap_or_default();
        text.lines()
            .any(|line| line == "drimbox_whitelist_domains 2")
    };
    gateway.process().ready(READY, has_list).await
}

fn identity(network: &Network, host: &str, serial: u64) -> Result<Identity, KitError> {
    let spec = LeafSpec {
        serial,
        dns_names: vec![host.to_owned()],
        ..LeafSpec::peer(host)
    };
    network.identity(host, &spec)
}
