//! Changes to the head of an object: the elements before its pixels, in Explicit VR Little Endian.
//!
//! What is not changed is copied byte for byte, and the pixels are not looked at: the caller sends
//! the new head, then the rest of the object as it is.

use std::ops::Range;

use dicom_core::{Tag, VR};

use super::convert::Converter;
use super::reader::{DataSet, Limits, ReadError, Value};
use super::syntax::Encoding;
use super::walk::{Event, Walker, has_short_length, is_pixel_data, leading_elements};
use super::write::{SEQUENCE_END, UNDEFINED, put_element, put_header, put_item};

/// One change to the top level of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Writes an element, in place of the one that is there.
    Set {
        /// The element.
        tag: Tag,
        /// Its VR, not SQ.
        vr: VR,
        /// Its value, encoded in the character set that the object declares; padding is added.
        value: Vec<u8>,
    },
    /// Adds an item at the end of a sequence, which is made where it does not exist. A sequence that
    /// has the same item already stays as it is.
    AppendItem {
        /// The sequence.
        sequence: Tag,
        /// The elements of the item, in Explicit VR Little Endian.
        item: Vec<u8>,
    },
    /// Removes an element where it is.
    Remove(Tag),
}

/// Why a head could not be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The head is no Explicit VR Little Endian data set.
    #[error("the head of the object cannot be read: {0}")]
    Head(ReadError),
    /// The item to add is no Explicit VR Little Endian data set.
    #[error("the item to add to {0} cannot be read: {1}")]
    Item(Tag, ReadError),
    /// The element to add an item to holds something else than items.
    #[error("element {0} is not a sequence: no item can be added to it")]
    NotASequence(Tag),
    /// Group lengths, file meta information, delimiters and pixels are not edited.
    #[error("element {0} cannot be edited in the head of an object")]
    NotEditable(Tag),
    /// The value does not fit the length field of its VR (PS3.5 §7.1.2).
    #[error("a value of {length} bytes is too long for element {tag}")]
    TooLong {
        /// The element.
        tag: Tag,
        /// The length of the value in bytes.
        length: usize,
    },
}

/// The head with these changes, applied in their order. The lengths of the groups that change are
/// dropped: they are retired, and would be wrong (PS3.5 §7.2). What follows the last change is not
/// looked at, nor what is in a sequence of defined length that does not change.
///
/// # Errors
/// [`EditError`] when the head cannot be read up to there, or a change cannot be made to it.
pub fn edit_head(head: &[u8], edits: &[Edit], limits: Limits) -> Result<Vec<u8>, EditError> {
    let mut out = Vec::with_capacity(head.len() + ROOM);
    CheckedEdits::new(edits, limits)?.append_edited(head, &mut out)?;
    Ok(out)
}

/// Room for what changes mostly add to a head, in bytes.
pub const ROOM: usize = 256;

/// Changes that were checked once, for many heads.
pub struct CheckedEdits<'e> {
    /// In the order of their tags.
    ordered: Vec<&'e Edit>,
    limits: Limits,
}

impl<'e> CheckedEdits<'e> {
    /// Checks what can be known of the changes before a head is seen.
    ///
    /// # Errors
    /// [`EditError`] for a change that can be made to no head.
    pub fn new(edits: &'e [Edit], limits: Limits) -> Result<Self, EditError> {
        for edit in edits {
            edit.check(limits)?;
        }
        let mut ordered: Vec<&Edit> = edits.iter().collect();
        ordered.sort_by_key(|edit| edit.tag());
        Ok(Self { ordered, limits })
    }

    /// Appends the head with these changes; see [`edit_head`].
    ///
    /// # Errors
    /// Those of [`edit_head`]; some of it may be appended then.
    pub fn append_edited(&self, head: &[u8], out: &mut Vec<u8>) -> Result<(), EditError> {
        let (cuts, end) = cuts(head, &self.ordered, self.limits).map_err(EditError::Head)?;
        let mut copied = 0;
        for cut in cuts {
            out.extend_from_slice(slice(head, copied..cut.from));
            let old = slice(head, cut.from..cut.to);
            apply(old, cut.edits, self.limits, out)?;
            copied = cut.to;
        }
        out.extend_from_slice(slice(head, copied..end));
        Ok(())
    }
}

/// A place of the head that changes.
#[derive(Debug, PartialEq)]
struct Cut<'e> {
    /// The bytes that make way: an element, or none.
    from: usize,
    to: usize,
    /// The changes to one element, which make what stands there then; none removes a group length.
    edits: &'e [&'e Edit],
}

