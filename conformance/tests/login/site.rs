//! The gateway with three `vi` names, the provider, and the browser's driver.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::testkit::http::sha256;
use conformance::testkit::psc::left_out;
use conformance::testkit::{Gateway, GatewayConfig, PacsConfig, Pki, PscClient, PscProvider};
use serde_json::{Value as Json, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell, mpsc};

use crate::support::foreign::{installed, output};
use crate::support::{folder, run};

/// The driver, the stories and the list of packages, which fixes their digests.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/login/js");
const CHROMIUM: &str = "/usr/bin/chromium";
/// Client ID of the gateway.
const CLIENT: &str = "drimbox-essai";
/// The last one resolves on every machine: the provider finds it.
pub const HOSTS: [&str; 3] = ["vi1.test.example", "vi2.test.example", "localhost"];
/// Far above what a story takes on a loaded machine.
const STORY: Duration = Duration::from_secs(240);

pub struct Site {
    pub pki: Pki,
    pub gateway: Gateway,
    pub provider: PscProvider,
    pub port: u16,
}

impl Site {
    /// The site of this program. Stories have it one after the other: some of them restart the gateway.
    pub async fn lock() -> MutexGuard<'static, Self> {
        static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
        SITE.get_or_init(async || Mutex::new(Self::start().await))
            .await
            .lock()
            .await
    }

    async fn start() -> Self {
        let place = folder("login");
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
        let gateway = Gateway::start(config).await.unwrap();
        Self {
            pki,
            gateway,
            provider,
            port,
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
        let options = json!({
            "modules": modules(),
            "chromium": CHROMIUM,
            "hosts": HOSTS,
            "port": site.port,
            "folder": folder(&format!("login-browser-{name}")),
            "pictures": std::env::var_os("DRIMBOX_TEST_PICTURES").map(PathBuf::from),
        });
        let mut driver = Driver::start(name, &options);
        let told = tokio::time::timeout(STORY, async {
            while let Some(order) = driver.orders.recv().await {
                let answer = site.obey(&order).await;
                driver.answer(&answer);
            }
        });
        assert!(told.await.is_ok(), "story {name} does not end");
        driver.ended_well(name);
    });
}

/// The folder whose `node_modules` holds the driver's packages.
fn modules() -> PathBuf {
    let lists = ["package.json", "package-lock.json"].map(|name| Path::new(SOURCE).join(name));
    let digest = sha256(&fs::read(&lists[1]).unwrap());
    installed(&format!("browser-{}", &digest[..16]), |folder| {
        for list in &lists {
            fs::copy(list, folder.join(list.file_name().unwrap())).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder);
        let what = "install the browser's driver from npm (DRIMBOX_SKIP_NODE=1 to leave out)";
        output(what, &mut npm);
    })
    .join("node_modules")
}

/// The program that plays a story; it ends when dropped.
struct Driver {
    child: Child,
    orders: mpsc::UnboundedReceiver<Json>,
    log: PathBuf,
}

impl Driver {
    fn start(name: &str, options: &Json) -> Self {
        let log = folder("login-stories").join(format!("{name}.log"));
        let mut child = Command::new("node")
            .arg(Path::new(SOURCE).join("driver.mjs"))
            .arg(name)
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, orders) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let order = serde_json::from_str(&line).unwrap();
                if sender.send(order).is_err() {
                    break;
                }
            }
        });
        Self { child, orders, log }
    }

    fn answer(&mut self, answer: &Json) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{answer}").unwrap();
    }

    fn ended_well(&mut self, name: &str) {
        let status = self.child.wait().unwrap();
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        assert!(status.success(), "story {name}: {status}\n{said}");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
