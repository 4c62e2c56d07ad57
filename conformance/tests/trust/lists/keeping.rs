//! Which list is in use after another came, a restart, or a change on disk.

use std::sync::Arc;

use conformance::testkit::igc::LeafSpec;
use conformance::testkit::whitelist::{Entry, Profile};
use drimbox::trust::TrustEvent;
use drimbox::trust::whitelist::Outcome;

use super::{HOSTS, ready, spec, taken};
use crate::{DAY, HOUR, Journal, START, World, date};

#[test]
fn a_list_that_was_signed_before_the_one_in_use_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let newer = spec(Profile::Two).sign(&signer).unwrap();
    let mut older = spec(Profile::Two);
    older.signing_time = date(START - DAY - 1);
    let older = older.sign(&signer).unwrap();
    assert_eq!(taken(&trust, &older), Ok(Outcome::Accepted));
    assert_eq!(taken(&trust, &newer), Ok(Outcome::Accepted));
    assert_eq!(taken(&trust, &older), Err("older"));
    assert_eq!(taken(&trust, &newer), Ok(Outcome::Unchanged));
    let outcomes: Vec<_> = trust
        .list_history()
        .into_iter()
        .map(|v| v.outcome)
        .collect();
    assert_eq!(outcomes, ["accepted", "accepted", "older", "unchanged"]);
    let former = std::fs::read_dir(world.folder.path().join("trust/whitelist/former")).unwrap();
    assert_eq!(former.count(), 1);
}

/// The list of a world that was in use, and one that was signed a second before it.
fn newer_and_older(world: &World) -> (String, String) {
    let signer = world.signer();
    let newer = spec(Profile::Two).sign(&signer).unwrap();
    let mut older = spec(Profile::Two);
    older.signing_time = date(START - DAY - 1);
    (newer, older.sign(&signer).unwrap())
}

