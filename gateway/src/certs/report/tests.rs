#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use time::Duration;

use super::*;
use crate::certs::inventory::{Finding, dates};
use crate::certs::place::{Place, Role};
use crate::certs::presented::By;
use crate::certs::testdata::{Profile, START, certificate};
use crate::config::ServerIdentity;

fn entry(now: OffsetDateTime) -> Entry {
    let profile = Profile {
        unit: Some("318751275100020"),
        ..Profile::default()
    };
    let facts = Facts::of(&certificate(&profile).0).unwrap();
    let findings = dates(&facts, Role::ServSsl, now).into_iter().collect();
    Entry {
        place: Place {
            id: "db:scanner".into(),
            role: Role::ServSsl,
            user: "PACS scanner".into(),
            host: Some("db.exemple.fr".into()),
            holder: crate::certs::place::Holder::default(),
            identity: ServerIdentity {
                certificate_file: "/etc/drimbox/db.pem".into(),
                key_file: "/etc/drimbox/db.key".into(),
            },
            kept: crate::certs::place::Kept::Files,
        },
        facts: Some(facts),
        chain: Vec::new(),
        standing: None,
        is_superseded: false,
        findings,
    }
}

fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_supervisor_gets_its_exit_code_and_the_days_left() {
    for (days, word, code) in [(0, "OK", 0), (1050, "WARNING", 1), (1090, "CRITICAL", 2)] {
        let now = START + Duration::days(days);
        let mut out = Vec::new();
        assert_eq!(nagios(&[entry(now)], &[], now, &mut out).unwrap(), code);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with(&format!("CERTIFICATS {word} - ")), "{out}");
        let left = 1095 - days;
        assert!(
            out.lines()
                .next()
                .unwrap()
                .ends_with(&format!("| 'db:scanner'={left}"))
        );
    }
}

#[test]
fn a_check_speaks_of_the_certificates_of_others_that_the_gateway_depends_on() {
    let facts = entry(START).facts.unwrap();
    let presented = |by, seen_before| {
        let last_seen = facts.not_after - Duration::days(seen_before);
        [Presented {
            by,
            facts: facts.clone(),
            first_seen: START,
            last_seen,
            standing: None,
        }]
    };
    let check = |by, seen_before, after| {
        let now = facts.not_after + Duration::days(after);
        let mut out = Vec::new();
        let code = nagios(&[], &presented(by, seen_before), now, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    let (code, said) = check(By::WhiteListSigner, 300, 1);
    assert_eq!(code, nagios::CRITICAL);
    assert!(said.contains("signataire de la liste blanche"), "{said}");
    assert!(said.contains("prévenir son titulaire"), "{said}");
    assert_eq!(check(By::Psc, 3, -3).0, nagios::WARNING);
    assert_eq!(check(By::Psc, 300, -3).0, nagios::OK, "no longer in use");
    assert_eq!(check(By::Dmp, 20, -20).0, nagios::OK);
    for peer in [By::Caller, By::Called] {
        assert_eq!(check(peer, 0, 1).0, nagios::OK, "it stops nobody but them");
    }
    let [signer] = presented(By::WhiteListSigner, 0);
    let shown = text(|out| presented_details(&signer, facts.not_after + Duration::DAY, out));
    assert!(shown.contains("expiré depuis"), "{shown}");
}

#[test]
fn the_table_says_what_is_wrong_first() {
    let now = START + Duration::days(1090);
    let mut entry = entry(now);
    entry.findings.push(Finding::SeveralNames);
    let table = text(|out| table(&[entry.clone()], now, out));
    assert!(table.contains("db:scanner"), "{table}");
    assert!(table.contains("CRITIQUE : expire dans 5 jours"), "{table}");
    let details = text(|out| details(&entry, now, out));
    assert!(details.contains("SIRET 18751275100020"), "{details}");
    assert!(
        details.contains("jusqu'à expiration seulement"),
        "{details}"
    );
}

#[test]
fn json_and_csv_hold_the_same() {
    let now = START;
    let entries = [entry(now)];
    let value = json(&entries, now);
    let certificate = &value[0]["certificate"];
    assert_eq!(certificate["days_left"], 1095);
    assert_eq!(certificate["not_after"], "2028-12-31T00:00:00Z");
    assert_eq!(certificate["structure"]["kind"], "SIRET");
    let facts = entries[0].facts.as_ref().unwrap();
    for (member, value) in [("issuer", &facts.issuer), ("serial", &facts.serial)] {
        assert!(!value.is_empty());
        assert_eq!(certificate[member], **value, "{member}");
    }
    assert_eq!(value[0]["used_by"], "PACS scanner");
    let shown = text(|out| details(&entries[0], now, out));
    for expected in ["PACS scanner", &facts.issuer, &facts.serial, "seul"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let presented = [Presented {
        by: By::Called,
        facts: entries[0].facts.clone().unwrap(),
        first_seen: now,
        last_seen: now + Duration::DAY,
        standing: None,
    }];
    let value = presented_json(&presented, now);
    assert_eq!(value[0]["presented_by"], "PEER_CALLED");
    assert_eq!(value[0]["last_seen"], "2026-01-02T00:00:00Z");
    assert_eq!(value[0]["certificate"], *certificate);
    assert_eq!(value[0]["status"], "ok");
    assert_eq!(value[0]["revocation"], Value::Null);
    let shown = text(|out| presented_table(&presented, now, out));
    assert!(shown.contains("DRIMbox appelée"), "{shown}");
    let table = text(|out| csv(&entries, &presented, now, out));
    let mut lines = table.lines();
    assert_eq!(lines.next().unwrap().split(',').count(), 16);
    assert!(
        lines.nth(1).unwrap().starts_with(",PEER_CALLED,"),
        "{table}"
    );
    assert!(table.contains(certificate["sha256"].as_str().unwrap()));
    assert!(table.contains("SIRET 18751275100020"));
}
