//! Three years of a box's life, with restarts and a mail server that goes away; crashes; silent mailboxes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, VecDeque};

use tempfile::TempDir;
use tokio::sync::Notify;

use super::testdata::{START, entry, place, presented};
use super::*;
use crate::certs::place::{Place, Role};
use crate::certs::presented::By;

/// What a delivery does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Take,
    Away,
    Refuse,
    /// Power off before the other side has it.
    CutBefore,
    /// Power off after the other side has it, before it is noted.
    CutAfter,
}

#[derive(Default)]
struct Mailbox {
    next: Mutex<VecDeque<Next>>,
    always: Mutex<Option<Next>>,
    /// Recipients that cannot be reached.
    away: Mutex<Vec<&'static str>>,
    got: Mutex<Vec<(String, Message)>>,
    cut: Notify,
}

impl Channel for Mailbox {
    fn send<'a>(
        &'a self,
        to: &'a Recipient,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let next = self.next.lock().pop_front();
            let is_away = self.away.lock().contains(&to.key().as_str());
            let next = next.or(is_away.then_some(Next::Away));
            let next = next.or(*self.always.lock()).unwrap_or(Next::Take);
            if matches!(next, Next::Take | Next::CutAfter) {
                self.got.lock().push((to.key(), message.clone()));
            }
            match next {
                Next::Take => Ok(()),
                Next::Away => Err(NotSent::Later("away".into())),
                Next::Refuse => Err(NotSent::Refused("550".into())),
                Next::CutBefore | Next::CutAfter => {
                    self.cut.notify_one();
                    std::future::pending().await
                }
            }
        })
    }
}

impl Mailbox {
    fn subjects(&self, key: &str) -> Vec<String> {
        let got = self.got.lock();
        let own = got.iter().filter(|(to, _)| to == key);
        own.map(|(_, message)| message.subject.clone()).collect()
    }

    /// The token in the last test of a recipient.
    fn token(&self, key: &str) -> Option<String> {
        let got = self.got.lock();
        let mut own = got.iter().rev().filter(|(to, _)| to == key);
        let (_, test) = own.find(|(_, m)| m.data["kind"] == "test")?;
        let (_, rest) = test.text.split_once(acknowledge::PATH)?;
        Some(rest[1..65].to_owned())
    }
}

struct Gateway {
    folder: TempDir,
    mailbox: Arc<Mailbox>,
    alerts: Alerts,
    /// What others present.
    presented: Vec<Presented>,
    roles: HashMap<Recipient, Vec<String>>,
}

const ANNE: &str = "mail:anne@centre.example";
const PAUL: &str = "mail:paul@centre.example";
const HOOK: &str = "webhook:nagios";

impl Gateway {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mailbox = Arc::<Mailbox>::default();
        let alerts = Alerts::open(settings(&mailbox), folder.path()).unwrap();
        Self {
            folder,
            mailbox,
            alerts,
            presented: Vec::new(),
            roles: HashMap::new(),
        }
    }

    fn restart(&mut self) {
        let settings = Settings {
            roles: self.roles.clone(),
            ..settings(&self.mailbox)
        };
        self.alerts = Alerts::open(settings, self.folder.path()).unwrap();
    }

    /// One look; a power cut in it is followed by a start.
    async fn look(&mut self, entries: &[Entry], now: OffsetDateTime) {
        self.alerts.note(entries, &self.presented, now);
        let cut = tokio::select! {
            () = self.alerts.deliver(now) => false,
            () = self.mailbox.cut.notified() => true,
        };
        if cut {
            self.restart();
        }
    }
}

fn settings(mailbox: &Arc<Mailbox>) -> Settings {
    let way = |recipient| (recipient, Arc::clone(mailbox) as Arc<dyn Channel>);
    Settings {
        recipients: vec![
            way(Recipient::Mail("Anne@centre.example".into())),
            way(Recipient::Mail("paul@centre.example".into())),
            way(Recipient::Webhook("nagios".into())),
        ],
        roles: HashMap::new(),
        centre: Some("Centre Exemple".into()),
        link_url: "https://vi1.centre.example".into(),
    }
}

