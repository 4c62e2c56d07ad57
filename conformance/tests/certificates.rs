//! The gateway's own certificates and keys, as an administrator handles them: asked for, imported, refused,
//! revoked, encrypted, backed up and moved.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::gateway::binary;
use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use conformance::testkit::{Gateway, GatewayConfig, Identity, PacsConfig, Pki, free_port};
use drimbox::trust::{Clock, Trust};
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value as Json;
use support::{folder, run};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HOST: &str = "db1.certs.example";
const SIRET: &str = "318751275100020";
const FINESS: &str = "5750000001";

/// `drimbox` with these arguments; how it ended and what it said.
fn drimbox(arguments: &[&str], config: &Path) -> Output {
    Command::new(binary().unwrap())
        .args(arguments)
        .env("DRIMBOX_CONFIG", config)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn closed(path: &Path, content: &[u8]) {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600);
    std::io::Write::write_all(&mut file.open(path).unwrap(), content).unwrap();
}

/// A box of one `db` name with a certificate of a test IGC Santé.
struct Centre {
    root: PathBuf,
    igc: Igc,
    config: PathBuf,
}

impl Centre {
    fn new(name: &str) -> Self {
        let root = folder(name);
        fs::create_dir_all(&root).unwrap();
        let igc = Igc::new(true, OffsetDateTime::now_utc()).unwrap();
        let both = [Authority::Root, Authority::Organisations];
        igc.write(&root.join("igc"), &both).unwrap();
        let at = root.display();
        let text = format!(
            "data_dir = \"{at}/data\"\n[local]\n[trust]\nenvironment = \"test\"\n\
             authority_files = [\"igc/Root.cer\", \"igc/Organisations.cer\"]\n\
             crl_sources = [\"{at}/root.crl\"]\n\
             [trust.white_list]\nsources = [\"{at}/list.xml\"]\n\
             [[dmp.structures]]\nname = \"centre\"\nstructure = \"{FINESS}\"\n\
             auth = {{ certificate_file = \"auth.pem\", key_file = \"auth.key\" }}\n\
             sign = {{ certificate_file = \"sign.pem\", key_file = \"sign.key\" }}\n\
             [[pacs]]\nname = \"ct\"\ndb_host = \"{HOST}\"\n\
             db_tls = {{ certificate_file = \"db.pem\", key_file = \"db.key\" }}\n\
             [pacs.dimse]\nhost = \"127.0.0.1\"\nae_title = \"PACS\"\n"
        );
        let config = root.join("drimbox.toml");
        fs::write(&config, text).unwrap();
        Self { root, igc, config }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        drimbox(arguments, &self.config)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks for a certificate; what an authority answers of these.
    fn answered(&self, place: &str, key: &str, spec: &LeafSpec) -> PathBuf {
        let unit = if place.starts_with("dmp") {
            FINESS
        } else {
            SIRET
        };
        let name = &spec.common_name;
        let pending = self.root.join(format!("{key}.nouvelle"));
        if !pending.exists() {
            let asked = ["certs", "request", place, "--unit", unit, "--key", "p256"];
            let asked = [&asked[..], &["--common-name", name]].concat();
            let csr = self.ok(&asked);
            assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        }
        let key = KeyPair::from_pem(&fs::read_to_string(pending).unwrap()).unwrap();
        self.signed(spec, &key)
    }

    fn signed(&self, spec: &LeafSpec, key: &impl PublicKeyData) -> PathBuf {
        let leaf = self.igc.leaf_for(spec, key).unwrap();
        let above = self.igc.certificate(Authority::Organisations).pem();
        let file = self.root.join("recu.pem");
        fs::write(&file, leaf.pem() + &above).unwrap();
        file
    }

    /// What the revocation lists say from now on.
    fn revoke(&self, number: u64, serials: &[u64]) {
        let settings = drimbox::config::load_awaiting_certificates(&self.config);
        let settings = settings.unwrap().trust.unwrap();
        let trust = Trust::open(settings, Clock::system()).unwrap();
        let root = CrlSpec {
            number,
            ..CrlSpec::default()
        };
        let spec = CrlSpec {
            number,
            revoked: serials.to_vec(),
            ..CrlSpec::default()
        };
        trust
            .take_crl(&self.igc.crl(Authority::Root, &root).unwrap())
            .unwrap();
        trust
            .take_crl(&self.igc.crl(Authority::Organisations, &spec).unwrap())
            .unwrap();
    }

    fn import(&self, place: &str, file: &Path) -> Output {
        self.run(&["certs", "import", place, &file.display().to_string()])
    }
}

fn good() -> LeafSpec {
    LeafSpec::peer(HOST)
}

#[test]
fn the_first_certificate_is_asked_for_and_installed_where_nothing_is_yet() {
    let centre = Centre::new("certs-first");
    centre.revoke(10, &[]);
    let list = centre.ok(&["certs", "list"]);
    assert!(list.contains("pas encore demandé"), "{list}");
    let sign = LeafSpec {
        unit: FINESS.to_owned(),
        serial: 0x77,
        ..LeafSpec::signer()
    };
    let auth = LeafSpec {
        unit: FINESS.to_owned(),
        usages: vec![Usage::ClientAuth],
        serial: 0x78,
        ..LeafSpec::peer("CENTRE")
    };
    for (place, key, spec) in [
        ("db:ct", "db.key", good()),
        ("dmp-sign:centre", "sign.key", sign),
        ("dmp-auth:centre", "auth.key", auth),
    ] {
        let file = centre.answered(place, key, &spec);
        let shown = centre.ok(&["certs", "list"]);
        assert!(!place.starts_with("dmp") || shown.contains("demandé, pas encore reçu"));
        let done = centre.import(place, &file);
        assert_eq!(code(&done), 0, "{}", said(&done));
        let mode = fs::metadata(centre.root.join(key)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    let check = centre.run(&["certs", "check"]);
    assert_eq!(code(&check), 0, "{}", said(&check));
    let listed: Json =
        serde_json::from_str(&centre.ok(&["certs", "list", "--format", "json"])).unwrap();
    let roles: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["ORG_AUTH_CLI", "ORG_SIGN", "SERV_SSL"]);
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["revocation"] == "good")
    );
    assert_eq!(
        listed[1]["certificate"]["structure"]["kind"],
        "FINESS juridique"
    );
}

