#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::{
    BoxFuture, Endpoint, GateError, NationalId, PscError, TokenFault, UnixTime, UserInfo,
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::super::{Access, Grant};
use super::*;
use crate::config::Resource;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::net::{Connection, ListenerKind};
use crate::source::exams::{PublishedSeries, Restrictions};

const HOST: &str = "db1.example.org";
const STUDY: &str = "1.2";
const SERIES: &str = "1.2.1";
const INSTANCE: &str = "1.2.1.1";
const KOS: &str = "1.2.9";

#[derive(Debug, Default)]
struct Directory {
    refused: Option<NotAPeer>,
}

impl PeerDirectory for Directory {
    fn peer(&self, chain: &[CertificateDer<'static>]) -> Result<PeerIdentity, NotAPeer> {
        match self.refused {
            Some(refused) => Err(refused),
            None => Ok(PeerIdentity::of_certificate(&chain[0])),
        }
    }
}

/// Knows one token, and counts how often it was asked.
#[derive(Debug, Default)]
struct Psc {
    answer: Option<GateError>,
    professions: &'static [&'static str],
    asked: Mutex<usize>,
}

impl TokenGate for Psc {
    fn check<'a>(
        &'a self,
        token: &'a SecretString,
        peer: Option<&'a Thumbprint>,
    ) -> BoxFuture<'a, Result<Arc<CheckedToken>, GateError>> {
        Box::pin(async move {
            *self.asked.lock() += 1;
            assert!(
                peer.is_some(),
                "the certificate of the peer was not handed on"
            );
            if let Some(error) = &self.answer {
                return Err(error.clone());
            }
            if token.expose_secret() != "good" {
                return Err(GateError::Inactive);
            }
            let exercices = self.professions.iter();
            let exercices: Vec<_> = exercices
                .map(|code| json!({ "codeProfession": code }))
                .collect();
            let user = json!({ "sub": "s", "SubjectRefPro": { "exercices": exercices } });
            Ok(Arc::new(CheckedToken {
                sub: "s".into(),
                jti: "j".into(),
                azp: "client".into(),
                session: None,
                acr: None,
                national_id: NationalId::parse("899700218896").unwrap(),
                expires_at: UnixTime::from_secs(u64::MAX),
                user: Some(Arc::new(
                    UserInfo::parse(user.to_string().as_bytes()).unwrap(),
                )),
            }))
        })
    }
}

struct Case {
    _folder: tempfile::TempDir,
    access: Access,
    psc: Arc<Psc>,
    token: Option<&'static str>,
    kos: Result<Option<&'static str>, ()>,
    scope: Scope,
    certificate: bool,
    host: &'static str,
}

fn exam() -> PublishedExam {
    PublishedExam {
        pacs: "ct".into(),
        study: StudyUid::parse(STUDY).unwrap(),
        kos: InstanceUid::parse(KOS).unwrap(),
        series: vec![PublishedSeries {
            series: SeriesUid::parse(SERIES).unwrap(),
            instances: vec![InstanceUid::parse(INSTANCE).unwrap()],
        }],
        accessions: Vec::new(),
        cda_id: None,
        ins: None,
        restrictions: Restrictions::default(),
        patient: Default::default(),
        identity: Default::default(),
    }
}

fn scope(study: &str, series: &str) -> Scope {
    Scope::Series(
        StudyUid::parse(study).unwrap(),
        SeriesUid::parse(series).unwrap(),
    )
}

/// A request that is granted.
async fn good_with(directory: Directory, psc: Psc, exam: PublishedExam) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(exam).await.unwrap();
    let psc = Arc::new(psc);
    let gate = PeerGate {
        directory: Arc::new(directory),
        tokens: Arc::clone(&psc) as Arc<dyn TokenGate>,
        professions: ProfessionPolicy::default(),
        exams,
        serve_masked: false,
    };
    let mut access = Access {
        gate: Some(gate),
        peer: BTreeSet::from([Resource::Wado]),
        ..Access::default()
    };
    access.hosts.insert(HOST.to_owned(), "ct".into());
    Case {
        _folder: folder,
        access,
        psc,
        token: Some("good"),
        kos: Ok(Some(KOS)),
        scope: scope(STUDY, SERIES),
        certificate: true,
        host: HOST,
    }
}