/// Numbers that look random and are the same in each run (Knuth's MMIX generator).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A certificate in the life of a box: from this day, for so many days, replaced on that day.
struct Life(&'static str, i64, i64, i64);

#[tokio::test]
async fn in_three_years_each_alert_reaches_each_recipient_once_whatever_happens() {
    let db: (Place, &[Life]) = (
        place("db:scanner", Role::ServSsl),
        &[Life("db1", -400, 730, 320), Life("db2", 320, 1095, 9_999)],
    );
    let psc: (Place, &[Life]) = (
        place("psc", Role::OrgAuthCliPsc),
        // Forgotten: replaced two days after its end.
        &[Life("psc1", 0, 600, 602), Life("psc2", 602, 1095, 9_999)],
    );
    let market: (Place, &[Life]) = (
        place("vi:scanner", Role::Market),
        &[
            Life("m1", 0, 200, 160),
            Life("m2", 160, 100, 255),
            Life("m3", 255, 2_000, 9_999),
        ],
    );
    let wanted: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("db:scanner", &["J-90", "J-60", "J-30", "J-15"] as &[&str]),
        (
            "psc",
            &[
                "J-90", "J-60", "J-30", "J-15", "J-7", "J-3", "J-2", "J-1", "jour J", "J+1", "J+2",
            ],
        ),
        (
            "vi:scanner",
            &[
                "2/3 de sa vie",
                "3/4 de sa vie",
                "2/3 de sa vie",
                "3/4 de sa vie",
                "9/10 de sa vie",
                "J-9",
                "J-8",
                "J-7",
                "J-6",
            ],
        ),
    ]);
    for seed in 1..=3 {
        let mut draw = Draw(seed);
        let mut gateway = Gateway::new();
        let mut away_until = 0;
        for hour in (0..3 * 365 * 24).step_by(4) {
            let now = START + Duration::from_secs(hour * 3_600);
            let day = i64::try_from(hour / 24).unwrap();
            let entries: Vec<Entry> = [&db, &psc, &market]
                .into_iter()
                .filter_map(|(place, lives)| {
                    let Life(name, from, days, _) = lives.iter().find(|life| day < life.3)?;
                    Some(entry(
                        place,
                        name,
                        START + time::Duration::days(*from),
                        *days,
                    ))
                })
                .collect();
            if draw.below(200) == 0 {
                away_until = hour + draw.below(40 * 24);
            }
            *gateway.mailbox.always.lock() = (hour < away_until).then_some(Next::Away);
            match draw.below(20) {
                0 => gateway.restart(),
                1 => gateway.mailbox.next.lock().push_back(Next::CutBefore),
                2 => gateway.mailbox.next.lock().push_back(Next::Away),
                _ => {}
            }
            gateway.look(&entries, now).await;
            for key in [ANNE, PAUL] {
                if let Some(token) = gateway.mailbox.token(key) {
                    let _ = gateway.alerts.acknowledge(&token, now);
                }
            }
        }
        *gateway.mailbox.always.lock() = None;
        gateway.mailbox.next.lock().clear();
        gateway.restart();
        gateway
            .alerts
            .deliver(START + Duration::from_secs(3 * 365 * 86_400))
            .await;
        let got = gateway.mailbox.got.lock();
        for recipient in [ANNE, PAUL, HOOK] {
            for (place, wanted) in &wanted {
                let said: Vec<&str> = got
                    .iter()
                    .filter(|(to, m)| to == recipient && m.data["place"] == *place)
                    .map(|(_, m)| m.data["step"].as_str().unwrap())
                    .collect();
                assert_eq!(said, *wanted, "{recipient} {place} seed {seed}");
            }
        }
        let silent = got
            .iter()
            .filter(|(_, m)| m.data["kind"] == "silent_recipient");
        assert_eq!(silent.count(), 0, "both acknowledged each test");
        for recipient in [ANNE, PAUL] {
            let tests = got
                .iter()
                .filter(|(to, m)| to == recipient && m.data["kind"] == "test")
                .count();
            assert!(
                (24..=37).contains(&tests),
                "{tests}: one a month, later after an absence"
            );
        }
    }
}

#[tokio::test]
async fn a_message_that_a_power_cut_repeats_has_the_same_id() {
    let mut gateway = Gateway::new();
    let place = place("db:scanner", Role::ServSsl);
    let entries = [entry(&place, "db1", START, 20)];
    gateway.mailbox.next.lock().extend([Next::CutAfter]);
    gateway.look(&entries, START).await;
    gateway.look(&entries, START).await;
    gateway
        .look(&entries, START + Duration::from_secs(7_200))
        .await;
    let got = gateway.mailbox.got.lock();
    let anne: Vec<_> = got
        .iter()
        .filter(|(to, m)| to == ANNE && m.data["kind"] != "test")
        .collect();
    assert_eq!(anne.len(), 2);
    assert_eq!(anne[0].1, anne[1].1);
}

