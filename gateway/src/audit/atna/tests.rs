#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;

use quick_xml::Reader;

use super::super::event::{Object, Outcome, Peer, Person};
use super::super::record::{self, Anchor};
use super::super::syslog;
use super::*;

/// An element with what is in it.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: BTreeMap<String, String>,
    children: Vec<Element>,
    text: String,
}

impl Element {
    fn all<'a>(&'a self, name: &str) -> Vec<&'a Element> {
        self.children
            .iter()
            .filter(|child| child.name == name)
            .collect()
    }

    fn code(&self, name: &str) -> &str {
        &self.all(name)[0].attributes["csd-code"]
    }
}

/// Reads a document, and fails where it is not well formed.
fn read(xml: &str) -> Element {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let mut open = vec![Element::default()];
    let element = |start: &BytesStart<'_>| Element {
        name: String::from_utf8(start.name().as_ref().to_vec()).unwrap(),
        attributes: start
            .attributes()
            .map(|attribute| {
                let attribute = attribute.unwrap();
                let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                (key, attribute.unescape_value().unwrap().into_owned())
            })
            .collect(),
        ..Element::default()
    };
    loop {
        match reader.read_event().unwrap() {
            Xml::Start(start) => open.push(element(&start)),
            Xml::Empty(start) => open.last_mut().unwrap().children.push(element(&start)),
            Xml::End(_) => {
                let ended = open.pop().unwrap();
                open.last_mut().unwrap().children.push(ended);
            }
            Xml::Text(text) => {
                open.last_mut().unwrap().text += &text.decode().unwrap();
            }
            Xml::GeneralRef(reference) => {
                let name = reference.decode().unwrap();
                let known = quick_xml::escape::resolve_predefined_entity(&name);
                open.last_mut().unwrap().text += known.unwrap();
            }
            Xml::Eof => break,
            Xml::Decl(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let mut root = open.pop().unwrap();
    assert!(open.is_empty() && root.children.len() == 1);
    root.children.pop().unwrap()
}

/// What the schema of PS3.15 §A.5.1 says about one element: attributes it must have, those it may
/// have, children in their order with how many there are at least and at most.
type Rule = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [(&'static str, usize, usize)],
);

const MANY: usize = usize::MAX;
const CODED: &[&str] = &["csd-code", "codeSystemName", "originalText"];
const SCHEMA: &[Rule] = &[
    (
        "AuditMessage",
        &[],
        &[],
        &[
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, MANY),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, MANY),
        ],
    ),
    (
        "EventIdentification",
        &["EventDateTime", "EventOutcomeIndicator"],
        &["EventActionCode"],
        &[
            ("EventID", 1, 1),
            ("EventTypeCode", 0, MANY),
            ("EventOutcomeDescription", 0, 1),
        ],
    ),
    ("EventID", CODED, &["displayName"], &[]),
    ("EventTypeCode", CODED, &["displayName"], &[]),
    ("EventOutcomeDescription", &[], &[], &[]),
    (
        "ActiveParticipant",
        &["UserID", "UserIsRequestor"],
        &[
            "AlternativeUserID",
            "UserName",
            "NetworkAccessPointID",
            "NetworkAccessPointTypeCode",
        ],
        &[("RoleIDCode", 0, MANY)],
    ),
    ("RoleIDCode", CODED, &["displayName"], &[]),
    (
        "AuditSourceIdentification",
        &["AuditSourceID"],
        &["AuditEnterpriseSiteID"],
        &[("AuditSourceTypeCode", 0, MANY)],
    ),
    ("AuditSourceTypeCode", &["csd-code"], &[], &[]),
    (
        "ParticipantObjectIdentification",
        &["ParticipantObjectID"],
        &["ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"],
        &[
            ("ParticipantObjectIDTypeCode", 1, 1),
            ("ParticipantObjectName", 1, 1),
            ("ParticipantObjectDetail", 0, MANY),
            ("ParticipantObjectDescription", 0, MANY),
        ],
    ),
    ("ParticipantObjectIDTypeCode", CODED, &["displayName"], &[]),
    ("ParticipantObjectName", &[], &[], &[]),
    ("ParticipantObjectDetail", &["type", "value"], &[], &[]),
    (
        "ParticipantObjectDescription",
        &[],
        &[],
        &[("SOPClass", 0, MANY)],
    ),
    ("SOPClass", &["NumberOfInstances"], &["UID"], &[]),
];

fn conforms(element: &Element) {
    let name = element.name.as_str();
    let rule = SCHEMA.iter().find(|rule| rule.0 == name);
    let (_, required, optional, children) = rule.unwrap_or_else(|| panic!("{name}"));
    for attribute in *required {
        assert!(
            element.attributes.contains_key(*attribute),
            "{name}: {attribute}"
        );
    }
    for attribute in element.attributes.keys() {
        let attribute = attribute.as_str();
        let is_known = required.contains(&attribute) || optional.contains(&attribute);
        assert!(is_known, "{name}: {attribute}");
    }
    let mut rest = element.children.as_slice();
    for (child, least, most) in *children {
        let count = rest.iter().take_while(|found| found.name == *child).count();
        assert!((*least..=*most).contains(&count), "{name}: {count} {child}");
        rest = &rest[count..];
    }
    assert!(rest.is_empty(), "{name}: {rest:?}");
    element.children.iter().for_each(conforms);
}

fn source() -> Source {
    Source {
        site: Some("Centre d'imagerie « Nord & Sud »".into()),
        host: "drimbox.exemple.fr".into(),
    }
}

fn full(kind: Kind) -> Event {
    let at = time::macros::datetime!(2026-11-21 09:30 UTC);
    Event::new(at, kind)
        .by(Actor {
            address: Some("192.0.2.7".parse().unwrap()),
            peer: Some(Peer {
                subject: Some("CN=db.autre.fr,O=\"<Autre> & fils\"".into()),
                fingerprint: Some("ab".repeat(32).into()),
                host: Some("db.autre.fr".into()),
            }),
            person: Some(Person {
                national_id: Some("899700000001".into()),
                token: Some("jti-1".into()),
                ..Person::default()
            }),
            account: Some("ris".into()),
        })
        .on(Object {
            study: Some("1.2.3".into()),
            series: Some("1.2.3.4".into()),
            kos: Some("1.2.9".into()),
            subject: Some("db.exemple.fr".into()),
            ..Object::default()
        })
        .ending(Outcome {
            instances: Some(12),
            bytes: Some(3456),
            times: Some(40),
            ..Outcome::refused(403, "peer-unknown")
        })
}

fn recorded(event: &Event) -> Record {
    let json = serde_json::to_string(event).unwrap();
    let (line, _) = record::encode(Anchor::EMPTY, &json).unwrap();
    Record::parse(line.as_bytes()).unwrap()
}

#[test]
fn every_kind_of_event_is_a_message_of_the_schema() {
    for kind in Kind::ALL {
        for event in [full(*kind), Event::new(full(*kind).at, *kind)] {
            let xml = message(&recorded(&event), &event, &source());
            conforms(&read(&xml));
        }
    }
}

#[test]
fn events_have_the_codes_of_the_standard() {
    for (kind, id, kinds) in [
        (Kind::ServiceStarted, "110100", &["110120"][..]),
        (Kind::ServiceStopped, "110100", &["110121"]),
        (Kind::RequestStarted, "110102", &[]),
        (Kind::RequestEnded, "110104", &[]),
        (Kind::RequestRefused, "110113", &["110132"]),
        (Kind::ConnectionRefused, "110113", &["110132"]),
        (Kind::LinkOpened, "110103", &[]),
        (Kind::LinkRefused, "110113", &["110132"]),
        (Kind::ImagesSeen, "110103", &[]),
        (Kind::ImagesRefused, "110113", &["110132"]),
        (Kind::PatientGate, "110114", &["110122"]),
        (Kind::Login, "110114", &["110122"]),
        (Kind::Logout, "110114", &["110123"]),
        (Kind::BypassStarted, "110113", &["110127"]),
        (Kind::BypassUsed, "110113", &["110127"]),
        (Kind::Backup, "110106", &[]),
    ] {
        let event = full(kind);
        let read = read(&message(&recorded(&event), &event, &source()));
        let what = read.all("EventIdentification")[0];
        assert_eq!(what.code("EventID"), id);
        let found: Vec<_> = what
            .all("EventTypeCode")
            .iter()
            .map(|e| &e.attributes["csd-code"])
            .collect();
        assert_eq!(found, kinds);
    }
    let mut search = full(Kind::RequestEnded);
    search.object.study = None;
    let read = read(&message(&recorded(&search), &search, &source()));
    assert_eq!(read.all("EventIdentification")[0].code("EventID"), "110112");
}

#[test]
fn a_message_tells_who_and_what() {
    let event = full(Kind::RequestEnded);
    let record = recorded(&event);
    let read = read(&message(&record, &event, &source()));
    let participants = read.all("ActiveParticipant");
    let users: Vec<_> = participants
        .iter()
        .map(|p| p.attributes["UserID"].as_str())
        .collect();
    assert_eq!(
        users,
        [
            "drimbox@drimbox.exemple.fr",
            "db.autre.fr",
            "899700000001",
            "ris"
        ]
    );
    let asking: Vec<_> = participants
        .iter()
        .filter(|p| p.attributes["UserIsRequestor"] == "true")
        .map(|p| p.attributes["UserID"].as_str())
        .collect();
    assert_eq!(asking, ["899700000001"]);
    assert_eq!(participants[0].code("RoleIDCode"), "110153");
    assert_eq!(participants[1].code("RoleIDCode"), "110152");
    assert_eq!(
        participants[1].attributes["NetworkAccessPointID"],
        "192.0.2.7"
    );
    assert_eq!(
        participants[1].attributes["AlternativeUserID"],
        "CN=db.autre.fr,O=\"<Autre> & fils\""
    );
    let study = read.all("ParticipantObjectIdentification")[0];
    assert_eq!(study.attributes["ParticipantObjectID"], "1.2.3");
    assert_eq!(study.code("ParticipantObjectIDTypeCode"), "110180");
    let details: BTreeMap<_, _> = study
        .all("ParticipantObjectDetail")
        .iter()
        .map(|detail| {
            let value = STANDARD.decode(&detail.attributes["value"]).unwrap();
            (
                detail.attributes["type"].clone(),
                String::from_utf8(value).unwrap(),
            )
        })
        .collect();
    assert_eq!(details["SeriesInstanceUID"], "1.2.3.4");
    assert_eq!(details["Bytes"], "3456");
    assert_eq!(details["Hash"], record.hash.to_string());
    assert_eq!(
        read.all("EventIdentification")[0].all("EventOutcomeDescription")[0].text,
        "peer-unknown"
    );
}

#[test]
fn a_syslog_message_has_the_header_of_rfc_5424_and_its_length_in_front() {
    let event = full(Kind::RequestRefused);
    let mut source = source();
    source.host = "poste é 1".into();
    let message = syslog::message(&recorded(&event), &event, &source);
    let head = "<84>1 2026-11-21T09:30:00.000Z poste___1 drimbox - DICOM+RFC3881 \
                [meta sequenceId=\"1\"] \u{FEFF}<?xml";
    assert!(message.starts_with(head), "{message}");
    let (_, xml) = message.split_once('\u{FEFF}').unwrap();
    conforms(&read(xml));
    let frame = syslog::frame(&message);
    let length: usize = std::str::from_utf8(&frame)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(length, message.len());
}