fn physician() -> Psc {
    Psc {
        professions: &["10"],
        ..Psc::default()
    }
}

async fn good() -> Case {
    good_with(Directory::default(), physician(), exam()).await
}

impl Case {
    fn connection(&self) -> Connection {
        let chain: Arc<[CertificateDer<'static>]> = [CertificateDer::from(vec![1, 2, 3])].into();
        Connection {
            id: 1,
            listener: ListenerKind::Peer,
            remote: SocketAddr::from(([192, 0, 2, 1], 1)),
            host: Some(self.host.into()),
            peer_certificates: self.certificate.then_some(chain),
        }
    }

    /// As a handler asks.
    async fn ask(&self) -> Result<Grant, Refusal> {
        self.ask_and_tell(&mut Known::default()).await
    }

    /// As [`ask`](Self::ask), with what became known.
    async fn ask_and_tell(&self, known: &mut Known) -> Result<Grant, Refusal> {
        let connection = self.connection();
        known.peer = self.access.recognise(&connection)?;
        let uid = self
            .kos
            .ok()
            .flatten()
            .map(|uid| InstanceUid::parse(uid).unwrap());
        let kos = match (self.kos, &uid) {
            (Err(()), _) => NamedKos::Unreadable,
            (Ok(_), Some(uid)) => NamedKos::Kos(uid),
            (Ok(_), None) => NamedKos::Absent,
        };
        let credentials = Credentials {
            token: self.token,
            kos,
            headers: None,
        };
        let request = Request::Retrieve(&self.scope);
        let decided = self
            .access
            .decide(&connection, credentials, None, request, known);
        let grant = decided.await?;
        assert!(known.peer.is_some() && known.person.is_some());
        Ok(grant)
    }

    async fn refused(&self, label: &str) {
        match self.ask().await {
            Ok(_) => panic!("granted, where {label} was due"),
            Err(refusal) => assert_eq!(refusal.label(), label),
        }
    }
}

#[tokio::test]
async fn a_physician_of_a_listed_peer_gets_a_series_that_the_kos_names() {
    let grant = good().await.ask().await.unwrap();
    assert_eq!(&*grant.pacs, "ct");
    assert_eq!(grant.exam.unwrap().kos.as_str(), KOS);
}

#[tokio::test]
async fn without_a_certificate_nothing_else_is_looked_at() {
    let mut case = good().await;
    case.certificate = false;
    case.refused("no_certificate").await;
    assert_eq!(*case.psc.asked.lock(), 0);
}

#[tokio::test]
async fn a_peer_outside_the_white_list_does_not_reach_pro_sante_connect() {
    let refused = Some(NotAPeer {
        label: "not_listed",
        ours: false,
    });
    let case = good_with(Directory { refused }, physician(), exam()).await;
    assert_eq!(case.ask().await, Err(Refusal::NotAPeer("not_listed")));
    assert_eq!(*case.psc.asked.lock(), 0);
}

#[tokio::test]
async fn without_a_white_list_nobody_is_a_peer_for_now() {
    let refused = Some(NotAPeer {
        label: "no_white_list",
        ours: true,
    });
    let case = good_with(Directory { refused }, physician(), exam()).await;
    assert_eq!(
        case.ask().await,
        Err(Refusal::PeersUnknown("no_white_list"))
    );
}

#[tokio::test]
async fn the_profession_on_record_is_the_one_that_lets_in() {
    let psc = Psc {
        professions: &["60", "10", "40"],
        ..Psc::default()
    };
    let case = good_with(Directory::default(), psc, exam()).await;
    let mut known = Known::default();
    case.ask_and_tell(&mut known).await.unwrap();
    assert_eq!(known.profession.as_deref(), Some("10"));
}

#[tokio::test]
async fn a_request_without_a_token_is_refused() {
    for token in [None, Some("")] {
        let mut case = good().await;
        case.token = token;
        case.refused("no_token").await;
    }
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_for_its_own_reason() {
    let faults = [
        (GateError::Inactive, "token_inactive"),
        (GateError::Refused(TokenFault::Signature), "token_signature"),
        (
            GateError::Refused(TokenFault::UnknownKey),
            "token_signature",
        ),
        (
            GateError::Refused(TokenFault::Expired { seconds: 9 }),
            "token_expired",
        ),
        (
            GateError::Refused(TokenFault::TooLong {
                found: 9000,
                limit: 8192,
            }),
            "token_too_long",
        ),
        (
            GateError::Refused(TokenFault::Mismatch("iss")),
            "token_of_other_issuer",
        ),
        (
            GateError::Refused(TokenFault::OtherCertificate),
            "token_of_other_certificate",
        ),
        (GateError::Client("other".into()), "token_of_other_client"),
    ];
    for (answer, label) in faults {
        let psc = Psc {
            answer: Some(answer),
            ..physician()
        };
        good_with(Directory::default(), psc, exam())
            .await
            .refused(label)
            .await;
    }
}

#[tokio::test]
async fn while_pro_sante_connect_is_away_nobody_comes_in_and_is_told_when_to_try_again() {
    let answer = Some(GateError::Unavailable {
        cause: Arc::new(PscError::Malformed {
            endpoint: Endpoint::Introspection,
            what: "test",
        }),
        retry_after: Duration::from_secs(5),
    });
    let psc = Psc {
        answer,
        ..physician()
    };
    let case = good_with(Directory::default(), psc, exam()).await;
    let refusal = case.ask().await.unwrap_err();
    let unchecked = Refusal::TokenUnchecked {
        reason: "psc_unavailable",
        retry_after: Duration::from_secs(5),
    };
    assert_eq!(refusal, unchecked);
}

#[tokio::test]
async fn a_profession_that_is_not_in_the_list_is_refused() {
    for professions in [&["60"][..], &["98"], &["60", "98"], &[""], &[]] {
        let psc = Psc {
            professions,
            ..Psc::default()
        };
        let case = good_with(Directory::default(), psc, exam()).await;
        case.refused("profession").await;
    }
}

#[tokio::test]
async fn the_list_of_professions_is_what_the_centre_writes() {
    let radiographers = ProfessionPolicy {
        allowed: BTreeSet::from(["98".to_owned()]),
        ..ProfessionPolicy::default()
    };
    for (code, comes_in) in [("98", true), ("10", false)] {
        let psc = Psc {
            professions: if comes_in { &["98"] } else { &["10"] },
            ..Psc::default()
        };
        let mut case = good_with(Directory::default(), psc, exam()).await;
        case.access.gate.as_mut().unwrap().professions = radiographers.clone();
        match case.ask().await {
            Ok(_) => assert!(comes_in, "{code}"),
            Err(refusal) => assert_eq!((refusal.label(), comes_in), ("profession", false)),
        }
    }
}

/// A request with all that can be wrong with it, the first so many excepted.
async fn without_the_first(defects: &[&str], mended: usize) -> Case {
    let wrong = |label: &str| defects.iter().position(|one| *one == label).unwrap() >= mended;
    let directory = Directory {
        refused: wrong("not_listed").then_some(NotAPeer {
            label: "not_listed",
            ours: false,
        }),
    };
    let psc = Psc {
        professions: if wrong("profession") {
            &["60"]
        } else {
            &["10"]
        },
        ..Psc::default()
    };
    let mut exam = exam();
    if wrong("not_published") {
        exam.study = StudyUid::parse("1.3").unwrap();
    }
    exam.restrictions.opposed = wrong("opposed");
    exam.restrictions.masked_to_professionals = wrong("masked");
    let mut case = good_with(directory, psc, exam).await;
    case.certificate = !wrong("no_certificate");
    if wrong("not_offered") {
        case.access.peer.clear();
    }
    if wrong("no_pacs") {
        case.access.hosts.clear();
    }
    case.token = match (wrong("no_token"), wrong("token_inactive")) {
        (true, _) => None,
        (_, true) => Some("bad"),
        _ => Some("good"),
    };
    case.kos = match (wrong("no_kos"), wrong("unreadable_kos"), wrong("other_kos")) {
        (true, ..) => Ok(None),
        (_, true, _) => Err(()),
        (.., true) => Ok(Some("1.2.8")),
        _ => Ok(Some(KOS)),
    };
    if wrong("series_not_named") {
        case.scope = scope(STUDY, "1.2.2");
    }
    case
}

#[tokio::test]
async fn of_all_that_is_wrong_the_first_in_the_order_of_the_gate_is_the_reason() {
    let order = [
        "no_certificate",
        "not_listed",
        "not_offered",
        "no_pacs",
        "no_token",
        "token_inactive",
        "profession",
        "no_kos",
        "unreadable_kos",
        "not_published",
        "other_kos",
        "opposed",
        "masked",
        "series_not_named",
    ];
    for (mended, label) in order.iter().enumerate() {
        let case = without_the_first(&order, mended).await;
        case.refused(label).await;
        // Pro Santé Connect is asked for nobody who lacks what comes before.
        let asked = *case.psc.asked.lock() > 0;
        assert_eq!(asked, mended >= 5, "{label}");
    }
    let case = without_the_first(&order, order.len()).await;
    case.ask().await.unwrap();
}

#[tokio::test]
async fn the_kos_must_be_named_once_and_readably() {
    let mut case = good().await;
    case.kos = Ok(None);
    case.refused("no_kos").await;
    case.kos = Err(());
    case.refused("unreadable_kos").await;
}

#[tokio::test]
async fn a_kos_opens_the_study_that_it_was_published_for() {
    let mut case = good().await;
    case.scope = scope("1.3", SERIES);
    case.refused("not_published").await;
    case.scope = scope(STUDY, SERIES);
    case.kos = Ok(Some("1.2.8"));
    case.refused("other_kos").await;
}

#[tokio::test]
async fn the_kos_of_one_published_study_does_not_open_another() {
    let mut case = good().await;
    let mut other = exam();
    other.study = StudyUid::parse("1.3").unwrap();
    other.kos = InstanceUid::parse("1.3.9").unwrap();
    other.series[0].series = SeriesUid::parse("1.3.1").unwrap();
    let exams = case.access.gate.as_ref().unwrap().exams.clone();
    exams.put(other).await.unwrap();
    for (study, series, own, foreign) in [
        (STUDY, SERIES, KOS, "1.3.9"),
        ("1.3", "1.3.1", "1.3.9", KOS),
    ] {
        case.scope = scope(study, series);
        case.kos = Ok(Some(foreign));
        case.refused("other_kos").await;
        case.kos = Ok(Some(own));
        case.ask().await.unwrap();
    }
    // Nor a series of the other under its own study and KOS.
    case.scope = scope("1.3", SERIES);
    case.refused("series_not_named").await;
}

#[tokio::test]
async fn an_exam_of_one_pacs_is_not_opened_on_the_name_of_another() {
    let mut case = good().await;
    let other = "db2.example.org";
    case.access.hosts.insert(other.to_owned(), "mr".into());
    case.host = other;
    case.refused("not_published").await;
    // The same study, published there with a KOS of its own: each name has its own.
    let mut there = exam();
    there.pacs = "mr".into();
    there.kos = InstanceUid::parse("1.2.10").unwrap();
    let exams = case.access.gate.as_ref().unwrap().exams.clone();
    exams.put(there).await.unwrap();
    for (host, pacs, own, foreign) in [(other, "mr", "1.2.10", KOS), (HOST, "ct", KOS, "1.2.10")] {
        case.host = host;
        case.kos = Ok(Some(foreign));
        case.refused("other_kos").await;
        case.kos = Ok(Some(own));
        assert_eq!(&*case.ask().await.unwrap().pacs, pacs);
    }
}

#[tokio::test]
async fn only_what_the_kos_names_is_opened() {
    let mut case = good().await;
    case.scope = scope(STUDY, "1.2.2");
    case.refused("series_not_named").await;
    case.scope = Scope::Study(StudyUid::parse(STUDY).unwrap());
    case.refused("whole_study").await;
    let instance = |uid| {
        let (study, series) = (StudyUid::parse(STUDY), SeriesUid::parse(SERIES));
        Scope::Instance(
            study.unwrap(),
            series.unwrap(),
            InstanceUid::parse(uid).unwrap(),
        )
    };
    case.scope = instance("1.2.1.2");
    case.refused("instance_not_named").await;
    case.scope = instance(INSTANCE);
    case.ask().await.unwrap();
}

#[tokio::test]
async fn a_patient_who_is_opposed_keeps_the_exam_closed() {
    let mut opposed = exam();
    opposed.restrictions.opposed = true;
    let case = good_with(Directory::default(), physician(), opposed).await;
    case.refused("opposed").await;
}

#[tokio::test]
async fn a_masked_exam_is_closed_unless_it_is_chosen_otherwise() {
    let mut masked = exam();
    masked.restrictions.masked_to_professionals = true;
    let mut case = good_with(Directory::default(), physician(), masked).await;
    case.refused("masked").await;
    case.access.gate.as_mut().unwrap().serve_masked = true;
    case.ask().await.unwrap();
}

#[tokio::test]
async fn the_table_is_asked_anew_after_every_change() {
    let case = good().await;
    case.ask().await.unwrap();
    let exams = case.access.gate.as_ref().unwrap().exams.clone();
    exams
        .remove("ct", &StudyUid::parse(STUDY).unwrap())
        .await
        .unwrap();
    case.refused("not_published").await;
}

#[tokio::test]
async fn a_table_that_cannot_be_read_publishes_nothing() {
    let case = good().await;
    let folder = case._folder.path();
    // A new table on the same folder has nothing in memory.
    let exams = Exams::open(folder).unwrap();
    for shard in std::fs::read_dir(folder).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), "{").unwrap();
        }
    }
    let mut case = case;
    case.access.gate.as_mut().unwrap().exams = exams;
    case.refused("exams_unknown").await;
}