#[test]
fn each_mismatch_of_a_certificate_has_its_own_refusal() {
    let centre = Centre::new("certs-mismatch");
    centre.revoke(10, &[0x66]);
    let file = centre.answered("db:ct", "db.key", &good());
    assert_eq!(code(&centre.import("db:ct", &file)), 0);
    let later = || LeafSpec {
        days: (-10, 900),
        serial: 0x1235,
        ..good()
    };
    let refused = |what: &str, spec: LeafSpec, part: &str| {
        centre.answered("db:ct", "db.key", &good());
        let key = fs::read_to_string(centre.root.join("db.key.nouvelle")).unwrap();
        let file = centre.signed(&spec, &KeyPair::from_pem(&key).unwrap());
        let done = centre.import("db:ct", &file);
        assert_eq!(code(&done), 1, "{what}: {}", said(&done));
        assert!(said(&done).contains(part), "{what}: {}", said(&done));
    };
    refused(
        "CN",
        LeafSpec {
            common_name: "db2.certs.example".into(),
            ..later()
        },
        "et non de db1.certs.example",
    );
    refused(
        "names",
        LeafSpec {
            dns_names: vec![HOST.into(), "b.example".into()],
            ..later()
        },
        "plusieurs noms",
    );
    refused(
        "OU",
        LeafSpec {
            unit: "311111111111111".into(),
            ..later()
        },
        "autre structure",
    );
    refused(
        "EKU",
        LeafSpec {
            usages: vec![Usage::EmailProtection],
            ..later()
        },
        "limité à emailProtection",
    );
    refused(
        "expired",
        LeafSpec {
            days: (-20, -1),
            ..later()
        },
        "expiré",
    );
    refused(
        "not yet",
        LeafSpec {
            days: (5, 900),
            ..later()
        },
        "à partir du",
    );
    refused(
        "earlier",
        LeafSpec {
            days: (-10, 100),
            ..later()
        },
        "avant celui en service",
    );
    refused(
        "revoked",
        LeafSpec {
            serial: 0x66,
            ..later()
        },
        "révoqué",
    );
    refused(
        "authority",
        LeafSpec {
            by: Authority::Persons,
            ..later()
        },
        "n'est pas d'une autorité",
    );

    let stranger = KeyPair::generate().unwrap();
    let done = centre.import("db:ct", &centre.signed(&later(), &stranger));
    assert!(
        said(&done).contains("aucune des clés connues"),
        "{}",
        said(&done)
    );

    // From the production branch, for the key that waits.
    let production = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
    let key = fs::read_to_string(centre.root.join("db.key.nouvelle")).unwrap();
    let leaf = production
        .leaf_for(&later(), &KeyPair::from_pem(&key).unwrap())
        .unwrap();
    let file = centre.root.join("production.pem");
    fs::write(&file, leaf.pem()).unwrap();
    let done = centre.import("db:ct", &file);
    assert!(
        said(&done).contains("ne pas mêler test et production"),
        "{}",
        said(&done)
    );

    // An authority in the file that ends before the certificate does.
    let short = Igc::with_dates(true, OffsetDateTime::now_utc(), (-100, 500)).unwrap();
    let leaf = short
        .leaf_for(&later(), &KeyPair::from_pem(&key).unwrap())
        .unwrap();
    fs::write(
        &file,
        leaf.pem() + &short.certificate(Authority::Organisations).pem(),
    )
    .unwrap();
    let done = centre.import("db:ct", &file);
    assert!(
        said(&done).contains("ne sont pas ses émetteurs, ou expirent"),
        "{}",
        said(&done)
    );

    // The key of the place for the DMP is that of the database name.
    fs::copy(centre.root.join("db.pem"), centre.root.join("auth.pem")).unwrap();
    closed(&centre.root.join("auth.key"), key.as_bytes());
    let file = centre.signed(&later(), &KeyPair::from_pem(&key).unwrap());
    let done = centre.import("db:ct", &file);
    assert!(
        said(&done).contains("sert déjà à dmp-auth:centre"),
        "{}",
        said(&done)
    );
    fs::remove_file(centre.root.join("auth.pem")).unwrap();
    fs::remove_file(centre.root.join("auth.key")).unwrap();
    let done = centre.import("db:ct", &file);
    assert_eq!(code(&done), 0, "{}", said(&done));
}

