//! From the first start to https, over the ACME authority of Let's Encrypt for tests.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conformance::testkit::gateway::binary;
use conformance::testkit::{Client, Gateway, Pebble, PebbleSettings, Pki, free_port};
use http::Method;
use toml::{Table, Value};

use crate::site::{VI, configured, drimbox, healthcheck, serves, settled, strict};
use crate::support::{folder, metric, run, until};

#[test]
fn a_first_start_ends_with_https_and_a_certificate_that_clients_trust() {
    run(async {
        let root = folder("market-first");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &strict(port))
            .await
            .unwrap();
        let config = configured(&root, &pki, &[pebble.directory()])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let mut gateway = Gateway::start(config).await.unwrap();
        serves(&gateway, &pebble).await;

        // A client that has nothing of ours. Whatever the state of the PACS, the answer comes over a connection that
        // curl trusts.
        let peer = gateway.address("peer");
        let curl = Command::new("curl")
            .args(["--silent", "--cacert"])
            .arg(pebble.root_file().await.unwrap())
            .arg("--resolve")
            .arg(format!("{VI}:{}:127.0.0.1", peer.port()))
            .arg(healthcheck(&gateway))
            .output()
            .unwrap();
        assert!(curl.status.success(), "{curl:?}");

        let names = [("fqdn", VI)];
        assert_eq!(
            metric(&gateway, "drimbox_acme_certificates_total", &names).await,
            1
        );
        let place = [("place", "vi:ct"), ("role", "MARKET")];
        assert!(
            metric(&gateway, "drimbox_certificate_not_after_seconds", &place).await > 1_790_000_000
        );

        // It is in the inventory like any other.
        let list = Command::new(binary().unwrap())
            .args(["certs", "show", "vi:ct", "--config"])
            .arg(root.join("drimbox.toml"))
            .output()
            .unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.contains("Pebble") && list.contains(VI), "{list}");

        // Port 80 does what it must and nothing else.
        let clear = Client::builder()
            .resolve(VI, ([127, 0, 0, 1], port).into())
            .resolve("evil.example", ([127, 0, 0, 1], port).into())
            .build()
            .unwrap();
        let url = format!("http://{VI}:{port}/link?a=b");
        let redirect = clear.get(&url).send().await.unwrap();
        assert_eq!(redirect.status(), 308);
        let secure = format!("https://{VI}:{}/link?a=b", peer.port());
        assert_eq!(redirect.header("location"), secure);
        let post = clear.request(Method::POST, &url).send().await.unwrap();
        assert_eq!(post.status(), 405);
        let other = format!("http://evil.example:{port}/");
        assert_eq!(clear.get(&other).send().await.unwrap().status(), 404);

        // A key that others can read keeps the service from starting.
        settled(&root).await;
        gateway.stop(Duration::from_secs(60)).await.unwrap();
        let key = root.join("data/acme/names").join(VI).join("current");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let (code, said) = drimbox(&root, &["serve"]);
        assert_ne!(code, Some(0), "{said}");
        assert!(
            said.contains(&format!("chmod -R go= {}", key.display())),
            "{said}"
        );
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        // Nor the folder that is not in use now.
        let trials = root.join("data/acme-staging");
        fs::create_dir(&trials).unwrap();
        fs::set_permissions(&trials, fs::Permissions::from_mode(0o755)).unwrap();
        let (code, said) = drimbox(&root, &["serve"]);
        assert_ne!(code, Some(0), "{said}");
        assert!(said.contains("acme-staging"), "{said}");
        fs::remove_dir(&trials).unwrap();
        gateway.restart().await.unwrap();
        serves(&gateway, &pebble).await;
    });
}

#[test]
fn a_gateway_killed_while_it_waits_for_the_authority_finishes_after_its_restart() {
    run(async {
        let root = folder("market-kill");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let settings = PebbleSettings {
            http_port: port,
            ..PebbleSettings::default()
        };
        let mut pebble = Pebble::start(&root.join("pebble"), &pki, &settings)
            .await
            .unwrap();
        let mut config =
            configured(&root, &pki, &[]).set("acme.listen", format!("127.0.0.1:{port}"));
        let mut authority = Table::new();
        authority.insert("directory".into(), pebble.directory().into());
        config = config.set("acme.authority", vec![Value::Table(authority)]);
        pebble.pause();
        let mut gateway = Gateway::start(config).await.unwrap();
        let accounts = root.join("data/acme/accounts");
        let account = || -> Option<PathBuf> {
            let mut entries = std::fs::read_dir(&accounts)
                .ok()?
                .flatten()
                .map(|e| e.path());
            entries.find(|path| path.extension().is_none_or(|e| e != "new"))
        };
        until("the key of the account on disk", async || {
            account().is_some()
        })
        .await;
        gateway.kill();
        let key = |path: &Path| -> Option<String> {
            let kept: serde_json::Value =
                serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            kept.get("key")?.as_str().map(str::to_owned)
        };
        let before = key(&account().unwrap());
        pebble.resume();
        gateway.restart().await.unwrap();
        serves(&gateway, &pebble).await;
        assert!(before.is_some());
        assert_eq!(
            key(&account().unwrap()),
            before,
            "one account, with its first key"
        );

        // Killed again with the certificate in service: the next start has it at once and asks for nothing.
        gateway.kill();
        pebble.pause();
        gateway.restart().await.unwrap();
        pebble.resume();
        serves(&gateway, &pebble).await;
        let obtained = metric(&gateway, "drimbox_acme_certificates_total", &[("fqdn", VI)]).await;
        assert_eq!(obtained, 0);
    });
}

#[test]
fn the_second_authority_gives_what_the_first_cannot() {
    run(async {
        let root = folder("market-second");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &strict(port))
            .await
            .unwrap();
        let nobody = format!("https://localhost:{}/dir", free_port().unwrap());
        let config = configured(&root, &pki, &[nobody, pebble.directory()])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let gateway = Gateway::start(config).await.unwrap();
        serves(&gateway, &pebble).await;
        let labels = [("fqdn", VI), ("cause", "authority_unreachable")];
        until("the report", async || {
            metric(&gateway, "drimbox_acme_failures_total", &labels).await == 1
        })
        .await;
    });
}

#[test]
fn what_is_in_the_way_is_said_in_the_log_and_by_check_acme() {
    run(async {
        let root = folder("market-blocked");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        // Pebble looks for challenges where nobody listens, as behind a firewall.
        let settings = strict(free_port().unwrap());
        let pebble = Pebble::start(&root.join("pebble"), &pki, &settings)
            .await
            .unwrap();
        let config = configured(&root, &pki, &[pebble.directory()]);
        let mut gateway = Gateway::start(config).await.unwrap();
        let labels = [("fqdn", VI), ("cause", "port_blocked")];
        until("the failure", async || {
            metric(&gateway, "drimbox_acme_failures_total", &labels).await > 0
        })
        .await;
        let log = gateway.process().tail(200);
        assert!(log.contains("Ouvrir le port TCP 80"), "{log}");

        let check = Command::new(binary().unwrap())
            .args(["check", "acme", "--config"])
            .arg(root.join("drimbox.toml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(1), "{said}");
        for expected in [
            "elle répond",
            "aucun certificat",
            "Le port 80 n'est pas joignable depuis Internet.",
            "Prochaine tentative le",
            "Ce nom n'a pas d'adresse dans le DNS.",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    });
}
