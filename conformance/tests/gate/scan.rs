//! What a scanner of TLS says of the public port: sslyze (PyPI), against the versions and the suites
//! that ANSSI recommends (SDE-NT-35). What it finds is explained here and in the guide, or mended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use conformance::testkit::{Gateway, GatewayConfig, Identity, PacsConfig, Pki};
use serde_json::Value as Json;

use crate::network::{SOURCE, VIEWER, network};
use crate::support::{folder, foreign, python, run};

/// What every name is scanned for.
const SCANS: [&str; 15] = [
    "certinfo",
    "compression",
    "early_data",
    "elliptic_curves",
    "ems",
    "fallback",
    "heartbleed",
    "openssl_ccs",
    "reneg",
    "robot",
    "tlsv1",
    "tlsv1_1",
    "tlsv1_2",
    "tlsv1_3",
    "resum",
];

/// Findings that stay, each with why. The guide says the same to whoever runs a scanner.
const EXPLAINED: [(&str, &str); 2] = [
    (
        "no TLS_FALLBACK_SCSV",
        "RFC 7507 is about clients that try a version again after a failure; TLS 1.3 protects against \
         it by the random of its server (RFC 8446 §4.1.3), and nothing below TLS 1.2 is spoken",
    ),
    (
        "no verified chain",
        "scanners know public authorities: IGC Santé is none of them, nor is the authority of this test",
    ),
];

const SUITES: [&str; 9] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Either name of NIST P-256 is in use.
const CURVES: [&str; 5] = [
    "X25519",
    "prime256v1",
    "secp256r1",
    "secp384r1",
    "secp521r1",
];

/// Whether sessions may be resumed: never where the certificate of a client counts.
#[derive(Clone, Copy, PartialEq)]
enum Sessions {
    Never,
    Allowed,
}

#[test]
fn a_scanner_finds_nothing_on_any_name_but_what_is_explained() {
    let Some(python) = python::environment("sslyze", &["sslyze==6.3.1"]) else {
        return;
    };
    let sslyze = python.with_file_name("sslyze");
    run(async {
        let network = network().await;
        let address = network.gateway.address("peer");
        let peer = Some(&network.peer);
        let open = [
            (SOURCE, None, Some("OPTIONAL"), Sessions::Never),
            (SOURCE, peer, None, Sessions::Never),
            (VIEWER, None, Some("DISABLED"), Sessions::Allowed),
        ];
        for (host, identity, asked, sessions) in open {
            let scan = scan(&sslyze, host, address, identity, asked, sessions).await;
            assert_explained(host, &scan);
        }
    });
}

#[test]
fn a_scanner_finds_nothing_on_a_name_that_demands_a_certificate() {
    let Some(python) = python::environment("sslyze", &["sslyze==6.3.1"]) else {
        return;
    };
    let sslyze = python.with_file_name("sslyze");
    run(async {
        const HOST: &str = "db1.scanned.example";
        let home = folder("scanned");
        let pki = Pki::new(&home.join("pki"), "Scanned CA").unwrap();
        let served = pki.server(&[HOST]).unwrap();
        let config = GatewayConfig::new(&home)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .pacs(PacsConfig::new("sim", "SIM", 1).db_host(HOST, &served));
        let gateway = Gateway::start(config).await.unwrap();
        let peer = pki.client("peer").unwrap();
        let address = gateway.address("peer");
        let never = Sessions::Never;
        let scan = scan(&sslyze, HOST, address, Some(&peer), None, never).await;
        assert_explained(HOST, &scan);
    });
}

/// Scans a name; what is found, with what sslyze says of it. Who shows a certificate does not learn
/// whether one is asked for.
async fn scan(
    sslyze: &Path,
    host: &str,
    address: SocketAddr,
    identity: Option<&Identity>,
    asked: Option<&str>,
    sessions: Sessions,
) -> BTreeMap<String, String> {
    let report = folder("scan").join("report.json");
    let mut command = Command::new(sslyze);
    command.args(SCANS.map(|scan| format!("--{scan}")));
    // The policies of Mozilla fail every certificate of IGC Santé for its length of life.
    command.args([
        "--quiet",
        "--slow_connection",
        "--mozilla_config",
        "disable",
    ]);
    command.arg("--json_out").arg(&report);
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.certificate_file);
        command.arg("--key").arg(&identity.key_file);
    }
    command.arg(format!("{host}:{}{{{}}}", address.port(), address.ip()));
    let done = tokio::task::spawn_blocking(move || foreign::output("sslyze", &mut command));
    done.await.unwrap();
    let read: Json = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let scanned = &read["server_scan_results"][0];
    assert_eq!(scanned["connectivity_status"], "COMPLETED", "{scanned}");
    let mut found = BTreeMap::new();
    let wanted = &scanned["connectivity_result"]["client_auth_requirement"];
    if asked.is_some_and(|asked| wanted != asked) {
        found.insert(format!("asks for certificates: {wanted}"), String::new());
    }
    findings(&scanned["scan_result"], sessions, &mut found);
    found
}

