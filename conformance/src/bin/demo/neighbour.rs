//! Another DRIMbox in front of a PACS of its own, with every gate closed: the white list, the token of a
//! professional, the KOS. And the door of the demonstration's own hospital for it: a gateway in front of the PACS of
//! the demonstration, closed alike.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::samples::kos::Kos;
use conformance::samples::{Exam, Manifest};
use conformance::testkit::gateway::binary;
use conformance::testkit::igc::LeafSpec;
use conformance::testkit::network::addresses;
use conformance::testkit::psc::RADIOLOGIST;
use conformance::testkit::{
    Gateway, GatewayConfig, KitError, Network, Orthanc, PacsConfig, free_port,
};
use serde_json::{Value, json};

use super::scene::SceneError;

/// Its `db` name.
const HOST: &str = "db1.neighbour.example";
/// The `db` name under which the gateway of the demonstration is known to it.
const CALLER: &str = "db1.demo.example";
/// The client that people log in to.
const CLIENT: &str = "drimbox-consumer";

/// The network and the other DRIMbox.
pub struct Neighbour {
    folder: PathBuf,
    network: Network,
    /// Where the neighbour listens, and the door.
    listen: [String; 2],
    pub pacs: Option<Orthanc>,
    pub gateway: Option<Gateway>,
    pub door: Option<Gateway>,
}

/// Who fetches from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the neighbour.
    Here,
    /// By the neighbour.
    There,
}

impl Neighbour {
    /// Makes the network of both.
    pub async fn prepare(folder: PathBuf, build: &Path) -> Result<Self, SceneError> {
        let clients = [CLIENT, HOST, CALLER];
        let at = folder.join("network");
        let network = Network::start(&at, build, &[HOST, CALLER], &clients).await?;
        Ok(Self {
            folder,
            network,
            listen: [
                format!("127.0.0.1:{}", free_port()?),
                format!("127.0.0.1:{}", free_port()?),
            ],
            pacs: None,
            gateway: None,
            door: None,
        })
    }

    /// Lets the gateway of the demonstration fetch from it.
    pub fn known_to(&self, config: GatewayConfig) -> Result<GatewayConfig, SceneError> {
        let identity = self.network.identity(CALLER, &spec(CALLER, 0x22_0001))?;
        let path = |path: &Path| path.display().to_string();
        let places = addresses(&[(HOST, self.listen[0].clone())]);
        Ok(self
            .network
            .join(config, CALLER)?
            .set("consumer.addresses", places)
            .set(
                "consumer.identity.certificate_file",
                path(&identity.certificate_file),
            )
            .set("consumer.identity.key_file", path(&identity.key_file)))
    }

    /// Starts it with an exam in its own PACS, and the door in front of `pacs`, which has the exam too, and opens the
    /// exam on both.
    pub async fn open(
        &mut self,
        pacs: &Orthanc,
        manifest: &Manifest,
        exam: &Exam,
    ) -> Result<(), SceneError> {
        let own = Orthanc::builder(&self.folder.join("pacs")).start().await?;
        let files = exam.instances().map(|one| manifest.path(one));
        own.upload(files.collect()).await?;
        let [neighbour, door] = [Way::Here, Way::There];
        self.gateway = Some(self.start(neighbour, &own, exam).await?);
        self.door = Some(self.start(door, pacs, exam).await?);
        self.pacs = Some(own);
        Ok(())
    }

    /// Starts the source of one way.
    async fn start(&self, way: Way, pacs: &Orthanc, exam: &Exam) -> Result<Gateway, SceneError> {
        let [own, other] = &self.listen;
        let (host, serial, listen, places) = match way {
            Way::Here => (HOST, 0x22_0002, own, addresses(&[(CALLER, other.clone())])),
            Way::There => (CALLER, 0x22_0003, other, addresses(&[(HOST, own.clone())])),
        };
        let name = format!("{host}-source");
        let identity = self.network.identity(&name, &spec(host, serial))?;
        let folder = self.config_file(way);
        let folder = folder.parent().unwrap_or(&self.folder);
        let config = GatewayConfig::new(folder)?;
        let pacs = PacsConfig::new("pacs", pacs.ae_title(), pacs.dicom_port());
        let config = self
            .network
            .join(config, host)?
            .set("peer.listen", listen.clone())
            .set("consumer.addresses", places)
            .pacs(pacs.db_host(host, &identity));
        let gateway = Gateway::start(config).await?;
        let root = format!("https://{host}/dicom-web");
        Kos::of(exam, &root).write(&self.kos_file(way))?;
        let kos = self.kos_file(way).display().to_string();
        let arguments = ["exams", "add", "--pacs", "pacs", "--kos", &kos];
        let done = run(&arguments, &self.config_file(way)).await?;
        if done.status.success() {
            return Ok(gateway);
        }
        Err(SceneError::Kit(KitError::Invalid {
            what: format!("the exam of {host}"),
            reason: String::from_utf8_lossy(&done.stderr).into_owned(),
        }))
    }

    /// Fetches the exam of one way for the gateway with this configuration, with the token of a
    /// radiologist or without any.
    pub async fn fetch(
        &self,
        way: Way,
        config: &Path,
        out: &Path,
        with_token: bool,
    ) -> Result<Output, KitError> {
        let paths = [&self.kos_file(way), out].map(|path| path.display().to_string());
        let mut arguments = vec!["fetch", "--kos", &paths[0], "--out", &paths[1]];
        let file = self.folder.join("token");
        let token_file = file.display().to_string();
        if with_token {
            let (token, _) = self.network.provider.issue(RADIOLOGIST, CLIENT).await?;
            std::fs::write(&file, token).map_err(KitError::io("write", &file))?;
            arguments.extend(["--token-file", &token_file]);
        }
        run(&arguments, config).await
    }

    /// Whether the audit trail of the source of one way is whole, and what is said of it.
    pub async fn audit(&self, way: Way) -> Result<Output, KitError> {
        run(&["audit", "verify"], &self.config_file(way)).await
    }

    /// What `demo.json` says of it.
    pub fn json(&self) -> Value {
        json!({
            "db_host": HOST,
            "address": self.listen[0],
            "admin_url": self.gateway.as_ref().map(Gateway::admin_url),
            "pid": self.gateway.as_ref().map(Gateway::pid),
            "config_file": self.config_file(Way::Here),
            "kos_file": self.kos_file(Way::Here),
            "door": {
                "db_host": CALLER,
                "address": self.listen[1],
                "pid": self.door.as_ref().map(Gateway::pid),
                "config_file": self.config_file(Way::There),
                "kos_file": self.kos_file(Way::There),
            },
        })
    }

    /// The configuration of the source of one way.
    pub fn config_file(&self, way: Way) -> PathBuf {
        let folder = match way {
            Way::Here => "gateway",
            Way::There => "door",
        };
        self.folder.join(folder).join("drimbox.toml")
    }

    fn kos_file(&self, way: Way) -> PathBuf {
        self.folder.join(match way {
            Way::Here => "kos.dcm",
            Way::There => "kos-of-the-door.dcm",
        })
    }
}

fn spec(host: &str, serial: u64) -> LeafSpec {
    LeafSpec {
        serial,
        ..LeafSpec::peer(host)
    }
}

async fn run(arguments: &[&str], config: &Path) -> Result<Output, KitError> {
    let program = binary()?;
    let mut command = Command::new(&program);
    command.args(arguments).arg("--config").arg(config);
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran.map_err(KitError::http("run drimbox"))?;
    ran.map_err(KitError::io("run", &program))
}
