//! Another DRIMbox, with every gate closed: the white list, the token of a professional, the KOS.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::samples::Exam;
use conformance::samples::kos::Kos;
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
    listen: String,
    pub gateway: Option<Gateway>,
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
            listen: format!("127.0.0.1:{}", free_port()?),
            gateway: None,
        })
    }

    /// Lets the gateway of the demonstration fetch from it.
    pub fn known_to(&self, config: GatewayConfig) -> Result<GatewayConfig, SceneError> {
        let identity = self.network.identity(CALLER, &spec(CALLER, 0x22_0001))?;
        let path = |path: &Path| path.display().to_string();
        let places = addresses(&[(HOST, self.listen.clone())]);
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

    /// Starts it in front of this PACS, and opens one exam.
    pub async fn open(&mut self, pacs: &Orthanc, exam: &Exam) -> Result<(), SceneError> {
        let identity = self.network.identity(HOST, &spec(HOST, 0x22_0002))?;
        let config = GatewayConfig::new(&self.folder.join("gateway"))?;
        let pacs = PacsConfig::new("pacs", pacs.ae_title(), pacs.dicom_port());
        let config = self.network.join(config, HOST)?;
        let config = config
            .set("peer.listen", self.listen.clone())
            .pacs(pacs.db_host(HOST, &identity));
        self.gateway = Some(Gateway::start(config).await?);
        let root = format!("https://{HOST}/dicom-web");
        Kos::of(exam, &root).write(&self.kos_file())?;
        let kos = self.kos_file().display().to_string();
        let arguments = ["exams", "add", "--pacs", "pacs", "--kos", &kos];
        let done = run(&arguments, &self.config_file()).await?;
        if done.status.success() {
            return Ok(());
        }
        Err(SceneError::Kit(KitError::Invalid {
            what: "the exam of the neighbour".to_owned(),
            reason: String::from_utf8_lossy(&done.stderr).into_owned(),
        }))
    }

    /// Fetches that exam for the gateway with this configuration, with the token of a radiologist or
    /// without any.
    pub async fn fetch(
        &self,
        config: &Path,
        out: &Path,
        with_token: bool,
    ) -> Result<Output, KitError> {
        let paths = [&self.kos_file(), out].map(|path| path.display().to_string());
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

    /// Whether its audit trail is whole, and what is said of it.
    pub async fn audit(&self) -> Result<Output, KitError> {
        run(&["audit", "verify"], &self.config_file()).await
    }

    /// What `demo.json` says of it.
    pub fn json(&self) -> Value {
        json!({
            "db_host": HOST,
            "address": self.listen,
            "admin_url": self.gateway.as_ref().map(Gateway::admin_url),
            "pid": self.gateway.as_ref().map(Gateway::pid),
            "config_file": self.config_file(),
            "kos_file": self.kos_file(),
        })
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("gateway/drimbox.toml")
    }

    fn kos_file(&self) -> PathBuf {
        self.folder.join("kos.dcm")
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
