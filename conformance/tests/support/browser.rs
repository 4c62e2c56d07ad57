//! A real browser (Debian's Chromium) that plays stories: `tests/login/js` has its driver.
//!
//! Pictures of the pages are kept in the build folder, under `tmp/pictures`; `DRIMBOX_TEST_PICTURES` names another.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::testkit::http::sha256;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::foreign::{installed, output};

/// The driver, the stories of the login and the list of packages, which fixes their digests.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/login/js");
const CHROMIUM: &str = "/usr/bin/chromium";
/// Far above what a story takes on a loaded machine.
const STORY: Duration = Duration::from_secs(480);

/// Plays a story; what it orders is done by `obey`. `options` has at least `hosts` and `port`, and `stories` where they
/// are not those of the login. The browser keeps its things in `place`.
pub async fn play(
    name: &str,
    place: &Path,
    mut options: Json,
    mut obey: impl AsyncFnMut(Json) -> Json,
) {
    options["modules"] = json!(modules());
    options["chromium"] = json!(CHROMIUM);
    options["folder"] = json!(place.join("browser"));
    options["pictures"] = json!(pictures());
    let mut driver = Driver::start(name, &place.join("driver.log"), &options);
    let told = tokio::time::timeout(STORY, async {
        while let Some(order) = driver.orders.recv().await {
            let answer = obey(order).await;
            driver.answer(&answer);
        }
    });
    assert!(told.await.is_ok(), "story {name} does not end");
    driver.ended_well(name);
}

/// The folder for pictures of the pages.
fn pictures() -> PathBuf {
    let folder = std::env::var_os("DRIMBOX_TEST_PICTURES").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures"),
        PathBuf::from,
    );
    fs::create_dir_all(&folder).unwrap();
    folder
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
    fn start(name: &str, log: &Path, options: &Json) -> Self {
        let mut child = Command::new("node")
            .arg(Path::new(SOURCE).join("driver.mjs"))
            .arg(name)
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(log).unwrap())
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
        Self {
            child,
            orders,
            log: log.to_owned(),
        }
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
