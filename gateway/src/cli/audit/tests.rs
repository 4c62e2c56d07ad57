#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::ffi::OsString;
use std::process::ExitCode;

use super::*;
use crate::audit::{Actor, Audit, Object, Outcome, Person, Settings, system_clock};
use crate::cli::run;
use crate::cli::tests::Scripted;

fn drimbox(arguments: &[&str]) -> (ExitCode, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("drimbox").chain(arguments.iter().copied());
    let code = run(
        arguments.map(OsString::from),
        &Scripted::default(),
        &mut out,
        &mut err,
    );
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

/// A trail of three events, still open for writing.
fn trail() -> (tempfile::TempDir, String, Audit) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        dir: folder.path().to_owned(),
        segment_bytes: 1 << 20,
        retention: None,
        targets: Vec::new(),
    };
    let audit = Audit::open(settings, system_clock()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let at = |text| OffsetDateTime::parse(text, &Rfc3339).unwrap();
    let study = |uid: &str| Object {
        study: Some(uid.into()),
        ..Object::default()
    };
    let person = Actor {
        person: Some(Person {
            national_id: Some("899700000001".into()),
            ..Person::default()
        }),
        ..Actor::default()
    };
    let events = [
        Event::new(at("2026-11-20T23:59:59Z"), Kind::RequestEnded)
            .by(person)
            .on(study("1.2.3")),
        Event::new(at("2026-11-21T00:00:00Z"), Kind::RequestRefused)
            .on(study("1.2.4"))
            .ending(Outcome::refused(403, "peer-unknown")),
        Event::new(at("2026-11-21T12:00:00Z"), Kind::ContextCall),
    ];
    for event in events {
        runtime.block_on(audit.record(event)).unwrap();
    }
    let dir = folder.path().to_str().unwrap().to_owned();
    (folder, dir, audit)
}

#[test]
fn a_trail_is_verified_and_shown_while_the_service_writes_it() {
    let (_folder, dir, _audit) = trail();
    let (code, out, _) = drimbox(&["audit", "verify", "--dir", &dir]);
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(out.contains("intact, 3 enregistrements (1 à 3)"), "{out}");
    let shown = |arguments: &[&str]| {
        let (_, out, _) = drimbox(&[&["audit", "show", "--dir", &dir], arguments].concat());
        out.lines()
            .map(|line| line.trim_start()[..1].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]), ["1", "2", "3"]);
    assert_eq!(shown(&["--to", "2026-11-20"]), ["1"]);
    assert_eq!(shown(&["--from", "2026-11-21"]), ["2", "3"]);
    assert_eq!(shown(&["--study", "1.2.4"]), ["2"]);
    assert_eq!(shown(&["--who", "899700000001"]), ["1"]);
    assert_eq!(shown(&["--outcome", "refused"]), ["2"]);
    assert_eq!(
        shown(&["--event", "context-call", "--event", "request-ended"]),
        ["1", "3"]
    );
    let (code, _, err) = drimbox(&["audit", "show", "--dir", &dir, "--from", "hier"]);
    assert_eq!(code, ExitCode::from(USAGE));
    assert!(err.contains("2026-11-21"), "{err}");
}

#[test]
fn a_changed_trail_is_told_by_every_command() {
    let (folder, dir, audit) = trail();
    drop(audit);
    let (_, anchor, _) = drimbox(&["audit", "anchor", "--dir", &dir]);
    let kept = folder.path().join("kept.json");
    std::fs::write(&kept, &anchor).unwrap();
    let kept = kept.to_str().unwrap();
    let (code, ..) = drimbox(&["audit", "verify", "--dir", &dir, "--anchor", kept]);
    assert_eq!(code, ExitCode::SUCCESS);

    let segment = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replace("1.2.4", "1.2.5")).unwrap();
    let (code, out, _) = drimbox(&["audit", "verify", "--dir", &dir]);
    assert_eq!(code, ExitCode::from(FAILURE));
    assert!(out.contains("ligne 2 : le contenu a été modifié"), "{out}");
    for command in ["show", "export"] {
        let (code, _, err) = drimbox(&["audit", command, "--dir", &dir]);
        assert_eq!(code, ExitCode::from(FAILURE));
        assert!(err.contains("MODIFIÉ"), "{err}");
    }
    let (code, ..) = drimbox(&["audit", "anchor", "--dir", &dir]);
    assert_eq!(code, ExitCode::from(FAILURE));
}

#[test]
fn an_export_has_the_form_that_is_asked_for() {
    let (folder, dir, _audit) = trail();
    let (_, out, _) = drimbox(&["audit", "export", "--dir", &dir]);
    assert_eq!(
        out.lines()
            .filter(|line| Record::parse(line.as_bytes()).is_ok())
            .count(),
        3
    );
    let (_, out, _) = drimbox(&["audit", "export", "--dir", &dir, "--format", "xml"]);
    assert_eq!(out.matches("<AuditMessage>").count(), 3);
    assert!(out.trim_end().ends_with("</AuditMessages>"));
    let (_, out, _) = drimbox(&["audit", "export", "--dir", &dir, "--format", "syslog"]);
    assert!(out.lines().all(|line| line.starts_with("<8")), "{out}");

    let file = folder.path().join("export.csv");
    let file = file.to_str().unwrap();
    let period = [
        "stats",
        "export",
        "--from",
        "2026-11-21",
        "--to",
        "2026-11-21",
        "--dir",
        &dir,
    ];
    let (code, out, _) = drimbox(&[&period[..], &["--out", file]].concat());
    assert_eq!((code, out.as_str()), (ExitCode::SUCCESS, ""));
    let csv = std::fs::read_to_string(file).unwrap();
    let rows: Vec<_> = csv.lines().collect();
    assert_eq!(rows.len(), 3, "{csv}");
    assert!(rows[2].ends_with(";1;succes"), "{csv}");
    let (code, _, err) = drimbox(&[&period[..], &["--out", file]].concat());
    assert_eq!(code, ExitCode::from(USAGE), "{err}");
}