#[test]
fn a_certificate_that_is_revoked_is_critical_and_not_gone_back_to() {
    let centre = Centre::new("certs-revoked");
    centre.revoke(10, &[]);
    let file = centre.answered("db:ct", "db.key", &good());
    assert_eq!(code(&centre.import("db:ct", &file)), 0);
    let later = LeafSpec {
        days: (-10, 900),
        serial: 0x1235,
        ..good()
    };
    let file = centre.answered("db:ct", "db.key", &later);
    assert_eq!(code(&centre.import("db:ct", &file)), 0);
    centre.revoke(11, &[0x1234]);
    let back = centre.run(&["certs", "rollback", "db:ct"]);
    assert!(said(&back).contains("révoqué"), "{}", said(&back));
    centre.revoke(12, &[0x1234, 0x1235]);
    let check = centre.run(&["certs", "check"]);
    assert_eq!(code(&check), 2, "{}", said(&check));
    assert!(
        said(&check).starts_with("CERTIFICATS CRITICAL - db:ct révoqué"),
        "{}",
        said(&check)
    );
    let shown = centre.ok(&["certs", "show", "db:ct"]);
    assert!(shown.contains("RÉVOQUÉ"), "{shown}");
}

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
        gateway.stop(Duration::from_secs(60)).await.unwrap();

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
        let again = drimbox(&["serve"], &file);
        assert_eq!(code(&again), 1, "not before somebody vouches");
        assert!(
            said(&again).contains("--i-am-the-only-one"),
            "{}",
            said(&again)
        );
        drimbox::backup::fence::pass(&box_folder.join("data"), true).unwrap();
        let gateway = Gateway::start(config).await.unwrap();
        let old = Pki::new(&root.join("pki.new"), "Other").unwrap();
        assert!(!answers(&gateway, &old).await);
        fs::rename(root.join("pki"), root.join("pki.restored")).unwrap();
        fs::rename(root.join("pki.old"), root.join("pki")).unwrap();
        assert!(answers(&gateway, &pki).await, "the certificates came along");
    });
}

/// What a webhook got, each request's head and body.
struct Receiver {
    port: u16,
    got: Arc<std::sync::Mutex<Vec<(String, Json)>>>,
    arrived: Arc<tokio::sync::Notify>,
}

