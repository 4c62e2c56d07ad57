//! Records as audit messages of DICOM PS3.15 §A.5.
//!
//! What a message of §A.5.3 asks for and the trail does not hold is left out, never made up: patients
//! above all, whom the trail does not know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Writer;
use quick_xml::events::{BytesStart, BytesText, Event as Xml};

use super::event::{Actor, Ending, Event, Kind, Text, show_moment};
use super::record::Record;

/// Who reports.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name of the centre (`AuditEnterpriseSiteID`).
    pub site: Option<Text>,
    /// Name of this machine (`AuditSourceID`).
    pub host: Text,
}

impl Source {
    /// From the names of a centre and of a machine.
    #[must_use]
    pub fn new(site: Option<&str>, host: &str) -> Self {
        Self {
            site: site.map(Text::from),
            host: host.into(),
        }
    }
}

/// A code of the DICOM controlled terminology (PS3.16 annex D) with its meaning.
type Code = (&'static str, &'static str);

const APPLICATION: Code = ("110150", "Application");
const LAUNCHER: Code = ("110151", "Application Launcher");
const DESTINATION: Code = ("110152", "Destination Role ID");
const SOURCE: Code = ("110153", "Source Role ID");
const STUDY: Code = ("110180", "Study Instance UID");
const NODE: Code = ("110182", "Node ID");

/// What a message says it is: EventID, EventActionCode, EventTypeCode.
struct Identification {
    id: Code,
    action: &'static str,
    kind: Option<Code>,
}

/// The `AuditMessage` element of a record.
#[must_use]
pub fn message(record: &Record, event: &Event, source: &Source) -> String {
    let mut xml = Writer::new(Vec::new());
    // A Vec takes every byte.
    let _ = write(&mut xml, record, event, source);
    String::from_utf8(xml.into_inner()).unwrap_or_default()
}

fn write(
    xml: &mut Writer<Vec<u8>>,
    record: &Record,
    event: &Event,
    source: &Source,
) -> std::io::Result<()> {
    xml.create_element("AuditMessage")
        .write_inner_content(|xml| {
            identify(xml, event)?;
            participants(xml, event, source)?;
            let reporter = xml.create_element("AuditSourceIdentification");
            let reporter = match &source.site {
                Some(site) => reporter.with_attribute(("AuditEnterpriseSiteID", site.as_str())),
                None => reporter,
            };
            reporter
                .with_attribute(("AuditSourceID", source.host.as_str()))
                .write_inner_content(|xml| {
                    // 4: application server process tier (table A.5.1.2.1).
                    let kind = xml.create_element("AuditSourceTypeCode");
                    kind.with_attribute(("csd-code", "4"))
                        .write_empty()
                        .map(drop)
                })?;
            objects(xml, record, event)
        })?;
    Ok(())
}

fn identify(xml: &mut Writer<Vec<u8>>, event: &Event) -> std::io::Result<()> {
    let what = identification(event);
    let outcome = match event.outcome.ending {
        Ending::Begun | Ending::Success => "0",
        Ending::Refused => "4",
        Ending::Failed | Ending::Aborted => "8",
    };
    xml.create_element("EventIdentification")
        .with_attribute(("EventActionCode", what.action))
        .with_attribute(("EventDateTime", show_moment(event.at).as_str()))
        .with_attribute(("EventOutcomeIndicator", outcome))
        .write_inner_content(|xml| {
            code(xml, "EventID", "DCM", what.id)?;
            if let Some(kind) = what.kind {
                code(xml, "EventTypeCode", "DCM", kind)?;
            }
            if let Some(reason) = &event.outcome.reason {
                xml.create_element("EventOutcomeDescription")
                    .write_text_content(BytesText::new(reason.as_str()))?;
            }
            Ok(())
        })?;
    Ok(())
}

