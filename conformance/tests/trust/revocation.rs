//! Revocation lists: what they say, when they count, how they come in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use drimbox::trust::crl::{CrlError, TakeError, Taken};
use drimbox::trust::whitelist::{ListError, Outcome};
use drimbox::trust::{BypassError, Trust, TrustAudit, TrustEvent};
use rcgen::CrlScope;
use tokio_util::sync::CancellationToken;

use super::{DAY, HOUR, Journal, START, World, date};

const HOST: &str = "db3.test.example.fr";

fn said(world: &World, trust: &Trust) -> Result<(), &'static str> {
    let leaf = world.peer(HOST);
    let peer = trust.peer(&[leaf.certificate.der().clone()]);
    peer.map(|_| ()).map_err(|refusal| refusal.label())
}

fn refused(trust: &Trust, list: &[u8]) -> CrlError {
    match trust.take_crl(list) {
        Err(TakeError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revoked_certificate_is_refused_from_the_next_question_on() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    assert_eq!(said(&world, &trust), Ok(()));
    let spec = CrlSpec {
        number: 11,
        revoked: vec![7, 0x1234],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &CrlSpec::default(), &spec);
    assert_eq!(said(&world, &trust), Err("revoked"));
    let leaf = world.peer(HOST);
    let handshake =
        trust
            .client_verifier()
            .verify_client_cert(leaf.certificate.der(), &[], world.unix());
    assert_eq!(
        handshake.unwrap_err(),
        rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked)
    );
}

#[test]
fn a_revoked_authority_takes_its_certificates_with_it() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let spec = CrlSpec {
        number: 11,
        revoked: vec![Igc::serial_of(Authority::Organisations)],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &spec, &CrlSpec::default());
    assert_eq!(said(&world, &trust), Err("revoked"));
}

#[test]
fn each_authority_on_the_way_needs_its_list() {
    let world = World::new();
    for given in [Authority::Root, Authority::Organisations] {
        let trust = world.bare();
        trust
            .take_crl(&world.igc.crl(given, &CrlSpec::default()).unwrap())
            .unwrap();
        assert_eq!(
            said(&world, &trust),
            Err("crl_missing"),
            "only that of {given:?}"
        );
        std::fs::remove_dir_all(world.folder.path().join("trust")).unwrap();
    }
}

#[test]
fn a_list_past_its_next_update_counts_for_nothing() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    world.at(START + 144 * HOUR - 1);
    assert_eq!(said(&world, &trust), Ok(()));
    world.at(START + 144 * HOUR);
    assert_eq!(said(&world, &trust), Err("crl_expired"));
    assert!(trust.crl_status().iter().all(|status| !status.in_force));
}

#[test]
fn a_list_that_is_expired_still_revokes() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let spec = CrlSpec {
        number: 11,
        revoked: vec![0x1234],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &CrlSpec::default(), &spec);
    world.at(START + 6 * DAY + HOUR);
    trust.bypass(START + 8 * DAY, "panne du réseau").unwrap();
    assert_eq!(said(&world, &trust), Err("revoked"));
}

#[test]
fn an_older_list_never_takes_the_place_of_a_newer_one() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let newer = CrlSpec {
        number: 300,
        revoked: vec![0x1234],
        ..CrlSpec::default()
    };
    world.give_crls(
        &trust,
        &CrlSpec {
            number: 300,
            ..CrlSpec::default()
        },
        &newer,
    );
    let older = CrlSpec {
        number: 299,
        ..CrlSpec::default()
    };
    let older = world.igc.crl(Authority::Organisations, &older).unwrap();
    assert_eq!(refused(&trust, &older), CrlError::Older);
    let same_number = CrlSpec {
        number: 300,
        hours: (-2, 144),
        ..CrlSpec::default()
    };
    let same_number = world
        .igc
        .crl(Authority::Organisations, &same_number)
        .unwrap();
    assert_eq!(refused(&trust, &same_number), CrlError::Older);
    assert_eq!(said(&world, &trust), Err("revoked"));
}

