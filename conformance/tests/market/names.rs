//! Several names, the switch between trial and real authorities, and port 80 when nothing else is to be had.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use conformance::testkit::{
    Client, FaultyPacs, Gateway, PacsConfig, Pebble, PebbleSettings, Pki, free_port,
};
use rustix::process::Signal;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use toml::{Table, Value};

use crate::site::{DB, KEY_ID, VI, another, drimbox, even, gateway_of, served, settled};
use crate::support::{ask, exam, files, folder, metric, run, study_path, trail, until};

const OTHER_VI: &str = "vi2.market.example";
const OTHER_DB: &str = "db2.market.example";
const EXAM: &str = "ct300";

#[test]
fn each_vi_name_gets_a_certificate_of_its_own_and_one_account_serves_them() {
    run(async {
        let root = folder("market-several");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
            .await
            .unwrap();
        let pacs = [("ct", DB, VI), ("mr", OTHER_DB, OTHER_VI)].map(|(name, db, vi)| {
            PacsConfig::new(name, "NOBODY", free_port().unwrap())
                .db_host(db, &pki.server(&[db]).unwrap())
                .set("vi_host", vi)
        });
        let config = gateway_of(&root, &pki, &[pebble.directory()], pacs)
            .set("local.default_pacs", "ct")
            .set("acme.key_type", "rsa2048")
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let gateway = Gateway::start(config).await.unwrap();
        let roots = pebble.root_file().await.unwrap();
        // A client verifies the name: neither would do for the other.
        let first = another(&gateway, &roots, VI, None).await;
        let second = another(&gateway, &roots, OTHER_VI, None).await;
        assert_ne!(first, second);
        for served in [first, second] {
            let facts = drimbox::certs::facts::Facts::of(&served).unwrap();
            assert_eq!(facts.key, "RSA-2048", "as configured");
        }
        let accounts = std::fs::read_dir(root.join("data/acme/accounts")).unwrap();
        assert_eq!(accounts.count(), 1);
    });
}

#[test]
fn after_trials_the_real_authority_gives_the_certificate_and_nothing_of_the_trials_is_used() {
    run(async {
        let root = folder("market-staging");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let trials = Pebble::start(&root.join("trials"), &pki, &even(port))
            .await
            .unwrap();
        let real = Pebble::start(&root.join("real"), &pki, &even(port))
            .await
            .unwrap();
        let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
            .db_host(DB, &pki.server(&[DB]).unwrap())
            .set("vi_host", VI);
        let config = gateway_of(&root, &pki, &[real.directory()], [pacs])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let mut authority = Table::new();
        authority.insert("directory".into(), real.directory().into());
        authority.insert("staging_directory".into(), trials.directory().into());
        authority.insert("eab_key_id".into(), KEY_ID.into());
        let hmac = root.join("hmac").display().to_string();
        authority.insert("eab_hmac_file".into(), hmac.into());
        let config = config.set("acme.authority", vec![Value::Table(authority)]);
        let on_trial = config.clone().set("acme.staging", true);
        let mut gateway = Gateway::start(on_trial).await.unwrap();
        let trial_roots = trials.root_file().await.unwrap();
        another(&gateway, &trial_roots, VI, None).await;
        assert!(!root.join("data/acme").exists());

        gateway.kill();
        config.write().unwrap();
        gateway.restart().await.unwrap();
        let roots = real.root_file().await.unwrap();
        another(&gateway, &roots, VI, None).await;
        assert!(served(&gateway, &trial_roots, VI).await.is_none());
        until("the count", async || {
            metric(&gateway, "drimbox_acme_certificates_total", &[("fqdn", VI)]).await == 1
        })
        .await;
    });
}

/// The folder that nodes below `root` share, each under its own `data_dir`.
fn shared(root: &Path, nodes: &[&str]) -> PathBuf {
    let shared = root.join("shared");
    let mut private = DirBuilder::new();
    let private = private.recursive(true).mode(0o700);
    private.create(&shared).unwrap();
    for node in nodes {
        let data = root.join(node).join("data");
        private.create(&data).unwrap();
        std::os::unix::fs::symlink(&shared, data.join("acme")).unwrap();
    }
    shared
}

