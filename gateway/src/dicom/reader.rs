//! A bounded reader over a data set in memory: a head without its pixels, a C-FIND answer, a
//! command set.
//!
//! Parsing walks the whole data set once and notes where each element is; values stay where they
//! are. What a length field says is never allocated: the notes take 28 bytes for an element of at
//! least 8, and [`Limits`] bounds their number.

use std::borrow::Cow;

use dicom_core::{Tag, VR};

use super::charset::{CharacterSet, Repertoire};
pub use super::error::{Limits, Problem, ReadError};
use super::inflate::Inflater;
use super::syntax::Encoding;
use super::uid::Uid;
use super::walk::{Event, Header, Walker};

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// A data set whose structure has been checked; everything in it can be reached without errors.
#[derive(Debug)]
pub struct DataSet<'a> {
    bytes: Cow<'a, [u8]>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    big_endian: bool,
    vr: VR,
    tag: Tag,
    /// Offset of the header, of the value, and after the element with its delimiter.
    offset: u32,
    value: u32,
    value_end: u32,
    end: u32,
    /// Index of what follows at the same level.
    next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Primitive,
    Sequence,
    Encapsulated,
    /// An item of a sequence or a fragment of an encapsulated value.
    Item,
}

impl<'a> DataSet<'a> {
    /// Reads a whole data set, at most 4 GiB − 1.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes are no data set in this encoding, are cut short, are followed by
    /// something else, or exceed the limits.
    pub fn parse(bytes: &'a [u8], encoding: Encoding, limits: Limits) -> Result<Self, ReadError> {
        let bytes = match encoding {
            Encoding::DeflatedExplicitLittle => {
                let mut inflated = Vec::new();
                let limit = limits
                    .inflated_bytes
                    .min(limits.head_bytes)
                    .min(u64::from(u32::MAX));
                let mut inflater = Inflater::new(limit);
                inflater.feed(bytes, |piece| {
                    inflated.extend_from_slice(piece);
                    Ok(())
                })?;
                inflater.finish()?;
                Cow::Owned(inflated)
            }
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
        })
    }

    /// The elements of the data set itself.
    #[must_use]
    pub fn elements(&self) -> Elements<'_> {
        Elements {
            nodes: &self.nodes,
            bytes: &self.bytes,
            from: 0,
            to: index(self.nodes.len()),
        }
    }

    /// The bytes of the data set, inflated where it was deflated.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The elements of a data set or of an item, in the order of the data.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'d> {
    nodes: &'d [Node],
    bytes: &'d [u8],
    from: u32,
    to: u32,
}

impl<'d> Elements<'d> {
    /// Each element in turn.
    pub fn iter(self) -> impl Iterator<Item = Element<'d>> {
        self.indices().map(move |at| Element {
            nodes: self.nodes,
            bytes: self.bytes,
            at,
        })
    }

    fn indices(self) -> impl Iterator<Item = u32> {
        let Self {
            nodes, from, to, ..
        } = self;
        std::iter::successors(Some(from), move |at| {
            nodes.get(*at as usize).map(|node| node.next)
        })
        .take_while(move |at| *at < to)
    }

    /// The first element with this tag.
    #[must_use]
    pub fn find(self, tag: Tag) -> Option<Element<'d>> {
        self.iter().find(|element| element.tag() == tag)
    }

    /// The first value as text, without padding; `None` when the element is absent or the value empty.
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

    /// The first value of a US, or of an IS that fits.
    #[must_use]
    pub fn u16(self, tag: Tag) -> Option<u16> {
        self.u32(tag).and_then(|number| u16::try_from(number).ok())
    }

    /// The first value of a US, UL or non-negative SS, SL or IS.
    #[must_use]
    pub fn u32(self, tag: Tag) -> Option<u32> {
        let element = self.find(tag)?;
        let bytes = element.bytes()?;
        match element.vr() {
            VR::US => Some(u32::from(element.u16_at(bytes, 0)?)),
            VR::SS => u32::try_from(element.u16_at(bytes, 0)?.cast_signed()).ok(),
            VR::UL => element.u32_at(bytes, 0),
            VR::SL => u32::try_from(element.u32_at(bytes, 0)?.cast_signed()).ok(),
            VR::IS => self
                .text(tag, &CharacterSet::default())?
                .trim()
                .parse()
                .ok(),
            _ => None,
        }
    }

    /// The first value as a UID; `None` when absent or not a UID.
    #[must_use]
    pub fn uid(self, tag: Tag) -> Option<Uid> {
        Uid::parse(self.text(tag, &CharacterSet::default())?.trim()).ok()
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
        self.find(tag)
            .into_iter()
            .flat_map(|element| match element.value() {
                Value::Items(items) => Some(items.iter()),
                _ => None,
            })
            .flatten()
    }
}