#[tokio::test]
async fn a_mailbox_that_does_not_acknowledge_is_reported_to_the_others_once_a_test() {
    let mut gateway = Gateway::new();
    for day in 0..50_u64 {
        let now = START + Duration::from_secs(day * 86_400);
        gateway.look(&[], now).await;
        let token = gateway.mailbox.token(ANNE).unwrap();
        assert!(gateway.alerts.acknowledge(&token, now));
        if day % 5 == 0 {
            gateway.restart();
        }
    }
    let reports = |key| {
        let subjects = gateway.mailbox.subjects(key).into_iter();
        subjects.filter(|subject| subject.contains("n° 2")).count()
    };
    assert_eq!((reports(ANNE), reports(PAUL), reports(HOOK)), (2, 0, 2));
    assert!(!gateway.alerts.acknowledge(&"0".repeat(64), START));
    let got = gateway.mailbox.got.lock();
    let (_, report) = got
        .iter()
        .find(|(to, m)| to == ANNE && m.subject.contains("n° 2"))
        .unwrap();
    assert!(report.text.contains("paul@centre.example"));
    assert!(!report.subject.contains('@'), "subjects go to the log");
}

#[tokio::test]
async fn an_address_that_the_server_refuses_is_reported_at_once_and_given_up_after_days() {
    let mut gateway = Gateway::new();
    // Anne's test; Paul's is refused.
    gateway
        .mailbox
        .next
        .lock()
        .extend([Next::Take, Next::Refuse]);
    gateway.look(&[], START).await;
    gateway.look(&[], START).await;
    assert_eq!(gateway.mailbox.subjects(HOOK).len(), 1);
    assert!(gateway.mailbox.subjects(ANNE)[1].contains("refusée"));
    for hours in 1..200 {
        gateway.mailbox.next.lock().push_back(Next::Refuse);
        gateway
            .look(&[], START + Duration::from_secs(hours * 3_600 * 2))
            .await;
    }
    assert_eq!(gateway.mailbox.subjects(PAUL).len(), 0);
    let state = gateway.alerts.0.state.lock();
    assert!(state.waiting.is_empty(), "{:?}", state.waiting);
}

#[tokio::test]
async fn a_relay_that_refuses_everybody_delays_an_alert_and_loses_none() {
    let mut gateway = Gateway::new();
    let place = place("db:scanner", Role::ServSsl);
    let entries = [entry(&place, "db1", START, 60)];
    *gateway.mailbox.always.lock() = Some(Next::Refuse);
    for hour in (0..9 * 24).step_by(2) {
        gateway
            .look(&entries, START + time::Duration::hours(hour))
            .await;
        gateway.restart();
    }
    *gateway.mailbox.always.lock() = None;
    gateway
        .look(&entries, START + time::Duration::days(9))
        .await;
    for key in [ANNE, PAUL, HOOK] {
        let subjects = gateway.mailbox.subjects(key);
        let told = subjects.iter().filter(|text| text.contains("(J-60)"));
        assert_eq!(told.count(), 1, "{key}: {subjects:?}");
    }
}

#[tokio::test]
async fn a_damaged_state_is_put_aside_and_what_is_due_is_said_again() {
    let mut gateway = Gateway::new();
    gateway.look(&[], START).await;
    std::fs::write(gateway.folder.path().join("state.json"), "{").unwrap();
    gateway.restart();
    gateway.look(&[], START).await;
    assert_eq!(gateway.mailbox.subjects(ANNE).len(), 2);
    assert!(gateway.folder.path().join("state.json.damaged").exists());
}

