//! The identifier of a query: matching keys and return keys (PS3.4 §C.2.2), encoded for the wire.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use crate::dicom::charset::{CharacterSet, Repertoire};
use crate::dicom::has_short_length;

/// Keys of a query, in tag order, and how they are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identifier {
    keys: BTreeMap<Tag, Key>,
    fuzzy_names: bool,
}

/// Dates and the times that go with them, for combined matching (PS3.4 §C.2.2.2.5).
const DATES_WITH_TIMES: &[(Tag, Tag)] = &[
    (Tag(0x0008, 0x0020), Tag(0x0008, 0x0030)),
    (Tag(0x0008, 0x0021), Tag(0x0008, 0x0031)),
    (Tag(0x0008, 0x0022), Tag(0x0008, 0x0032)),
    (Tag(0x0008, 0x0023), Tag(0x0008, 0x0033)),
    (Tag(0x0010, 0x0030), Tag(0x0010, 0x0032)),
    (Tag(0x0040, 0x0244), Tag(0x0040, 0x0245)),
    (Tag(0x0040, 0x0250), Tag(0x0040, 0x0251)),
];

/// One key of a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A value to match, or an empty text for a return key.
    Value(VR, String),
    /// Keys within the item of a sequence; empty for a return key.
    Sequence(Identifier),
}

impl Key {
    /// Whether the key asks for a value, itself or within the sequence.
    #[must_use]
    pub fn is_matching(&self) -> bool {
        match self {
            Self::Value(_, value) => !value.is_empty(),
            Self::Sequence(inner) => inner.has_matching_keys(),
        }
    }
}

impl Identifier {
    /// Sets a matching key; an empty `value` makes it a return key.
    #[must_use]
    pub fn with(mut self, tag: Tag, vr: VR, value: impl Into<String>) -> Self {
        self.set(tag, vr, value);
        self
    }

    /// Sets a matching key; an empty `value` makes it a return key.
    pub fn set(&mut self, tag: Tag, vr: VR, value: impl Into<String>) {
        let key = match vr {
            VR::SQ => Key::Sequence(Self::default()),
            vr => Key::Value(vr, value.into()),
        };
        self.keys.insert(tag, key);
    }

    /// Sets a key as it is.
    pub fn put(&mut self, tag: Tag, key: Key) {
        self.keys.insert(tag, key);
    }

    /// Adds a return key, unless the tag is a key already.
    pub fn want(&mut self, tag: Tag, vr: VR) {
        if !self.keys.contains_key(&tag) {
            self.set(tag, vr, "");
        }
    }

    /// Sets a key at a path of sequence tags that ends in an attribute.
    pub fn set_path(&mut self, path: &[(Tag, VR)], value: &str) {
        match path {
            [] => {}
            [(tag, vr)] => {
                // A bare sequence as return key must not erase keys inside it.
                if !(value.is_empty() && self.keys.contains_key(tag)) {
                    self.set(*tag, *vr, value);
                }
            }
            [(tag, _), rest @ ..] => {
                let entry = self
                    .keys
                    .entry(*tag)
                    .or_insert_with(|| Key::Sequence(Self::default()));
                if let Key::Sequence(inner) = entry {
                    inner.set_path(rest, value);
                }
            }
        }
    }

    /// The key of a tag.
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&Key> {
        self.keys.get(&tag)
    }

    /// The value to match of a tag; `None` for a return key or a sequence.
    #[must_use]
    pub fn value(&self, tag: Tag) -> Option<&str> {
        match self.keys.get(&tag) {
            Some(Key::Value(_, value)) if !value.is_empty() => Some(value),
            _ => None,
        }
    }

    /// Wants names of persons matched by their meaning (PS3.4 §C.2.2.2.1): how they sound, in which
    /// order their parts stand. An archive that cannot matches them literally.
    pub fn match_names_fuzzily(&mut self) {
        self.fuzzy_names = true;
    }

    /// Whether names of persons shall be matched by their meaning.
    #[must_use]
    pub fn wants_fuzzy_names(&self) -> bool {
        self.fuzzy_names
    }

    /// Pairs of a date and its time that are both matched by a range of the same form, and so mean
    /// one range from a moment to another (PS3.4 §C.2.2.2.5, combined datetime matching).
    #[must_use]
    pub fn combined_ranges(&self) -> Vec<(Tag, Tag)> {
        let form = |tag| {
            let (from, to) = self.value(tag)?.split_once('-')?;
            Some((from.is_empty(), to.is_empty()))
        };
        let pairs = DATES_WITH_TIMES.iter().copied();
        pairs
            .filter(|&(date, time)| form(date).is_some() && form(date) == form(time))
            .collect()
    }

