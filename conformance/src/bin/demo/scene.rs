//! What the demonstration starts, and the file that tells other programs where it is.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::samples::{self, Manifest, Profile};
use conformance::testkit::{
    Client, Gateway, GatewayConfig, Identity, KitError, Orthanc, PacsConfig, Pki, Protocol,
    free_port,
};
use serde_json::{Value, json};

use super::market::{Market, VI_HOST};
use super::neighbour::Neighbour;

/// Host name on which peers find the PACS.
pub const DB_HOST: &str = "db.demo.example";

/// Name of the PACS in the gateway's configuration.
const PACS: &str = "demo";
const PACS_TITLE: &str = "ORTHANC";
const GATEWAY_TITLE: &str = "DRIMBOX";

/// File that marks a folder as one of the demonstration, which may be emptied.
const MARK: &str = ".drimbox-demo";

/// Time for the gateway to stop.
const STOP: Duration = Duration::from_secs(40);

/// Why there is no scene.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// A part could not be started or asked.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// The exams could not be made.
    #[error(transparent)]
    Samples(#[from] samples::Error),
    /// The folder holds something else.
    #[error("{0} is not empty and was not made by the demonstration: choose another with STATE=")]
    Folder(PathBuf),
    /// A port that was chosen is taken.
    #[error("port {0} is taken: choose others with PORT_BASE=, or none to have free ones")]
    Port(u16),
    /// Ports beyond 65535.
    #[error("PORT_BASE={0} leaves no room for six ports")]
    PortBase(u16),
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// Operation and its object.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The samples lack an exam that the tour shows.
    #[error("the samples have no exam {0}")]
    NoExam(&'static str),
}

/// The ports of the scene.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pacs_dicom: u16,
    pacs_http: u16,
    admin: u16,
    local: u16,
    peer: u16,
    dimse: u16,
}

impl Ports {
    /// Six consecutive ports, all of them free.
    pub fn from(base: u16) -> Result<Self, SceneError> {
        let port = |step: u16| {
            let port = base.checked_add(step).ok_or(SceneError::PortBase(base))?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|_| SceneError::Port(port))?;
            Ok::<_, SceneError>(port)
        };
        Ok(Self {
            pacs_dicom: port(0)?,
            pacs_http: port(1)?,
            admin: port(2)?,
            local: port(3)?,
            peer: port(4)?,
            dimse: port(5)?,
        })
    }

    /// Any free ports.
    pub fn free() -> Result<Self, SceneError> {
        Ok(Self {
            pacs_dicom: free_port()?,
            pacs_http: free_port()?,
            admin: free_port()?,
            local: free_port()?,
            peer: free_port()?,
            dimse: free_port()?,
        })
    }
}

/// Everything that runs.
pub struct Scene {
    folder: PathBuf,
    pub manifest: Manifest,
    pub orthanc: Orthanc,
    pub gateway: Gateway,
    pub pki: Pki,
    pub neighbour: Neighbour,
    pub market: Market,
    client: Identity,
}

impl Scene {
    /// Makes the exams and the PKI, starts the PACS with the exams in it, starts the gateway, and
    /// writes `demo.json`.
    pub async fn set(state: &Path, ports: &Ports, profile: Profile) -> Result<Self, SceneError> {
        let folder = prepare(state)?;
        let samples = folder.join("samples");
        println!("Exams           {} ({profile})", samples.display());
        let manifest = tokio::task::spawn_blocking(move || samples::generate(profile, &samples))
            .await
            .map_err(KitError::http("make exams"))??;
        println!(
            "                {} exams, {} objects, {}",
            manifest.exams.len(),
            manifest.instances().count(),
            super::tour::size(manifest.size())
        );

        let orthanc = Orthanc::builder(&fresh(&folder, "pacs")?)
            .ae_title(PACS_TITLE)
            .ports(ports.pacs_dicom, ports.pacs_http)
            // As Debian ships it.
            .nodelay(false)
            // Its default, ISO 8859-1, loses the names that it cannot write.
            .setting("DefaultEncoding", json!("Utf8"))
            .modality(GATEWAY_TITLE, ports.dimse)
            .start()
            .await?;
        println!(
            "PACS            Orthanc, {PACS_TITLE}@127.0.0.1:{}",
            ports.pacs_dicom
        );
        orthanc.upload(manifest.files().collect()).await?;

        let pki = Pki::new(&fresh(&folder, "pki")?, "Demonstration CA")?;
        let server = pki.server(&[DB_HOST])?;
        let client = pki.client("peer.demo.example")?;
        println!("Test PKI        {}", folder.join("pki").display());

        let folder_of_network = fresh(&folder, "neighbour")?;
        let mut neighbour = Neighbour::prepare(folder_of_network, &folder).await?;
        let market = Market::start(&fresh(&folder, "authority")?, &pki).await?;
        println!("Authority       Pebble, {}", market.directory());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let config = GatewayConfig::new(&fresh(&folder, "gateway")?)?
            .peer(&pki)?
            .set("admin.listen", at(ports.admin))
            .set("local.listen", at(ports.local))
            .set(
                "local.public_url",
                format!("http://127.0.0.1:{}", ports.local),
            )
            .set("peer.listen", at(ports.peer))
            .set("dimse.ae_title", GATEWAY_TITLE)
            .set("dimse.listen", at(ports.dimse))
            .pacs(
                PacsConfig::new(PACS, PACS_TITLE, ports.pacs_dicom)
                    .db_host(DB_HOST, &server)
                    .set("vi_host", VI_HOST),
            );
        let config = market.asked_by(neighbour.known_to(config)?, &pki);
        let gateway = Gateway::start(config).await?;
        println!("Gateway         drimbox, process {}", gateway.pid());
        let shared = manifest.exam("ct").ok_or(SceneError::NoExam("ct"))?;
        neighbour.open(&orthanc, &manifest, shared).await?;
        println!(
            "Neighbour       another DRIMbox and its Orthanc, behind the white list, tokens and a KOS"
        );

        let scene = Self {
            folder,
            manifest,
            orthanc,
            gateway,
            pki,
            neighbour,
            market,
            client,
        };
        let text = format!("{:#}\n", scene.json());
        write(&scene.folder.join("demo.json"), &text)?;
        Ok(scene)
    }