#[tokio::test]
async fn opening_the_link_changes_nothing_and_the_button_acknowledges() {
    use axum::body::Body;
    use http::{Method, Request, StatusCode};
    use tower::ServiceExt as _;

    let mut gateway = Gateway::new();
    gateway.look(&[], START).await;
    let token = gateway.mailbox.token(PAUL).unwrap();
    let router = acknowledge::router(gateway.alerts.clone());
    let ask = |method: Method, token: &str| {
        let uri = format!("{}/{token}", acknowledge::PATH);
        let request = Request::builder().method(method).uri(uri);
        router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let acknowledged = || {
        gateway.alerts.0.state.lock().tests[PAUL]
            .acknowledged
            .is_some()
    };
    let page = ask(Method::GET, &token).await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(!acknowledged());
    let unknown = ask(Method::POST, &"0".repeat(64)).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(!acknowledged());
    let done = ask(Method::POST, &token).await.unwrap();
    assert_eq!(done.status(), StatusCode::OK);
    assert!(acknowledged());
}

#[tokio::test]
async fn a_revoked_certificate_is_told_each_day_once_over_restarts_until_it_is_replaced() {
    let mut gateway = Gateway::new();
    let db = place("db:scanner", Role::ServSsl);
    let mut revoked = entry(&db, "db1", START, 730);
    revoked.findings.push(Finding::Revoked);
    for hour in 0..48 {
        let now = START + time::Duration::hours(hour);
        gateway.look(std::slice::from_ref(&revoked), now).await;
        gateway.restart();
    }
    let replaced = entry(&db, "db2", START, 730);
    gateway
        .look(&[replaced], START + time::Duration::days(3))
        .await;
    for key in [ANNE, PAUL, HOOK] {
        let subjects = gateway.mailbox.subjects(key);
        let told = subjects.iter().filter(|text| text.contains("est révoqué"));
        assert_eq!(told.count(), 2, "{key}: {subjects:?}");
    }
}

#[tokio::test]
async fn certificates_that_others_present_are_told_near_their_end_once_over_restarts() {
    let mut gateway = Gateway::new();
    let end = START + time::Duration::days(20);
    let seen = |by, now: OffsetDateTime| presented(by, now, (end - now).whole_days());
    for hour in (0..22 * 24).step_by(6) {
        let now = START + time::Duration::hours(hour);
        gateway.presented = [By::Psc, By::WhiteListSigner, By::Caller]
            .map(|by| {
                let mut one = seen(by, now);
                one.facts.not_after = end;
                one
            })
            .into();
        gateway.look(&[], now).await;
        for key in [ANNE, PAUL] {
            let token = gateway.mailbox.token(key).unwrap();
            let _ = gateway.alerts.acknowledge(&token, now);
        }
        gateway.restart();
    }
    let got = gateway.mailbox.got.lock();
    for recipient in [ANNE, PAUL, HOOK] {
        for by in ["PSC", "WHITE_LIST_SIGNER"] {
            let said: Vec<&str> = got
                .iter()
                .filter(|(to, m)| to == recipient && m.data["presented_by"] == by)
                .map(|(_, m)| m.data["step"].as_str().unwrap())
                .collect();
            let wanted = ["J-15", "J-7", "J-3", "J-2", "J-1", "jour J", "J+1", "J+2"];
            assert_eq!(said, wanted[..said.len()], "{recipient} {by}");
            assert!(said.len() >= 7, "{said:?}");
        }
    }
    let callers = got
        .iter()
        .filter(|(_, m)| m.data["presented_by"] == "PEER_CALLER");
    assert_eq!(
        callers.count(),
        0,
        "what another DRIMbox presents is its own affair"
    );
    let (_, told) = got
        .iter()
        .find(|(_, m)| m.data["presented_by"] == "PSC")
        .unwrap();
    assert!(
        told.text
            .contains("Prévenir son titulaire (Pro Santé Connect)"),
        "{}",
        told.text
    );
    assert!(
        told.text.contains("ne pourront plus se connecter"),
        "{}",
        told.text
    );
}

#[tokio::test]
async fn a_signer_whose_certificate_is_revoked_is_told_each_day() {
    let mut gateway = Gateway::new();
    let mut signer = presented(By::WhiteListSigner, START, 300);
    signer.standing = Some(crate::trust::Standing::Revoked);
    gateway.presented = vec![signer];
    for hour in 0..48 {
        gateway.look(&[], START + time::Duration::hours(hour)).await;
        gateway.restart();
    }
    let subjects = gateway.mailbox.subjects(ANNE);
    let told = subjects.iter().filter(|text| text.contains("est révoqué"));
    assert_eq!(told.count(), 2, "{subjects:?}");
}

#[tokio::test]
async fn a_certificate_that_expired_long_ago_is_spoken_of_once_a_day() {
    let mut gateway = Gateway::new();
    let db = place("db:scanner", Role::ServSsl);
    let expired = entry(&db, "db1", START - time::Duration::days(100), 0);
    for hour in 1..=48 {
        let now = START + time::Duration::hours(hour);
        gateway.look(std::slice::from_ref(&expired), now).await;
    }
    let subjects = gateway.mailbox.subjects(ANNE);
    let told = subjects.iter().filter(|text| text.contains("a expiré"));
    assert_eq!(told.count(), 2, "{subjects:?}");
}

#[tokio::test]
async fn an_address_that_nothing_reaches_while_others_do_is_told_to_them_once() {
    for (away, wanted) in [(&[PAUL][..], 1), (&[ANNE, PAUL], 0), (&[], 0)] {
        let mut gateway = Gateway::new();
        *gateway.mailbox.away.lock() = away.to_vec();
        for day in 0..9 {
            gateway.look(&[], START + time::Duration::days(day)).await;
            for key in [ANNE, PAUL] {
                let token = gateway.mailbox.token(key);
                let now = START + time::Duration::days(day);
                token.map(|token| gateway.alerts.acknowledge(&token, now));
            }
            gateway.restart();
        }
        let got = gateway.mailbox.got.lock();
        for recipient in [ANNE, HOOK] {
            let own = got.iter().filter(|(to, _)| to == recipient);
            let told: Vec<&Message> = own
                .map(|(_, message)| message)
                .filter(|message| message.data["kind"] == "silent_recipient")
                .collect();
            assert_eq!(told.len(), wanted, "{away:?}, {recipient}");
            for message in told {
                assert_eq!(message.data["why"], "undeliverable");
                assert_eq!(message.data["recipient"], 2);
            }
        }
    }
}

#[tokio::test]
async fn an_authority_is_spoken_of_until_it_ends_or_has_a_successor() {
    let mut gateway = Gateway::new();
    let [alone, superseded, ended] = ["authority:a", "authority:b", "authority:c"]
        .map(|id| entry(&place(id, Role::Authority), id, START, 20));
    let superseded = Entry {
        is_superseded: true,
        ..superseded
    };
    let ended = Entry {
        findings: vec![Finding::AuthorityEnded(START)],
        ..ended
    };
    gateway.look(&[alone, superseded, ended], START).await;
    let got = gateway.mailbox.got.lock();
    let places = got.iter().filter(|(to, _)| to == ANNE);
    let places: Vec<&str> = places
        .filter_map(|(_, message)| message.data["place"].as_str())
        .collect();
    assert_eq!(places, ["authority:a"]);
}

#[tokio::test]
async fn what_a_clock_that_was_years_ahead_said_silences_nothing() {
    let mut gateway = Gateway::new();
    let db = place("db:ct", Role::ServSsl);
    let entries = [entry(&db, "db1", START, 20)];
    let ahead = START + time::Duration::days(3_650);
    gateway.look(&entries, ahead).await;
    let before = gateway.mailbox.subjects(ANNE).len();
    gateway.look(&entries, START).await;
    gateway
        .look(&entries, START + time::Duration::hours(1))
        .await;
    let said = gateway.mailbox.subjects(ANNE).split_off(before);
    let steps = said.iter().filter(|subject| subject.contains("J-")).count();
    assert_eq!(steps, 1, "{said:?}");
    // The monthly test comes again too.
    assert_eq!(said.len(), 2, "{said:?}");
}

#[tokio::test]
async fn a_recipient_of_some_roles_is_told_of_these_alone_and_tested_as_all() {
    let mut gateway = Gateway::new();
    gateway.roles = HashMap::from([(
        Recipient::Mail("paul@centre.example".into()),
        vec!["ORG_SIGN".to_owned(), "PSC".to_owned()],
    )]);
    gateway.restart();
    let (db, sign) = (
        place("db:scanner", Role::ServSsl),
        place("dmp-sign:centre", Role::OrgSign),
    );
    let entries = [
        entry(&db, "db1", START, 20),
        entry(&sign, "sign1", START, 20),
    ];
    gateway.presented = [By::Psc, By::Dmp].map(|by| presented(by, START, 10)).into();
    gateway.look(&entries, START).await;
    let got = gateway.mailbox.got.lock();
    let told = |recipient: &str| -> Vec<String> {
        let own = got.iter().filter(|(to, _)| to == recipient);
        own.map(|(_, m)| {
            let about = m.data.get("place").or(m.data.get("presented_by"));
            about
                .unwrap_or(&m.data["kind"])
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
    };
    assert_eq!(
        told(ANNE),
        ["db:scanner", "dmp-sign:centre", "PSC", "DMP", "test"]
    );
    assert_eq!(told(PAUL), ["dmp-sign:centre", "PSC", "test"]);
    assert_eq!(told(HOOK), ["db:scanner", "dmp-sign:centre", "PSC", "DMP"]);
}

#[test]
fn roles_of_the_configuration_are_those_of_the_inventory() {
    use crate::config::ROLES;
    let own = [
        Role::ServSsl,
        Role::OrgAuthCliPsc,
        Role::OrgAuthCliProxy,
        Role::OrgAuthCliDmp,
        Role::OrgSign,
        Role::Market,
        Role::Local,
        Role::Dicom,
        Role::PacsClient,
        Role::Syslog,
        Role::Other,
        Role::Authority,
    ];
    let mut known: Vec<&str> = own.iter().map(|role| role.code()).collect();
    known.extend([By::Psc, By::Dmp, By::WhiteListSigner].map(By::code));
    assert!(known.iter().all(|code| ROLES.contains(code)), "{known:?}");
    assert!(ROLES.iter().all(|role| known.contains(role)), "{known:?}");
}
