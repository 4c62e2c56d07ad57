//! Who signed it, and when.

use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use conformance::testkit::whitelist::{Edit, Profile};
use drimbox::trust::whitelist::{Outcome, SignatureError, WhiteListRefusal};
use rcgen::KeyUsagePurpose;

use super::{PROFILES, ready, refusal, spec, taken};
use crate::{DAY, START, World, date};

#[test]
fn the_certificate_of_somebody_else_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let other = LeafSpec {
        serial: 0x53,
        ..LeafSpec::signer()
    };
    let other = world.igc.leaf(&other).unwrap();
    for profile in PROFILES {
        let text = spec(profile).sign_as(&signer, &other).unwrap();
        assert_eq!(
            refusal(&trust, &text),
            WhiteListRefusal::Signature(SignatureError::Value),
            "{profile:?}"
        );
    }
    // The same key under another certificate: the value fits, the digest in the properties does not.
    let again = LeafSpec {
        serial: 0x52,
        ..LeafSpec::signer()
    };
    let certificate = world.igc.leaf_for(&again, &signer.key).unwrap();
    for profile in PROFILES {
        let shown = spec(profile).sign(&signer).unwrap().replace(
            &encoded(signer.certificate.der()),
            &encoded(certificate.der()),
        );
        assert_eq!(
            refusal(&trust, &shown),
            WhiteListRefusal::Signature(SignatureError::OtherCertificate),
            "{profile:?}"
        );
    }
}

fn encoded(der: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(der)
}

#[test]
fn the_issuer_named_in_the_properties_must_be_that_of_the_certificate() {
    let world = World::new();
    let edits: [Edit; 2] = [
        |text| text.replace("ORGANISATIONS,", "PERSONNES,"),
        |text| {
            text.replace(
                "SerialNumber xmlns=\"http://www.w3.org/2000/09/xmldsig#\">",
                "SerialNumber xmlns=\"http://www.w3.org/2000/09/xmldsig#\">1",
            )
        },
    ];
    for edit in edits {
        let mut list = spec(Profile::Two);
        list.edit_properties = edit;
        let text = list.sign(&world.signer()).unwrap();
        assert_eq!(
            refusal(&ready(&world), &text),
            WhiteListRefusal::Signature(SignatureError::OtherCertificate)
        );
    }
}

#[test]
fn a_signer_with_another_name_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    for signer in [
        LeafSpec {
            common_name: "Liste Blanche DRIM-N".to_owned(),
            ..LeafSpec::signer()
        },
        LeafSpec {
            common_name: "db3.test.example.fr".to_owned(),
            ..LeafSpec::signer()
        },
        LeafSpec {
            unit: "318751275100021".to_owned(),
            ..LeafSpec::signer()
        },
    ] {
        let signer = world.igc.leaf(&signer).unwrap();
        let text = spec(Profile::One).sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "other_signer");
    }
}

#[test]
fn a_signer_out_of_its_dates_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    for days in [(-100, -1), (1, 100)] {
        let signer = world
            .igc
            .leaf(&LeafSpec {
                days,
                ..LeafSpec::signer()
            })
            .unwrap();
        let text = spec(Profile::One).sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "signer_date");
    }
}

#[test]
fn a_signer_of_another_authority_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    let forged = Igc::new(true, date(START)).unwrap();
    let persons = LeafSpec {
        by: Authority::Persons,
        ..LeafSpec::signer()
    };
    for signer in [
        forged.leaf(&LeafSpec::signer()).unwrap(),
        world.igc.leaf(&persons).unwrap(),
    ] {
        let text = spec(Profile::One).sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "signer_chain");
    }
}

#[test]
fn a_signer_of_the_other_environment_is_refused() {
    let world = World::new();
    let production = Igc::new(false, date(START)).unwrap();
    let signer = production.leaf(&LeafSpec::signer()).unwrap();
    for profile in PROFILES {
        let mut list = spec(profile);
        // Its properties name the authority as it is called there.
        list.edit_properties = |text| {
            let text = text.replace("CN=TEST AC", "CN=AC");
            text.replace("OU=IGC-SANTE TEST,", "OU=IGC-SANTE,")
        };
        let text = list.sign(&signer).unwrap();
        assert_eq!(refusal(&ready(&world), &text).label(), "signer_chain");
    }
}

#[test]
fn a_signer_whom_the_root_itself_issued_is_refused() {
    let world = World::new();
    let by_the_root = LeafSpec {
        by: Authority::Root,
        ..LeafSpec::signer()
    };
    let signer = world.igc.leaf(&by_the_root).unwrap();
    let text = spec(Profile::One).sign(&signer).unwrap();
    assert_eq!(refusal(&ready(&world), &text).label(), "signer_chain");
}

#[test]
fn a_signer_whose_key_is_for_something_else_is_refused() {
    let world = World::new();
    let key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let signer = world
        .igc
        .leaf(&LeafSpec {
            key_usages,
            ..LeafSpec::signer()
        })
        .unwrap();
    let text = spec(Profile::One).sign(&signer).unwrap();
    assert_eq!(refusal(&ready(&world), &text).label(), "signer_chain");
}

#[test]
fn a_revoked_signer_is_refused_and_so_is_one_of_unknown_status() {
    let world = World::new();
    let (trust, text) = (
        ready(&world),
        spec(Profile::One).sign(&world.signer()).unwrap(),
    );
    assert_eq!(taken(&trust, &text), Ok(Outcome::Accepted));
    let revoked = CrlSpec {
        number: 11,
        revoked: vec![0x51],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &CrlSpec::default(), &revoked);
    assert_eq!(refusal(&trust, &text).label(), "signer_revoked");
    trust.read_again();
    assert!(
        trust.list_status().is_none(),
        "what a revoked signer signed is not kept in use"
    );

    std::fs::remove_dir_all(world.folder.path().join("trust")).unwrap();
    assert_eq!(
        refusal(&world.bare(), &text).label(),
        "signer_unknown_status"
    );
}

#[test]
fn a_list_that_was_signed_tomorrow_is_refused() {
    let world = World::new();
    let mut list = spec(Profile::One);
    list.signing_time = date(START + 2 * DAY);
    let text = list.sign(&world.signer()).unwrap();
    assert_eq!(refusal(&ready(&world), &text).label(), "future");
}
