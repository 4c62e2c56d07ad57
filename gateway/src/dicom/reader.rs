//! A bounded reader over a data set in memory: a head without its pixels, a C-FIND answer, a
//! command set.
//!
//! Reading walks the whole data set once and notes where each element is; values stay where they
//! are. What a length field says is never allocated: the notes take 28 bytes for an element of at
//! least 8, and [`Limits`] bounds their number. [`Collector`] does the same for an object of any size
//! that goes by in fragments.

mod collect;
mod tape;

use std::borrow::Cow;
use std::ops::Range;

use dicom_core::{Tag, VR};

use super::charset::{CharacterSet, Repertoire};
pub use super::error::{Limits, Problem, ReadError};
use super::inflate::Inflater;
use super::syntax::Encoding;
use super::uid::Uid;
use super::walk::Walker;
pub use collect::Collector;
use tape::{Kind, Node, Tape, index};

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// A data set whose structure has been checked; everything in it can be reached without errors.
#[derive(Debug)]
pub struct DataSet<'a> {
    bytes: Cow<'a, [u8]>,
    nodes: Vec<Node>,
    large: Vec<LargeValue>,
}

/// Where a value is that was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeValue {
    /// Offset of its first byte in the (inflated) data set.
    pub offset: u64,
    /// Its length in bytes; `None`: encapsulated, items follow up to a delimiter.
    pub length: Option<u32>,
}

impl<'a> DataSet<'a> {
    /// Reads a whole data set of less than 4 GiB.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes are no data set in this encoding, are cut short, are followed by
    /// something else, or exceed the limits.
    pub fn parse(bytes: &'a [u8], encoding: Encoding, limits: Limits) -> Result<Self, ReadError> {
        let bytes = match encoding {
            Encoding::DeflatedExplicitLittle => Cow::Owned(inflate(bytes, limits)?),
            _ => Cow::Borrowed(bytes),
        };
        let total = bytes.len() as u64;
        if total >= u64::from(u32::MAX) {
            let problem = Problem::HeadTooLarge(u64::from(u32::MAX));
            return Err(ReadError {
                offset: 0,
                tag: None,
                problem,
            });
        }
        let mut tape = Tape::default();
        let mut walker = Walker::new(encoding, limits, Some(total));
        walker.feed(&bytes, &mut |event| tape.take(event))?;
        walker.finish(&mut |event| tape.take(event))?;
        tape.close_value();
        Ok(Self {
            bytes,
            nodes: tape.nodes,
            large: Vec::new(),
        })
    }

    /// The elements of the data set itself.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        Elements {
            set: self,
            from: 0,
            to: index(self.nodes.len()),
        }
    }

    /// The bytes of the data set, inflated where it was deflated; of a collected one, the values that
    /// were kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn inflate(bytes: &[u8], limits: Limits) -> Result<Vec<u8>, ReadError> {
    let limit = limits
        .inflated_bytes
        .min(limits.head_bytes)
        .min(u64::from(u32::MAX));
    let mut inflated = Vec::new();
    let mut inflater = Inflater::new(limit);
    inflater.feed(bytes, |piece| {
        inflated.extend_from_slice(piece);
        Ok(())
    })?;
    inflater.finish()?;
    Ok(inflated)
}

/// The elements of a data set or of an item, in the order of the data.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'d> {
    set: &'d DataSet<'d>,
    from: u32,
    to: u32,
}

impl<'d> Elements<'d> {
    /// Each element in turn.
    pub fn iter(self) -> impl Iterator<Item = Element<'d>> {
        let Self { set, from, to } = self;
        std::iter::successors(Some(from), move |at| {
            Some(set.nodes.get(*at as usize)?.next)
        })
        .take_while(move |at| *at < to)
        .filter_map(move |at| {
            Some(Element {
                set,
                at,
                node: set.nodes.get(at as usize)?,
            })
        })
    }

    /// The first element with this tag.
    #[must_use]
    pub fn find(self, tag: Tag) -> Option<Element<'d>> {
        self.iter().find(|element| element.tag() == tag)
    }

    /// The first value as text, without padding; `None` when the element is absent or the value
    /// empty.
    #[must_use]
    pub fn text(self, tag: Tag, charset: &CharacterSet) -> Option<String> {
        self.strings(tag, charset)
            .into_iter()
            .next()
            .filter(|text| !text.is_empty())
    }

    /// All values as text, without padding; empty values are empty strings, an absent or empty
    /// element gives none.
    #[must_use]
    pub fn strings(self, tag: Tag, charset: &CharacterSet) -> Vec<String> {
        self.find(tag)
            .map(|element| element.strings(charset))
            .unwrap_or_default()
    }

    /// The first value of a US, or of another whole number that fits.
    #[must_use]
    pub fn u16(self, tag: Tag) -> Option<u16> {
        self.u32(tag).and_then(|number| u16::try_from(number).ok())
    }

    /// The first value of a US or UL, or of an SS, SL or IS that is not negative.
    #[must_use]
    pub fn u32(self, tag: Tag) -> Option<u32> {
        let element = self.find(tag)?;
        let bytes = element.bytes()?;
        match element.vr() {
            VR::US => Some(u32::from(element.u16_at(bytes, 0)?)),
            VR::SS => u32::try_from(element.u16_at(bytes, 0)?.cast_signed()).ok(),
            VR::UL => element.u32_at(bytes, 0),
            VR::SL => u32::try_from(element.u32_at(bytes, 0)?.cast_signed()).ok(),
            VR::IS => self.text(tag, &CharacterSet::default())?.parse().ok(),
            _ => None,
        }
    }

    /// The first value as a UID; `None` when absent or not a UID.
    #[must_use]
    pub fn uid(self, tag: Tag) -> Option<Uid> {
        Uid::parse(&self.text(tag, &CharacterSet::default())?).ok()
    }

    /// The character set these elements declare in (0008,0005), with this repertoire for bytes that
    /// no declaration covers. `None` when they declare nothing: what holds them decides.
    #[must_use]
    pub fn declared_character_set(self, fallback: Repertoire) -> Option<CharacterSet> {
        let element = self.find(SPECIFIC_CHARACTER_SET)?;
        let declared = String::from_utf8_lossy(element.bytes()?);
        Some(CharacterSet::declared(&declared, fallback))
    }

    /// The items of the sequence with this tag; none when it is absent or no sequence.
    pub fn items(self, tag: Tag) -> impl Iterator<Item = Elements<'d>> {
        let items = self.find(tag).and_then(|element| match element.value() {
            Value::Items(items) => Some(items),
            _ => None,
        });
        items.into_iter().flat_map(Items::iter)
    }
}