/// One element of a data set.
#[derive(Debug, Clone, Copy)]
pub struct Element<'d> {
    nodes: &'d [Node],
    bytes: &'d [u8],
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
}

impl<'d> Element<'d> {
    /// The tag.
    #[must_use]
    pub fn tag(self) -> Tag {
        self.node().tag
    }

    /// The VR, from the data or from the dictionary (PS3.5 §A.1). A sequence is `SQ` however it was
    /// written.
    #[must_use]
    pub fn vr(self) -> VR {
        self.node().vr
    }

    /// True when the numbers of the value are written most significant byte first.
    #[must_use]
    pub fn is_big_endian(self) -> bool {
        self.node().big_endian
    }

    /// The value.
    #[must_use]
    pub fn value(self) -> Value<'d> {
        let node = self.node();
        let children = Children {
            nodes: self.nodes,
            bytes: self.bytes,
            from: self.at + 1,
            to: node.next,
        };
        match node.kind {
            Kind::Sequence => Value::Items(Items(children)),
            Kind::Encapsulated => Value::Fragments(Fragments(children)),
            Kind::Primitive | Kind::Item => Value::Bytes(self.slice(node.value, node.value_end)),
        }
    }

    /// The bytes of the value, when it is neither a sequence nor encapsulated.
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

    /// Where the element is in the bytes of the data set: header, value and delimiter.
    #[must_use]
    pub fn extent(self) -> std::ops::Range<usize> {
        let node = self.node();
        node.offset as usize..node.end as usize
    }

    /// Where the value is, delimiters left out.
    #[must_use]
    pub fn value_extent(self) -> std::ops::Range<usize> {
        let node = self.node();
        node.value as usize..node.value_end as usize
    }

    fn node(self) -> Node {
        // An `Element` is only made for an index that exists.
        self.nodes
            .get(self.at as usize)
            .copied()
            .unwrap_or(Node::NONE)
    }

    fn slice(self, from: u32, to: u32) -> &'d [u8] {
        self.bytes
            .get(from as usize..to as usize)
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Children<'d> {
    nodes: &'d [Node],
    bytes: &'d [u8],
    from: u32,
    to: u32,
}

impl<'d> Children<'d> {
    fn iter(self) -> impl Iterator<Item = (u32, Node)> {
        let Self {
            nodes,
            bytes,
            from,
            to,
        } = self;
        Elements {
            nodes,
            bytes,
            from,
            to,
        }
        .indices()
        .filter_map(move |at| Some((at, *nodes.get(at as usize)?)))
    }
}

/// The items of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Items<'d>(Children<'d>);

impl<'d> Items<'d> {
    /// Each item in turn.
    pub fn iter(self) -> impl Iterator<Item = Elements<'d>> {
        let Children { nodes, bytes, .. } = self.0;
        self.0.iter().map(move |(at, node)| Elements {
            nodes,
            bytes,
            from: at + 1,
            to: node.next,
        })
    }
}

/// The fragments of an encapsulated value.
#[derive(Debug, Clone, Copy)]
pub struct Fragments<'d>(Children<'d>);