fn findings(scan: &Json, sessions: Sessions, found: &mut BTreeMap<String, String>) {
    let mut add = |finding: String, said: &Json| {
        found.insert(finding, said.to_string());
    };
    for (name, one) in scan.as_object().unwrap() {
        match one["status"].as_str().unwrap() {
            "COMPLETED" | "NOT_SCHEDULED" => {}
            _ => add(format!("{name} did not end"), one),
        }
    }
    let result = |name: &str| &scan[name]["result"];
    for (name, wanted) in [
        ("tls_1_0", false),
        ("tls_1_1", false),
        ("tls_1_2", true),
        ("tls_1_3", true),
    ] {
        let suites = result(&format!("{name}_cipher_suites"));
        if suites["is_tls_version_supported"] != wanted {
            add(
                format!("{name}: {}", suites["is_tls_version_supported"]),
                suites,
            );
        }
        for suite in suites["accepted_cipher_suites"].as_array().unwrap() {
            let suite = suite["cipher_suite"]["name"].as_str().unwrap();
            if !SUITES.contains(&suite) {
                add(format!("suite {suite}"), &Json::Null);
            }
        }
    }
    for curve in result("elliptic_curves")["supported_curves"]
        .as_array()
        .unwrap()
    {
        let curve = curve["name"].as_str().unwrap();
        if !CURVES.contains(&curve) {
            add(format!("curve {curve}"), &Json::Null);
        }
    }
    // What must be false, and what true.
    for (name, field, wanted, finding) in [
        (
            "tls_compression",
            "supports_compression",
            false,
            "compression",
        ),
        (
            "tls_1_3_early_data",
            "supports_early_data",
            false,
            "early data",
        ),
        (
            "openssl_ccs_injection",
            "is_vulnerable_to_ccs_injection",
            false,
            "CCS injection",
        ),
        (
            "heartbleed",
            "is_vulnerable_to_heartbleed",
            false,
            "Heartbleed",
        ),
        (
            "session_renegotiation",
            "is_vulnerable_to_client_renegotiation_dos",
            false,
            "renegotiation by the client",
        ),
        (
            "session_renegotiation",
            "supports_secure_renegotiation",
            true,
            "no secure renegotiation",
        ),
        (
            "tls_extended_master_secret",
            "supports_ems_extension",
            true,
            "no extended master secret",
        ),
        (
            "tls_fallback_scsv",
            "supports_fallback_scsv",
            true,
            "no TLS_FALLBACK_SCSV",
        ),
    ] {
        let said = &result(name)[field];
        if said != wanted {
            add(finding.to_owned(), said);
        }
    }
    let robot = &result("robot")["robot_result"];
    if !robot.as_str().unwrap().starts_with("NOT_VULNERABLE") {
        add("ROBOT".to_owned(), robot);
    }
    for way in [
        "session_id_resumption_result",
        "tls_ticket_resumption_result",
    ] {
        let said = &result("session_resumption")[way];
        if sessions == Sessions::Never && said != "NOT_SUPPORTED" {
            add(format!("resumption: {way}"), said);
        }
    }
    for deployment in result("certificate_info")["certificate_deployments"]
        .as_array()
        .unwrap()
    {
        if deployment["received_chain_has_valid_order"] != true {
            add("order of the chain".to_owned(), &Json::Null);
        }
        if deployment["verified_certificate_chain"].is_null() {
            add("no verified chain".to_owned(), &Json::Null);
        }
        if deployment["verified_chain_has_sha1_signature"] == true {
            add("SHA-1 in the chain".to_owned(), &Json::Null);
        }
        let leaf = &deployment["received_certificate_chain"][0];
        let hash = &leaf["signature_hash_algorithm"]["name"];
        if !["sha256", "sha384", "sha512"]
            .iter()
            .any(|good| hash == good)
        {
            add(format!("hash {hash}"), &Json::Null);
        }
    }
}

fn assert_explained(host: &str, found: &BTreeMap<String, String>) {
    let unexplained: Vec<_> = found
        .iter()
        .filter(|(finding, _)| !EXPLAINED.iter().any(|(known, _)| known == finding))
        .collect();
    assert!(unexplained.is_empty(), "{host}: {unexplained:#?}");
}

#[test]
fn the_guide_tells_of_every_finding_that_stays() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide-exploitation.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let guide = guide.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, told) = guide.split_once("(sslyze, testssl.sh) y signale").unwrap();
    let (told, _) = told.split_once("Laisser entrer").unwrap();
    assert!(told.trim_start().starts_with("deux points"), "{told}");
    let words = [
        "`TLS_FALLBACK_SCSV` n'est pas offert",
        "la chaîne n'est pas vérifiée",
    ];
    assert_eq!(words.len(), EXPLAINED.len());
    for (word, (finding, _)) in words.iter().zip(EXPLAINED) {
        assert!(told.contains(word), "{finding}: {told}");
    }
}
