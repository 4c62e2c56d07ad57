//! The audit trail of a running service: kills, tampering, a real syslog server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use conformance::testkit::gateway::binary;
use conformance::testkit::{Gateway, GatewayConfig, KitError, PacsConfig, Pki, Rsyslog, free_port};
use rustix::process::Signal;
use support::{folder, metric, run, until};
use toml::{Table, Value};

fn config(folder: &Path) -> GatewayConfig {
    let config = GatewayConfig::new(folder).unwrap();
    // Nobody asks this PACS anything.
    config.pacs(PacsConfig::new("sim", "SIM", free_port().unwrap()))
}

fn audit(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command.arg("audit").args(arguments);
    command.arg("--config").arg(folder.join("drimbox.toml"));
    command.output().unwrap()
}

fn events(folder: &Path) -> Vec<String> {
    let shown = audit(folder, &["show"]);
    assert!(shown.status.success(), "{shown:?}");
    let text = String::from_utf8(shown.stdout).unwrap();
    let word = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
    text.lines().map(word).collect()
}

async fn stop(gateway: &mut Gateway) {
    gateway.process().signal(Signal::TERM);
    let ended = gateway.process().wait(Duration::from_secs(60)).await;
    assert!(ended.unwrap().success());
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("data/audit")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_service_that_is_killed_goes_on_with_its_trail() {
    run(async {
        let folder = folder("audit-killed");
        let mut gateway = Gateway::start(config(&folder)).await.unwrap();
        assert_eq!(events(&folder), ["service-started"]);
        let verified = audit(&folder, &["verify"]);
        assert!(verified.status.success(), "{verified:?}");
        gateway.process().kill();
        drop(gateway);
        let mut gateway = Gateway::start(config(&folder)).await.unwrap();
        stop(&mut gateway).await;
        assert_eq!(
            events(&folder),
            ["service-started", "service-started", "service-stopped"]
        );
        let verified = audit(&folder, &["verify"]);
        assert!(verified.status.success(), "{verified:?}");
    });
}

#[test]
fn a_service_does_not_start_on_a_trail_that_was_changed() {
    run(async {
        let folder = folder("audit-changed");
        let mut gateway = Gateway::start(config(&folder)).await.unwrap();
        stop(&mut gateway).await;
        let segment = segments(&folder).pop().unwrap();
        let text = std::fs::read_to_string(&segment).unwrap();
        std::fs::write(
            &segment,
            text.replacen("service-started", "service-stopped", 1),
        )
        .unwrap();

        let refused = Gateway::start(config(&folder)).await.err().unwrap();
        let KitError::Ended { tail: log, .. } = &refused else {
            panic!("{refused}");
        };
        assert!(
            log.contains("the audit trail was changed outside of drimbox"),
            "{log}"
        );
        assert!(log.contains("line 1"), "{log}");
        assert_eq!(audit(&folder, &["verify"]).status.code(), Some(1));
    });
}

#[test]
fn rsyslog_gets_every_record_also_those_of_its_absence() {
    run(async {
        let folder = folder("audit-syslog");
        let pki = Pki::new(&folder.join("pki"), "syslog").unwrap();
        let server = pki.server(&["syslog.example"]).unwrap();
        let client = pki.client("drimbox").unwrap();
        let port = free_port().unwrap();
        let path = |path: &Path| Value::from(path.display().to_string());
        let identity = Table::from_iter([
            (
                "certificate_file".to_owned(),
                path(&client.certificate_file),
            ),
            ("key_file".to_owned(), path(&client.key_file)),
        ]);
        let target = Table::from_iter([
            ("name".to_owned(), Value::from("central")),
            ("host".to_owned(), Value::from("127.0.0.1")),
            ("port".to_owned(), Value::from(i64::from(port))),
            ("server_name".to_owned(), Value::from("syslog.example")),
            ("ca_file".to_owned(), path(pki.ca_file())),
            ("identity".to_owned(), Value::from(identity)),
        ]);
        let config = || config(&folder).set("audit.syslog", vec![Value::from(target.clone())]);

        // Nobody is there yet: the service works all the same, and keeps what it has to send.
        let mut gateway = Gateway::start(config()).await.unwrap();
        until("the service to miss its server", async || {
            let labels = [("target", "central"), ("cause", "connect")];
            metric(&gateway, "drimbox_audit_syslog_failures_total", &labels).await > 0
        })
        .await;
        stop(&mut gateway).await;

        let received = folder.join("rsyslog");
        let mut rsyslog = Rsyslog::start(&received, port, &server, pki.ca_file())
            .await
            .unwrap();
        let mut gateway = Gateway::start(config()).await.unwrap();
        until("rsyslog to have the first three records", async || {
            let text = rsyslog.received();
            (1..=3).all(|n| text.contains(&format!("[meta sequenceId=\"{n}\"]")))
        })
        .await;
        until("the service to know it", async || {
            let labels = [("target", "central")];
            metric(&gateway, "drimbox_audit_syslog_lag_records", &labels).await == 0
        })
        .await;
        let text = rsyslog.received();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("<85>1 "), "{first}");
        assert!(first.contains(" drimbox - DICOM+RFC3881 "), "{first}");
        assert!(first.contains("csd-code=\"110120\""), "{first}");

        // It goes away, and comes back to what was recorded meanwhile.
        rsyslog
            .process()
            .stop(Duration::from_secs(30))
            .await
            .unwrap();
        stop(&mut gateway).await;
        let rsyslog = Rsyslog::start(&received, port, &server, pki.ca_file())
            .await
            .unwrap();
        let _gateway = Gateway::start(config()).await.unwrap();
        until("rsyslog to have all five records", async || {
            let text = rsyslog.received();
            (1..=5).all(|n| text.contains(&format!("[meta sequenceId=\"{n}\"]")))
        })
        .await;
    });
}