impl Receiver {
    async fn start(identity: &Identity, refuse_first: usize) -> Self {
        let chain = CertificateDer::pem_file_iter(&identity.certificate_file)
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            got: Arc::default(),
            arrived: Arc::default(),
        };
        let (got, arrived) = (Arc::clone(&receiver.got), Arc::clone(&receiver.arrived));
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let (head, body) = request(&mut stream).await;
                number += 1;
                let answer = if number <= refuse_first {
                    "503 Busy"
                } else {
                    "204 No Content"
                };
                if number > refuse_first {
                    got.lock().unwrap().push((head, body));
                }
                let text =
                    format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                arrived.notify_one();
            }
        });
        receiver
    }
}

async fn request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (String, Json) {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.to_lowercase(), body);
        }
        assert!(read > 0, "{text}");
    }
}

#[test]
fn a_webhook_gets_each_alert_once_with_its_token_after_it_was_away() {
    use drimbox::certs::alerts::webhook::WebhookChannel;
    use drimbox::certs::alerts::{Alerts, Channel, Recipient, Settings};
    use drimbox::certs::inventory::Inventory;
    run(async {
        let centre = Centre::new("certs-webhook");
        let soon = LeafSpec {
            days: (-700, 20),
            ..good()
        };
        let file = centre.answered("db:ct", "db.key", &soon);
        let done = centre.import("db:ct", &file);
        assert_eq!(code(&done), 0, "{}", said(&done));
        let pki = Pki::new(&centre.root.join("pki"), "Centre").unwrap();
        let receiver = Receiver::start(&pki.server(&["localhost"]).unwrap(), 1).await;
        let token = centre.root.join("jeton");
        closed(&token, b"jeton-de-supervision\n");
        let webhook = drimbox::config::Webhook {
            name: "supervision".into(),
            url: format!("https://localhost:{}/alertes", receiver.port),
            token_file: Some(token),
            ca_file: pki.ca_file().to_owned(),
            http_proxy: None,
        };
        let open = || {
            let channel: Arc<dyn Channel> = Arc::new(WebhookChannel::new(&webhook).unwrap());
            let settings = Settings {
                recipients: vec![(Recipient::Webhook("supervision".into()), channel)],
                centre: None,
                link_url: "https://vi1.certs.example".into(),
            };
            Alerts::open(settings, &centre.root.join("alerts")).unwrap()
        };
        let config = drimbox::config::load_awaiting_certificates(&centre.config).unwrap();
        let inventory = Inventory::of(&config, None);
        let mut now = OffsetDateTime::now_utc();
        let alerts = open();
        alerts.note(&inventory.examine(now), now);
        alerts.deliver(now).await;
        receiver.arrived.notified().await;
        assert_eq!(receiver.got.lock().unwrap().len(), 0, "it was busy");
        drop(alerts);
        for _ in 0..3 {
            now += Duration::from_secs(7_200);
            let alerts = open();
            alerts.note(&inventory.examine(now), now);
            alerts.deliver(now).await;
        }
        let got = receiver.got.lock().unwrap().clone();
        assert_eq!(got.len(), 1, "once, over three restarts: {got:?}");
        let (head, body) = &got[0];
        assert!(
            head.contains("authorization: bearer jeton-de-supervision"),
            "{head}"
        );
        assert_eq!(body["alert"]["kind"], "certificate_expiry");
        assert_eq!(body["alert"]["place"], "db:ct");
        assert!(
            body["text"]
                .as_str()
                .unwrap()
                .contains("jusqu'à expiration seulement")
        );
    });
}

#[test]
fn certificates_of_the_dmp_carry_the_structure_of_the_configuration() {
    let centre = Centre::new("certs-dmp");
    let other = [
        "certs",
        "request",
        "dmp-sign:centre",
        "--unit",
        "5750000002",
        "--common-name",
        "CENTRE",
    ];
    let refused = centre.run(&other);
    assert_eq!(code(&refused), 2);
    assert!(
        said(&refused).contains(&format!("l'OU doit être {FINESS}")),
        "{}",
        said(&refused)
    );
    let foreign = LeafSpec {
        unit: "5750000002".into(),
        key_usages: vec![KeyUsagePurpose::DigitalSignature],
        ..LeafSpec::signer()
    };
    let file = centre.answered("dmp-sign:centre", "sign.key", &foreign);
    let refused = centre.import("dmp-sign:centre", &file);
    assert!(
        said(&refused).contains(&format!("et non « {FINESS} »")),
        "{}",
        said(&refused)
    );
}
