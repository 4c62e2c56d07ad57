//! Keys and certificates where the service starts, and where it moves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::gateway::binary;
use conformance::testkit::igc::{Authority, Igc};
use conformance::testkit::{Gateway, GatewayConfig, Identity, PacsConfig, Pki, free_port};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::centre::{HOST, closed, code, drimbox, renew, said};
use super::support::{folder, run, until};

fn gateway_config(root: &Path, pki: &Pki) -> GatewayConfig {
    let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
        .db_host(HOST, &pki.server(&[HOST]).unwrap())
        .vi_host(
            "vi1.certs.example",
            &pki.server(&["vi1.certs.example"]).unwrap(),
        );
    GatewayConfig::new(root)
        .unwrap()
        .peer(pki)
        .unwrap()
        .pacs(pacs)
}

async fn answers(gateway: &Gateway, pki: &Pki) -> bool {
    let client = pki.client("peer.example").unwrap();
    let client = gateway.peer_client(pki, &client, &[HOST]).build().unwrap();
    let url = format!(
        "https://{HOST}:{}/healthcheck",
        gateway.address("peer").port()
    );
    client.get(&url).send().await.is_ok()
}

#[test]
fn encrypted_keys_serve_with_their_passphrase_alone_and_openssl_reads_them() {
    run(async {
        let root = folder("certs-encrypted");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let phrase = root.join("phrase");
        closed(&phrase, b"une phrase de passe assez longue\n");
        let config =
            gateway_config(&root, &pki).set("keys.passphrase_file", phrase.display().to_string());
        let file = config.write().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let keys: Vec<PathBuf> = text
            .split('"')
            .filter(|text| text.ends_with(".key") || text.ends_with("-key.pem"))
            .map(PathBuf::from)
            .collect();
        assert!(keys.len() >= 2, "{text}");

        let done = drimbox(&["keys", "encrypt"], &file);
        assert_eq!(code(&done), 0, "{}", said(&done));
        for key in &keys {
            let sealed = fs::read_to_string(key).unwrap();
            assert!(
                sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
                "{}",
                key.display()
            );
            let openssl = Command::new("openssl")
                .args(["pkcs8", "-in"])
                .arg(key)
                .arg("-passin")
                .arg(format!("file:{}", phrase.display()))
                .output()
                .unwrap();
            assert!(openssl.status.success(), "{openssl:?}");
            assert!(String::from_utf8_lossy(&openssl.stdout).contains("BEGIN PRIVATE KEY"));
        }
        let mut gateway = Gateway::start(config.clone()).await.unwrap();
        assert!(answers(&gateway, &pki).await);
        gateway.stop(Duration::from_secs(60)).await.unwrap();

        closed(&phrase, b"une tout autre phrase de passe\n");
        let refused = drimbox(&["serve"], &file);
        assert_eq!(code(&refused), 2);
        assert!(
            said(&refused).contains("ne s'ouvre pas avec la phrase de passe"),
            "{}",
            said(&refused)
        );
        closed(&phrase, b"une phrase de passe assez longue\n");
        fs::write(&file, text.replace("passphrase_file", "#")).unwrap();
        let refused = drimbox(&["serve"], &file);
        assert!(
            said(&refused).contains("keys.passphrase_file"),
            "{}",
            said(&refused)
        );

        // Handed over by systemd instead.
        let credentials = root.join("credentials");
        fs::create_dir_all(&credentials).unwrap();
        fs::copy(&phrase, credentials.join("drimbox-keys")).unwrap();
        let checked = Command::new(binary().unwrap())
            .args(["keys", "decrypt"])
            .env("DRIMBOX_CONFIG", &file)
            .env("CREDENTIALS_DIRECTORY", &credentials)
            .output()
            .unwrap();
        assert_eq!(code(&checked), 0, "{}", said(&checked));
        let status = drimbox(&["keys", "status"], &file);
        assert!(!said(&status).contains("chiffrée"), "{}", said(&status));
    });
}

