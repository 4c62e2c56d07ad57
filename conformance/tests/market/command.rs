//! `drimbox acme`: what an administrator asks of the running service.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use conformance::testkit::{Gateway, Pebble, Pki, free_port};

use crate::site::{VI, another, configured, drimbox, even, settled};
use crate::support::{folder, run, trail};

struct Site {
    root: std::path::PathBuf,
    pebble: Pebble,
    gateway: Gateway,
    roots: std::path::PathBuf,
}

async fn site(name: &str) -> Site {
    let root = folder(name);
    let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
    let port = free_port().unwrap();
    let pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
        .await
        .unwrap();
    let config = configured(&root, &pki, &[pebble.directory()])
        .set("acme.listen", format!("127.0.0.1:{port}"));
    let gateway = Gateway::start(config).await.unwrap();
    let roots = pebble.root_file().await.unwrap();
    Site {
        root,
        pebble,
        gateway,
        roots,
    }
}

/// The serial number of a certificate, hexadecimal, as the authority writes it.
fn serial(leaf: &[u8]) -> String {
    // The first INTEGER after `[0] version` of TBSCertificate (RFC 5280 §4.1).
    let at = leaf
        .windows(5)
        .position(|w| w == [0xa0, 3, 2, 1, 2])
        .unwrap()
        + 5;
    assert_eq!(leaf[at], 2);
    let length = usize::from(leaf[at + 1]);
    let digits = &leaf[at + 2..at + 2 + length];
    digits
        .iter()
        .skip_while(|byte| **byte == 0)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Key and address of the one account on disk.
fn account(root: &Path) -> Option<(String, String)> {
    let mut entries = std::fs::read_dir(root.join("data/acme/accounts")).ok()?;
    let file = entries.next()?.ok()?.path();
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let text = |key: &str| kept[key].as_str().unwrap_or_default().to_owned();
    Some((text("key"), text("url")))
}

#[test]
fn an_administrator_sees_renews_and_revokes_a_certificate() {
    run(async {
        let site = site("market-command").await;
        let first = another(&site.gateway, &site.roots, VI, None).await;
        settled(&site.root).await;
        let (code, said) = drimbox(&site.root, &["acme", "show"]);
        assert_eq!(code, Some(0), "{said}");
        for expected in [
            format!("{VI} : jusqu'au "),
            "aux deux tiers de sa vie".to_owned(),
            format!("Compte chez {} : ouvert", site.pebble.directory()),
        ] {
            assert!(said.contains(&expected), "{expected}: {said}");
        }

        let (code, said) = drimbox(&site.root, &["acme", "renew", VI]);
        assert_eq!(code, Some(0), "{said}");
        let second = another(&site.gateway, &site.roots, VI, Some(first.clone())).await;
        let status = async |leaf: &[u8]| site.pebble.status_of(&serial(leaf)).await.unwrap();
        assert_eq!(status(first.as_ref()).await, "Valid");

        settled(&site.root).await;
        let revoke = ["acme", "revoke", VI, "--key-compromised"];
        let (code, said) = drimbox(&site.root, &revoke);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(status(second.as_ref()).await, "Revoked");
        let third = another(&site.gateway, &site.roots, VI, Some(second.clone())).await;
        assert_eq!(status(third.as_ref()).await, "Valid");

        let (code, said) = drimbox(&site.root, &["acme", "renew", "other.example"]);
        assert_eq!(code, Some(1));
        assert!(said.contains(VI), "the names there are: {said}");
        let events = trail::events(&site.root.join("data/audit"));
        let actions: Vec<_> = events
            .iter()
            .filter(|event| event["kind"] == "administration")
            .filter_map(|event| event["object"]["resource"].as_str())
            .collect();
        assert_eq!(actions, ["acme-renew", "acme-revoke"]);

        // Each certificate is on record with the one before it, also across a kill; a restart is no new one.
        let mut gateway = site.gateway;
        settled(&site.root).await;
        gateway.kill();
        gateway.restart().await.unwrap();
        another(&gateway, &site.roots, VI, None).await;
        let print = |leaf: &[u8]| -> String {
            let hash = digest(&SHA256, leaf);
            hash.as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let prints = [&first, &second, &third].map(|leaf| print(leaf.as_ref()));
        let events = trail::events(&site.root.join("data/audit"));
        let replaced: Vec<_> = events
            .iter()
            .filter(|event| event["kind"] == "certificate-replaced")
            .map(|event| &event["object"])
            .collect();
        assert_eq!(replaced.len(), prints.len(), "{replaced:?}");
        let mut before = None;
        for (object, now) in replaced.iter().zip(&prints) {
            assert_eq!(object["subject"], VI);
            assert_eq!(object["resource"], "MARKET");
            assert_eq!(object["certificate"], *now);
            assert_eq!(object["certificate_before"].as_str(), before);
            before = Some(now.as_str());
        }
    });
}

#[test]
fn an_account_gets_another_key_and_ends_when_it_is_closed() {
    run(async {
        let mut site = site("market-account").await;
        let first = another(&site.gateway, &site.roots, VI, None).await;
        settled(&site.root).await;
        let (key, url) = account(&site.root).unwrap();
        let (code, said) = drimbox(&site.root, &["acme", "roll-over"]);
        assert_eq!(code, Some(0), "{said}");
        let (new_key, same_url) = account(&site.root).unwrap();
        assert_ne!(new_key, key);
        assert_eq!(same_url, url);
        // The new key works there, and the old one is not asked for.
        drimbox(&site.root, &["acme", "renew", VI]);
        let second = another(&site.gateway, &site.roots, VI, Some(first)).await;

        settled(&site.root).await;
        let (_, said) = drimbox(&site.root, &["check", "acme"]);
        assert!(said.contains(&url), "{said}");
        let (code, said) = drimbox(&site.root, &["acme", "deactivate"]);
        assert_eq!(code, Some(2), "not without --yes: {said}");
        let elsewhere = [
            "acme",
            "deactivate",
            "--yes",
            "--authority",
            "https://other.example/",
        ];
        let (code, said) = drimbox(&site.root, &elsewhere);
        assert_eq!(code, Some(1));
        assert!(said.contains(&site.pebble.directory()), "{said}");
        let (code, said) = drimbox(&site.root, &["acme", "deactivate", "--yes"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(account(&site.root).is_none());
        for asked in [["acme", "show"], ["check", "acme"]] {
            let (_, said) = drimbox(&site.root, &asked);
            assert!(said.contains("pas encore ouvert"), "{asked:?}: {said}");
        }

        // While it is configured, the next order opens another.
        drimbox(&site.root, &["acme", "renew", VI]);
        another(&site.gateway, &site.roots, VI, Some(second)).await;
        let (_, other) = account(&site.root).unwrap();
        assert_ne!(other, url);

        site.gateway.kill();
        let (code, said) = drimbox(&site.root, &["acme", "show"]);
        assert_eq!(code, Some(1));
        assert!(said.contains("est-il démarré"), "{said}");

        // With the key of the account that was closed.
        let accounts = site.root.join("data/acme/accounts");
        let record = std::fs::read_dir(accounts).unwrap().next().unwrap();
        let record = record.unwrap().path();
        let mut kept: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        kept["key"] = new_key.into();
        std::fs::write(&record, kept.to_string()).unwrap();
        let (_, said) = drimbox(&site.root, &["check", "acme"]);
        assert!(
            said.contains("ne le connaît pas, ou il est fermé"),
            "{said}"
        );
    });
}