#[test]
fn a_node_answers_the_challenge_of_an_order_that_another_made() {
    run(async {
        let root = folder("market-nodes");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        // The authority comes to the node that orders nothing.
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
            .await
            .unwrap();
        let shared = shared(&root, &["orders", "answers"]);
        let pacs = || {
            PacsConfig::new("ct", "NOBODY", free_port().unwrap())
                .db_host(DB, &pki.server(&[DB]).unwrap())
                .set("vi_host", VI)
        };
        let bought = pki.server(&[VI]).unwrap();
        let mut files = Table::new();
        for (key, file) in [
            ("certificate_file", &bought.certificate_file),
            ("key_file", &bought.key_file),
        ] {
            files.insert(key.into(), file.display().to_string().into());
        }
        let directories = [pebble.directory()];
        let answers = root.join("answers");
        let answers = gateway_of(&answers, &pki, &directories, [pacs().set("vi_tls", files)])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let _answers = Gateway::start(answers).await.unwrap();
        let orders = gateway_of(&root.join("orders"), &pki, &directories, [pacs()]);
        let orders = Gateway::start(orders).await.unwrap();
        let roots = pebble.root_file().await.unwrap();
        another(&orders, &roots, VI, None).await;
        // Nothing is left to answer once the order is over.
        until("no challenge is left", async || {
            let left = std::fs::read_dir(shared.join("challenges")).unwrap();
            // What the gateway asks itself for, to see whether port 80 is open, stays.
            let own = |name: &std::ffi::OsString| name == "drimbox-check-acme";
            left.filter(|one| !own(&one.as_ref().unwrap().file_name()))
                .count()
                == 0
        })
        .await;
    });
}

#[test]
fn of_nodes_with_one_folder_one_orders_and_another_takes_its_place_when_it_is_killed() {
    run(async {
        let root = folder("market-lease");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let mut pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
            .await
            .unwrap();
        let shared = shared(&root, &["first", "second"]);
        let directories = [pebble.directory()];
        let node = |name: &str| {
            let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
                .db_host(DB, &pki.server(&[DB]).unwrap())
                .set("vi_host", VI);
            gateway_of(&root.join(name), &pki, &directories, [pacs])
        };
        let orders =
            async |gateway: &Gateway| metric(gateway, "drimbox_acme_orders", &[]).await == 1;
        // The authority comes to the second node, which must be there before the first one's order.
        pebble.pause();
        let mut first = Gateway::start(node("first")).await.unwrap();
        until("the first node ordering", async || orders(&first).await).await;
        let second = node("second").set("acme.listen", format!("127.0.0.1:{port}"));
        let second = Gateway::start(second).await.unwrap();
        pebble.resume();
        let roots = pebble.root_file().await.unwrap();
        let given = another(&first, &roots, VI, None).await;
        assert_eq!(another(&second, &roots, VI, None).await, given);
        assert!(!orders(&second).await);
        assert_eq!(pebble.orders().unwrap(), 1);
        let accounts = || std::fs::read_dir(shared.join("accounts")).unwrap().count();
        assert_eq!(accounts(), 1);

        // What one orders is not changed from the other; both have on record what they serve.
        settled(&root.join("first")).await;
        let (code, said) = drimbox(&root.join("second"), &["acme", "renew", VI]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("another process that shares"), "{said}");
        let (_, said) = drimbox(&root.join("second"), &["acme", "show"]);
        assert!(said.contains("Un autre nœud ("), "{said}");
        for node in ["first", "second"] {
            let events = trail::events(&root.join(node).join("data/audit"));
            let replaced = events
                .iter()
                .filter(|event| event["kind"] == "certificate-replaced");
            assert_eq!(replaced.count(), 1, "{node}");
        }

        first.kill();
        until("the second node ordering", async || orders(&second).await).await;
        let (code, said) = drimbox(&root.join("second"), &["acme", "renew", VI]);
        assert_eq!(code, Some(0), "{said}");
        let next = another(&second, &roots, VI, Some(given.clone())).await;

        // It comes back, and now it is the one that waits.
        first.restart().await.unwrap();
        assert_eq!(another(&first, &roots, VI, Some(given)).await, next);
        assert!(!orders(&first).await);
        assert_eq!((pebble.orders().unwrap(), accounts()), (2, 1));
    });
}

