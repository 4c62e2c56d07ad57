//! What a power cut leaves of an account and of a certificate's key on disk, and in memory once they are read.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::testkit::syscalls::{self, Call};
use conformance::testkit::{Gateway, GatewayConfig, Pebble, Pki, free_port};
use drimbox::keys::{Passphrase, record};

use crate::site::{VI, another, configured, drimbox, settled, strict};
use crate::support::secrets::Secret;
use crate::support::{folder, run};

/// A gateway that is to be started, in a folder of its own, and its authority.
async fn centre(name: &str) -> (PathBuf, Pebble, GatewayConfig) {
    let root = folder(name);
    let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
    let port = free_port().unwrap();
    let pebble = Pebble::start(&root.join("pebble"), &pki, &strict(port)).await;
    let pebble = pebble.unwrap();
    let config = configured(&root, &pki, &[pebble.directory()])
        .set("acme.listen", format!("127.0.0.1:{port}"));
    (root, pebble, config)
}

#[test]
fn every_step_of_an_order_is_durable_before_it_has_its_name() {
    run(async {
        let (root, pebble, config) = centre("market-durable").await;
        let trace = root.join("trace");
        let mut gateway = Gateway::start_traced(config, &trace).await.unwrap();
        let roots = pebble.root_file().await.unwrap();
        another(&gateway, &roots, VI, None).await;
        settled(&root).await;
        gateway.stop(Duration::from_secs(60)).await.unwrap();

        let calls = syscalls::calls(&trace).unwrap();
        let acme = root.join("data/acme");
        let wrong = syscalls::not_durable(&calls, &acme);
        assert!(wrong.is_empty(), "{wrong:#?}");
        let named: Vec<&PathBuf> = calls
            .iter()
            .filter_map(|call| match call {
                Call::Renamed(_, to) => to.strip_prefix(&acme).is_ok().then_some(to),
                _ => None,
            })
            .collect();
        let name = acme.join("names").join(VI);
        for expected in ["order-key", "staged", "current", "state"] {
            assert!(
                named.contains(&&name.join(expected)),
                "{expected}: {named:?}"
            );
        }
        let accounts = acme.join("accounts");
        assert!(
            named.iter().any(|name| name.starts_with(&accounts)),
            "{named:?}"
        );
        for call in &calls {
            if let Call::Created(made, mode) = call {
                let is_kept = [&name, &accounts].iter().any(|kept| made.starts_with(kept));
                assert!(!made.starts_with(&acme) || *mode == 0o600, "{call:?}");
                let is_renamed =
                    |call: &Call| matches!(call, Call::Renamed(from, _) if from == made);
                assert!(!is_kept || calls.iter().any(is_renamed), "{call:?}");
            }
        }
    });
}

#[test]
fn memory_holds_the_keys_of_account_and_certificate_in_no_form_but_that_of_their_use() {
    for encrypted in [false, true] {
        run(remembered(encrypted));
    }
}

async fn remembered(encrypted: bool) {
    let name = if encrypted {
        "market-memory-encrypted"
    } else {
        "market-memory"
    };
    let (root, pebble, config) = centre(name).await;
    let phrase = root.join("phrase");
    secret(&phrase, "une phrase de passe assez longue");
    let config = match encrypted {
        true => config.set("keys.passphrase_file", phrase.display().to_string()),
        false => config,
    };
    let mut gateway = Gateway::start(config).await.unwrap();
    let roots = pebble.root_file().await.unwrap();
    let first = another(&gateway, &roots, VI, None).await;
    settled(&root).await;
    let current = root.join("data/acme/names").join(VI).join("current");
    let account = || {
        let mut accounts = fs::read_dir(root.join("data/acme/accounts")).unwrap();
        accounts.next().unwrap().unwrap().path()
    };
    let of = |file: PathBuf| {
        let content = fs::read(file).unwrap();
        let phrase = encrypted.then(|| Passphrase::from_file(&phrase).unwrap());
        let content = record::open(&content, phrase.as_ref()).unwrap();
        Secret::of_record(str::from_utf8(&content).unwrap())
    };
    let (certificate, account) = (of(current.clone()), of(account()));
    assert!(certificate.is_used_by(&gateway));
    certificate.leaves(&gateway, "after it was made").await;
    account.leaves(&gateway, "after it was made").await;

    // Read again by another process, and then given way to the next.
    gateway.kill();
    gateway.restart().await.unwrap();
    another(&gateway, &roots, VI, None).await;
    let (code, said) = drimbox(&root, &["acme", "renew", VI]);
    assert_eq!(code, Some(0), "{said}");
    another(&gateway, &roots, VI, Some(first)).await;
    settled(&root).await;
    for key in [certificate, account, of(current)] {
        key.leaves(&gateway, "after it was read").await;
    }
}

/// A file that its owner alone reads.
fn secret(file: &Path, content: &str) {
    let mut new = fs::OpenOptions::new();
    let mut new = new
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .unwrap();
    std::io::Write::write_all(&mut new, content.as_bytes()).unwrap();
}