#[tokio::test]
async fn a_search_is_closed_to_peers_before_their_token_is_looked_at() {
    let mut case = good().await;
    let connection = case.connection();
    let credentials = Credentials {
        token: case.token,
        kos: NamedKos::Absent,
        headers: None,
    };
    let mut known = Known::default();
    let decided = case
        .access
        .decide(&connection, credentials, None, Request::Search, &mut known)
        .await;
    assert_eq!(decided, Err(Refusal::NotOffered));
    assert_eq!(*case.psc.asked.lock(), 0);
    assert_eq!(
        case.access.offered(&connection, case.token, None),
        Err(Refusal::NotOffered)
    );
    // Chosen otherwise, it needs all but a KOS.
    case.access.peer.insert(Resource::Qido);
    let ask = async |token| {
        let credentials = Credentials {
            token,
            kos: NamedKos::Absent,
            headers: None,
        };
        let mut known = Known::default();
        let decided =
            case.access
                .decide(&connection, credentials, None, Request::Search, &mut known);
        decided.await
    };
    assert_eq!(ask(None).await, Err(Refusal::NoToken));
    assert_eq!(ask(Some("good")).await.unwrap().exam, None);
}

#[tokio::test]
async fn a_name_without_pacs_opens_nothing() {
    let mut case = good().await;
    case.access.hosts.clear();
    case.refused("no_pacs").await;
}
