#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::LazyLock;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, NameConstraints,
};
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;
use time::Duration;
use time::OffsetDateTime;

use super::swap::{Disk, arriving, previous, recover_on, rollback_on, swap_on};
use super::trial::trial;
use super::*;
use crate::certs::container::{Content, to_pem};
use crate::certs::inventory::Judges;
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
    static NOBODY: LazyLock<Judges> = LazyLock::new(Judges::default);
    Context {
        places,
        judges: &NOBODY,
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

    rollback(&on.place, &Judges::default(), now()).unwrap();
    assert_eq!(in_use(&on), before);
    rollback(&on.place, &Judges::default(), now()).unwrap();
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
            names: &["*.exemple.fr"],
            ..longer()
        },
        "un joker",
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
        rollback(&on.place, &Judges::default(), now()),
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

/// A box that had one certificate, then another; both.
fn with_one_before() -> (Box, Facts, Facts) {
    let on = a_box(&profile());
    let first = in_use(&on);
    let candidate = check(&on.place, content(&longer()), &against(&[])).unwrap();
    swap(&on.place, &candidate).unwrap();
    (on, first, candidate.facts)
}

/// The certificate of files whose key is there with it.
fn pair(identity: &ServerIdentity) -> Facts {
    let leaf = CertificateDer::from_pem_file(&identity.certificate_file).unwrap();
    assert!(belongs(&leaf, &key_of(&identity.key_file).unwrap()));
    Facts::of(&leaf).unwrap()
}

