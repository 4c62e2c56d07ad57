//! `drimbox check pacs`: a verdict for each step, and for each cause what to do about it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::process::Command;

use conformance::testkit::gateway::binary;
use conformance::testkit::pacs::{Asked, Behaviour, FindFault, Rejection, StoreFault};
use conformance::testkit::{FaultyPacs, GatewayConfig, PacsConfig, free_port};
use support::{files, folder, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Get,
    Move,
}

/// What a check said.
struct Said {
    good: bool,
    text: String,
}

impl Said {
    /// The line of a step, and the remedy below it.
    fn step(&self, name: &str) -> (&str, &str) {
        let mut lines = self.text.lines();
        let step = format!("  {name} : ");
        let line = lines.find(|line| line.contains(&step));
        let line = line.unwrap_or_else(|| panic!("no step {name}:\n{}", self.text));
        let below = lines.next().unwrap_or_default().trim();
        (
            line.trim(),
            below.strip_prefix("Remède : ").unwrap_or_default(),
        )
    }
}

/// Checks a PACS with these exams that behaves so; what it was asked is in the second.
async fn check(
    name: &str,
    way: Way,
    exams: &[&str],
    behave: impl FnOnce(&mut Behaviour),
) -> (Said, FaultyPacs) {
    let config = GatewayConfig::new(&folder(name)).unwrap();
    let config = config.storage_scp().unwrap();
    let here = config.address("dimse").unwrap();
    let pacs = FaultyPacs::start("SIM", &files(exams), &[("DRIMBOX", here)])
        .await
        .unwrap();
    pacs.behave(behave);
    let entry = PacsConfig::new("scanner", "SIM", pacs.port())
        .set("dimse.connect_timeout_seconds", 2)
        .set("dimse.response_timeout_seconds", 2);
    let entry = match way {
        Way::Get => entry,
        Way::Move => entry.by_move(),
    };
    (said(config.pacs(entry), "scanner").await, pacs)
}

async fn said(config: GatewayConfig, pacs: &'static str) -> Said {
    let file = config.write().unwrap();
    let checks = move || {
        let mut command = Command::new(binary().unwrap());
        command.args(["check", "pacs", pacs, "--config"]).arg(file);
        command.output().unwrap()
    };
    let ended = tokio::task::spawn_blocking(checks).await.unwrap();
    Said {
        good: ended.status.success(),
        text: String::from_utf8(ended.stdout).unwrap(),
    }
}

const ASSOCIATION: &str = "Association et C-ECHO";
const SEARCH: &str = "Recherche";
const BY_GET: &str = "Récupération d'une image (C-GET)";
const BY_MOVE: &str = "Récupération d'une image (C-MOVE)";

#[test]
fn a_good_pacs_passes_every_step() {
    run(async {
        for (way, step) in [(Way::Get, BY_GET), (Way::Move, BY_MOVE)] {
            let (said, pacs) = check(&format!("good-{way:?}"), way, &["mr"], |_| {}).await;
            assert!(said.good, "{}", said.text);
            for (step, found) in [
                (ASSOCIATION, "le PACS répond"),
                (SEARCH, "au moins un examen trouvé"),
                (step, "octets reçus"),
            ] {
                let (line, remedy) = said.step(step);
                assert!(line.starts_with("ok ") && line.contains(found), "{line}");
                assert_eq!(remedy, "");
            }
            assert!(said.text.ends_with("Tout est en ordre.\n"), "{}", said.text);
            assert!(pacs.count(|asked| *asked == Asked::Echo) >= 1);
            assert!(pacs.count(|asked| matches!(asked, Asked::Find(_))) >= 1);
            let retrieved = |asked: &Asked| matches!(asked, Asked::Get(_) | Asked::Move { .. });
            assert!(pacs.count(retrieved) >= 1);
        }
    });
}

/// What is wrong, the step that fails, what it says, what it says to do.
type Case = (
    &'static str,
    Way,
    fn(&mut Behaviour),
    &'static str,
    &'static str,
    &'static str,
);

