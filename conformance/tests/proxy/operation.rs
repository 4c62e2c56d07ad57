//! What who runs the proxy relies on: keys at rest, the way out, renewals, supervision.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use conformance::testkit::metrics::Metrics;
use conformance::testkit::psc::RADIOLOGIST;
use conformance::testkit::{ConnectProxy, binary};
use http::Method;
use rustix::process::Signal;
use rustls_pki_types::CertificateDer;

use super::support::{handshake, until};
use super::world::{EDITOR, World, text, world};

#[tokio::test]
async fn private_keys_of_the_proxy_are_encrypted_at_rest_with_its_own_passphrase() {
    let Some(mut world) = world().await else {
        return;
    };
    let phrase = world.folder.path().join("phrase");
    std::fs::write(&phrase, "une phrase de passe\n").unwrap();
    std::fs::set_permissions(&phrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut keys: Vec<PathBuf> = vec![world.folder.path().join("sessions.key")];
    keys.push(world.config["listen"]["key_file"].as_str().unwrap().into());
    for client in world.config["client"].as_array().unwrap() {
        keys.push(client["key_file"].as_str().unwrap().into());
    }
    world.set("keys", "passphrase_file", text(&phrase));
    // The first start makes the key of the sessions, encrypted; the others are in clear until they are converted.
    world.start().await;
    world.stop().await;
    let in_clear = || {
        let of = |key: &PathBuf| {
            let content = std::fs::read(key).unwrap();
            let sealed = content.starts_with(b"age-encryption.org/v1\n")
                || content.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----");
            !sealed
        };
        keys.iter().filter(|key| of(key)).count()
    };
    assert_eq!(in_clear(), keys.len() - 1);
    let file = world.folder.path().join("proxy.toml");
    let convert = |word: &str| {
        let mut command = Command::new(binary().unwrap());
        command.args(["keys", word, &format!("--proxy={}", text(&file))]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = convert("encrypt");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(in_clear(), 0, "{said}");
    let (_, said) = convert("status");
    assert_eq!(said.matches("chiffrée").count(), keys.len(), "{said}");

    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    world.stop().await;

    // Without the passphrase nothing starts, and why is said.
    world.config.remove("keys");
    std::fs::write(&file, toml::to_string(&world.config).unwrap()).unwrap();
    let mut command = Command::new(binary().unwrap());
    command.args(["proxy", "--config", &text(&file)]);
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("keys.passphrase_file"), "{said}");
}

#[tokio::test]
async fn the_way_out_is_the_proxy_of_the_hospital() {
    let Some(mut world) = world().await else {
        return;
    };
    let way_out = ConnectProxy::start().await.unwrap();
    way_out.require("drimbox", "mot de passe");
    let address = way_out.url().replace("//", "//drimbox:mot%20de%20passe@");
    world.set("psc", "http_proxy", address);
    world.start().await;
    let mut software = world.software();
    let (status, body) = software.connect_as(EDITOR, RADIOLOGIST).await;
    assert_eq!(status, 200, "{body}");
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    let tunnels = way_out.tunnels();
    for origin in [world.psc.issuer(), world.psc.mtls(), world.psc.api()] {
        let host = origin.split('/').nth(2).unwrap();
        assert!(tunnels.iter().any(|tunnel| tunnel == host), "{tunnels:?}");
    }
    world.stop().await;
    let log = std::fs::read_to_string(world.folder.path().join("proxy.log")).unwrap();
    assert!(!log.contains("passe"), "{log}");
}

#[tokio::test]
async fn a_renewed_certificate_of_a_client_is_presented_without_a_restart() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    // Written where the one before was.
    world.pki.organisation(EDITOR, "398765432100012").unwrap();
    world.process.as_mut().unwrap().signal(Signal::HUP);
    until("the traces name the new one", async || {
        let (status, _) = software.clone().connect_as(EDITOR, RADIOLOGIST).await;
        assert_eq!(status, 304);
        let traces = world.traces().await;
        let dn = traces.last().unwrap()["dn"].as_str().unwrap();
        dn.contains("398765432100012")
    })
    .await;
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json().await.unwrap()["certificate"], EDITOR);
}

#[tokio::test]
async fn a_renewed_certificate_of_the_proxy_is_presented_without_a_restart() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let before = presented(&world).await;
    // Sessions and connections go on: only new handshakes see it.
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    world.pki.server(&["proxy.test"]).unwrap();
    world.process.as_mut().unwrap().signal(Signal::HUP);
    until("another certificate is presented", async || {
        presented(&world).await != before
    })
    .await;
    let answer = software.ask(Method::GET, "/send/dmp/x", "").await;
    assert_eq!(answer.status(), 200);
    // One whose key is another's changes nothing.
    let now = presented(&world).await;
    let key_file: PathBuf = world.config["listen"]["key_file"].as_str().unwrap().into();
    let other = world.pki.server(&["autre.test"]).unwrap();
    std::fs::copy(&other.key_file, &key_file).unwrap();
    world.process.as_mut().unwrap().signal(Signal::HUP);
    let log = world.folder.path().join("proxy.log");
    until("the log says why", async || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("is not used"))
    })
    .await;
    assert_eq!(presented(&world).await, now);
}