    /// Whether a key asks for a value, here or within a sequence.
    #[must_use]
    pub fn has_matching_keys(&self) -> bool {
        self.keys.values().any(Key::is_matching)
    }

    /// All keys in tag order.
    pub fn iter(&self) -> impl Iterator<Item = (Tag, &Key)> {
        self.keys.iter().map(|(tag, key)| (*tag, key))
    }

    /// Whether every value is plain ASCII.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.keys.values().all(|key| match key {
            Key::Value(_, value) => value.is_ascii(),
            Key::Sequence(inner) => inner.is_ascii(),
        })
    }

    /// The data set in little endian, implicit or explicit VR. Texts are encoded in `charset`, a
    /// defined term of (0008,0005); what the set cannot hold becomes `?`, which matches any
    /// character (PS3.4 §C.2.2.2.4).
    #[must_use]
    pub fn encode(&self, explicit: bool, charset: &str) -> Vec<u8> {
        let charset = CharacterSet::declared(charset, Repertoire::Utf8);
        let mut out = Vec::with_capacity(512);
        self.encode_into(&mut out, explicit, &charset);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>, explicit: bool, charset: &CharacterSet) {
        for (tag, key) in &self.keys {
            let (vr, value) = match key {
                Key::Value(vr, text) => (*vr, encode_value(*vr, text, charset)),
                Key::Sequence(inner) => (VR::SQ, encode_item(inner, explicit, charset)),
            };
            out.extend_from_slice(&tag.group().to_le_bytes());
            out.extend_from_slice(&tag.element().to_le_bytes());
            let length = u32::try_from(value.len()).unwrap_or(0);
            if !explicit {
                out.extend_from_slice(&length.to_le_bytes());
            } else {
                out.extend_from_slice(vr.to_string().as_bytes());
                match u16::try_from(length) {
                    Ok(short) if has_short_length(vr) => {
                        out.extend_from_slice(&short.to_le_bytes());
                    }
                    _ => {
                        out.extend_from_slice(&[0, 0]);
                        out.extend_from_slice(&length.to_le_bytes());
                    }
                }
            }
            out.extend_from_slice(&value);
        }
    }
}

fn encode_item(inner: &Identifier, explicit: bool, charset: &CharacterSet) -> Vec<u8> {
    // A return key without item asks for the whole sequence (PS3.4 §C.2.2.2.6).
    if inner.keys.is_empty() {
        return Vec::new();
    }
    let mut content = Vec::new();
    inner.encode_into(&mut content, explicit, charset);
    let mut out = Vec::with_capacity(content.len() + 8);
    out.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
    out.extend_from_slice(&u32::try_from(content.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&content);
    out
}

fn encode_value(vr: VR, text: &str, charset: &CharacterSet) -> Vec<u8> {
    let numbers = || text.split('\\').filter(|part| !part.trim().is_empty());
    let mut bytes = match vr {
        VR::US => numbers()
            .filter_map(|n| n.trim().parse::<u16>().ok())
            .flat_map(u16::to_le_bytes)
            .collect(),
        VR::SS => numbers()
            .filter_map(|n| n.trim().parse::<i16>().ok())
            .flat_map(i16::to_le_bytes)
            .collect(),
        VR::UL => numbers()
            .filter_map(|n| n.trim().parse::<u32>().ok())
            .flat_map(u32::to_le_bytes)
            .collect(),
        VR::SL => numbers()
            .filter_map(|n| n.trim().parse::<i32>().ok())
            .flat_map(i32::to_le_bytes)
            .collect(),
        VR::FL => numbers()
            .filter_map(|n| n.trim().parse::<f32>().ok())
            .flat_map(f32::to_le_bytes)
            .collect(),
        VR::FD => numbers()
            .filter_map(|n| n.trim().parse::<f64>().ok())
            .flat_map(f64::to_le_bytes)
            .collect(),
        VR::LO | VR::SH | VR::PN | VR::ST | VR::LT | VR::UT | VR::UC => {
            encode_text(vr, text, charset)
        }
        _ => text
            .bytes()
            .map(|b| if b.is_ascii() { b } else { b'?' })
            .collect::<Vec<u8>>(),
    };
    if bytes.len() % 2 == 1 {
        bytes.push(if vr == VR::UI { 0 } else { b' ' });
    }
    bytes
}

/// A text in a character set; `?` for each character that the set does not have.
fn encode_text(vr: VR, text: &str, charset: &CharacterSet) -> Vec<u8> {
    charset.encode(text, vr).unwrap_or_else(|_| {
        let known: String = text
            .chars()
            .map(|c| {
                let alone = c.to_string();
                if charset.encode(&alone, vr).is_ok() {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        charset.encode(&known, vr).unwrap_or_default()
    })
}