/// Does `change` with a power cut before each of its steps, then starts, with a power cut before each step of that too.
/// What is in use and what was before it are whole: both as they were, or both as they should be.
fn cut_anywhere(change: impl Fn(&Disk<'_>, &Place, &Candidate) -> bool, swaps: bool) {
    let (mut at, mut cuts) = (0, 0);
    loop {
        let mut restart_at = 0;
        let done = loop {
            let (on, first, second) = with_one_before();
            let third = Profile {
                days: 3000,
                ..profile()
            };
            let candidate = check(&on.place, content(&third), &against(&[])).unwrap();
            let until = |left: usize| {
                let left = std::cell::Cell::new(left);
                move || match left.get() {
                    0 => Err(std::io::Error::other("power cut")),
                    more => {
                        left.set(more - 1);
                        Ok(())
                    }
                }
            };
            let done = change(&Disk(&until(at)), &on.place, &candidate);
            let started = recover_on(&Disk(&until(restart_at)), &on.place).is_ok();
            recover(&on.place).unwrap();
            let now = (
                pair(&on.place.identity),
                pair(&previous(&on.place.identity)),
            );
            let after = if swaps {
                (candidate.facts, second.clone())
            } else {
                (first.clone(), second.clone())
            };
            let before = (second, first);
            assert!(now == before || now == after, "cut at {at}, {restart_at}");
            assert!(!done || now == after);
            let left = std::fs::read_dir(on.dir.path()).unwrap().count();
            assert_eq!(left, 4, "nothing waits after a start");
            if started {
                break done;
            }
            cuts += 1;
            restart_at += 1;
        };
        if done {
            break;
        }
        at += 1;
    }
    assert_eq!(at, 8, "four files written and renamed");
    assert!(cuts > 10, "{cuts}");
}

#[test]
fn a_swap_is_whole_after_a_crash_at_any_step() {
    cut_anywhere(
        |disk, place, candidate| swap_on(disk, place, candidate).is_ok(),
        true,
    );
}

#[test]
fn a_rollback_is_whole_after_a_crash_at_any_step() {
    cut_anywhere(
        |disk, place, _| rollback_on(disk, place, &Judges::default(), now()).is_ok(),
        false,
    );
}

#[test]
fn a_first_certificate_is_whole_or_absent_after_a_crash_at_any_step() {
    for at in 0..4 {
        let on = a_box(&profile());
        let identity = &on.place.identity;
        std::fs::remove_file(&identity.certificate_file).unwrap();
        std::fs::remove_file(&identity.key_file).unwrap();
        let candidate = check(&on.place, content(&longer()), &against(&[])).unwrap();
        let left = std::cell::Cell::new(at);
        let cut = || match left.replace(left.get() - 1) {
            0 => Err(std::io::Error::other("power cut")),
            _ => Ok(()),
        };
        swap_on(&Disk(&cut), &on.place, &candidate).unwrap_err();
        recover(&on.place).unwrap();
        if at == 3 {
            assert_eq!(pair(identity), candidate.facts);
        } else {
            assert_eq!(std::fs::read_dir(on.dir.path()).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_certificate_that_waits_without_its_key_does_not_take_the_place_of_a_pair() {
    // As a swap of an earlier version left it, which wrote the certificate first.
    let on = a_box(&profile());
    let before = in_use(&on);
    let waits = arriving(&on.place.identity.certificate_file);
    files::write_new(&waits, to_pem(&content(&longer()).certificates).as_bytes()).unwrap();
    recover(&on.place).unwrap();
    assert_eq!(pair(&on.place.identity), before);
    assert!(!waits.exists());
}

#[test]
fn what_was_kept_is_not_gone_back_to_when_its_key_is_another() {
    let (on, _, in_service) = with_one_before();
    let old = previous(&on.place.identity);
    let stranger = KeyPair::generate().unwrap().serialize_pem();
    files::write_new(&old.key_file, stranger.as_bytes()).unwrap();
    let refused = rollback(&on.place, &Judges::default(), now());
    assert!(
        matches!(refused, Err(InstallError::NotAPair(_))),
        "{refused:?}"
    );
    assert_eq!(pair(&on.place.identity), in_service);
}

#[test]
fn a_certificate_that_no_handshake_carries_is_neither_installed_nor_gone_back_to() {
    // TLS has room for 64 KiB (RFC 8446 §4.4.2 allows more than programs take).
    let huge = Profile {
        padding: 40_000,
        ..longer()
    };
    let (on, _, in_service) = with_one_before();
    let said = refusal(&on, &huge);
    assert!(said.contains("l'essai de connexion"), "{said}");

    let (old, key) = (previous(&on.place.identity), KeyPair::generate().unwrap());
    let chain = to_pem(&chain_for(&huge, &key));
    files::write_new(&old.certificate_file, chain.as_bytes()).unwrap();
    files::write_new(&old.key_file, key.serialize_pem().as_bytes()).unwrap();
    let refused = rollback(&on.place, &Judges::default(), now());
    assert!(
        matches!(refused, Err(InstallError::Trial(_))),
        "{refused:?}"
    );
    assert_eq!(pair(&on.place.identity), in_service);
}

#[test]
fn a_bought_certificate_comes_with_issuers_that_signed_it() {
    let mut on = a_box(&profile());
    on.place.role = Role::Market;
    let profile = Profile {
        names: &[HOST],
        ..longer()
    };
    let import = |content| check(&on.place, content, &against(&[]));
    let mut alone = content(&profile);
    alone.certificates.truncate(1);
    assert!(matches!(import(alone), Err(InstallError::NoIssuer)));
    let mut namesake = content(&profile);
    namesake.certificates[1] = content(&profile).certificates[1].clone();
    assert!(matches!(import(namesake), Err(InstallError::Chain)));
    // Whatever their order in the file.
    let mut whole = content(&profile);
    whole.certificates.reverse();
    assert_eq!(import(whole).unwrap().chain.len(), 2);
}

#[test]
fn a_certificate_for_peers_has_its_name_as_common_name() {
    let on = a_box(&profile());
    let hidden = Profile {
        common_name: "box.exemple.fr",
        names: &[HOST],
        ..longer()
    };
    let text = refusal(&on, &hidden);
    assert!(text.contains("son CN est « box.exemple.fr »"), "{text}");
}

#[test]
fn a_bought_certificate_that_browsers_would_refuse_fails_its_trial() {
    let mut on = a_box(&profile());
    on.place.role = Role::Market;
    let named = |name: &str, names: &[String]| {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = START - Duration::DAY;
        params.not_after = START + Duration::DAY * 3_000;
        params
    };
    let import = |forbidden: &str| {
        let mut root = named("Racine", &[]);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_key = KeyPair::generate().unwrap();
        let top = root.self_signed(&root_key).unwrap();
        let mut middle = named("AC", &[]);
        middle.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        middle.name_constraints = Some(NameConstraints {
            permitted_subtrees: Vec::new(),
            excluded_subtrees: vec![GeneralSubtree::DnsName(forbidden.into())],
        });
        let middle_key = KeyPair::generate().unwrap();
        let issuer = middle
            .signed_by(&middle_key, &Issuer::new(root, root_key))
            .unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = named(HOST, &[HOST.to_owned()])
            .signed_by(&key, &Issuer::new(middle, middle_key))
            .unwrap();
        let content = Content {
            certificates: [leaf, issuer, top].map(|one| one.der().clone()).into(),
            keys: vec![PrivateKeyDer::try_from(key.serialize_der()).unwrap().into()],
        };
        check(&on.place, content, &against(&[]))
    };
    assert_eq!(import("autre.fr").unwrap().chain.len(), 3);
    let before = in_use(&on).fingerprint;
    let refused = import("exemple.fr").unwrap_err();
    assert!(matches!(refused, InstallError::Trial(_)), "{refused}");
    assert_eq!(in_use(&on).fingerprint, before);
}

#[test]
fn a_certificate_is_tried_with_the_key_that_comes_with_it() {
    let (one, other) = (content(&profile()), content(&profile()));
    assert_eq!(trial(&one.certificates, &one.keys[0], Some(HOST)), Ok(()));
    assert!(trial(&one.certificates, &other.keys[0], Some(HOST)).is_err());
    assert!(trial(&[], &one.keys[0], None).is_err());
}