/// One element of a data set.
#[derive(Debug, Clone, Copy)]
pub struct Element<'d> {
    set: &'d DataSet<'d>,
    node: &'d Node,
    at: u32,
}

/// The value of an element.
#[derive(Debug, Clone, Copy)]
pub enum Value<'d> {
    /// The bytes of the value, padding included.
    Bytes(&'d [u8]),
    /// The items of a sequence.
    Items(Items<'d>),
    /// The fragments of encapsulated pixel data, the offset table first.
    Fragments(Fragments<'d>),
    /// A value that a [`Collector`] did not keep.
    Large(LargeValue),
}

impl<'d> Element<'d> {
    /// The tag.
    #[must_use]
    pub fn tag(self) -> Tag {
        self.node.tag
    }

    /// The VR, from the data or from the dictionary (PS3.5 §A.1). A sequence is `SQ` however it was
    /// written.
    #[must_use]
    pub fn vr(self) -> VR {
        self.node.vr
    }

    /// True when the numbers of the value are written most significant byte first.
    #[must_use]
    pub fn is_big_endian(self) -> bool {
        self.node.big_endian
    }

    /// The value.
    #[must_use]
    pub fn value(self) -> Value<'d> {
        let children = Elements {
            set: self.set,
            from: self.at + 1,
            to: self.node.next,
        };
        match self.node.kind {
            Kind::Sequence => Value::Items(Items(children)),
            Kind::Encapsulated => Value::Fragments(Fragments(children)),
            Kind::Primitive | Kind::Item => Value::Bytes(self.kept()),
            Kind::Large => match self.set.large.get(self.node.value as usize) {
                Some(large) => Value::Large(*large),
                None => Value::Bytes(&[]),
            },
        }
    }

    /// The bytes of the value, when they are kept and it is neither a sequence nor encapsulated.
    #[must_use]
    pub fn bytes(self) -> Option<&'d [u8]> {
        match self.value() {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The values as text, without padding (PS3.5 §6.2).
    #[must_use]
    pub fn strings(self, charset: &CharacterSet) -> Vec<String> {
        self.bytes()
            .map(|bytes| charset.values(bytes, self.vr()))
            .unwrap_or_default()
    }

    /// The 16-bit number at this index of a value.
    #[must_use]
    pub fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let word = *bytes.get(at.checked_mul(2)?..)?.first_chunk::<2>()?;
        Some(if self.is_big_endian() {
            u16::from_be_bytes(word)
        } else {
            u16::from_le_bytes(word)
        })
    }

    /// The 32-bit number at this index of a value.
    #[must_use]
    pub fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let word = *bytes.get(at.checked_mul(4)?..)?.first_chunk::<4>()?;
        Some(if self.is_big_endian() {
            u32::from_be_bytes(word)
        } else {
            u32::from_le_bytes(word)
        })
    }

    /// The 64-bit number at this index of a value.
    #[must_use]
    pub fn u64_at(self, bytes: &[u8], at: usize) -> Option<u64> {
        let word = *bytes.get(at.checked_mul(8)?..)?.first_chunk::<8>()?;
        Some(if self.is_big_endian() {
            u64::from_be_bytes(word)
        } else {
            u64::from_le_bytes(word)
        })
    }

    /// Where the element is in the bytes given to [`DataSet::parse`]: header, value and delimiter.
    /// Without meaning in a collected data set.
    #[must_use]
    pub fn extent(self) -> Range<usize> {
        self.node.offset as usize..self.node.end as usize
    }

    /// Where its value is, delimiters left out; see [`Element::extent`].
    #[must_use]
    pub fn value_extent(self) -> Range<usize> {
        self.node.value as usize..self.node.value_end as usize
    }

    fn kept(self) -> &'d [u8] {
        self.set.bytes.get(self.value_extent()).unwrap_or_default()
    }
}

/// The items of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Items<'d>(Elements<'d>);

impl<'d> Items<'d> {
    /// Each item in turn.
    pub fn iter(self) -> impl Iterator<Item = Elements<'d>> {
        self.0.iter().map(|item| Elements {
            set: item.set,
            from: item.at + 1,
            to: item.node.next,
        })
    }
}

/// The fragments of an encapsulated value.
#[derive(Debug, Clone, Copy)]
pub struct Fragments<'d>(Elements<'d>);

impl<'d> Fragments<'d> {
    /// Each fragment in turn; the first is the basic offset table, often empty.
    pub fn iter(self) -> impl Iterator<Item = &'d [u8]> {
        self.0.iter().map(Element::kept)
    }
}

#[cfg(test)]
mod tests;