/// The certificate that the proxy presents.
async fn presented(world: &World) -> CertificateDer<'static> {
    let address = ([127, 0, 0, 1], world.port).into();
    let shown = handshake::presented(address, world.pki.ca_file(), "proxy.test").await;
    shown.expect("a certificate")
}

#[tokio::test]
async fn the_certificates_of_the_proxy_have_an_inventory_of_their_own() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let until_the_end = "drimbox_certificate_not_after_seconds";
    until("the gauges are there", async || {
        let (_, text) = world.vital("/metrics").await;
        let metrics = Metrics::parse(&text);
        ["listen", "client:editeur-un", "client:editeur-deux"]
            .iter()
            .all(|place| metrics.sum(until_the_end, &[("place", place)]) > 0.0)
    })
    .await;
    world.stop().await;

    let file = format!("--proxy={}", text(&world.folder.path().join("proxy.toml")));
    let certs = |arguments: &[&str]| {
        let mut command = Command::new(binary().unwrap());
        command.arg("certs").args(arguments).arg(&file);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = certs(&["list"]);
    assert_eq!(code, Some(0), "{said}");
    for place in ["listen", "client:editeur-un", "client:editeur-deux"] {
        assert!(said.contains(place), "{said}");
    }
    let (code, said) = certs(&["request", "client:editeur-un"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("BEGIN CERTIFICATE REQUEST"), "{said}");
    assert!(
        said.contains("drimbox certs import client:editeur-un FICHIER --proxy"),
        "{said}"
    );
    // A certificate of another Client ID is refused, with the reason.
    let other = world.config["client"][1]["certificate_file"]
        .as_str()
        .unwrap()
        .to_owned();
    let (code, said) = certs(&["import", "client:editeur-un", &other]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("editeur-deux"), "{said}");
    // One that lacks its key is a finding for a supervisor.
    std::fs::remove_file(world.config["client"][0]["key_file"].as_str().unwrap()).unwrap();
    let (code, said) = certs(&["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("client:editeur-un"), "{said}");
}

#[tokio::test]
async fn a_supervisor_sees_health_and_counts_and_no_identity() {
    let Some(mut world) = world().await else {
        return;
    };
    world.start().await;
    let mut software = world.software();
    software.connect_as(EDITOR, RADIOLOGIST).await;
    software.connect_as(EDITOR, RADIOLOGIST).await;
    software.ask(Method::GET, "/send/dmp/x", "").await;
    software.ask(Method::GET, "/send/inconnue/x", "").await;
    let (status, health) = world.vital("/health/ready").await;
    assert_eq!(
        (status, health.as_str()),
        (200, r#"{"sessions":1,"status":"ready"}"#)
    );
    assert_eq!(world.vital("/health/live").await.0, 200);
    let (_, text) = world.vital("/metrics").await;
    let metrics = Metrics::parse(&text);
    for (name, labels, expected) in [
        ("drimbox_proxy_sessions", &[][..], 1.0),
        ("drimbox_proxy_connects_total", &[("status", "200")], 1.0),
        ("drimbox_proxy_connects_total", &[("status", "304")], 1.0),
        (
            "drimbox_proxy_sends_total",
            &[("api", "dmp"), ("status", "200")],
            1.0,
        ),
        ("drimbox_proxy_sends_total", &[], 1.0),
        ("drimbox_proxy_tokens_total", &[("outcome", "success")], 2.0),
        ("drimbox_proxy_sessions_ended_total", &[], 0.0),
    ] {
        assert_eq!(metrics.sum(name, labels), expected, "{name} {labels:?}");
    }
    let cookie = software.cookie.split_once('=').unwrap().1;
    for secret in [RADIOLOGIST, cookie, "eyJ"] {
        assert!(!text.contains(secret), "{text}");
    }
    software.ask(Method::DELETE, "/disconnect", "").await;
    let (_, text) = world.vital("/metrics").await;
    let metrics = Metrics::parse(&text);
    assert_eq!(metrics.sum("drimbox_proxy_sessions", &[]), 0.0);
    let ended = [("cause", "asked")];
    assert_eq!(
        metrics.sum("drimbox_proxy_sessions_ended_total", &ended),
        1.0
    );
}
