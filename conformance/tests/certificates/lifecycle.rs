//! Certificates asked for, imported, refused and revoked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use conformance::testkit::igc::{Authority, Igc, LeafSpec};
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyPair, KeyUsagePurpose};
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::centre::{Centre, FINESS, HOST, closed, code, good, said};

fn sign() -> LeafSpec {
    LeafSpec {
        unit: FINESS.to_owned(),
        serial: 0x77,
        ..LeafSpec::signer()
    }
}

fn auth() -> LeafSpec {
    LeafSpec {
        unit: FINESS.to_owned(),
        usages: vec![Usage::ClientAuth],
        serial: 0x78,
        ..LeafSpec::peer("CENTRE")
    }
}

/// What openssl makes of files in the folder of a centre.
fn openssl(centre: &Centre, arguments: &[&str]) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(&centre.root)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn the_first_certificate_is_asked_for_and_installed_where_nothing_is_yet() {
    let centre = Centre::new("certs-first");
    centre.revoke(10, &[]);
    let list = centre.ok(&["certs", "list"]);
    assert!(list.contains("pas encore demandé"), "{list}");
    for (place, key, spec) in [
        ("db:ct", "db.key", good()),
        ("dmp-sign:centre", "sign.key", sign()),
        ("dmp-auth:centre", "auth.key", auth()),
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
    let roles: Vec<(&str, Option<&str>)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["role"].as_str().unwrap(), one["revocation"].as_str()))
        .collect();
    assert_eq!(
        roles,
        [
            ("ORG_AUTH_CLI", Some("good")),
            ("ORG_SIGN", Some("good")),
            ("SERV_SSL", Some("good")),
            ("AUTHORITY", None),
            ("AUTHORITY", None),
        ]
    );
    assert_eq!(
        listed[1]["certificate"]["structure"]["kind"],
        "FINESS juridique"
    );
}

