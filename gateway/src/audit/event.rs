//! What is recorded: who did what to which object, and how it ended.
//!
//! Identities of professionals, study UIDs and certificate names stand here and in no log. Names and
//! identifiers of patients have no place here either: the Study Instance UID leads to them in the PACS.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::record::{Hash, Sequence};

/// Longest text of an event, bytes; what is longer is cut, so that a record has a bounded length.
const MAX_TEXT: usize = 1024;

/// One line of the audit trail, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    #[serde(with = "moment")]
    pub at: OffsetDateTime,
    /// What happened.
    pub kind: Kind,
    /// Who.
    #[serde(default, skip_serializing_if = "Actor::is_empty")]
    pub actor: Actor,
    /// To what.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub object: Object,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
    /// The record of the beginning of what ends here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Sequence>,
    /// What the trail says about itself; set by the trail alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<TrailNote>,
}

impl Event {
    /// An event without anything but its time and kind.
    #[must_use]
    pub fn new(at: OffsetDateTime, kind: Kind) -> Self {
        Self {
            at,
            kind,
            actor: Actor::default(),
            object: Object::default(),
            outcome: Outcome::default(),
            follows: None,
            trail: None,
        }
    }

    /// The same, done by `actor`.
    #[must_use]
    pub fn by(self, actor: Actor) -> Self {
        Self { actor, ..self }
    }

    /// The same, done to `object`.
    #[must_use]
    pub fn on(self, object: Object) -> Self {
        Self { object, ..self }
    }

    /// The same, with its outcome.
    #[must_use]
    pub fn ending(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// The same, as the end of what the record `begun` began.
    #[must_use]
    pub fn following(self, begun: Sequence) -> Self {
        Self {
            follows: Some(begun),
            ..self
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// What happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its word in records, filters and labels of metrics.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// The kind of a word.
            #[must_use]
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.word() == word)
            }
        }
    };
}

kinds! {
    /// The service started.
    ServiceStarted = "service-started",
    /// The service stopped in order.
    ServiceStopped = "service-stopped",
    /// A request of another DRIMbox was accepted; recorded before the first byte of its answer.
    RequestStarted = "request-started",
    /// An accepted request ended, well or not.
    RequestEnded = "request-ended",
    /// A request of another DRIMbox was refused.
    RequestRefused = "request-refused",
    /// A connection, or a request before anything looked at it, was refused by the public listener.
    ConnectionRefused = "connection-refused",
    /// Images of another DRIMbox were asked for.
    FetchStarted = "fetch-started",
    /// That ended, well or not.
    FetchEnded = "fetch-ended",
    /// A contextual call came from a RIS or a workstation.
    ContextCall = "context-call",
    /// The link of a report gave access to its study.
    LinkOpened = "link-opened",
    /// The link of a report was refused.
    LinkRefused = "link-refused",
    /// A person to whom a link was opened sees a series, or what else there is of the exam: once for a session.
    ImagesSeen = "images-seen",
    /// A person asked for images that their session does not open.
    ImagesRefused = "images-refused",
    /// A person logged in, or failed to (see the outcome).
    Login = "login",
    /// A person logged out, or their session ended.
    Logout = "logout",
    /// A patient tried the gate that asks for what the report says.
    PatientGate = "patient-gate",
    /// A check was switched off for a time by an administrator.
    BypassStarted = "bypass-started",
    /// That time ended.
    BypassEnded = "bypass-ended",
    /// Somebody was let in only because of that.
    BypassUsed = "bypass-used",
    /// An exam was opened to other DRIMboxes and links.
    ExamRegistered = "exam-registered",
    /// An exam was closed to them.
    ExamRemoved = "exam-removed",
    /// A certificate of the gateway was replaced.
    CertificateReplaced = "certificate-replaced",
    /// A backup was made or restored.
    Backup = "backup",
    /// Another action of an administrator.
    Administration = "administration",
    /// What a crash left of a record that was never acknowledged was cut off.
    TrailRepaired = "trail-repaired",
    /// A segment older than the retention is about to be removed.
    TrailExpired = "trail-expired",
}

/// Who acts. What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Address the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The system, by the certificate it showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// The professional.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<Person>,
    /// Name of a local account, of a local token, or of a part of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Text>,
}

impl Actor {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Another DRIMbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Subject of its certificate, as text (RFC 4514).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text>,
    /// SHA-256 of its certificate, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Text>,
    /// Its `db` host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Text>,
}

/// A professional, as Pro Santé Connect names them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Person {
    /// National identifier (`SubjectNameID`, for example `8` and the RPPS number).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub national_id: Option<Text>,
    /// Name as displayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Text>,
    /// Code of the profession.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profession: Option<Text>,
    /// Identifier of the structure they act for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structure: Option<Text>,
    /// `jti` of the token, never the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Text>,
    /// `azp` of the token: the client it was issued to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorized_party: Option<Text>,
    /// `session_state` of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Text>,
    /// How they proved who they are: `psc`, where the gateway itself sent them to Pro Santé Connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Text>,
}

