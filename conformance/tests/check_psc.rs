//! `drimbox check psc` against the provider with the shape of Pro Santé Connect.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::process::Command;

use conformance::testkit::psc::left_out;
use conformance::testkit::{
    ConnectProxy, GatewayConfig, Identity, PacsConfig, Pki, PscClient, PscProvider, binary,
};
use serde_json::json;
use tempfile::TempDir;

const CLIENT: &str = "drimbox-centre";

struct World {
    psc: PscProvider,
    pki: Pki,
    folder: TempDir,
}

async fn world() -> Option<World> {
    if left_out() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(&folder.path().join("pki"), "Test CA").unwrap();
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let psc = PscProvider::start(build, &folder.path().join("psc"), &pki)
        .await
        .unwrap();
    psc.register(&[PscClient::new(CLIENT)]).await.unwrap();
    Some(World { psc, pki, folder })
}

impl World {
    fn config(&self, identity: &Identity) -> GatewayConfig {
        GatewayConfig::new(self.folder.path())
            .unwrap()
            .pacs(PacsConfig::new("pacs", "PACS", 11112))
            .set("psc.environment", "custom")
            .set("psc.issuer", self.psc.issuer())
            .set("psc.client_id", CLIENT)
            .set("psc.ca_file", self.pki.ca_file().display().to_string())
            .set(
                "psc.certificate_file",
                identity.certificate_file.display().to_string(),
            )
            .set("psc.key_file", identity.key_file.display().to_string())
    }

    /// Exit code and what was printed.
    async fn check(&self, config: GatewayConfig) -> (i32, String) {
        let file = config.write().unwrap();
        let command = async move {
            tokio::task::spawn_blocking(move || {
                Command::new(binary().unwrap())
                    .args(["check", "psc", "--config"])
                    .arg(file)
                    .output()
                    .unwrap()
            })
            .await
            .unwrap()
        };
        let ended = command.await;
        let said = String::from_utf8(ended.stdout).unwrap();
        assert!(
            ended.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
        (ended.status.code().unwrap(), said)
    }

    fn certificate(&self) -> Identity {
        self.pki.organisation(CLIENT, "312345678900011").unwrap()
    }
}

#[tokio::test]
async fn all_is_well_also_through_the_proxy_of_a_hospital() {
    let Some(world) = world().await else { return };
    let identity = world.certificate();
    let (code, said) = world.check(world.config(&identity)).await;
    assert_eq!(code, 0, "{said}");
    for part in [
        "Certificat ORG_AUTH_CLI",
        "structure (OU) 312345678900011",
        "Adresses",
        "Clés de signature",
        "Client ID et certificat acceptés",
        "introspection",
        "Tout est en ordre.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let way_out = ConnectProxy::start().await.unwrap();
    let through = world.config(&identity).set("psc.http_proxy", way_out.url());
    let (code, said) = world.check(through).await;
    assert_eq!(code, 0, "{said}");
    assert!(!way_out.tunnels().is_empty());
}

#[tokio::test]
async fn each_fault_has_its_line_and_its_remedy() {
    let Some(world) = world().await else { return };
    let good = world.certificate();
    let wrong = world.pki.organisation("autre-client", "3123").unwrap();
    let (code, said) = world.check(world.config(&wrong)).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("le CN est « autre-client »"), "{said}");
    assert!(said.contains("invalid_client"), "{said}");
    for (knobs, expected_code, expected) in [
        (json!({"dateOffsetSeconds": 20}), 0, "toléré jusqu'à 30 s"),
        (json!({"dateOffsetSeconds": -90}), 1, "en avance de"),
        (
            json!({"discovery": {"issuer": "https://other.example"}}),
            1,
            "environment (bas ou production)",
        ),
        (
            json!({"faults": {"keys": {"status": 503}}}),
            1,
            "ÉCHEC      Clés de signature",
        ),
        (
            json!({"faults": {"introspection": {"status": 403}}}),
            1,
            "ÉCHEC      Contrôle des jetons",
        ),
    ] {
        world.psc.reset().await.unwrap();
        world.psc.set(knobs.clone()).await.unwrap();
        let (code, said) = world.check(world.config(&good)).await;
        assert_eq!(code, expected_code, "{knobs}: {said}");
        assert!(said.contains(expected), "{knobs}: {said}");
        assert!(said.contains("Remède"), "{knobs}: {said}");
    }
    let nobody = world
        .config(&good)
        .set("psc.issuer", "https://127.0.0.1:9/realms/x");
    let (code, said) = world.check(nobody).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("port 443"), "{said}");
    // A certificate that names no structure is perhaps not one of IGC Santé.
    let bare = world.pki.client(CLIENT).unwrap();
    world.psc.reset().await.unwrap();
    let (code, said) = world.check(world.config(&bare)).await;
    assert_eq!(code, 0, "{said}");
    let warned = said.contains("attention  Titulaire") && said.contains("sans OU");
    assert!(warned && said.contains("identifiant national"), "{said}");
}