const CASES: [Case; 12] = [
    (
        "calling title",
        Way::Get,
        |b| b.reject = Some(Rejection::CallingAeTitle),
        ASSOCIATION,
        "calling AE title DRIMBOX not recognised",
        "déclarer l'AE title de la passerelle (calling_ae_title) dans le PACS",
    ),
    (
        "called title",
        Way::Get,
        |b| b.reject = Some(Rejection::CalledAeTitle),
        ASSOCIATION,
        "called AE title SIM not recognised",
        "vérifier ae_title dans [pacs.dimse]",
    ),
    (
        "too many associations",
        Way::Get,
        |b| b.reject = Some(Rejection::LocalLimit),
        ASSOCIATION,
        "association rejected",
        "admettre plus d'associations dans le PACS",
    ),
    (
        "silent",
        Way::Get,
        |b| b.silent = true,
        ASSOCIATION,
        "did not answer within",
        "augmenter les délais dans [pacs.dimse]",
    ),
    (
        "another protocol",
        Way::Get,
        |b| b.garbage = true,
        ASSOCIATION,
        "broke the protocol",
        "consulter le journal du PACS",
    ),
    (
        "no answer to a search",
        Way::Get,
        |b| b.find = Some(FindFault::Stall),
        SEARCH,
        "did not answer within",
        "augmenter les délais dans [pacs.dimse]",
    ),
    (
        "a search that fails",
        Way::Get,
        |b| b.find = Some(FindFault::Status(0xC001)),
        SEARCH,
        "C-FIND failed with status C001H",
        "chercher ce code d'état dans le journal du PACS",
    ),
    (
        "no C-GET",
        Way::Get,
        |b| b.without_get = true,
        BY_GET,
        "does not offer C-GET",
        "changer retrieve (\"get\" ou \"move\")",
    ),
    (
        "a stalled image",
        Way::Get,
        |b| {
            b.store.insert(1, StoreFault::Stall);
        },
        BY_GET,
        "did not answer within",
        "augmenter les délais dans [pacs.dimse]",
    ),
    (
        "an image that does not come",
        Way::Get,
        |b| b.loses = 1,
        BY_GET,
        "1 of 1 instances did not come",
        "vérifier dans le PACS que l'image est lisible",
    ),
    (
        "destination unknown",
        Way::Move,
        |b| b.retrieve_status = Some(0xA801),
        BY_MOVE,
        "C-MOVE failed with status A801H",
        "déclarer dans le PACS la destination",
    ),
    (
        "out of resources",
        Way::Move,
        |b| b.retrieve_status = Some(0xA702),
        BY_MOVE,
        "C-MOVE failed with status A702H",
        "chercher ce code d'état dans le journal du PACS",
    ),
];

#[test]
fn every_cause_has_its_step_its_words_and_its_remedy() {
    run(async {
        for (cause, way, behave, step, words, remedy) in CASES {
            let (said, _pacs) = check(&format!("bad-{cause}"), way, &["mr"], behave).await;
            assert!(!said.good, "{cause}:\n{}", said.text);
            let (line, advice) = said.step(step);
            assert!(
                line.starts_with("ÉCHEC ") && line.contains(words),
                "{cause}: {line}"
            );
            assert!(advice.contains(remedy), "{cause}: {advice}");
            assert!(
                said.text.ends_with("1 échec(s) à corriger.\n"),
                "{cause}:\n{}",
                said.text
            );
        }
    });
}

#[test]
fn what_works_with_a_quirk_or_cannot_be_tried_is_a_warning() {
    run(async {
        let uncounted = |b: &mut Behaviour| b.without_related_counts = true;
        let (said, _pacs) = check("uncounted", Way::Get, &["mr"], uncounted).await;
        assert!(said.good, "{}", said.text);
        let (line, advice) = said.step("Nombre d'images d'une série");
        assert!(line.starts_with("attention "), "{line}");
        assert!(advice.contains("related_counts = false"), "{advice}");
        assert!(said.step(BY_GET).0.starts_with("ok "), "{}", said.text);

        let (said, _pacs) = check("empty", Way::Get, &[], |_| {}).await;
        assert!(said.good, "{}", said.text);
        for step in [SEARCH, "Récupération"] {
            let (line, advice) = said.step(step);
            assert!(line.starts_with("attention "), "{line}");
            assert!(!advice.is_empty(), "{line}");
        }
    });
}

#[test]
fn where_nobody_listens_the_address_is_to_be_checked_and_a_name_that_is_not_configured_is_refused()
{
    run(async {
        let config = || {
            let port = free_port().unwrap();
            let config = GatewayConfig::new(&folder("nobody")).unwrap();
            config.pacs(PacsConfig::new("scanner", "SIM", port))
        };
        let nobody = said(config(), "scanner").await;
        assert!(!nobody.good);
        let (line, advice) = nobody.step(ASSOCIATION);
        assert!(line.contains("no connection to 127.0.0.1"), "{line}");
        assert!(advice.contains("vérifier host et port"), "{advice}");
        assert!(!said(config(), "unknown").await.good);
    });
}
