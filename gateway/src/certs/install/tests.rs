#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;
use time::Duration;
use time::OffsetDateTime;

use super::swap::arriving;
use super::*;
use crate::certs::container::{Content, to_pem};
use crate::certs::place::{Kept, Place, Role};
use crate::certs::request::pending_key;
use crate::certs::testdata::{Profile, START, chain_for};

const HOST: &str = "db.exemple.fr";

struct Box {
    dir: TempDir,
    place: Place,
}

/// A box whose certificate ends after `days`.
fn a_box(profile: &Profile<'_>) -> Box {
    let dir = TempDir::new().unwrap();
    let place = Place {
        id: "db:scanner".into(),
        role: Role::ServSsl,
        user: "PACS scanner".into(),
        host: Some(HOST.into()),
        holder: crate::certs::place::Holder::default(),
        identity: ServerIdentity {
            certificate_file: dir.path().join("c.pem"),
            key_file: dir.path().join("k.pem"),
        },
        kept: Kept::Files,
    };
    let key = KeyPair::generate().unwrap();
    let chain = chain_for(profile, &key);
    std::fs::write(&place.identity.certificate_file, to_pem(&chain)).unwrap();
    files::write_new(&place.identity.key_file, key.serialize_pem().as_bytes()).unwrap();
    Box { dir, place }
}

fn profile() -> Profile<'static> {
    Profile {
        unit: Some("318751275100020"),
        ..Profile::default()
    }
}

fn longer() -> Profile<'static> {
    Profile {
        days: 2000,
        ..profile()
    }
}

/// A certificate with its key in one file.
fn content(profile: &Profile<'_>) -> Content {
    let key = KeyPair::generate().unwrap();
    Content {
        certificates: chain_for(profile, &key),
        keys: vec![PrivateKeyDer::try_from(key.serialize_der()).unwrap().into()],
    }
}

fn refusal(of: &Box, profile: &Profile<'_>) -> String {
    let content = content(profile);
    let refused = check(&of.place, content, &against(&[]));
    refused.unwrap_err().to_string()
}

/// Without authorities that would know of revocations.
fn against(places: &[Place]) -> Context<'_> {
    Context {
        places,
        trust: None,
        allowed: Allowed::default(),
        now: now(),
    }
}

fn now() -> OffsetDateTime {
    START + Duration::DAY
}

fn in_use(of: &Box) -> Facts {
    current(&of.place.identity).unwrap()
}

#[test]
fn a_certificate_is_installed_for_the_key_of_the_request_and_back() {
    let on = a_box(&profile());
    let before = in_use(&on);
    let subject = crate::certs::request::Subject {
        common_name: HOST.into(),
        ..Default::default()
    };
    let kind = crate::certs::request::KeyKind::P256;
    crate::certs::request::make(&on.place.identity.key_file, &subject, kind, false).unwrap();
    let pending = pending_key(&on.place.identity.key_file);
    let key = KeyPair::from_pem(&std::fs::read_to_string(&pending).unwrap()).unwrap();
    let mut certificates = chain_for(&longer(), &key);
    certificates.reverse();
    let content = Content {
        certificates,
        keys: vec![],
    };
    let candidate = check(&on.place, content, &against(&[])).unwrap();
    assert_eq!(candidate.chain.len(), 2, "the issuer comes after the leaf");
    swap(&on.place, &candidate).unwrap();
    assert_eq!(in_use(&on).fingerprint, candidate.facts.fingerprint);
    assert!(!pending.exists());
    let mut names: Vec<String> = std::fs::read_dir(on.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["c.pem", "c.pem.ancien", "k.pem", "k.pem.ancien"]);

    rollback(&on.place, None, now()).unwrap();
    assert_eq!(in_use(&on), before);
    rollback(&on.place, None, now()).unwrap();
    assert_eq!(in_use(&on).fingerprint, candidate.facts.fingerprint);
}

