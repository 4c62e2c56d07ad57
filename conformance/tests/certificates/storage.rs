//! What is left of keys on disk after a power cut, and in memory after they were read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::testkit::gateway::binary;
use conformance::testkit::igc::{Igc, LeafSpec};
use conformance::testkit::syscalls::{self, Call};
use conformance::testkit::{Gateway, GatewayConfig, PacsConfig, Pki, free_port};
use time::OffsetDateTime;

use super::centre::{Centre, HOST, SIRET, closed, code, drimbox, good, renew, said};
use super::support::secrets::Secret;
use super::support::{folder, run, until};

/// Runs `drimbox` and checks that each file below `root` has its name after its content is durable, and keeps it. What it
/// said, and the names.
fn durably(arguments: &[&str], config: &Path, root: &Path) -> (Output, Vec<PathBuf>) {
    let trace = root.join("trace");
    let words = syscalls::traced(&trace);
    let done = Command::new(&words[0])
        .args(&words[1..])
        .arg(binary().unwrap())
        .args(arguments)
        .env("DRIMBOX_CONFIG", config)
        .output()
        .unwrap();
    assert_eq!(code(&done), 0, "{arguments:?}: {}", said(&done));
    let calls = syscalls::calls(&trace).unwrap();
    let wrong = syscalls::not_durable(&calls, root);
    assert!(wrong.is_empty(), "{arguments:?}: {wrong:#?}");
    let names = calls.iter().filter_map(|call| match call {
        Call::Renamed(from, to) if to.starts_with(root) => {
            // Who may read it is said when it is made, not after.
            let mode = calls.iter().find_map(|call| match call {
                Call::Created(made, mode) if made == from => Some(*mode),
                _ => None,
            });
            let written = calls.contains(&Call::Written(from.clone()));
            assert_eq!(mode.unwrap_or(0o600), 0o600, "{}", from.display());
            assert_eq!(mode.is_some(), written, "{}", from.display());
            Some(to.clone())
        }
        _ => None,
    });
    let names = names.collect();
    (done, names)
}

#[test]
fn a_power_cut_leaves_of_each_key_the_old_file_or_the_new_one() {
    let centre = Centre::new("certs-durable");
    centre.revoke(10, &[]);
    let root = &centre.root;
    let named = |arguments: &[&str], expected: &[&str]| -> Output {
        let (done, names) = durably(arguments, &centre.config, root);
        for name in expected {
            assert!(names.contains(&root.join(name)), "{name}: {names:?}");
        }
        done
    };
    let request = [
        "certs",
        "request",
        "db:ct",
        "--unit",
        SIRET,
        "--key",
        "p256",
        "--common-name",
        HOST,
    ];
    for serial in [0x1234, 0x1235] {
        named(&request, &["db.key.nouvelle"]);
        let spec = LeafSpec { serial, ..good() };
        let received = centre.answered("db:ct", "db.key", &spec);
        let received = received.display().to_string();
        named(
            &["certs", "import", "db:ct", &received],
            &["db.key", "db.pem"],
        );
    }
    named(&["certs", "rollback", "db:ct"], &["db.key", "db.pem"]);

    let phrase = root.join("phrase");
    closed(&phrase, b"une phrase de passe assez longue\n");
    let phrase = phrase.display().to_string();
    let text = fs::read_to_string(&centre.config).unwrap();
    let text = text + &format!("[keys]\npassphrase_file = \"{phrase}\"\n");
    fs::write(&centre.config, text).unwrap();
    for direction in ["encrypt", "decrypt"] {
        named(&["keys", direction], &["db.key"]);
    }

    let archive = root.join("sauvegarde.age").display().to_string();
    named(
        &["backup", &archive, "--passphrase-file", &phrase],
        &["sauvegarde.age"],
    );
    named(
        &[
            "restore",
            "--replace",
            &archive,
            "--passphrase-file",
            &phrase,
        ],
        &["db.key", "db.pem"],
    );
}