#[test]
fn the_first_certificate_is_of_the_authorities_of_the_configuration_though_no_list_is_there_yet() {
    let centre = Centre::new("certs-first-authority");
    centre.answered("db:ct", "db.key", &good());
    let key = fs::read_to_string(centre.root.join("db.key.nouvelle")).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    let real = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
    let leaf = real.leaf_for(&good(), &key).unwrap();
    let file = centre.root.join("recu.pem");
    let above = real.certificate(Authority::Organisations).pem();
    fs::write(&file, leaf.pem() + &above).unwrap();
    let refused = centre.import("db:ct", &file);
    assert_eq!(code(&refused), 1, "{}", said(&refused));
    assert!(!centre.root.join("db.pem").exists());
    assert!(
        !centre.root.join("data/trust").exists(),
        "it is the service's"
    );

    let anchor = centre.root.join("igc/Root.cer");
    let root = fs::read(&anchor).unwrap();
    // No issuer of the other file.
    fs::write(&anchor, real.certificate(Authority::Root).pem()).unwrap();
    let file = centre.signed(&good(), &key);
    let refused = centre.import("db:ct", &file);
    assert_eq!(code(&refused), 1, "{}", said(&refused));
    assert!(said(&refused).contains("[trust]"), "{}", said(&refused));
    fs::write(&anchor, root).unwrap();
    let done = centre.import("db:ct", &file);
    assert_eq!(code(&done), 0, "{}", said(&done));
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

#[test]
fn a_file_of_any_form_finds_its_place_without_being_told() {
    let centre = Centre::new("certs-find");
    centre.revoke(10, &[]);
    let alone = |file: &str, more: &[&str]| {
        let file = centre.root.join(file).display().to_string();
        let done = centre.run(&[&["certs", "import", &file], more].concat());
        (code(&done), said(&done))
    };
    // A stranger's key, while three requests wait.
    let wanted = [
        ("db:ct", "db.key", good()),
        ("dmp-sign:centre", "sign.key", sign()),
        ("dmp-auth:centre", "auth.key", auth()),
    ];
    for (place, key, spec) in &wanted {
        let file = centre.answered(place, key, spec);
        fs::rename(file, centre.root.join(format!("{key}.recu"))).unwrap();
    }
    centre.signed(&good(), &KeyPair::generate().unwrap());
    let (code_of_stranger, said) = alone("recu.pem", &[]);
    assert_eq!(code_of_stranger, 1, "{said}");
    assert!(said.contains("n'est d'aucun emplacement"), "{said}");
    for part in [HOST, "db:ct", "dmp-sign:centre", "dmp-auth:centre"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    // By the key of its request each: PEM, PKCS#7, DER.
    let p7 = [
        "crl2pkcs7",
        "-nocrl",
        "-certfile",
        "sign.key.recu",
        "-out",
        "sign.p7b",
    ];
    openssl(&centre, &p7);
    let der = [
        "x509",
        "-in",
        "auth.key.recu",
        "-outform",
        "DER",
        "-out",
        "auth.cer",
    ];
    openssl(&centre, &der);
    let files = ["db.key.recu", "sign.p7b", "auth.cer"];
    for ((place, key, _), file) in wanted.iter().zip(files).rev() {
        let (code, said) = alone(file, &["--dry-run"]);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains(&format!("rien n'a été installé : {place}")),
            "{said}"
        );
        let installed = centre.root.join(key.replace(".key", ".pem"));
        assert!(!installed.exists());
        let (code, said) = alone(file, &[]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("gardé : {place},")), "{said}");
        assert!(installed.exists());
    }

    // By the key in use, renewed for it.
    let key = fs::read_to_string(centre.root.join("db.key")).unwrap();
    let later = LeafSpec {
        days: (-10, 900),
        serial: 0x1235,
        ..good()
    };
    centre.signed(&later, &KeyPair::from_pem(&key).unwrap());
    let (code, said) = alone("recu.pem", &[]);
    assert!(code == 0 && said.contains("gardé : db:ct,"), "{said}");

    // With a key of its own, by name and structure.
    closed(&centre.root.join("phrase"), b"mot de passe\n");
    let phrase = centre.root.join("phrase").display().to_string();
    let packed = |name: &str, spec: &LeafSpec| {
        let leaf = centre.igc.leaf(spec).unwrap();
        closed(
            &centre.root.join("p12.key"),
            leaf.key.serialize_pem().as_bytes(),
        );
        fs::write(centre.root.join("p12.pem"), leaf.certificate.pem()).unwrap();
        let made = [
            "pkcs12",
            "-export",
            "-in",
            "p12.pem",
            "-inkey",
            "p12.key",
            "-passout",
            "file:phrase",
            "-out",
            name,
        ];
        openssl(&centre, &made);
    };
    let ecdsa = |spec: LeafSpec| LeafSpec {
        days: (-10, 900),
        rsa: false,
        ..spec
    };
    packed("auth.p12", &ecdsa(auth()));
    assert_eq!(alone("auth.p12", &[]).0, 1, "without its password");
    let (code, said) = alone("auth.p12", &["--password-file", &phrase]);
    assert!(
        code == 0 && said.contains("gardé : dmp-auth:centre,"),
        "{said}"
    );

    // Good for both places of the structure: nothing is guessed.
    let any = LeafSpec {
        usages: Vec::new(),
        serial: 0x90,
        ..ecdsa(auth())
    };
    packed("any.p12", &any);
    let (code, said) = alone("any.p12", &["--password-file", &phrase]);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("plusieurs emplacements : dmp-auth:centre, dmp-sign:centre"),
        "{said}"
    );
    let named = centre.root.join("any.p12").display().to_string();
    let named = [
        "certs",
        "import",
        "dmp-auth:centre",
        &named,
        "--password-file",
        &phrase,
    ];
    assert!(centre.ok(&named).contains("gardé : dmp-auth:centre,"));

    let table = centre.ok(&["certs", "list", "--format", "csv"]);
    assert!(table.starts_with("place,role,"), "{table}");
    let places: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(',').next())
        .collect();
    assert_eq!(
        places,
        [
            "place",
            "dmp-auth:centre",
            "dmp-sign:centre",
            "db:ct",
            "authority:trust",
            "authority:trust-2"
        ]
    );
}

