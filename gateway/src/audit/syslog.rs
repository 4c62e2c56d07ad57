//! Records as syslog messages (RFC 5424) that carry the audit message (PS3.15 §A.6).

use super::atna::{self, Source};
use super::event::{Ending, Event, show_moment};
use super::record::Record;

/// Facility 10: security and authorization messages.
const FACILITY: u8 = 10;
/// MSGID of PS3.15 §A.6 for a message of the schema of §A.5.
const MESSAGE_ID: &str = "DICOM+RFC3881";
/// Largest sequenceId (RFC 5424 §7.3.1).
const MAX_SEQUENCE_ID: u64 = 2_147_483_647;

/// The message of a record.
#[must_use]
pub fn message(record: &Record, event: &Event, source: &Source) -> String {
    // 5: notice, 4: warning.
    let severity = match event.outcome.ending {
        Ending::Begun | Ending::Success => 5,
        Ending::Refused | Ending::Failed | Ending::Aborted => 4,
    };
    // 1 follows the largest.
    let sequence = record.sequence.0.saturating_sub(1) % MAX_SEQUENCE_ID + 1;
    format!(
        "<{priority}>1 {at} {host} drimbox - {MESSAGE_ID} [meta sequenceId=\"{sequence}\"] \
         \u{FEFF}<?xml version=\"1.0\" encoding=\"UTF-8\"?>{xml}",
        priority = FACILITY * 8 + severity,
        at = show_moment(event.at),
        host = host_name(source.host.as_str()),
        xml = atna::message(record, event, source),
    )
}

/// The same, as it goes over TLS: with its length in front (RFC 5425 §4.3).
#[must_use]
pub fn frame(message: &str) -> Vec<u8> {
    format!("{} {message}", message.len()).into_bytes()
}

/// HOSTNAME: printable ASCII, 255 characters at most, `-` when there is none.
fn host_name(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let name: String = host.chars().map(plain).take(255).collect();
    if name.is_empty() { "-".into() } else { name }
}
