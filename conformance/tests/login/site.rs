//! The gateway with three `vi` names, the provider, and the browser's driver.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::testkit::psc::left_out;
use conformance::testkit::{
    Gateway, GatewayConfig, Identity, PacsConfig, Pki, PscClient, PscProvider,
};
use serde_json::{Value as Json, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::support::{browser, folder, run};

/// Client ID of the gateway.
const CLIENT: &str = "drimbox-essai";
/// The last one resolves on every machine: the provider finds it.
pub const HOSTS: [&str; 3] = ["vi1.test.example", "vi2.test.example", "localhost"];
pub struct Site {
    pub pki: Pki,
    pub gateway: Gateway,
    pub provider: PscProvider,
    /// The gateway's certificate towards the provider.
    pub identity: Identity,
    pub port: u16,
    /// The data folder of the gateway.
    pub data: PathBuf,
}

impl Site {
    /// The site of this program. Stories have it one after the other: some of them restart the gateway.
    pub async fn lock() -> MutexGuard<'static, Self> {
        static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
        SITE.get_or_init(async || Mutex::new(Self::start("login", |config| config).await))
            .await
            .lock()
            .await
    }

    /// One with another configuration.
    pub async fn start(name: &str, change: impl FnOnce(GatewayConfig) -> GatewayConfig) -> Self {
        let place = folder(name);
        let pki = Pki::new(&place.join("pki"), "Test CA").unwrap();
        let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let provider = PscProvider::start(build, &place.join("psc"), &pki)
            .await
            .unwrap();
        let identity = pki.client(CLIENT).unwrap();
        let path = |path: &Path| path.display().to_string();
        let mut config = GatewayConfig::new(&place.join("gateway"))
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("psc.environment", "custom")
            .set("psc.issuer", provider.issuer())
            .set("psc.client_id", CLIENT)
            .set("psc.certificate_file", path(&identity.certificate_file))
            .set("psc.key_file", path(&identity.key_file))
            .set("psc.ca_file", path(pki.ca_file()))
            .set("login.centre", "Centre d'essai")
            .set("login.contact", "le secrétariat d'essai, 01 00 00 00 00");
        let mut client = PscClient::new(CLIENT);
        let port = config.address("peer").unwrap().port();
        for (number, host) in HOSTS.iter().enumerate() {
            let db = format!("db{number}.test.example");
            let vi = pki.server(&[host]).unwrap();
            // Nothing listens there, and nobody asks.
            let pacs = PacsConfig::new(&format!("pacs{number}"), "PACS", 1)
                .db_host(&db, &pki.server(&[&db]).unwrap())
                .vi_host(host, &vi);
            config = config.pacs(pacs);
            client = client.redirect(&format!("https://{host}:{port}/auth/psc/callback"));
        }
        let told = format!("https://localhost:{port}/auth/psc/backchannel-logout");
        provider
            .register(&[client.backchannel_logout(&told)])
            .await
            .unwrap();
        let gateway = Gateway::start(change(config)).await.unwrap();
        Self {
            pki,
            gateway,
            provider,
            identity,
            port,
            data: place.join("gateway/data"),
        }
    }

    /// Does what a story asks for.
    async fn obey(&mut self, order: &Json) -> Json {
        match order["order"].as_str().unwrap() {
            "restart" => {
                self.gateway.stop(Duration::from_secs(60)).await.unwrap();
                self.gateway.restart().await.unwrap();
                json!({})
            }
            "end" => {
                let user = order["user"].as_str().unwrap();
                let sids = self.provider.sessions_of(user).await.unwrap();
                for sid in &sids {
                    assert!(self.provider.end_session(sid).await.unwrap());
                }
                json!({ "ended": sids.len() })
            }
            other => panic!("no order {other}"),
        }
    }
}

/// Plays a story in a browser of its own.
pub fn story(name: &str) {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::lock().await;
        let options = json!({ "hosts": HOSTS, "port": site.port });
        let place = folder(&format!("login-browser-{name}"));
        browser::play(name, &place, options, async |order| site.obey(&order).await).await;
    });
}