/// Lists whose extension names a distribution point (RFC 5280 §5.2.5), as the root and the issuing
/// authority have them in this world.
const OF_ROOT: &str = "http://crl.test/ACR-EL.crl";
const OF_PEERS: &str = "http://crl.test/ACI-EL-ORG.crl";

fn part(number: u64, url: &str, scope: Option<CrlScope>) -> CrlSpec {
    CrlSpec {
        number,
        point: Some((url.to_owned(), scope)),
        ..CrlSpec::default()
    }
}

#[test]
fn a_list_of_another_distribution_point_says_nothing_of_a_certificate() {
    let world = World::with(Igc::with_point(date(START), OF_ROOT).unwrap());
    let trust = world.trust(&[HOST]);
    // Each list twice: for a part of the certificates that has the peer, or its authority, and for
    // another.
    let elsewhere = "http://crl.test/ACI-EL-ORG-2.crl";
    let rows = [
        (OF_ROOT, OF_PEERS, Ok(())),
        (OF_ROOT, elsewhere, Err("crl_missing")),
        (elsewhere, OF_PEERS, Err("crl_missing")),
    ];
    for (number, (root, organisations, expected)) in (20..).zip(rows) {
        let (root, organisations) = (part(number, root, None), part(number, organisations, None));
        world.give_crls(&trust, &root, &organisations);
        assert_eq!(said(&world, &trust), expected, "{root:?} {organisations:?}");
    }
    // What it revokes is revoked, wherever the certificate says that its list is.
    let revoking = CrlSpec {
        revoked: vec![0x1234],
        ..part(30, elsewhere, None)
    };
    world.give_crls(&trust, &part(30, OF_ROOT, None), &revoking);
    assert_eq!(said(&world, &trust), Err("revoked"));
}

#[test]
fn a_list_with_a_distribution_point_says_nothing_of_a_certificate_without() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let whole = CrlSpec {
        number: 11,
        ..CrlSpec::default()
    };
    // The authorities of this world name no distribution point.
    world.give_crls(&trust, &whole, &part(11, OF_PEERS, None));
    assert_eq!(said(&world, &trust), Ok(()));
    world.give_crls(&trust, &part(12, OF_ROOT, None), &part(12, OF_PEERS, None));
    assert_eq!(said(&world, &trust), Err("crl_missing"));
}

#[test]
fn a_list_of_one_kind_of_certificate_says_nothing_of_the_other() {
    let world = World::with(Igc::with_point(date(START), OF_ROOT).unwrap());
    let trust = world.trust(&[HOST]);
    let (users, authorities) = (Some(CrlScope::UserCertsOnly), Some(CrlScope::CaCertsOnly));
    let rows = [
        (authorities, users, Ok(())),
        (users, users, Err("crl_missing")),
        (authorities, authorities, Err("crl_missing")),
    ];
    for (number, (root, organisations, expected)) in (20..).zip(rows) {
        let (root, organisations) = (
            part(number, OF_ROOT, root),
            part(number, OF_PEERS, organisations),
        );
        world.give_crls(&trust, &root, &organisations);
        assert_eq!(said(&world, &trust), expected, "{root:?} {organisations:?}");
    }
}

#[test]
fn a_list_that_nobody_known_signed_is_refused() {
    let world = World::new();
    let trust = world.bare();
    let forged = Igc::new(true, date(START)).unwrap();
    let list = forged
        .crl(Authority::Organisations, &CrlSpec::default())
        .unwrap();
    assert_eq!(refused(&trust, &list), CrlError::BadSignature);
    let real = Igc::new(false, date(START)).unwrap();
    let list = real
        .crl(Authority::Organisations, &CrlSpec::default())
        .unwrap();
    assert_eq!(refused(&trust, &list), CrlError::UnknownIssuer);
    let mut changed = world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(refused(&trust, &changed), CrlError::BadSignature);
}

