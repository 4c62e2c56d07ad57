//! One line of a segment: an event, its place in the chain, and the hash that ties it there.
//!
//! A line is `{"v":1,"sequence":N,"previous":"…","event":{…},"hash":"…"}`. The hash is SHA-256 over the
//! 32 bytes of the previous hash and the bytes of the line before `,"hash":`, so that it stands for the
//! bytes as they are and no canonical form of JSON is needed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::event::Event;

/// Longest line, bytes, newline included. Texts of events are bounded well below.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// Longest event in JSON, bytes: the rest of a line is shorter than the difference.
pub(super) const MAX_EVENT: usize = MAX_LINE - 512;

/// Version of the form of a line.
const VERSION: u8 = 1;

/// `,"hash":"` + 64 digits + `"}`
const SEAL: usize = 9 + 64 + 2;

/// Place of a record in the trail; the first is 1.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What stands before the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
            .collect();
        Some(Self(bytes?.try_into().ok()?))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256"))
    }
}

/// The last record of a trail, or one of its past: what proves that nothing up to it has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Its sequence; 0 for an empty trail.
    pub sequence: Sequence,
    /// Its hash.
    pub hash: Hash,
}

impl Anchor {
    /// That of an empty trail.
    pub const EMPTY: Self = Self {
        sequence: Sequence(0),
        hash: Hash::ZERO,
    };
}

/// A record as it stands in a segment.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its place.
    pub sequence: Sequence,
    /// Hash of the record before.
    pub previous: Hash,
    /// Its own hash.
    pub hash: Hash,
    line: Box<str>,
    event: Box<str>,
}

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARecord {
    /// It is not of the form of a record.
    #[error("not of the form of a record")]
    Form,
    /// Its content is not what its hash stands for.
    #[error("its content is not what its hash stands for")]
    Changed,
}

impl Record {
    /// Reads one line, with or without its newline, and checks it against its own hash; whether it
    /// follows the record before is the business of the caller.
    ///
    /// # Errors
    /// [`NotARecord`].
    pub fn parse(line: &[u8]) -> Result<Self, NotARecord> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line<'a> {
            v: u8,
            sequence: Sequence,
            previous: Hash,
            #[serde(borrow)]
            event: &'a RawValue,
            hash: Hash,
        }

        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.len() >= MAX_LINE {
            return Err(NotARecord::Form);
        }
        let text = std::str::from_utf8(line).map_err(|_| NotARecord::Form)?;
        let read: Line<'_> = serde_json::from_str(text).map_err(|_| NotARecord::Form)?;
        let body = line
            .len()
            .checked_sub(SEAL)
            .and_then(|at| line.split_at_checked(at));
        let (body, seal) = body.ok_or(NotARecord::Form)?;
        if read.v != VERSION || seal != self::seal(read.hash).as_bytes() {
            return Err(NotARecord::Form);
        }
        if hash(read.previous, body) != read.hash {
            return Err(NotARecord::Changed);
        }
        Ok(Self {
            sequence: read.sequence,
            previous: read.previous,
            hash: read.hash,
            event: read.event.get().into(),
            line: text.into(),
        })
    }

    /// The event, when this version knows its kind.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        serde_json::from_str(&self.event).ok()
    }

    /// The line without its newline.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The record as an anchor.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor {
            sequence: self.sequence,
            hash: self.hash,
        }
    }
}

/// Writes the line that comes after `last`, newline included, for an event in JSON. `None` when it
/// would be too long.
pub(super) fn encode(last: Anchor, event: &str) -> Option<(String, Anchor)> {
    let sequence = last.sequence.next();
    let previous = last.hash;
    let mut line = format!(
        "{{\"v\":{VERSION},\"sequence\":{sequence},\"previous\":\"{previous}\",\"event\":{event}"
    );
    let hash = hash(previous, line.as_bytes());
    line.push_str(&seal(hash));
    line.push('\n');
    (line.len() <= MAX_LINE).then_some((line, Anchor { sequence, hash }))
}

fn seal(hash: Hash) -> String {
    format!(",\"hash\":\"{hash}\"}}")
}

fn hash(previous: Hash, body: &[u8]) -> Hash {
    let digest = Sha256::new().chain_update(previous.0).chain_update(body);
    Hash(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::super::event::{Kind, Object};
    use super::*;

    fn line() -> (String, Anchor) {
        let at = time::macros::datetime!(2026-11-21 09:30 UTC);
        let event = Event::new(at, Kind::LinkOpened).on(Object {
            subject: Some(r#","hash":"00"}"#.into()),
            ..Object::default()
        });
        encode(Anchor::EMPTY, &serde_json::to_string(&event).unwrap()).unwrap()
    }

    #[test]
    fn a_record_is_read_back() {
        let (line, anchor) = line();
        let record = Record::parse(line.as_bytes()).unwrap();
        assert_eq!(record.anchor(), anchor);
        assert_eq!(record.previous, Hash::ZERO);
        let event = record.event().unwrap();
        assert_eq!(event.kind, Kind::LinkOpened);
        assert_eq!(event.object.subject.unwrap().as_str(), r#","hash":"00"}"#);
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let (line, _) = line();
        for at in 0..line.len() - 1 {
            let mut changed = line.clone().into_bytes();
            changed[at] ^= 1;
            assert!(Record::parse(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_hash_is_64_lower_case_digits() {
        let hash = Hash([0xA7; 32]);
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::parse(&hash.to_string().to_uppercase()), None);
        assert_eq!(Hash::parse(""), None);
        assert_eq!(Hash::parse(&"a".repeat(63)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Record::parse(&bytes);
        }
    }
}