/// A certificate with an RSA key for a name.
fn rsa(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (
        folder.join(format!("{name}.pem")),
        folder.join(format!("{name}-key.pem")),
    );
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        ])
        .args(["-subj", &format!("/CN={name}")])
        .args(["-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    closed(&key, &fs::read(&key).unwrap());
    (certificate, key)
}

fn gateway_config(root: &Path, pki: &Pki) -> (GatewayConfig, Vec<PathBuf>) {
    let (certificate, local) = rsa(root, "local.certs.example");
    let (db, vi) = (
        pki.server(&[HOST]).unwrap(),
        pki.server(&["vi1.certs.example"]).unwrap(),
    );
    let consumer = pki.client("consumer.certs.example").unwrap();
    let mut peer = toml::Table::new();
    peer.insert("db_host".into(), "db.other.example".into());
    let path = |path: &Path| path.display().to_string();
    let config = GatewayConfig::new(root)
        .unwrap()
        .peer(pki)
        .unwrap()
        .set("local.tls.certificate_file", path(&certificate))
        .set("local.tls.key_file", path(&local))
        .set(
            "consumer.identity.certificate_file",
            path(&consumer.certificate_file),
        )
        .set("consumer.identity.key_file", path(&consumer.key_file))
        .set("consumer.ca_file", path(pki.ca_file()))
        .set("consumer.peers", vec![toml::Value::Table(peer)])
        .pacs(
            PacsConfig::new("ct", "NOBODY", free_port().unwrap())
                .db_host(HOST, &db)
                .vi_host("vi1.certs.example", &vi),
        );
    (
        config,
        vec![db.key_file, vi.key_file, local, consumer.key_file],
    )
}

/// A key in the clear, PEM, whether or not its file is encrypted.
fn clear(file: &Path, phrase: &Path) -> String {
    let pass = format!("file:{}", phrase.display());
    let done = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-nocrypt", "-passin", &pass, "-in"])
        .arg(file)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", said(&done));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn memory_holds_no_key_but_those_in_use_and_in_no_form_but_that_of_their_use() {
    run(async {
        for encrypted in [false, true] {
            let root = folder(if encrypted {
                "certs-memory-encrypted"
            } else {
                "certs-memory"
            });
            fs::create_dir_all(&root).unwrap();
            let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
            let igc = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
            let (mut config, keys) = gateway_config(&root, &pki);
            let secrets: Vec<Secret> = keys
                .iter()
                .map(|key| Secret::of_pem(&fs::read_to_string(key).unwrap()))
                .collect();
            let phrase = root.join("phrase");
            closed(&phrase, b"une phrase de passe assez longue\n");
            if encrypted {
                config = config.set("keys.passphrase_file", phrase.display().to_string());
                let done = drimbox(&["keys", "encrypt"], &config.write().unwrap());
                assert_eq!(code(&done), 0, "{}", said(&done));
            }
            let gateway = Gateway::start(config).await.unwrap();
            for (secret, key) in secrets.iter().zip(&keys) {
                let when = format!("{}, encrypted: {encrypted}", key.display());
                secret.leaves(&gateway, &when).await;
            }
            // Each name signs with its own: the look finds what is there.
            let [db, vi, local, _] = &secrets[..] else {
                unreachable!()
            };
            for used in [db, vi, local] {
                assert!(used.is_used_by(&gateway));
            }

            let pending = root.join("pki").join(format!("{HOST}.key.nouvelle"));
            let (_, pem) = renew(&root, &igc, || clear(&pending, &phrase));
            until("the end of the key before it", async || {
                !db.is_used_by(&gateway)
            })
            .await;
            let when = format!("after the swap, encrypted: {encrypted}");
            db.leaves(&gateway, &when).await;
            let new = Secret::of_pem(&pem);
            assert!(new.is_used_by(&gateway));
            new.leaves(&gateway, &when).await;
        }
    });
}