#[test]
fn what_is_no_list_is_refused() {
    let world = World::new();
    let trust = world.bare();
    for bytes in [
        &b""[..],
        b"<html>",
        &[0x30, 0x80],
        &[0x30, 0x03, 0x30, 0x01, 0x00],
    ] {
        assert!(
            matches!(refused(&trust, bytes), CrlError::Malformed(_)),
            "{bytes:?}"
        );
    }
    let huge = vec![0x30; drimbox::trust::crl::MAX_BYTES + 1];
    assert_eq!(refused(&trust, &huge), CrlError::TooLarge);
    let ahead = CrlSpec {
        hours: (2, 144),
        ..CrlSpec::default()
    };
    let ahead = world.igc.crl(Authority::Root, &ahead).unwrap();
    assert_eq!(refused(&trust, &ahead), CrlError::Future);
}

#[test]
fn a_list_in_pem_is_read_too() {
    use base64::Engine as _;
    let world = World::new();
    let der = world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n");
    assert!(matches!(
        world.bare().take_crl(pem.as_bytes()),
        Ok(Taken::New(_))
    ));
}

#[test]
fn lists_outlive_a_restart_and_damaged_ones_are_left_out() {
    let world = World::new();
    world.trust(&[HOST]);
    assert_eq!(said(&world, &world.bare()), Ok(()));
    for entry in std::fs::read_dir(world.folder.path().join("trust/crl")).unwrap() {
        std::fs::write(entry.unwrap().path(), b"damaged").unwrap();
    }
    assert_eq!(said(&world, &world.bare()), Err("crl_missing"));
}

#[test]
fn what_another_process_wrote_is_used_after_reading_again() {
    let world = World::new();
    let service = world.trust(&[HOST]);
    let command = world.bare();
    let spec = CrlSpec {
        number: 11,
        revoked: vec![0x1234],
        ..CrlSpec::default()
    };
    world.give_crls(&command, &CrlSpec::default(), &spec);
    assert_eq!(said(&world, &service), Ok(()));
    service.read_again();
    assert_eq!(said(&world, &service), Err("revoked"));
}

#[test]
fn an_older_list_on_disk_is_not_used_by_a_process_that_has_a_newer_one() {
    let world = World::new();
    let service = world.trust(&[HOST]);
    let folder = world.folder.path().join("trust/crl");
    let lists = || -> Vec<(PathBuf, Vec<u8>)> {
        let files = std::fs::read_dir(&folder).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "crl"));
        files
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect()
    };
    let before = lists();
    assert_eq!(before.len(), 2);
    let spec = CrlSpec {
        number: 11,
        revoked: vec![0x1234],
        ..CrlSpec::default()
    };
    world.give_crls(&service, &CrlSpec::default(), &spec);
    for (path, bytes) in &before {
        std::fs::write(path, bytes).unwrap();
    }
    service.read_again();
    assert_eq!(said(&world, &service), Err("revoked"));
    for (path, _) in &before {
        std::fs::write(path, b"damaged").unwrap();
    }
    service.read_again();
    assert_eq!(said(&world, &service), Err("revoked"));
    // It is taken away with its file.
    for (path, _) in &before {
        std::fs::remove_file(path).unwrap();
    }
    service.read_again();
    assert_eq!(said(&world, &service), Err("crl_missing"));
}

