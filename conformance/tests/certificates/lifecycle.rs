//! Certificates asked for, imported, refused and revoked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use conformance::testkit::igc::{Authority, Igc, LeafSpec};
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyPair, KeyUsagePurpose};
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::centre::{Centre, FINESS, HOST, closed, code, good, said};

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