#[test]
fn an_older_list_is_refused_too_when_the_one_in_use_is_lost() {
    let world = World::new();
    let (newer, older) = newer_and_older(&world);
    assert_eq!(taken(&ready(&world), &newer), Ok(Outcome::Accepted));
    let file = world.folder.path().join("trust/whitelist/active.xml");
    for lost in [Some("damaged"), Some(&*older), None] {
        match lost {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let trust = world.bare();
        assert!(trust.list_status().is_none(), "{lost:?}");
        assert_eq!(taken(&trust, &older), Err("older"), "{lost:?}");
        let detail = trust.list_history().pop().unwrap().detail.unwrap();
        let (signed, newest) = (date(START - DAY - 1), date(START - DAY));
        for said in [signed, newest].map(|at| at.to_string()) {
            assert!(detail.contains(&said), "{detail}");
        }
        assert!(trust.list_status().is_none(), "{lost:?}");
    }
    let trust = world.bare();
    assert_eq!(taken(&trust, &newer), Ok(Outcome::Accepted));
    assert_eq!(taken(&world.bare(), &older), Err("older"));
}

/// Its `state.json` tells when lists were signed in its history alone.
#[test]
fn the_state_of_an_earlier_build_is_read_and_tells_which_lists_are_older() {
    let world = World::new();
    let (newer, older) = newer_and_older(&world);
    assert_eq!(taken(&ready(&world), &newer), Ok(Outcome::Accepted));
    let folder = world.folder.path().join("trust/whitelist");
    let state = std::fs::read(folder.join("state.json")).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert!(state.as_object_mut().unwrap().remove("newest").is_some());
    std::fs::write(folder.join("state.json"), state.to_string()).unwrap();
    world.at(START + HOUR);
    assert_eq!(world.bare().list_status().unwrap().confirmed_at, START);
    std::fs::write(folder.join("active.xml"), "damaged").unwrap();
    let trust = world.bare();
    assert_eq!(taken(&trust, &older), Err("older"));
    assert_eq!(taken(&trust, &newer), Ok(Outcome::Accepted));
}

#[test]
fn a_list_that_loses_half_of_its_domains_needs_a_confirmation() {
    let world = World::new();
    let trust = world.trust(&[
        "a.example.fr",
        "b.example.fr",
        "c.example.fr",
        "d.example.fr",
    ]);
    let signer = world.signer();
    let half = world
        .list(&["a.example.fr", "b.example.fr"])
        .sign(&signer)
        .unwrap();
    let one = world.list(&["a.example.fr"]).sign(&signer).unwrap();
    assert_eq!(taken(&trust, &one), Err("shrunk"));
    assert_eq!(trust.list_status().unwrap().list.domains().len(), 4);
    assert_eq!(taken(&trust, &half), Ok(Outcome::Accepted));
    let none = world.list(&[]).sign(&signer).unwrap();
    assert_eq!(taken(&trust, &none), Err("shrunk"));
    trust.take_list(none.as_bytes(), "test", true).unwrap();
    assert_eq!(trust.list_status().unwrap().list.domains().len(), 0);
}

#[test]
fn a_refused_list_leaves_the_one_in_use() {
    let world = World::new();
    let trust = world.trust(&HOSTS);
    world.at(START + HOUR);
    assert_eq!(
        taken(&trust, &world.list(&HOSTS).unsigned()),
        Err("unsigned")
    );
    assert_eq!(taken(&trust, "<html/>"), Err("unsigned"));
    let status = trust.list_status().unwrap();
    assert_eq!(
        (status.confirmed_at, status.list.domains().len()),
        (START, 3)
    );
}

#[test]
fn the_list_outlives_a_restart_with_the_moment_it_was_confirmed() {
    let world = World::new();
    world.trust(&HOSTS);
    world.at(START + 3 * DAY);
    let status = world.bare().list_status().unwrap();
    assert_eq!((status.age, status.in_force), (3 * DAY, true));
}

#[test]
fn a_kept_list_outlives_the_certificate_of_its_signer_for_a_while() {
    let world = World::new();
    let trust = ready(&world);
    let signer = world
        .igc
        .leaf(&LeafSpec {
            days: (-10, 1),
            ..LeafSpec::signer()
        })
        .unwrap();
    let text = spec(Profile::One).sign(&signer).unwrap();
    assert_eq!(taken(&trust, &text), Ok(Outcome::Accepted));
    world.at(START + 3 * DAY);
    assert_eq!(taken(&trust, &text), Err("signer_date"));
    let status = world.bare().list_status().unwrap();
    assert_eq!((status.confirmed_at, status.in_force), (START, true));
}

#[test]
fn a_kept_list_that_was_tampered_with_is_not_used() {
    let world = World::new();
    world.trust(&HOSTS);
    let file = world.folder.path().join("trust/whitelist/active.xml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("db154", "db155")).unwrap();
    assert!(world.bare().list_status().is_none());
    std::fs::write(&file, b"").unwrap();
    assert!(world.bare().list_status().is_none());
}

#[test]
fn without_its_state_a_kept_list_must_verify_as_a_new_one() {
    let world = World::new();
    world.trust(&HOSTS);
    std::fs::write(world.folder.path().join("trust/whitelist/state.json"), b"{").unwrap();
    world.at(START + HOUR);
    assert_eq!(
        world.bare().list_status().unwrap().confirmed_at,
        START + HOUR
    );
    world.at(START + 7 * DAY);
    assert!(
        world.bare().list_status().is_none(),
        "the revocation lists have expired"
    );
}

#[test]
fn what_a_command_took_is_used_by_the_service_after_reading_again() {
    let world = World::new();
    let service = world.trust(&HOSTS);
    let mut more = spec(Profile::Two);
    more.entries.push(Entry::peer("db200.test.example.fr"));
    let text = more.sign(&world.signer()).unwrap();
    assert_eq!(taken(&world.bare(), &text), Ok(Outcome::Accepted));
    assert!(service.domain_of_db_host("db200.test.example.fr").is_none());
    service.read_again();
    assert!(service.domain_of_db_host("db200.test.example.fr").is_some());
}

#[test]
fn the_audit_is_told_once_of_each_list_that_takes_the_place_of_another() {
    let world = World::new();
    world.trust(&HOSTS);
    // What it finds at its start is nothing new.
    let service = world.bare();
    let journal = Arc::new(Journal::default());
    service.audit_to(journal.clone());
    let told = || std::mem::take(&mut *journal.0.lock().unwrap());
    let replaced = |signed: u64, domains| TrustEvent::WhiteListReplaced {
        signed: i64::try_from(signed).unwrap(),
        domains,
    };
    service.read_again();
    assert_eq!(told(), []);
    let list = |hosts: &[&str], signed| {
        let mut list = world.list(hosts);
        list.signing_time = date(signed);
        list.sign(&world.signer()).unwrap()
    };
    let second = list(&HOSTS[..2], START - HOUR);
    assert_eq!(taken(&service, &second), Ok(Outcome::Accepted));
    assert_eq!(told(), [replaced(START - HOUR, 2)]);
    assert_eq!(taken(&service, &second), Ok(Outcome::Unchanged));
    assert_eq!(taken(&service, "<html/>"), Err("unsigned"));
    assert_eq!(told(), []);
    // By a command beside the service, which looks at the folder, or takes the same list itself.
    let third = list(&HOSTS, START - 30 * 60);
    assert_eq!(taken(&world.bare(), &third), Ok(Outcome::Accepted));
    assert_eq!(told(), []);
    for _ in 0..2 {
        service.read_again();
    }
    assert_eq!(told(), [replaced(START - 30 * 60, 3)]);
    let fourth = list(&HOSTS[..2], START);
    assert_eq!(taken(&world.bare(), &fourth), Ok(Outcome::Accepted));
    assert_eq!(taken(&service, &fourth), Ok(Outcome::Unchanged));
    service.read_again();
    assert_eq!(told(), [replaced(START, 2)]);
}

#[test]
fn a_list_that_is_confirmed_for_months_and_never_signed_again_raises_an_alarm() {
    let world = World::new();
    let trust = world.trust(&HOSTS);
    let alarm = || {
        let status = trust.list_status().unwrap();
        (status.signed_age / DAY, status.signed_long_ago)
    };
    assert_eq!(alarm(), (1, false));
    // Signed a day before.
    world.at(START + 89 * DAY);
    assert_eq!(alarm(), (90, false));
    world.at(START + 90 * DAY);
    assert_eq!(alarm(), (91, true));
    let mut never = world.settings();
    never.white_list.signed_alarm_after = None;
    let never = drimbox::trust::Trust::open(never, world.clock()).unwrap();
    assert!(!never.list_status().unwrap().signed_long_ago);
}

#[test]
fn a_list_that_is_not_confirmed_raises_an_alarm_before_it_counts_for_nothing() {
    let world = World::new();
    let trust = world.trust(&HOSTS);
    let state = || {
        let status = trust.list_status().unwrap();
        (status.confirmed_long_ago, status.in_force)
    };
    assert_eq!(state(), (false, true));
    world.at(START + 2 * DAY);
    assert_eq!(state(), (false, true));
    world.at(START + 2 * DAY + 1);
    assert_eq!(state(), (true, true));
    world.at(START + 7 * DAY + 1);
    assert_eq!(state(), (true, false));
}