fn identification(event: &Event) -> Identification {
    let alert: Code = ("110113", "Security Alert");
    let activity: Code = ("110100", "Application Activity");
    let is_search = event.object.study.is_none();
    let (id, action, kind): (Code, _, Option<Code>) = match event.kind {
        Kind::ServiceStarted => (activity, "E", Some(("110120", "Application Start"))),
        Kind::ServiceStopped => (activity, "E", Some(("110121", "Application Stop"))),
        Kind::ContextCall => (activity, "E", Some(("110120", "Application Start"))),
        Kind::RequestStarted | Kind::RequestEnded if is_search => (("110112", "Query"), "E", None),
        Kind::RequestStarted | Kind::FetchStarted => {
            (("110102", "Begin Transferring DICOM Instances"), "E", None)
        }
        Kind::RequestEnded => (("110104", "DICOM Instances Transferred"), "R", None),
        Kind::FetchEnded => (("110104", "DICOM Instances Transferred"), "C", None),
        // Without a status it did not come as far as a request.
        Kind::ConnectionRefused if event.outcome.status.is_none() => {
            (alert, "E", Some(("110126", "Node Authentication")))
        }
        Kind::RequestRefused
        | Kind::ConnectionRefused
        | Kind::LinkRefused
        | Kind::ImagesRefused => (alert, "E", Some(("110132", "Use of Restricted Function"))),
        Kind::LinkOpened | Kind::ImagesSeen => (("110103", "DICOM Instances Accessed"), "R", None),
        Kind::Login | Kind::PatientGate => (
            ("110114", "User Authentication"),
            "E",
            Some(("110122", "Login")),
        ),
        Kind::Logout => (
            ("110114", "User Authentication"),
            "E",
            Some(("110123", "Logout")),
        ),
        // PS3.16 has no code for its use: it is told as its start.
        Kind::BypassStarted | Kind::BypassUsed => {
            (alert, "E", Some(("110127", "Emergency Override Started")))
        }
        Kind::BypassEnded => (alert, "E", Some(("110138", "Emergency Override Stopped"))),
        Kind::ExamRegistered | Kind::ExamRemoved => (
            alert,
            "E",
            Some(("110135", "Object Security Attributes Changed")),
        ),
        Kind::CertificateReplaced | Kind::TrailExpired => {
            (alert, "E", Some(("110129", "Security Configuration")))
        }
        Kind::Backup => (("110106", "Export"), "R", None),
        Kind::Administration => (alert, "E", Some(("110131", "Software Configuration"))),
        Kind::TrailRepaired => (alert, "E", Some(("110134", "Audit Recording Started"))),
    };
    Identification { id, action, kind }
}

fn participants(xml: &mut Writer<Vec<u8>>, event: &Event, source: &Source) -> std::io::Result<()> {
    let (own, other) = match event.kind {
        Kind::RequestStarted | Kind::RequestEnded => (SOURCE, Some(DESTINATION)),
        Kind::FetchStarted | Kind::FetchEnded => (DESTINATION, Some(SOURCE)),
        Kind::ContextCall => (APPLICATION, Some(LAUNCHER)),
        _ => (APPLICATION, None),
    };
    let Actor {
        address,
        peer,
        person,
        account,
    } = &event.actor;
    let address = address.map(|address| address.to_string());
    let asks_itself = event.actor == Actor::default()
        || matches!(event.kind, Kind::FetchStarted | Kind::FetchEnded) && person.is_none();
    Participant {
        user: &format!("drimbox@{}", source.host),
        is_requestor: asks_itself,
        role: Some(own),
        ..Participant::default()
    }
    .write(xml)?;
    if let Some(peer) = peer {
        let subject = peer.subject.as_ref().map(Text::as_str);
        let host = peer.host.as_ref().map(Text::as_str);
        Participant {
            user: host.or(subject).unwrap_or("unknown"),
            alternative: subject,
            is_requestor: person.is_none() && !asks_itself,
            role: other,
            address: address.as_deref(),
            ..Participant::default()
        }
        .write(xml)?;
    }
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.as_str().to_owned());
    if let Some(person) = person {
        Participant {
            user: &text(&person.national_id).unwrap_or_else(|| "unknown".into()),
            alternative: text(&person.token).as_deref(),
            name: text(&person.name).as_deref(),
            is_requestor: true,
            address: address.as_deref().filter(|_| peer.is_none()),
            ..Participant::default()
        }
        .write(xml)?;
    }
    if let Some(account) = account {
        Participant {
            user: account.as_str(),
            is_requestor: person.is_none() && peer.is_none(),
            address: address
                .as_deref()
                .filter(|_| peer.is_none() && person.is_none()),
            ..Participant::default()
        }
        .write(xml)?;
    }
    if peer.is_none() && person.is_none() && account.is_none() && address.is_some() {
        let is_patient = event.kind == Kind::PatientGate;
        Participant {
            user: if is_patient { "patient" } else { "unknown" },
            is_requestor: true,
            role: other,
            address: address.as_deref(),
            ..Participant::default()
        }
        .write(xml)?;
    }
    Ok(())
}

