//! `drimbox check dmp` against a server that wants client certificates, as the DMP does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::process::Command;
use std::sync::Arc;

use conformance::testkit::{GatewayConfig, Identity, PacsConfig, Pki, binary};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use toml::{Table, Value};

const HOST: &str = "localhost";
const SIRET: &str = "312345678900011";

/// A server that takes whoever has a certificate of `pki`, and says no word; its port.
async fn server(pki: &Pki, version: &'static SupportedProtocolVersion) -> u16 {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.ca_file()).unwrap())
        .unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let own = pki.server(&[HOST]).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&own.certificate_file).unwrap()],
            PrivateKeyDer::from_pem_file(&own.key_file).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                stream.read_to_end(&mut Vec::new()).await
            });
        }
    });
    port
}

struct World {
    folder: TempDir,
    pki: Pki,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(&folder.path().join("pki"), "Test CA").unwrap();
        Self { folder, pki }
    }

    /// A gateway whose DMP is on this port and trusted by `authority`, with the certificates of structures.
    fn config(&self, port: u16, authority: &Pki, structures: &[Identity]) -> GatewayConfig {
        let text = |path: &std::path::Path| Value::from(path.display().to_string());
        let structure = |(at, identity): (usize, &Identity)| {
            let mut auth = Table::new();
            auth.insert("certificate_file".into(), text(&identity.certificate_file));
            auth.insert("key_file".into(), text(&identity.key_file));
            let mut table = Table::new();
            table.insert("name".into(), format!("structure-{at}").into());
            table.insert("structure".into(), SIRET.into());
            table.insert("auth".into(), auth.into());
            Value::Table(table)
        };
        GatewayConfig::new(self.folder.path())
            .unwrap()
            .pacs(PacsConfig::new("pacs", "PACS", 11112))
            .set("dmp.host", HOST)
            .set("dmp.port", i64::from(port))
            .set("dmp.ca_file", text(authority.ca_file()))
            .set(
                "dmp.structures",
                structures
                    .iter()
                    .enumerate()
                    .map(structure)
                    .collect::<Vec<_>>(),
            )
    }

    /// Exit code of a command, and what it said.
    async fn drimbox(&self, words: &'static [&'static str]) -> (Option<i32>, String) {
        let file = self.folder.path().join("drimbox.toml");
        let ended = tokio::task::spawn_blocking(move || {
            let mut command = Command::new(binary().unwrap());
            command
                .args(words)
                .arg("--config")
                .arg(file)
                .output()
                .unwrap()
        });
        let ended = ended.await.unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        (ended.status.code(), String::from_utf8(said).unwrap())
    }
}

#[tokio::test]
async fn a_structure_that_the_dmp_accepts_is_told_and_its_certificate_is_in_the_inventory() {
    for version in [&TLS13, &TLS12] {
        let world = World::new();
        let port = server(&world.pki, version).await;
        let identity = world.pki.organisation("structure", SIRET).unwrap();
        let config = world.config(port, &world.pki, &[identity]);
        config.write().unwrap();
        let (_, before) = world.drimbox(&["certs", "list", "--format", "json"]).await;
        assert!(!before.contains("\"DMP\""), "{before}");
        let (code, said) = world.drimbox(&["check", "dmp"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("{HOST}:{port} l'accepte")), "{said}");
        let (_, list) = world.drimbox(&["certs", "list", "--format", "json"]).await;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let text = list.to_string();
        assert!(text.contains("\"presented_by\":\"DMP\""), "{text}");
    }
}

#[tokio::test]
async fn who_refuses_whom_is_told_apart() {
    for version in [&TLS13, &TLS12] {
        let world = World::new();
        let stranger = Pki::new(&world.folder.path().join("other"), "Other CA").unwrap();
        let port = server(&world.pki, version).await;
        let good = world.pki.organisation("structure", SIRET).unwrap();
        let foreign = stranger.organisation("structure", SIRET).unwrap();

        // One structure that is not wanted stops nobody else.
        let config = world.config(port, &world.pki, &[foreign, good.clone()]);
        config.write().unwrap();
        let (code, said) = world.drimbox(&["check", "dmp"]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("refuse le certificat de la structure"),
            "{said}"
        );
        assert!(said.contains("l'accepte"), "{said}");

        let config = world.config(port, &stranger, &[good]);
        std::fs::remove_dir_all(world.folder.path().join("data/presented")).unwrap();
        config.write().unwrap();
        let (code, said) = world.drimbox(&["check", "dmp"]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("n'est pas reconnu"), "{said}");
        let (_, list) = world.drimbox(&["certs", "list", "--format", "json"]).await;
        assert!(
            !list.contains("\"DMP\""),
            "what is not believed is not noted: {list}"
        );
    }
}

#[tokio::test]
async fn a_dmp_that_is_away_and_a_certificate_that_is_to_come_are_told() {
    let world = World::new();
    let port = conformance::testkit::free_port().unwrap();
    let identity = world.pki.organisation("structure", SIRET).unwrap();
    let later = Identity {
        certificate_file: world.folder.path().join("later.pem"),
        key_file: world.folder.path().join("later.key"),
    };
    let config = world.config(port, &world.pki, &[identity, later]);
    config.write().unwrap();
    let (code, said) = world.drimbox(&["check", "dmp"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ne répond pas"), "{said}");
    assert!(
        said.contains("certs request dmp-auth:structure-1"),
        "{said}"
    );
}