#[test]
fn a_command_does_not_replace_what_the_service_wrote_since_by_an_older_list() {
    let world = World::new();
    let command = world.trust(&[HOST]);
    let service = world.bare();
    let list = |number: u64, revoked: Vec<u64>| {
        let spec = CrlSpec {
            number,
            revoked,
            ..CrlSpec::default()
        };
        world.igc.crl(Authority::Organisations, &spec).unwrap()
    };
    service.take_crl(&list(12, vec![0x1234])).unwrap();
    // The command read its folder before.
    assert_eq!(refused(&command, &list(11, vec![])), CrlError::Older);
    assert_eq!(said(&world, &command), Err("revoked"));
    assert_eq!(said(&world, &world.bare()), Err("revoked"));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_since_the_folder_was_opened_is_noticed() {
    let world = World::new();
    let service = world.trust(&[HOST]);
    let spec = CrlSpec {
        number: 11,
        revoked: vec![0x1234],
        ..CrlSpec::default()
    };
    world.give_crls(&world.bare(), &CrlSpec::default(), &spec);
    assert_eq!(said(&world, &service), Ok(()));
    let stop = CancellationToken::new();
    let maintained = tokio::spawn(service.clone().maintain(stop.clone()));
    let noticed = async {
        while said(&world, &service) != Err("revoked") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let noticed = tokio::time::timeout(Duration::from_secs(300), noticed).await;
    stop.cancel();
    maintained.await.unwrap();
    noticed.expect("the list that another process wrote");
}

#[test]
fn a_hundred_thousand_entries_are_looked_up() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let numbers = 0x10_0000..0x10_0000 + 100_000;
    let spec = CrlSpec {
        number: 11,
        revoked: numbers.collect(),
        ..CrlSpec::default()
    };
    let list = world.igc.crl(Authority::Organisations, &spec).unwrap();
    assert!(list.len() > 2 << 20, "{}", list.len());
    let taken = trust.take_crl(&list).unwrap();
    assert_eq!(taken.list().entries(), 100_000);
    assert_eq!(said(&world, &trust), Ok(()));
    let last = LeafSpec {
        serial: 0x10_0000 + 99_999,
        ..LeafSpec::peer(HOST)
    };
    let last = world.igc.leaf(&last).unwrap();
    let refusal = trust.peer(&[last.certificate.der().clone()]).unwrap_err();
    assert_eq!(refusal.label(), "revoked");
}

/// The loader reads one long list after the other until peers were verified often enough while one was
/// being read. Were the two exclusive, no verification would ever begin and end within a load.
#[test]
fn peers_are_verified_while_a_hundred_thousand_entries_are_loaded() {
    const ENOUGH: usize = 50;
    const MOST_LOADS: usize = 40;
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let list = |number: u64| {
        let numbers = 0x10_0000..0x10_0000 + 100_000;
        let spec = CrlSpec {
            number,
            revoked: numbers.collect(),
            ..CrlSpec::default()
        };
        world.igc.crl(Authority::Organisations, &spec).unwrap()
    };
    let (newer, older) = (list(12), list(11));
    trust.take_crl(&newer).unwrap();
    let leaf = world.peer(HOST);
    let chain = [leaf.certificate.der().clone()];
    // Odd while a list is being loaded.
    let loads = AtomicUsize::new(0);
    let verified = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..MOST_LOADS {
                if verified.load(Ordering::SeqCst) >= ENOUGH {
                    break;
                }
                loads.fetch_add(1, Ordering::SeqCst);
                // Read whole before it is found to be older than the one in use.
                assert_eq!(refused(&trust, &older), CrlError::Older);
                loads.fetch_add(1, Ordering::SeqCst);
            }
            verified.fetch_add(ENOUGH * 1_000, Ordering::SeqCst);
        });
        while verified.load(Ordering::SeqCst) < ENOUGH * 1_000 {
            let before = loads.load(Ordering::SeqCst);
            trust.peer(&chain).unwrap();
            if before % 2 == 1 && loads.load(Ordering::SeqCst) == before {
                verified.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let verified = verified.into_inner() - ENOUGH * 1_000;
    assert!(verified >= ENOUGH, "{verified} peers were verified");
}

/// A trail that has no room.
struct Full;

impl TrustAudit for Full {
    fn record(&self, _: &TrustEvent) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_bypass_that_cannot_be_recorded_is_not_opened() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    trust.audit_to(Arc::new(Full));
    let refused = trust.bypass(START + DAY, "panne de l'IGC");
    assert!(matches!(refused, Err(BypassError::Audit(_))));
    assert!(trust.open_bypass().is_none());
}

#[test]
fn a_bypass_is_short_has_a_reason_and_is_told_to_the_audit() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let journal = Arc::new(Journal::default());
    trust.audit_to(journal.clone());
    let until = START + DAY;
    assert!(matches!(
        trust.bypass(START + 4 * DAY, "x"),
        Err(BypassError::Duration(_))
    ));
    assert!(matches!(
        trust.bypass(START, "x"),
        Err(BypassError::Duration(_))
    ));
    assert!(matches!(
        trust.bypass(until, "  "),
        Err(BypassError::NoReason)
    ));
    assert!(trust.open_bypass().is_none() && journal.0.lock().unwrap().is_empty());
    trust.bypass(until, "panne de l'IGC").unwrap();
    trust.end_bypass().unwrap();
    let events = journal.0.lock().unwrap().clone();
    let opened = TrustEvent::BypassOpened {
        until,
        reason: "panne de l'IGC".to_owned(),
    };
    assert_eq!(events, [opened, TrustEvent::BypassClosed]);
}