impl<'d> Fragments<'d> {
    /// Each fragment in turn; the first is the basic offset table, often empty.
    pub fn iter(self) -> impl Iterator<Item = &'d [u8]> {
        let bytes = self.0.bytes;
        self.0.iter().map(move |(_, node)| {
            bytes
                .get(node.value as usize..node.value_end as usize)
                .unwrap_or_default()
        })
    }
}

impl Node {
    const NONE: Self = Self {
        kind: Kind::Primitive,
        big_endian: false,
        vr: VR::UN,
        tag: Tag(0, 0),
        offset: 0,
        value: 0,
        value_end: 0,
        end: 0,
        next: u32::MAX,
    };
}

/// Collects the nodes of a data set whose size is below 4 GiB.
#[derive(Debug, Default)]
struct Tape {
    nodes: Vec<Node>,
    /// Index of each open node, and where its last child ends.
    open: Vec<(u32, u32)>,
    /// The last node is a primitive or a fragment whose `next` is still to be set.
    pending: bool,
}

impl Tape {
    #[allow(clippy::unnecessary_wraps)] // the shape of a sink
    fn take(&mut self, event: Event<'_>) -> Result<(), ReadError> {
        if matches!(event, Event::Value(_)) {
            return Ok(());
        }
        self.close_value();
        match event {
            Event::Value(_) => {}
            Event::Element(header) => {
                let length = header.length.unwrap_or(0);
                self.push(&header, Kind::Primitive, length);
                self.pending = true;
                self.child_ends(index_u64(header.value_offset) + length);
            }
            Event::Sequence(header) => self.open(&header, Kind::Sequence),
            Event::Encapsulated(header) => self.open(&header, Kind::Encapsulated),
            Event::Item { offset } => {
                let offset = index_u64(offset);
                self.open.push((index(self.nodes.len()), offset + 8));
                self.nodes.push(Node {
                    kind: Kind::Item,
                    offset,
                    value: offset + 8,
                    ..Node::NONE
                });
            }
            Event::Fragment { offset, length } => {
                let offset = index_u64(offset);
                let end = offset + 8 + length;
                self.nodes.push(Node {
                    kind: Kind::Item,
                    offset,
                    value: offset + 8,
                    value_end: end,
                    end,
                    ..Node::NONE
                });
                self.pending = true;
                self.child_ends(end);
            }
            Event::ItemEnd { end } | Event::SequenceEnd { end } => self.close(index_u64(end)),
        }
        Ok(())
    }

    fn push(&mut self, header: &Header, kind: Kind, length: u32) {
        let value = index_u64(header.value_offset);
        self.nodes.push(Node {
            kind,
            big_endian: header.encoding.is_big_endian(),
            vr: if kind == Kind::Sequence {
                VR::SQ
            } else {
                header.vr
            },
            tag: header.tag,
            offset: index_u64(header.offset),
            value,
            value_end: value + length,
            end: value + length,
            next: 0,
        });
    }

    fn open(&mut self, header: &Header, kind: Kind) {
        self.open
            .push((index(self.nodes.len()), index_u64(header.value_offset)));
        self.push(header, kind, header.length.unwrap_or(0));
    }

    fn close(&mut self, end: u32) {
        let next = index(self.nodes.len());
        if let Some((at, value_end)) = self.open.pop()
            && let Some(node) = self.nodes.get_mut(at as usize)
        {
            node.end = end;
            node.value_end = value_end;
            node.next = next;
        }
        self.child_ends(end);
    }

    fn child_ends(&mut self, end: u32) {
        if let Some((_, value_end)) = self.open.last_mut() {
            *value_end = end;
        }
    }

    fn close_value(&mut self) {
        if std::mem::take(&mut self.pending) {
            let next = index(self.nodes.len());
            if let Some(node) = self.nodes.last_mut() {
                node.next = next;
            }
        }
    }
}

/// The number of nodes is bounded by [`Limits::elements`] and by 4 GiB of 8-byte headers.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Offsets are below 4 GiB: [`DataSet::parse`] checked the total.
fn index_u64(at: u64) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