/// Where these changes, ordered by their tags, are made, and where the head ends.
fn cuts<'e>(
    head: &[u8],
    ordered: &'e [&'e Edit],
    limits: Limits,
) -> Result<(Vec<Cut<'e>>, usize), ReadError> {
    match cuts_among_leading(head, ordered) {
        Some(cuts) => Ok((cuts, head.len())),
        None => cuts_by_walk(head, ordered, limits),
    }
}

/// The same for a head that need not be followed into its sequences up to its last change.
fn cuts_among_leading<'e>(head: &[u8], ordered: &'e [&'e Edit]) -> Option<Vec<Cut<'e>>> {
    let mut plan = Plan::new(ordered);
    leading_elements(head).find_map(|(tag, offset)| {
        plan.meet(tag, offset);
        plan.is_made().then(|| std::mem::take(&mut plan.cuts))
    })
}

fn cuts_by_walk<'e>(
    head: &[u8],
    ordered: &'e [&'e Edit],
    limits: Limits,
) -> Result<(Vec<Cut<'e>>, usize), ReadError> {
    let mut plan = Plan::new(ordered);
    let mut end = 0;
    let mut note = |event: Event<'_>, plan: &mut Plan<'e>| match event {
        Event::Element(header) | Event::Sequence(header) | Event::Encapsulated(header)
            if header.depth == 0 =>
        {
            plan.meet(header.tag, index(header.offset));
            end = header.value_offset + u64::from(header.length.unwrap_or_default());
        }
        Event::SequenceEnd { end: after } => end = after,
        _ => {}
    };
    let mut walker = Walker::new(Encoding::ExplicitLittle, limits, Some(head.len() as u64));
    for some in head.chunks(WALKED) {
        walker.feed(some, &mut |event| {
            note(event, &mut plan);
            Ok(())
        })?;
        if plan.is_made() {
            return Ok((plan.cuts, head.len()));
        }
    }
    walker.finish(&mut |event| {
        note(event, &mut plan);
        Ok(())
    })?;
    Ok((plan.finish(index(end)), index(end)))
}

/// The places of a head that change, found while its elements are met one after the other.
struct Plan<'e> {
    /// All changes, in the order of their tags.
    ordered: &'e [&'e Edit],
    /// Those that have no place yet.
    left: &'e [&'e Edit],
    cuts: Vec<Cut<'e>>,
}

impl<'e> Plan<'e> {
    fn new(ordered: &'e [&'e Edit]) -> Self {
        Self {
            ordered,
            left: ordered,
            cuts: Vec::with_capacity(ordered.len()),
        }
    }

    /// An element of the top level begins here.
    fn meet(&mut self, tag: Tag, at: usize) {
        self.close(at);
        while let Some(edits) = self.next_if(|of| of < tag) {
            self.cuts.push(Cut {
                from: at,
                to: at,
                edits,
            });
        }
        let is_group_length = tag.1 == 0 && self.ordered.iter().any(|edit| edit.tag().0 == tag.0);
        let edits = if is_group_length {
            Some(&[][..])
        } else {
            self.next_if(|of| of == tag)
        };
        if let Some(edits) = edits {
            self.cuts.push(Cut {
                from: at,
                to: OPEN,
                edits,
            });
        }
    }

    /// The changes to the next element that changes, if it is this one.
    fn next_if(&mut self, is: impl FnOnce(Tag) -> bool) -> Option<&'e [&'e Edit]> {
        let tag = self.left.first()?.tag();
        if !is(tag) {
            return None;
        }
        let (edits, left) = self.left.split_at_checked(
            self.left
                .iter()
                .take_while(|edit| edit.tag() == tag)
                .count(),
        )?;
        self.left = left;
        Some(edits)
    }

    /// What is open ends here.
    fn close(&mut self, at: usize) {
        if let Some(last) = self.cuts.last_mut().filter(|last| last.to == OPEN) {
            last.to = at;
        }
    }

    /// Whether every change has its place.
    fn is_made(&self) -> bool {
        self.left.is_empty() && self.cuts.last().is_none_or(|last| last.to != OPEN)
    }

    /// The head ends here.
    fn finish(mut self, end: usize) -> Vec<Cut<'e>> {
        self.close(end);
        while let Some(edits) = self.next_if(|_| true) {
            self.cuts.push(Cut {
                from: end,
                to: end,
                edits,
            });
        }
        self.cuts
    }
}

/// The end of a cut, until the next element is met.
const OPEN: usize = usize::MAX;
/// Bytes after which one sees whether all changes are made.
const WALKED: usize = 128;