#[test]
fn the_first_certificate_of_a_place_is_of_the_structures_that_its_role_is_given_to() {
    let centre = Centre::new("certs-kind");
    centre.revoke(10, &[]);
    let of_finess = LeafSpec {
        unit: FINESS.into(),
        ..good()
    };
    let file = centre.answered("db:ct", "db.key", &of_finess);
    let refused = centre.import("db:ct", &file);
    assert_eq!(code(&refused), 1, "{}", said(&refused));
    assert!(
        said(&refused).contains("est au nom d'un SIRET"),
        "{}",
        said(&refused)
    );
    let file = file.display().to_string();
    centre.ok(&["certs", "import", "db:ct", &file, "--other-structure"]);
}

#[test]
fn a_supervisor_is_told_what_is_to_be_done_and_what_could_not_be_looked_at() {
    let centre = Centre::new("certs-nagios");
    centre.revoke(10, &[]);
    let file = centre.answered("db:ct", "db.key", &good());
    assert_eq!(code(&centre.import("db:ct", &file)), 0);
    let awaited = centre.run(&["certs", "check"]);
    assert_eq!(code(&awaited), 1, "{}", said(&awaited));
    assert!(
        said(&awaited).starts_with("CERTIFICATS WARNING"),
        "{}",
        said(&awaited)
    );
    fs::write(&centre.config, "[locale]\n").unwrap();
    assert_eq!(code(&centre.run(&["certs", "check"])), 3);
}

#[test]
fn the_list_of_igc_sante_is_compared_at_the_command_line() {
    let centre = Centre::new("certs-compare");
    centre.revoke(10, &[]);
    let file = centre.answered("db:ct", "db.key", &good());
    assert_eq!(code(&centre.import("db:ct", &file)), 0);
    let listed: Json =
        serde_json::from_str(&centre.ok(&["certs", "list", "--format", "json"])).unwrap();
    let db = &listed
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["place"] == "db:ct")
        .unwrap();
    let day = |key: &str| db["certificate"][key].as_str().unwrap()[..10].to_owned();
    let (begins, ends) = (day("not_before"), day("not_after"));
    let compare = |rows: &[String]| {
        let titles = "N° produit;Date début de validité;Fin de validité;Usage;Etat;FQDN";
        let list = format!("{titles}\n{}\n", rows.join("\n"));
        let (list, _, _) = encoding_rs::WINDOWS_1252.encode(&list);
        fs::write(centre.root.join("suivi.csv"), list).unwrap();
        let file = centre.root.join("suivi.csv").display().to_string();
        let done = centre.run(&["certs", "compare", &file]);
        (code(&done), said(&done))
    };
    let row =
        |begins: &str, ends: &str, name: &str| format!("1;{begins};{ends};SSL_SERV;Actif;{name}");
    let (code_of_same, same) = compare(&[row(&begins, &ends, HOST)]);
    assert_eq!(code_of_same, 0, "{same}");
    assert!(same.contains("concordent"), "{same}");

    let (code_of_other, other) = compare(&[
        row("2020-01-01", &ends, HOST),
        row(&begins, &ends, "db.ailleurs.example"),
        row("bientôt", &ends, HOST),
    ]);
    assert_eq!(code_of_other, 1, "{other}");
    let dates = format!(
        "db:ct : valable ici du {begins} au {ends}, dans la liste du 2020-01-01 au {ends} (ligne 2)"
    );
    assert!(other.contains(&dates), "{other}");
    assert!(
        other.contains("ligne 3 : SSL_SERV db.ailleurs.example"),
        "{other}"
    );
    assert!(
        other.contains("ligne 4 : la date « bientôt » ne se lit pas"),
        "{other}"
    );

    let (code_of_none, none) = compare(&[]);
    assert_eq!(code_of_none, 1, "{none}");
    assert!(
        none.contains(&format!("db:ct : {HOST} n'est pas dans la liste")),
        "{none}"
    );
    fs::write(centre.root.join("suivi.csv"), "rien\n").unwrap();
    let file = centre.root.join("suivi.csv").display().to_string();
    assert_eq!(code(&centre.run(&["certs", "compare", &file])), 2);
}
