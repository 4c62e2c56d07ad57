//! Images that a C-MOVE brings over TLS: from a PACS that shows a certificate of the centre's
//! authority, and from no other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::Path;

use conformance::testkit::{Client, Gateway, GatewayConfig, Identity, Orthanc, PacsConfig, Pki};
use serde_json::json;
use support::compare::assert_study;
use support::handshake::presented;
use support::{ask, exam, files, folder, metric, retrieve, run, study_path, until};

const STUDY: &str = "ct300";

/// How a PACS comes to the gateway's storage SCP.
enum Comes<'a> {
    /// In clear.
    InClear,
    /// Over TLS, with this certificate.
    With(&'a Identity),
}

/// A gateway with TLS on its storage SCP, and an Orthanc that sends to it.
async fn pair(home: &Path, pki: &Pki, comes: &Comes<'_>) -> (Gateway, Orthanc) {
    std::fs::create_dir_all(home).unwrap();
    let server = pki.server(&["drimbox.service.example"]).unwrap();
    let path = |path: &Path| path.display().to_string();
    let config = GatewayConfig::new(home)
        .unwrap()
        .storage_scp()
        .unwrap()
        .set("dimse.tls.certificate_file", path(&server.certificate_file))
        .set("dimse.tls.key_file", path(&server.key_file))
        .set("dimse.client_ca_file", path(pki.ca_file()));
    let port = config.address("dimse").unwrap().port();
    let over_tls = matches!(comes, Comes::With(_));
    let here =
        json!({ "AET": "DRIMBOX", "Host": "127.0.0.1", "Port": port, "UseDicomTls": over_tls });
    let place = home.join("pacs");
    std::fs::create_dir_all(&place).unwrap();
    let mut orthanc =
        Orthanc::builder(&place).setting("DicomModalities", json!({ "drimbox": here }));
    if let Comes::With(identity) = comes {
        orthanc = orthanc
            .setting("DicomTlsCertificate", json!(identity.certificate_file))
            .setting("DicomTlsPrivateKey", json!(identity.key_file))
            .setting("DicomTlsTrustedCertificates", json!(pki.ca_file()));
    }
    let orthanc = orthanc.start().await.unwrap();
    orthanc.upload(files(&[STUDY])).await.unwrap();
    let entry = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port()).by_move();
    (Gateway::start(config.pacs(entry)).await.unwrap(), orthanc)
}

#[test]
fn a_c_move_brings_its_images_over_tls_from_a_pacs_that_shows_its_certificate() {
    run(async {
        let home = folder("good");
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let pacs = pki.client("pacs").unwrap();
        let (gateway, orthanc) = pair(&home, &pki, &Comes::With(&pacs)).await;
        let into = folder("good-parts");
        let url = gateway.local_url() + &study_path(exam(STUDY));
        let body = retrieve(&Client::plain().unwrap(), &url, &into).await;
        assert_study(exam(STUDY), &body, &into);
        assert_eq!(orthanc.requests().unwrap().moves, 1);
    });
}

#[test]
fn a_pacs_in_clear_or_with_a_certificate_of_a_foreign_authority_brings_nothing() {
    run(async {
        let home = folder("bad");
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let foreign = Pki::new(&home.join("foreign"), "Foreign CA").unwrap();
        let stranger = foreign.client("pacs").unwrap();
        for (which, comes) in [
            ("in-clear", Comes::InClear),
            ("stranger", Comes::With(&stranger)),
        ] {
            let (gateway, _orthanc) = pair(&home.join(which), &pki, &comes).await;
            let url = gateway.local_url() + &study_path(exam(STUDY));
            let answer = ask(&Client::plain().unwrap(), &url).await;
            assert_eq!(answer.status(), 502, "{which}");
            assert_refused(&gateway, which).await;
        }
    });
}

#[test]
fn a_client_without_certificate_is_refused_by_the_storage_scp() {
    run(async {
        let home = folder("none");
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let pacs = pki.client("pacs").unwrap();
        let (gateway, _orthanc) = pair(&home, &pki, &Comes::With(&pacs)).await;
        // It is shown the gateway's, and then turned away.
        let name = "drimbox.service.example";
        let shown = presented(gateway.address("dimse"), pki.ca_file(), name).await;
        assert!(shown.is_some());
        assert_refused(&gateway, "no certificate").await;
    });
}

/// Waits until the storage SCP has refused a handshake.
async fn assert_refused(gateway: &Gateway, which: &str) {
    until(which, async || {
        let errors = "drimbox_dimse_scp_errors_total";
        metric(gateway, errors, &[("cause", "tls")]).await > 0
    })
    .await;
}
