//! The certificate of the `vi` name: an ACME authority, and the inventory in which its certificate then stands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::testkit::gateway::binary;
use conformance::testkit::{
    Client, GatewayConfig, KitError, Pebble, PebbleSettings, Pki, free_port,
};
use serde_json::{Value, json};
use toml::Table;

use super::scene::Scene;
use super::tour::Outcome;

/// Host name on which browsers find the gateway.
pub const VI_HOST: &str = "vi.demo.example";

/// Time for the first certificate.
const PATIENCE: Duration = Duration::from_secs(60);

/// The authority.
pub struct Market {
    pebble: Pebble,
    http_port: u16,
    root_file: PathBuf,
}

impl Market {
    /// Starts it in a folder.
    pub async fn start(folder: &Path, pki: &Pki) -> Result<Self, KitError> {
        let http_port = free_port()?;
        let settings = PebbleSettings {
            http_port,
            ..PebbleSettings::default()
        };
        let pebble = Pebble::start(folder, pki, &settings).await?;
        Ok(Self {
            root_file: pebble.root_file().await?,
            pebble,
            http_port,
        })
    }

    /// URL of its directory.
    pub fn directory(&self) -> String {
        self.pebble.directory()
    }

    /// Has the gateway ask it for the certificates of its `vi` names.
    pub fn asked_by(&self, config: GatewayConfig, pki: &Pki) -> GatewayConfig {
        let mut authority = Table::new();
        authority.insert("directory".into(), self.directory().into());
        config
            .set("acme.accept_terms", true)
            .set("acme.contact", vec!["it@demo.example"])
            .set("acme.listen", format!("127.0.0.1:{}", self.http_port))
            .set("acme.ca_file", pki.ca_file().display().to_string())
            .set("acme.authority", vec![toml::Value::Table(authority)])
    }

    /// What `demo.json` says.
    pub fn json(&self, peer: SocketAddr) -> Value {
        json!({
            "vi_host": VI_HOST,
            "vi_url": format!("https://{VI_HOST}:{}", peer.port()),
            "ca_file": self.root_file,
            "directory_url": self.directory(),
            "challenge_port": self.http_port,
        })
    }

    /// A browser that trusts this authority alone reaches the `vi` name.
    pub async fn certificate(&self, scene: &Scene) -> Outcome {
        let peer = scene.gateway.address("peer");
        let browser = Client::builder()
            .ca(&self.root_file)
            .resolve(VI_HOST, peer)
            .build()
            .map_err(|error| error.to_string())?;
        let url = format!("https://{VI_HOST}:{}/healthcheck", peer.port());
        let limit = Instant::now() + PATIENCE;
        while let Err(error) = browser.get(&url).send().await {
            if Instant::now() > limit {
                return Err(error.to_string());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(format!(
            "https://{VI_HOST} under the certificate of Pebble; no file, no restart"
        ))
    }
}

/// `drimbox certs list`, as an administrator reads it.
pub async fn inventory(scene: &Scene) -> Outcome {
    let config = scene.config_file();
    let list = tokio::task::spawn_blocking(move || {
        let binary = binary().map_err(|error| error.to_string())?;
        let mut list = Command::new(binary);
        let list = list.args(["certs", "list", "--config"]).arg(config);
        list.output().map_err(|error| error.to_string())
    });
    let list = list.await.map_err(|error| error.to_string())??;
    let table = String::from_utf8_lossy(&list.stdout).into_owned();
    if !list.status.success() || !table.contains(VI_HOST) {
        let said = String::from_utf8_lossy(&list.stderr).into_owned();
        return Err(format!("{}: {table}{said}", list.status));
    }
    Ok(table.trim_end().replace('\n', "\n             "))
}