#[test]
fn each_mismatch_is_said_exactly() {
    let on = a_box(&profile());
    let refused = |change: Profile<'_>, part: &str| {
        let text = refusal(&on, &change);
        assert!(text.contains(part), "{text}");
    };
    refused(
        Profile {
            common_name: "db2.exemple.fr",
            ..longer()
        },
        "au nom de db2.exemple.fr, et non de db.exemple.fr",
    );
    refused(
        Profile {
            names: &[HOST, "b.fr"],
            ..longer()
        },
        "plusieurs noms",
    );
    refused(
        Profile {
            unit: Some("311111111111111"),
            ..longer()
        },
        "autre structure (SIRET 11111111111111",
    );
    refused(
        Profile {
            issuer: "TEST AC IGC-SANTE ELEMENTAIRE ORGANISATIONS",
            ..longer()
        },
        "ne pas mêler test et production",
    );
    refused(
        Profile {
            usages: vec![ExtendedKeyUsagePurpose::EmailProtection],
            ..longer()
        },
        "limité à emailProtection",
    );
    refused(
        Profile {
            days: 1000,
            ..profile()
        },
        "avant celui en service",
    );
    refused(
        Profile {
            days: 0,
            ..profile()
        },
        "expiré",
    );
    let stranger = Content {
        keys: vec![],
        ..content(&longer())
    };
    let refused = check(&on.place, stranger, &against(&[]));
    assert!(matches!(refused, Err(InstallError::NoKey)));
    assert!(matches!(
        rollback(&on.place, None, now()),
        Err(InstallError::NothingBefore(_))
    ));
}

#[test]
fn a_key_or_certificate_of_another_place_is_refused() {
    let on = a_box(&profile());
    let other = a_box(&profile());
    let key = KeyPair::generate().unwrap();
    let certificates = chain_for(&longer(), &key);
    let keys = vec![PrivateKeyDer::try_from(key.serialize_der()).unwrap().into()];
    files::write_new(
        &other.place.identity.key_file,
        key.serialize_pem().as_bytes(),
    )
    .unwrap();
    let second = Place {
        id: "db:irm".into(),
        ..other.place.clone()
    };
    let content = Content { certificates, keys };
    let refused = check(&on.place, content, &against(&[second]));
    assert!(matches!(refused, Err(InstallError::InUse(id)) if id == "db:irm"));
}

#[test]
fn a_swap_is_whole_after_a_crash_at_any_step() {
    let profile = profile();
    // What is on disk at each step of a swap, and who is in use after recovery.
    for (key_renamed, certificate_renamed, new_in_use) in [
        (false, false, false),
        (true, false, true),
        (true, true, true),
    ] {
        let on = a_box(&profile);
        let before = in_use(&on);
        let content = content(&longer());
        let candidate = check(&on.place, content, &against(&[])).unwrap();
        let identity = &on.place.identity;
        let (certificate, key) = (&identity.certificate_file, &identity.key_file);
        files::write_new(&arriving(certificate), to_pem(&candidate.chain).as_bytes()).unwrap();
        files::write_new(
            &arriving(key),
            keys::pem::write(&candidate.key, None).unwrap().as_bytes(),
        )
        .unwrap();
        if key_renamed {
            files::rename(&arriving(key), key).unwrap();
        }
        if certificate_renamed {
            files::rename(&arriving(certificate), certificate).unwrap();
        }
        recover(&on.place).unwrap();
        let expected = if new_in_use {
            &candidate.facts
        } else {
            &before
        };
        assert_eq!(&in_use(&on), expected);
        let certificate = CertificateDer::from_pem_file(certificate).unwrap();
        assert!(belongs(&certificate, &key_of(key).unwrap()), "a whole pair");
        assert!(!arriving(&identity.certificate_file).exists());
        assert!(!arriving(key).exists());
        recover(&on.place).unwrap();
    }
}
