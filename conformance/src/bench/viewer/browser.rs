//! The browser, driven by `conformance/viewer/bench.mjs`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::testkit::{KitError, psc};

/// The driver and the list of packages that it needs.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/viewer");
const SCRIPTS: [&str; 3] = ["bench.mjs", "browser.mjs", "watch.mjs"];

/// A running browser; it ends when dropped.
#[derive(Debug)]
pub(super) struct Browser {
    child: Child,
    /// Nothing once the driver is to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts it. Each host (with its port) is found at an address, and the keys of the certificates are trusted.
    /// `build` outlives the run, `folder` has the log.
    ///
    /// # Errors
    /// When Node.js, npm or Chromium is missing.
    pub fn start(
        build: &Path,
        folder: &Path,
        hosts: &[(String, SocketAddr)],
        certificates: &[&Path],
    ) -> Result<Self, KitError> {
        let modules = psc::npm(build, Path::new(SOURCE))?;
        // Node looks for packages beside the scripts.
        let scripts = modules.parent().unwrap_or(&modules);
        for name in SCRIPTS {
            let from = Path::new(SOURCE).join(name);
            fs::copy(&from, scripts.join(name)).map_err(KitError::io("copy", &from))?;
        }
        let hosts: serde_json::Map<String, Value> = hosts
            .iter()
            .map(|(host, address)| (host.clone(), json!(address.to_string())))
            .collect();
        let log = folder.join("browser.log");
        let log = File::create(&log).map_err(KitError::io("create", &log))?;
        let failed = |source| KitError::Io {
            what: "start Node.js".into(),
            source,
        };
        let mut child = Command::new(modules.join(".bin/node"))
            .arg(scripts.join("bench.mjs"))
            .arg(json!({"hosts": hosts, "certificates": certificates}).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(KitError::http("start the browser")("no pipe"));
        };
        Ok(Self {
            child,
            orders: Some(orders),
            answers: BufReader::new(answers),
        })
    }

    /// Gives an order and waits for what became of it.
    ///
    /// # Errors
    /// When it did not work, or the browser died.
    pub fn order(&mut self, order: &Value) -> Result<Value, KitError> {
        let failed = |source| KitError::Io {
            what: format!("drive the browser: {order}"),
            source,
        };
        let orders = self.orders.as_mut();
        let orders = orders.ok_or_else(|| KitError::http("drive the browser")("it was closed"))?;
        writeln!(orders, "{order}").map_err(failed)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        let answer: Value =
            serde_json::from_str(&line).map_err(KitError::http("read the browser's driver"))?;
        match answer.get("error") {
            Some(error) => Err(KitError::http(format!("browser: {order}"))(error)),
            None => Ok(answer),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes its browser and ends when there are no more orders.
        self.orders = None;
        let _ = self.child.wait();
    }
}