/// An offset in bytes that are in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl Edit {
    fn tag(&self) -> Tag {
        match self {
            Self::Set { tag, .. } | Self::AppendItem { sequence: tag, .. } | Self::Remove(tag) => {
                *tag
            }
        }
    }

    fn check(&self, limits: Limits) -> Result<(), EditError> {
        let tag = self.tag();
        if tag.1 == 0 || matches!(tag.0, 0x0000 | 0x0002 | 0xFFFE) || is_pixel_data(tag) {
            return Err(EditError::NotEditable(tag));
        }
        match self {
            Self::Set { vr, value, .. } => {
                let length = value.len();
                let most = if has_short_length(*vr) {
                    0xFFFE
                } else {
                    UNDEFINED as usize - 1
                };
                if length > most {
                    return Err(EditError::TooLong { tag, length });
                }
                if *vr == VR::SQ {
                    return Err(EditError::NotEditable(tag));
                }
            }
            Self::AppendItem { item, .. } => {
                let mut walker =
                    Walker::new(Encoding::ExplicitLittle, limits, Some(item.len() as u64));
                let walked = walker
                    .feed(item, &mut |_| Ok(()))
                    .and_then(|()| walker.finish(&mut |_| Ok(())));
                walked.map_err(|error| EditError::Item(tag, error))?;
            }
            Self::Remove(_) => {}
        }
        Ok(())
    }
}

/// Appends what stands in place of `element` after all changes to it.
fn apply(
    element: &[u8],
    edits: &[&Edit],
    limits: Limits,
    out: &mut Vec<u8>,
) -> Result<(), EditError> {
    let start = out.len();
    let mut before;
    let mut old = element;
    for (at, edit) in edits.iter().enumerate() {
        if at > 0 {
            before = out.split_off(start);
            old = &before;
        }
        match edit {
            Edit::Remove(_) => {}
            Edit::Set { tag, vr, value } => put_element(out, *tag, *vr, value),
            Edit::AppendItem { sequence, item } => {
                append_item(*sequence, old, item, limits, out)?;
            }
        }
    }
    Ok(())
}

/// Appends the sequence with one more item; `element` is its bytes, none when it does not exist.
fn append_item(
    tag: Tag,
    element: &[u8],
    item: &[u8],
    limits: Limits,
    out: &mut Vec<u8>,
) -> Result<(), EditError> {
    let rewritten;
    let mut element = element;
    if element.get(4..6) == Some(b"UN") {
        rewritten = un_to_sequence(tag, element, limits)?;
        element = &rewritten;
    }
    let (items, undefined) = items_of(tag, element, limits)?;
    let mut new = Vec::with_capacity(item.len() + 8);
    put_item(&mut new, item);
    if memchr::memmem::find(items, &new).is_some() {
        out.extend_from_slice(element);
        return Ok(());
    }
    let length = items.len() + new.len();
    let defined = u32::try_from(length)
        .ok()
        .filter(|length| !undefined && *length != UNDEFINED);
    put_header(out, tag, VR::SQ, defined.unwrap_or(UNDEFINED));
    out.extend_from_slice(items);
    out.extend_from_slice(&new);
    if defined.is_none() {
        out.extend_from_slice(&SEQUENCE_END);
    }
    Ok(())
}

/// The items of a sequence, and whether its length is undefined; none where `element` is empty.
fn items_of(tag: Tag, element: &[u8], limits: Limits) -> Result<(&[u8], bool), EditError> {
    if element.is_empty() {
        return Ok((&[], false));
    }
    let set = DataSet::parse(element, Encoding::ExplicitLittle, limits).map_err(EditError::Head)?;
    match set.elements().iter().next() {
        Some(old) if matches!(old.value(), Value::Items(_)) => {
            let undefined = element.get(8..12) == Some(&[0xFF; 4]);
            Ok((slice(element, old.value_extent()), undefined))
        }
        Some(old) if old.bytes().is_some_and(<[u8]>::is_empty) => Ok((&[], false)),
        Some(_) | None => Err(EditError::NotASequence(tag)),
    }
}

/// A sequence that was written as UN holds its items in Implicit VR Little Endian (PS3.5 §6.2.2).
fn un_to_sequence(tag: Tag, element: &[u8], limits: Limits) -> Result<Vec<u8>, EditError> {
    let length = element
        .get(8..)
        .and_then(|rest| rest.first_chunk::<4>())
        .copied()
        .unwrap_or_default();
    let items = element.get(12..).unwrap_or_default();
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = Vec::with_capacity(element.len() + 32);
    let mut convert = |encoding, parts: &[&[u8]]| {
        let mut converter = Converter::from_encoding(encoding, limits);
        for part in parts {
            converter.feed(part, &mut out)?;
        }
        converter.finish(&mut out)
    };
    let result = if u32::from_le_bytes(length) == UNDEFINED {
        convert(Encoding::ExplicitLittle, &[element])
    } else {
        let tag = slice(element, 0..4);
        convert(Encoding::ImplicitLittle, &[tag, &length, items])
    };
    result.map_err(|_| EditError::NotASequence(tag))?;
    Ok(out)
}

fn slice(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests;