#[derive(Default)]
struct Participant<'a> {
    user: &'a str,
    alternative: Option<&'a str>,
    name: Option<&'a str>,
    is_requestor: bool,
    address: Option<&'a str>,
    role: Option<Code>,
}

impl Participant<'_> {
    fn write(&self, xml: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let mut element = BytesStart::new("ActiveParticipant");
        element.push_attribute(("UserID", self.user));
        for (name, value) in [
            ("AlternativeUserID", self.alternative),
            ("UserName", self.name),
        ] {
            if let Some(value) = value {
                element.push_attribute((name, value));
            }
        }
        let asks = if self.is_requestor { "true" } else { "false" };
        element.push_attribute(("UserIsRequestor", asks));
        if let Some(address) = self.address {
            element.push_attribute(("NetworkAccessPointID", address));
            // 2: IP address.
            element.push_attribute(("NetworkAccessPointTypeCode", "2"));
        }
        let Some(role) = self.role else {
            return xml.write_event(Xml::Empty(element));
        };
        let end = element.to_end().into_owned();
        xml.write_event(Xml::Start(element))?;
        code(xml, "RoleIDCode", "DCM", role)?;
        xml.write_event(Xml::End(end))
    }
}

/// What the event is about: the study, or what an administrator acted on.
fn objects(xml: &mut Writer<Vec<u8>>, record: &Record, event: &Event) -> std::io::Result<()> {
    let object = &event.object;
    // Type 2: system object; role 3: report, 13: security resource (PS3.15 table A.5.2-1).
    let study = object.study.as_ref().map(|study| (study, "3", STUDY));
    let subject = object.subject.as_ref().map(|subject| (subject, "13", NODE));
    for (at, (id, role, kind)) in study.into_iter().chain(subject).enumerate() {
        xml.create_element("ParticipantObjectIdentification")
            .with_attribute(("ParticipantObjectID", id.as_str()))
            .with_attribute(("ParticipantObjectTypeCode", "2"))
            .with_attribute(("ParticipantObjectTypeCodeRole", role))
            .write_inner_content(|xml| {
                code(xml, "ParticipantObjectIDTypeCode", "DCM", kind)?;
                xml.create_element("ParticipantObjectName")
                    .write_text_content(BytesText::new(id.as_str()))?;
                if at == 0 {
                    details(xml, record, event)?;
                }
                if let Some(instances) = event.outcome.instances.filter(|_| role == "3") {
                    xml.create_element("ParticipantObjectDescription")
                        .write_inner_content(|xml| {
                            xml.create_element("SOPClass")
                                .with_attribute((
                                    "NumberOfInstances",
                                    instances.to_string().as_str(),
                                ))
                                .write_empty()
                                .map(drop)
                        })?;
                }
                Ok(())
            })?;
    }
    Ok(())
}

fn details(xml: &mut Writer<Vec<u8>>, record: &Record, event: &Event) -> std::io::Result<()> {
    let object = &event.object;
    let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let duration = event.outcome.duration;
    let all = [
        ("SeriesInstanceUID", text(&object.series)),
        ("SOPInstanceUID", text(&object.instance)),
        ("KOS", text(&object.kos)),
        ("PACS", text(&object.pacs)),
        ("Resource", text(&object.resource)),
        ("Certificate", text(&object.certificate)),
        ("CertificateBefore", text(&object.certificate_before)),
        (
            "Status",
            event.outcome.status.map(|status| status.to_string()),
        ),
        ("Times", number(event.outcome.times)),
        ("Bytes", number(event.outcome.bytes)),
        (
            "Milliseconds",
            duration.map(|duration| duration.as_millis().to_string()),
        ),
        ("Record", Some(record.sequence.to_string())),
        ("Hash", Some(record.hash.to_string())),
    ];
    for (kind, value) in all {
        let Some(value) = value else { continue };
        xml.create_element("ParticipantObjectDetail")
            .with_attribute(("type", kind))
            .with_attribute(("value", STANDARD.encode(value).as_str()))
            .write_empty()?;
    }
    Ok(())
}

fn code(
    xml: &mut Writer<Vec<u8>>,
    element: &str,
    system: &str,
    (code, meaning): Code,
) -> std::io::Result<()> {
    xml.create_element(element)
        .with_attribute(("csd-code", code))
        .with_attribute(("codeSystemName", system))
        .with_attribute(("originalText", meaning))
        .write_empty()
        .map(drop)
}

#[cfg(test)]
mod tests;