#[test]
fn every_key_that_others_can_read_keeps_the_service_from_starting_with_the_command_that_mends_it() {
    let root = folder("certs-exposed");
    let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
    let identity = |name: &str| pki.server(&[name]).unwrap();
    let path = |path: &Path| path.display().to_string();
    let set = |config: GatewayConfig, at: &str, identity: &Identity| {
        config
            .set(
                &format!("{at}.certificate_file"),
                path(&identity.certificate_file),
            )
            .set(&format!("{at}.key_file"), path(&identity.key_file))
    };
    let (local, dimse, psc, consumer) = (
        identity("local"),
        identity("dimse"),
        identity("psc"),
        identity("consumer"),
    );
    let upstream = identity("upstream");
    let tokens = root.join("tokens");
    closed(&tokens, b"viewer 0123456789abcdef0123456789abcdef\n");
    let pacs = PacsConfig::new("ct", "NOBODY", 104)
        .db_host(HOST, &identity(HOST))
        .vi_host("vi1.certs.example", &identity("vi1.certs.example"))
        .tls(pki.ca_file(), "pacs", &upstream);
    let config = GatewayConfig::new(&root).unwrap().peer(&pki).unwrap();
    let config = config.storage_scp().unwrap();
    let config = set(config, "local.tls", &local);
    let config = set(config, "dimse.tls", &dimse);
    let config = set(config, "consumer.identity", &consumer);
    let config = set(config, "psc", &psc)
        .set("local.tokens_file", path(&tokens))
        .set("psc.environment", "bas")
        .set("psc.client_id", "psc")
        .set("consumer.ca_file", path(pki.ca_file()))
        .pacs(pacs);
    let peer = "\n[[consumer.peers]]\ndb_host = \"db.other.example\"\n";
    let file = config.write().unwrap();
    let text = fs::read_to_string(&file).unwrap() + peer;
    fs::write(&file, &text).unwrap();
    let checked = drimbox(&["check", "config"], &file);
    assert_ne!(code(&checked), 2, "{}", said(&checked));

    let named = |text: &str| {
        text.ends_with(".key") || text.ends_with("-key.pem") || text.ends_with("tokens")
    };
    let secrets: Vec<&str> = text.split('"').filter(|text| named(text)).collect();
    assert_eq!(secrets.len(), 8, "{secrets:?}");
    for secret in secrets {
        for mode in [0o640, 0o604] {
            fs::set_permissions(secret, fs::Permissions::from_mode(mode)).unwrap();
            let refused = drimbox(&["serve"], &file);
            assert_eq!(code(&refused), 2, "{secret}: {}", said(&refused));
            assert!(
                said(&refused).contains(&format!("chmod 600 {secret}")),
                "{}",
                said(&refused)
            );
        }
        fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_gateway_moves_to_another_machine_and_the_old_one_stays_down() {
    run(async {
        let root = folder("certs-move");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let box_folder = root.join("box");
        let config = gateway_config(&box_folder, &pki);
        let mut gateway = Gateway::start(config.clone()).await.unwrap();
        assert!(answers(&gateway, &pki).await);
        let phrase = root.join("phrase");
        closed(&phrase, b"une phrase de passe assez longue\n");
        let phrase = phrase.display().to_string();
        let archive = root.join("sauvegarde.age").display().to_string();
        let file = box_folder.join("drimbox.toml");
        let made = drimbox(
            &["backup", "--move", &archive, "--passphrase-file", &phrase],
            &file,
        );
        assert_eq!(code(&made), 0, "{}", said(&made));
        assert!(said(&made).contains("recopié sur deux serveurs"));
        // Nobody stops it: it sees that it is the old one.
        let ended = gateway
            .process()
            .wait(Duration::from_secs(60))
            .await
            .unwrap();
        assert!(ended.success(), "{ended}");
        let log = fs::read_to_string(gateway.process().log_file()).unwrap();
        assert!(log.contains("this gateway is fenced"), "{log}");

        let kos = root.join("kos.dcm").display().to_string();
        let out = root.join("out").display().to_string();
        let token = ["--token-file", &phrase];
        let fetch = [&["fetch", "--kos", &kos, "--out", &out], &token[..]].concat();
        // Whatever would show its certificates to others.
        for asked in [
            &fetch[..],
            &["check", "pacs", "ct"],
            &["check", "psc"],
            &["check", "dmp"],
        ] {
            let fenced = drimbox(asked, &file);
            assert_eq!(code(&fenced), 1, "{asked:?}");
            let said = said(&fenced);
            assert!(
                said.contains("recopié sur deux serveurs"),
                "{asked:?}: {said}"
            );
        }
        let fenced = drimbox(&["serve"], &file);
        assert_eq!(code(&fenced), 1);
        assert!(
            said(&fenced).contains("--i-am-the-only-one"),
            "{}",
            said(&fenced)
        );

        // The other machine: the same paths, and nothing there.
        for gone in ["box", "pki"] {
            fs::rename(root.join(gone), root.join(format!("{gone}.old"))).unwrap();
        }
        let restored = drimbox(&["restore", &archive, "--passphrase-file", &phrase], &file);
        assert_eq!(code(&restored), 0, "{}", said(&restored));
        let rule = said(&restored);
        assert!(rule.contains("recopié sur deux serveurs"), "{rule}");
        let again = drimbox(&["serve"], &file);
        assert_eq!(code(&again), 1, "not before somebody vouches");
        assert!(
            said(&again).contains("--i-am-the-only-one"),
            "{}",
            said(&again)
        );
        let mut gateway = Gateway::start_as_the_only_one(config).await.unwrap();
        gateway.restart().await.unwrap();
        let old = Pki::new(&root.join("pki.new"), "Other").unwrap();
        assert!(!answers(&gateway, &old).await);
        fs::rename(root.join("pki"), root.join("pki.restored")).unwrap();
        fs::rename(root.join("pki.old"), root.join("pki")).unwrap();
        assert!(answers(&gateway, &pki).await, "the certificates came along");
    });
}

#[test]
fn a_swap_that_was_cut_is_finished_before_anything_is_served() {
    run(async {
        let root = folder("certs-cut");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let config = gateway_config(&root, &pki);
        let file = |suffix: &str| root.join("pki").join(format!("{HOST}.{suffix}"));
        let old = ["pem", "key"].map(|suffix| fs::read(file(suffix)).unwrap());
        pki.server(&[HOST]).unwrap();
        // The new key has its name; the certificate waits beside the one before.
        fs::rename(file("pem"), file("pem.arrivant")).unwrap();
        fs::write(file("pem"), &old[0]).unwrap();
        let gateway = Gateway::start(config).await.unwrap();
        assert!(answers(&gateway, &pki).await);
        assert!(!file("pem.arrivant").exists());
        assert_ne!(fs::read(file("pem")).unwrap(), old[0]);
        assert_ne!(fs::read(file("key")).unwrap(), old[1]);
    });
}

/// A connection to a name of the gateway that lives on between requests.
struct Open {
    stream: TlsStream<TcpStream>,
}

impl Open {
    async fn to(gateway: &Gateway, connector: &TlsConnector) -> Self {
        let host = ServerName::try_from(HOST).unwrap();
        let tcp = TcpStream::connect(gateway.address("peer")).await.unwrap();
        let stream = connector.connect(host, tcp).await.unwrap();
        Self { stream }
    }

    fn shown(&self) -> CertificateDer<'static> {
        let chain = self.stream.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    }

    async fn is_answered(&mut self) -> bool {
        let request = format!("GET /healthcheck HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
        let mut got = Vec::new();
        if self.stream.write_all(request.as_bytes()).await.is_err() {
            return false;
        }
        while !String::from_utf8_lossy(&got).contains("{\"status\":") {
            match self.stream.read_buf(&mut got).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    }
}

#[test]
fn what_is_imported_or_taken_back_serves_without_a_signal_and_open_connections_live_on() {
    run(async {
        let root = folder("certs-running");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let igc = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
        let gateway = Gateway::start(gateway_config(&root, &pki)).await.unwrap();
        let file = root.join("drimbox.toml");
        let mut roots = RootCertStore::empty();
        let above = igc.certificate(Authority::Root).der().clone();
        roots.add(above).unwrap();
        roots
            .add(CertificateDer::from_pem_file(pki.ca_file()).unwrap())
            .unwrap();
        let caller = pki.client("peer.example").unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&caller.certificate_file).unwrap()],
                PrivateKeyDer::from_pem_file(&caller.key_file).unwrap(),
            )
            .unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let mut held = Open::to(&gateway, &connector).await;
        let first = held.shown();
        assert!(held.is_answered().await);

        let pending = root.join("pki").join(format!("{HOST}.key.nouvelle"));
        let (leaf, _) = renew(&root, &igc, || fs::read_to_string(&pending).unwrap());
        until("the imported certificate in a handshake", async || {
            Open::to(&gateway, &connector).await.shown() == leaf
        })
        .await;
        assert!(held.is_answered().await);
        assert_eq!(held.shown(), first);

        let mut between = Open::to(&gateway, &connector).await;
        let done = drimbox(&["certs", "rollback", "db:ct"], &file);
        assert_eq!(code(&done), 0, "{}", said(&done));
        until("the certificate before it in a handshake", async || {
            Open::to(&gateway, &connector).await.shown() == first
        })
        .await;
        assert!(between.is_answered().await);
        assert!(held.is_answered().await);
    });
}