#[test]
fn a_bypass_that_a_white_list_needed_is_told_to_the_audit() {
    let world = World::new();
    world.trust(&[HOST]);
    world.at(START + 6 * DAY + HOUR);
    let trust = world.bare();
    let journal = Arc::new(Journal::default());
    trust.audit_to(journal.clone());
    let list = |hosts: &[&str]| world.list(hosts).sign(&world.signer()).unwrap();
    let same = world.folder.path().join("trust/whitelist/active.xml");
    let same = std::fs::read_to_string(same).unwrap();
    let more = list(&[HOST, "db4.test.example.fr"]);
    let take = |trust: &Trust, text: &str| {
        let taken = trust.take_list(text.as_bytes(), "test", false);
        taken.map_err(|error| match error {
            ListError::Refused(refusal) => refusal.label(),
            other => panic!("{other}"),
        })
    };
    let told = || {
        let events = std::mem::take(&mut *journal.0.lock().unwrap());
        let used = events.into_iter().filter_map(|event| match event {
            TrustEvent::BypassUsed { dn } => Some(dn),
            _ => None,
        });
        used.collect::<Vec<_>>()
    };
    assert_eq!(take(&trust, &same), Err("signer_unknown_status"));
    assert!(told().is_empty());
    trust.bypass(START + 6 * DAY + 3 * HOUR, "panne").unwrap();
    assert_eq!(take(&trust, &same), Ok(Outcome::Unchanged));
    let once = told();
    assert!(
        once.len() == 1 && once[0].contains("CN=Liste Blanche DRIM-M"),
        "{once:?}"
    );
    // A command took one by the bypass: the service that finds it tells.
    assert_eq!(take(&world.bare(), &more), Ok(Outcome::Accepted));
    assert!(told().is_empty());
    trust.read_again();
    assert_eq!(told(), once);
    trust.read_again();
    assert!(told().is_empty());
    // What needs no bypass is none of its uses, though one is open.
    let good = CrlSpec {
        number: 11,
        hours: (144, 288),
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &good, &good);
    assert_eq!(take(&trust, &more), Ok(Outcome::Unchanged));
    assert!(told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_bypass_whose_time_is_over_is_told_to_the_audit() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    trust.bypass(START + HOUR, "panne").unwrap();
    let journal = Arc::new(Journal::default());
    trust.audit_to(journal.clone());
    let stop = CancellationToken::new();
    let maintained = tokio::spawn(trust.clone().maintain(stop.clone()));
    let told = async |seconds| {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        journal.0.lock().unwrap().clone()
    };
    assert_eq!(told(120).await, []);
    world.at(START + HOUR);
    assert_eq!(told(60).await, [TrustEvent::BypassClosed]);
    assert!(!world.folder.path().join("trust/bypass.json").exists());
    assert_eq!(told(120).await.len(), 1);
    stop.cancel();
    maintained.await.unwrap();
}

#[test]
fn a_bypass_lets_unknown_status_pass_until_its_end_and_outlives_a_restart() {
    let world = World::new();
    world.trust(&[HOST]);
    world.at(START + 6 * DAY + HOUR);
    let first = world.bare();
    assert_eq!(said(&world, &first), Err("crl_expired"));
    first.bypass(START + 6 * DAY + 3 * HOUR, "panne").unwrap();
    let trust = world.bare();
    let journal = Arc::new(Journal::default());
    trust.audit_to(journal.clone());
    assert_eq!(said(&world, &trust), Ok(()));
    let events = journal.0.lock().unwrap().clone();
    assert!(
        matches!(events.as_slice(), [TrustEvent::BypassUsed { .. }]),
        "{events:?}"
    );
    world.at(START + 6 * DAY + 3 * HOUR);
    assert_eq!(said(&world, &trust), Err("crl_expired"));
}