#[test]
fn the_chain_of_the_root_that_the_configuration_names_is_served() {
    run(async {
        let root = folder("market-chain");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let settings = PebbleSettings {
            other_roots: 1,
            ..even(port)
        };
        let pebble = Pebble::start(&root.join("pebble"), &pki, &settings)
            .await
            .unwrap();
        let [first, other] = [
            pebble.root_file_of(0).await.unwrap(),
            pebble.root_file_of(1).await.unwrap(),
        ];
        let wanted = CertificateDer::from_pem_file(&other).unwrap();
        let wanted = drimbox::certs::facts::Facts::of(&wanted).unwrap();
        let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
            .db_host(DB, &pki.server(&[DB]).unwrap())
            .set("vi_host", VI);
        let mut authority = Table::new();
        authority.insert("directory".into(), pebble.directory().into());
        authority.insert("eab_key_id".into(), KEY_ID.into());
        let hmac = root.join("hmac").display().to_string();
        authority.insert("eab_hmac_file".into(), hmac.into());
        authority.insert("preferred_chain".into(), wanted.common_name.unwrap().into());
        let config = gateway_of(&root, &pki, &[], [pacs])
            .set("acme.authority", vec![Value::Table(authority)])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let gateway = Gateway::start(config).await.unwrap();
        // A client that trusts the other root alone.
        another(&gateway, &other, VI, None).await;
        assert!(served(&gateway, &first, VI).await.is_none());
    });
}

#[test]
fn port_80_answers_while_no_pacs_does_and_the_service_is_not_ready() {
    run(async {
        let root = folder("market-not-ready");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
            .await
            .unwrap();
        let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
            .db_host(DB, &pki.server(&[DB]).unwrap())
            .set("vi_host", VI);
        let config = gateway_of(&root, &pki, &[pebble.directory()], [pacs])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let gateway = Gateway::start(config).await.unwrap();
        let ready = format!("{}/health/ready", gateway.admin_url());
        let down = async || {
            let answer = Client::plain().unwrap().get(&ready).send().await.unwrap();
            answer.status() == 503 && answer.text().await.unwrap().contains("down")
        };
        until("the PACS being seen to be down", down).await;
        let challenges = root.join("data/acme/challenges");
        std::fs::create_dir_all(&challenges).unwrap();
        std::fs::write(challenges.join("of-another-node"), "of-another-node.print").unwrap();
        let url = format!("http://127.0.0.1:{port}/.well-known/acme-challenge/of-another-node");
        let answer = Client::plain().unwrap().get(&url).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "of-another-node.print");
        // And so the whole way goes on.
        another(&gateway, &pebble.root_file().await.unwrap(), VI, None).await;
        assert!(down().await, "still");
    });
}

#[test]
fn port_80_answers_for_another_node_while_the_service_takes_no_more_requests() {
    run(async {
        let root = folder("market-maintenance");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let images = FaultyPacs::start("PACS", &files(&[EXAM]), &[])
            .await
            .unwrap();
        let port = free_port().unwrap();
        let nobody = format!("https://localhost:{}/dir", free_port().unwrap());
        let pacs = PacsConfig::new("ct", "PACS", images.port())
            .db_host(DB, &pki.server(&[DB]).unwrap())
            .set("vi_host", VI);
        let config = gateway_of(&root, &pki, &[nobody], [pacs])
            .set("limits.grace_period_seconds", 60)
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let mut gateway = Gateway::start(config).await.unwrap();
        // What another node wrote into the store that they share.
        let challenges = root.join("data/acme/challenges");
        std::fs::create_dir_all(&challenges).unwrap();
        std::fs::write(challenges.join("of-another-node"), "of-another-node.print").unwrap();

        // Images that the PACS holds back hold the service up.
        images.behave(|b| b.hold_before = Some(3));
        let url = gateway.local_url() + &study_path(exam(EXAM));
        let held = ask(&Client::plain().unwrap(), &url).await;
        assert_eq!(held.status(), 200);
        gateway.process().signal(Signal::TERM);
        let ready = format!("{}/health/ready", gateway.admin_url());
        let admin = Client::plain().unwrap();
        until("the service stopping", async || {
            let answer = admin.get(&ready).send().await.unwrap();
            answer.text().await.unwrap().contains("stopping")
        })
        .await;

        let url = format!("http://127.0.0.1:{port}/.well-known/acme-challenge/of-another-node");
        let answer = admin.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), "of-another-node.print");
        assert!(
            gateway.process().exit_status().is_none(),
            "it is still there"
        );
        drop(held);
    });
}
