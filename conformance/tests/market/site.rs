//! A gateway with a `vi` name whose certificate it gets itself, and those who look at it.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use conformance::testkit::gateway::binary;
use conformance::testkit::{
    Client, Gateway, GatewayConfig, PacsConfig, Pebble, PebbleSettings, Pki, free_port,
};
use rustls_pki_types::CertificateDer;
use toml::{Table, Value};

use crate::support::handshake::presented;
use crate::support::until;

pub const VI: &str = "vi1.market.example";
pub const DB: &str = "db1.market.example";
pub const KEY_ID: &str = "centre-1";
const HMAC: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// A gateway with one `vi` name and these directories, and the port on which it answers challenges.
pub fn configured(folder: &Path, pki: &Pki, directories: &[String]) -> GatewayConfig {
    // Nothing listens there: the images are another story.
    let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
        .db_host(DB, &pki.server(&[DB]).unwrap())
        .set("vi_host", VI);
    gateway_of(folder, pki, directories, [pacs])
}

/// The same in front of these PACS.
pub fn gateway_of(
    folder: &Path,
    pki: &Pki,
    directories: &[String],
    pacs: impl IntoIterator<Item = PacsConfig>,
) -> GatewayConfig {
    let hmac = folder.join("hmac");
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut file.open(&hmac).unwrap(), HMAC.as_bytes()).unwrap();
    let authority = |directory: &String| {
        let mut table = Table::new();
        table.insert("directory".into(), directory.as_str().into());
        table.insert("eab_key_id".into(), KEY_ID.into());
        table.insert("eab_hmac_file".into(), hmac.display().to_string().into());
        Value::Table(table)
    };
    let config = GatewayConfig::new(folder)
        .unwrap()
        .peer(pki)
        .unwrap()
        .set("acme.accept_terms", true)
        .set("acme.contact", vec!["it@market.example"])
        .set("acme.ca_file", pki.ca_file().display().to_string())
        .set("acme.listen", format!("127.0.0.1:{}", free_port().unwrap()))
        .set(
            "acme.authority",
            directories.iter().map(authority).collect::<Vec<_>>(),
        );
    pacs.into_iter().fold(config, GatewayConfig::pacs)
}

pub fn strict(http_port: u16) -> PebbleSettings {
    PebbleSettings {
        http_port,
        external_account: Some((KEY_ID.into(), HMAC.into())),
        refused_nonces: 20,
        other_roots: 0,
    }
}

/// One that refuses no good nonce: with many orders, refusals only cost time.
pub fn even(http_port: u16) -> PebbleSettings {
    PebbleSettings {
        refused_nonces: 0,
        ..strict(http_port)
    }
}

/// A browser that trusts Pebble's root.
pub async fn browser(gateway: &Gateway, pebble: &Pebble) -> Client {
    Client::builder()
        .ca(&pebble.root_file().await.unwrap())
        .resolve(VI, gateway.address("peer"))
        .build()
        .unwrap()
}

pub fn healthcheck(gateway: &Gateway) -> String {
    format!(
        "https://{VI}:{}/healthcheck",
        gateway.address("peer").port()
    )
}

pub async fn serves(gateway: &Gateway, pebble: &Pebble) {
    let browser = browser(gateway, pebble).await;
    let url = healthcheck(gateway);
    until("https with the new certificate", async || {
        browser.get(&url).send().await.is_ok()
    })
    .await;
}

/// Waits until no order is under way: a certificate is in service a moment before its order is over.
pub async fn settled(root: &Path) {
    until("the end of the order", async || {
        let (_, said) = drimbox(root, &["acme", "show"]);
        said.contains("Prochaine demande") && !said.contains("Une demande est en cours")
    })
    .await;
}

/// Runs `drimbox WORDS` on the configuration of a folder: its exit code, and what it said on both ways.
pub fn drimbox(root: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary().unwrap())
        .args(words)
        .arg("--config")
        .arg(root.join("drimbox.toml"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.code(), said)
}

/// The certificate that a browser gets for a `vi` name, DER; `None` when it gets none, or one it does not trust.
pub async fn served(gateway: &Gateway, root: &Path, name: &str) -> Option<CertificateDer<'static>> {
    presented(gateway.address("peer"), root, name).await
}

/// Waits for another certificate than `before` of a `vi` name.
pub async fn another(
    gateway: &Gateway,
    root: &Path,
    name: &str,
    before: Option<CertificateDer<'static>>,
) -> CertificateDer<'static> {
    until("a certificate", async || {
        let now = served(gateway, root, name).await;
        now.is_some() && now != before
    })
    .await;
    served(gateway, root, name).await.unwrap()
}
