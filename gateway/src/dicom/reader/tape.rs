//! The notes that a reader takes while it walks a data set: one per element, item and fragment, in
//! the order of the data.

use dicom_core::{Tag, VR};

use super::{LargeValue, Problem, ReadError};
use crate::dicom::walk::{Event, Header, is_pixel_data};

/// One element, item or fragment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub kind: Kind,
    pub big_endian: bool,
    pub vr: VR,
    pub tag: Tag,
    /// Offset of the header in the data set.
    pub offset: u32,
    /// Where the value is in the bytes of the data set, or in those that were kept.
    pub value: u32,
    pub value_end: u32,
    /// Offset after the element, with its delimiter.
    pub end: u32,
    /// Index of what follows at the same level.
    pub next: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Primitive,
    Sequence,
    Encapsulated,
    /// An item of a sequence or a fragment of an encapsulated value.
    Item,
    /// A value that was not kept; `value` is its index among those.
    Large,
}

impl Node {
    pub const NONE: Self = Self {
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

/// Takes the notes.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub nodes: Vec<Node>,
    pub kept: Option<Kept>,
    /// Index of each open node, and where its last child ends.
    open: Vec<(u32, u32)>,
    /// The last node is a value whose `next` is still to be set.
    pending: bool,
}

/// Copies of the small values of a data set that is not kept itself.
#[derive(Debug)]
pub(super) struct Kept {
    pub value_max: u32,
    pub total_max: usize,
    pub bytes: Vec<u8>,
    pub large: Vec<LargeValue>,
    keeping: bool,
    in_encapsulated: bool,
}

impl Kept {
    pub fn new(value_max: u32, total_max: usize) -> Self {
        Self {
            value_max,
            total_max,
            bytes: Vec::new(),
            large: Vec::new(),
            keeping: false,
            in_encapsulated: false,
        }
    }
}

impl Tape {
    /// A tape that keeps what [`Kept`] allows, instead of pointing into the data set.
    pub fn keeping(kept: Kept) -> Self {
        Self {
            kept: Some(kept),
            ..Self::default()
        }
    }

    pub fn take(&mut self, event: Event<'_>) -> Result<(), ReadError> {
        if let Event::Value(bytes) = event {
            if let Some(kept) = self.kept.as_mut().filter(|kept| kept.keeping) {
                kept.bytes.extend_from_slice(bytes);
            }
            return Ok(());
        }
        self.close_value();
        if let Some(kept) = &mut self.kept {
            match event {
                Event::Fragment { .. } => return Ok(()),
                Event::SequenceEnd { end } if kept.in_encapsulated => {
                    kept.in_encapsulated = false;
                    self.child_ends(offset(end));
                    return Ok(());
                }
                _ => {}
            }
        }
        match event {
            Event::Value(_) => {}
            Event::Element(header) => self.value(&header)?,
            Event::Sequence(header) => self.open(&header, Kind::Sequence),
            Event::Encapsulated(header) if self.kept.is_some() => {
                self.large(&header);
                if let Some(kept) = &mut self.kept {
                    kept.in_encapsulated = true;
                }
            }
            Event::Encapsulated(header) => self.open(&header, Kind::Encapsulated),
            Event::Item { offset: at } => {
                let at = offset(at);
                self.open
                    .push((index(self.nodes.len()), at.saturating_add(8)));
                self.nodes.push(Node {
                    kind: Kind::Item,
                    offset: at,
                    value: at.saturating_add(8),
                    ..Node::NONE
                });
            }
            Event::Fragment { offset: at, length } => {
                let at = offset(at);
                let value = at.saturating_add(8);
                let end = value.saturating_add(length);
                self.nodes.push(Node {
                    kind: Kind::Item,
                    offset: at,
                    value,
                    value_end: end,
                    end,
                    ..Node::NONE
                });
                self.pending = true;
                self.child_ends(end);
            }
            Event::ItemEnd { end } | Event::SequenceEnd { end } => self.close(offset(end)),
        }
        Ok(())
    }

    /// Completes the last note.
    pub fn close_value(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.keeping = false;
        }
        if std::mem::take(&mut self.pending) {
            let next = index(self.nodes.len());
            if let Some(node) = self.nodes.last_mut() {
                node.next = next;
            }
        }
    }

    fn value(&mut self, header: &Header) -> Result<(), ReadError> {
        let length = header.length.unwrap_or(0);
        let Some(kept) = &mut self.kept else {
            self.push(header, Kind::Primitive, offset(header.value_offset), length);
            self.pending = true;
            return Ok(());
        };
        let pixels = header.depth == 0 && is_pixel_data(header.tag);
        if (length > kept.value_max || pixels) && length > 0 {
            self.large(header);
            return Ok(());
        }
        let value = index(kept.bytes.len());
        if kept.bytes.len() + length as usize > kept.total_max {
            return Err(ReadError {
                offset: header.offset,
                tag: Some(header.tag),
                problem: Problem::HeadTooLarge(kept.total_max as u64),
            });
        }
        kept.keeping = true;
        self.push(header, Kind::Primitive, value, length);
        self.pending = true;
        Ok(())
    }

    fn large(&mut self, header: &Header) {
        let Some(kept) = &mut self.kept else { return };
        let value = index(kept.large.len());
        kept.large.push(LargeValue {
            offset: header.value_offset,
            length: header.length,
        });
        self.push(header, Kind::Large, value, 0);
        self.pending = true;
    }

    fn push(&mut self, header: &Header, kind: Kind, value: u32, length: u32) {
        let end = offset(
            header
                .value_offset
                .saturating_add(u64::from(header.length.unwrap_or(0))),
        );
        self.nodes.push(Node {
            kind,
            big_endian: header.encoding.is_big_endian(),
            vr: if kind == Kind::Sequence {
                VR::SQ
            } else {
                header.vr
            },
            tag: header.tag,
            offset: offset(header.offset),
            value,
            value_end: value.saturating_add(length),
            end,
            next: 0,
        });
        self.child_ends(end);
    }

    fn open(&mut self, header: &Header, kind: Kind) {
        let value = offset(header.value_offset);
        let at = index(self.nodes.len());
        self.push(header, kind, value, 0);
        self.open.push((at, value));
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
}

/// Below 4 Gi: nodes are bounded by [`super::Limits::elements`], and where fragments are noted by
/// 4 GiB of 8-byte headers.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Offsets of a data set in memory are below 4 GiB; of a collected one they are not used.
fn offset(at: u64) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