    /// A client as another DRIMbox would be, that knows the way to the `db` host name.
    pub fn peer_client(&self, protocol: Protocol) -> Result<Client, KitError> {
        self.gateway
            .peer_client(&self.pki, &self.client, &[DB_HOST])
            .protocol(protocol)
            .build()
    }

    /// A client that trusts the gateway and has no certificate of its own.
    pub fn stranger(&self) -> Result<Client, KitError> {
        Client::builder()
            .ca(self.pki.ca_file())
            .resolve(DB_HOST, self.gateway.address("peer"))
            .build()
    }

    /// The configuration of the gateway.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("gateway/drimbox.toml")
    }

    /// What `demo.json` says.
    fn json(&self) -> Value {
        let peer = self.gateway.address("peer").to_string();
        json!({
            "state_dir": self.folder,
            "pacs": {
                "host": "127.0.0.1",
                "port": self.orthanc.dicom_port(),
                "ae_title": self.orthanc.ae_title(),
                "dicomweb_url": self.orthanc.dicomweb_url(),
            },
            "gateway": {
                "ae_title": GATEWAY_TITLE,
                "dimse_port": self.gateway.address("dimse").port(),
                "local_url": self.gateway.local_url(),
                "peer_url": self.gateway.peer_url(DB_HOST),
                "admin_url": self.gateway.admin_url(),
                "pid": self.gateway.pid(),
                "config_file": self.config_file(),
            },
            "tls": {
                "ca_file": self.pki.ca_file(),
                "client_cert_file": self.client.certificate_file,
                "client_key_file": self.client.key_file,
                "addresses": { DB_HOST: peer, VI_HOST: peer },
            },
            "neighbour": self.neighbour.json(),
            "market": self.market.json(self.gateway.address("peer")),
            "samples": {
                "manifest_file": self.manifest.root.join(samples::MANIFEST_FILE),
            },
        })
    }

    /// Prints how to use what runs.
    pub fn describe(&self) {
        let peer = self.gateway.address("peer");
        println!(
            "\nRunning until Ctrl-C. Everything is in {}",
            self.folder.display()
        );
        println!("  curl '{}/studies?limit=5'", self.gateway.local_url());
        println!(
            "  curl --cacert {} --cert {} --key {} --resolve {DB_HOST}:{}:{} {}/studies/UID -o study",
            self.pki.ca_file().display(),
            self.client.certificate_file.display(),
            self.client.key_file.display(),
            peer.port(),
            peer.ip(),
            self.gateway.peer_url(DB_HOST),
        );
        println!("  curl {}/metrics", self.gateway.admin_url());
        println!("  {}", self.folder.join("demo.json").display());
    }

    /// Returns when one of the processes has ended, which none should.
    pub async fn watch(&mut self) -> Result<(), SceneError> {
        let never = async || false;
        let long = Duration::from_secs(u64::from(u32::MAX));
        let (gateway, pacs) = (self.gateway.process(), self.orthanc.process());
        tokio::select! {
            result = gateway.ready(long, never) => Ok(result?),
            result = pacs.ready(long, never) => Ok(result?),
        }
    }

    /// Stops everything in good order.
    pub async fn strike(&mut self) -> Result<(), SceneError> {
        self.gateway.stop(STOP).await?;
        let neighbour = &mut self.neighbour;
        let both = [&mut neighbour.gateway, &mut neighbour.door];
        for gateway in both.into_iter().flatten() {
            gateway.stop(STOP).await?;
        }
        if let Some(pacs) = &mut neighbour.pacs {
            pacs.process().stop(STOP).await?;
        }
        self.orthanc.process().stop(STOP).await?;
        Ok(())
    }
}

/// The folder of the demonstration: new, empty, or left by an earlier one.
fn prepare(state: &Path) -> Result<PathBuf, SceneError> {
    std::fs::create_dir_all(state).map_err(io("create", state))?;
    let folder = state.canonicalize().map_err(io("find", state))?;
    let mark = folder.join(MARK);
    let mut entries = std::fs::read_dir(&folder).map_err(io("list", &folder))?;
    if !mark.exists() && entries.next().is_some() {
        return Err(SceneError::Folder(folder));
    }
    write(&mark, "")?;
    Ok(folder)
}

/// An empty folder of the demonstration's own.
fn fresh(folder: &Path, name: &str) -> Result<PathBuf, SceneError> {
    let path = folder.join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).map_err(io("empty", &path))?;
    }
    std::fs::create_dir_all(&path).map_err(io("create", &path))?;
    Ok(path)
}

fn write(path: &Path, text: &str) -> Result<(), SceneError> {
    std::fs::write(path, text).map_err(io("write", path))
}

fn io(operation: &str, path: &Path) -> impl FnOnce(std::io::Error) -> SceneError {
    let what = format!("{operation} {}", path.display());
    move |source| SceneError::Io { what, source }
}