impl Person {
    /// The [`proof`](Self::proof) of those who logged in at Pro Santé Connect.
    pub const PSC: &'static str = "psc";
}

/// What the event is about. What does not apply is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Object {
    /// Name of the PACS in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pacs: Option<Text>,
    /// Study Instance UID (0020,000D).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub study: Option<Text>,
    /// Series Instance UID (0020,000E).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Text>,
    /// SOP Instance UID (0008,0018).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Text>,
    /// SOP Instance UID of the KOS the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kos: Option<Text>,
    /// Kind of resource asked for: a fixed word of the program, never the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Text>,
    /// What an administrator acted on: a host name, the name of a check, a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Text>,
    /// SHA-256 of the certificate that was put in service, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Text>,
    /// SHA-256 of the certificate in whose place it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_before: Option<Text>,
}

impl Object {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How it ended, and how much there was of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The ending.
    pub ending: Ending,
    /// HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why: a fixed word of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// How many events of the same kind, address and reason this record stands for; absent: one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Bytes sent or received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Instances sent or received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// Time it took.
    #[serde(
        with = "milliseconds",
        rename = "milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub duration: Option<Duration>,
}

impl Outcome {
    /// An ending and nothing more.
    #[must_use]
    pub fn of(ending: Ending) -> Self {
        Self {
            ending,
            ..Self::default()
        }
    }

    /// A refusal with its status and the word for its reason.
    #[must_use]
    pub fn refused(status: u16, reason: impl Into<Text>) -> Self {
        Self {
            ending: Ending::Refused,
            status: Some(status),
            reason: Some(reason.into()),
            ..Self::default()
        }
    }
}

/// The way something ends.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It has begun; another record will say how it ends.
    Begun,
    /// Well.
    #[default]
    Success,
    /// It was not allowed.
    Refused,
    /// The gateway or what is behind it failed before anything was sent.
    Failed,
    /// It broke in its middle.
    Aborted,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 5] = [
        Self::Begun,
        Self::Success,
        Self::Refused,
        Self::Failed,
        Self::Aborted,
    ];

    /// Its word in records, filters and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// What the trail says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailNote {
    /// The last record concerned: the last one of an expired segment, or the last whole one before
    /// a repair.
    pub sequence: Sequence,
    /// Hash of that record.
    pub hash: Hash,
    /// Bytes removed.
    pub bytes: u64,
}

/// A text of bounded length without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    /// Control characters and what XML cannot hold become U+FFFD; what is longer than 1 KiB is cut and
    /// ends in `…`.
    fn from(text: &str) -> Self {
        let clean = |c: char| match c {
            '\u{FFFE}' | '\u{FFFF}' => '\u{FFFD}',
            c if c.is_control() => '\u{FFFD}',
            c => c,
        };
        let mut kept = String::new();
        for c in text.chars().map(clean) {
            if kept.len() + c.len_utf8() > MAX_TEXT - '…'.len_utf8() {
                kept.push('…');
                break;
            }
            kept.push(c);
        }
        Self(kept)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::from(&*text)
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Self {
        Self::from(&**text)
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Milliseconds in UTC (RFC 3339): `2026-11-21T09:30:00.125Z`.
pub(super) fn show_moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

mod moment {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    pub(super) fn serialize<S: Serializer>(
        at: &OffsetDateTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::show_moment(*at))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(serde::de::Error::custom)
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    #[allow(clippy::ref_option, reason = "the form that serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => {
                serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
            }
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_of_any_length_and_content_becomes_short_and_plain() {
        let text = Text::from("é\n\u{1b}[31m\0".repeat(500).as_str());
        assert!(text.as_str().len() <= MAX_TEXT);
        assert!(text.as_str().ends_with('…'));
        assert!(!text.as_str().chars().any(char::is_control));
        assert_eq!(Text::from("CN=db.é").as_str(), "CN=db.é");
    }

    #[test]
    fn an_event_is_read_back_as_it_was_written() {
        let at = time::macros::datetime!(2026-11-21 09:30:00.125 UTC);
        let event = Event::new(at, Kind::RequestEnded)
            .by(Actor {
                address: Some("192.0.2.1".parse().unwrap()),
                peer: Some(Peer {
                    subject: Some("CN=db.exemple.fr".into()),
                    ..Peer::default()
                }),
                ..Actor::default()
            })
            .on(Object {
                study: Some("1.2.3".into()),
                ..Object::default()
            })
            .ending(Outcome {
                duration: Some(Duration::from_millis(1500)),
                bytes: Some(12),
                ..Outcome::of(Ending::Aborted)
            })
            .following(Sequence(7));
        let json = serde_json::to_string(&event).unwrap();
        assert!(
            json.contains(r#""at":"2026-11-21T09:30:00.125Z""#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }

    #[test]
    fn every_word_stands_for_its_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_word(kind.word()), Some(*kind));
            assert_eq!(
                serde_json::to_string(kind).unwrap(),
                format!("\"{}\"", kind.word())
            );
        }
        for ending in Ending::ALL {
            let json = serde_json::to_string(&ending).unwrap();
            assert_eq!(json, format!("\"{}\"", ending.word()));
        }
    }
}
