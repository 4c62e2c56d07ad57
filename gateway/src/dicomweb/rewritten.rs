//! Instances of the cache whose heads are changed on the way, as parts of an answer.
//!
//! They are read, changed and framed, some at once, by a thread that may wait for the disk. A piece is what frames a part, its
//! head and what follows: one of its own for each head would cost both sides of the connection more than the change itself.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::body::{BodyError, MAX_EDITED_HEAD, Passed};
use crate::cache::append_range;
use crate::dicom::edit::{self, CheckedEdits, Edit, EditError};
use crate::dicom::reader::Limits;
use crate::studies::Item;

/// Bytes after which no other part is begun, and of one part at once: less than two times as many are read at once, and less
/// than four times as many are in memory for each request, if no head makes them more.
const AT_ONCE: u64 = 256 * 1024;
/// Bytes of a head that is read with what stands before it; a larger one is read alone.
const MAX_JOINED_HEAD: u64 = 64 * 1024;

/// Some parts of an answer, one after the other.
pub struct Rewritten {
    segments: VecDeque<Segment>,
    ready: VecDeque<Piece>,
    ahead: Option<JoinHandle<Result<VecDeque<Piece>, BodyError>>>,
}

/// The next bytes of an answer.
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// A part ends with them.
    pub ends: bool,
}

enum Segment {
    /// What stands between parts.
    Frame(Bytes),
    /// File meta information, and the head that is written anew.
    Head { source: Source, edits: Arc<[Edit]> },
    /// Bytes of the file as they are.
    Rest {
        source: Source,
        offset: u64,
        length: u64,
        /// The part ends with them.
        ends: bool,
    },
}

#[derive(Clone)]
struct Source {
    item: Item,
    file: Arc<File>,
}

impl Rewritten {
    /// Whether a part can be sent this way: it is in a file of the cache, and its head changes.
    #[must_use]
    pub fn is_for(part: &Passed) -> bool {
        let entry = part.item.entry();
        !part.edits.is_empty()
            && matches!(part.item, Item::Stored { fresh: None, .. })
            && part.keeps_syntax()
            && entry.head_length <= MAX_EDITED_HEAD
            && entry.meta_length <= MAX_EDITED_HEAD
    }

    /// These parts, each behind what `opening` gives for it. What [`Self::is_for`] says no to is left out.
    #[must_use]
    pub fn new(parts: Vec<Passed>, mut opening: impl FnMut(&Passed) -> Bytes) -> Self {
        let mut segments = VecDeque::with_capacity(parts.len() * 4);
        for part in parts.iter().filter(|part| Self::is_for(part)) {
            let Some(source) = source(&part.item) else {
                continue;
            };
            let entry = part.item.entry();
            let start = entry.meta_length + entry.head_length;
            segments.push_back(Segment::Frame(opening(part)));
            segments.push_back(Segment::Head {
                source: source.clone(),
                edits: Arc::clone(&part.edits),
            });
            segments.push_back(Segment::Rest {
                source,
                offset: entry.offset + start,
                length: entry.length.saturating_sub(start),
                ends: true,
            });
        }
        let mut new = Self {
            segments,
            ready: VecDeque::new(),
            ahead: None,
        };
        new.read_ahead();
        new
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// [`BodyError::Read`], and [`BodyError::Unreadable`] for a head that cannot be changed.
    pub async fn next(&mut self) -> Result<Option<Piece>, BodyError> {
        if self.ready.is_empty()
            && let Some(reading) = self.ahead.take()
        {
            self.ready = reading.await.map_err(io::Error::other)??;
            // What follows is read while this is sent.
            self.read_ahead();
        }
        Ok(self.ready.pop_front())
    }

    fn read_ahead(&mut self) {
        let segments = self.next_segments();
        self.ahead =
            (!segments.is_empty()).then(|| tokio::task::spawn_blocking(move || written(&segments)));
    }

    /// The segments that are read at once.
    fn next_segments(&mut self) -> Vec<Segment> {
        let mut length = 0;
        let mut taken = Vec::new();
        while length < AT_ONCE
            && let Some(segment) = self.segments.pop_front()
        {
            let (segment, later) = segment.split(AT_ONCE);
            length += segment.length();
            taken.push(segment);
            if let Some(later) = later {
                self.segments.push_front(later);
                break;
            }
        }
        taken
    }
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Frame(bytes) => bytes.len() as u64,
            Self::Head { source, .. } => source.head_length(),
            Self::Rest { length, .. } => *length,
        }
    }

    /// Bytes of the head in the next segments that stands in the file where this ends; 0 for any other.
    fn joined_head(&self, next: &[Self]) -> u64 {
        let Self::Rest {
            source,
            offset,
            length,
            ..
        } = self
        else {
            return 0;
        };
        let head = next.iter().find_map(|segment| match segment {
            Self::Head { source, .. } => Some(source),
            Self::Frame(_) | Self::Rest { .. } => None,
        });
        head.filter(|head| head.follows(source, *offset + *length))
            .map(Source::head_length)
            .filter(|length| *length <= MAX_JOINED_HEAD)
            .unwrap_or(0)
    }

    /// As many bytes of the file as this, and those that are left.
    fn split(self, most: u64) -> (Self, Option<Self>) {
        match self {
            Self::Rest {
                source,
                offset,
                length,
                ends,
            } if length > most => (
                Self::Rest {
                    source: source.clone(),
                    offset,
                    length: most,
                    ends: false,
                },
                Some(Self::Rest {
                    source,
                    offset: offset + most,
                    length: length - most,
                    ends,
                }),
            ),
            whole => (whole, None),
        }
    }

    /// Bytes it mostly takes once it is written.
    fn room(&self) -> u64 {
        match self {
            Self::Frame(_) | Self::Rest { .. } => self.length(),
            Self::Head { .. } => self.length() + edit::ROOM as u64,
        }
    }
}

fn source(item: &Item) -> Option<Source> {
    match item {
        Item::Stored {
            file, fresh: None, ..
        } => Some(Source {
            item: item.clone(),
            file: Arc::clone(file),
        }),
        Item::Stored { .. } | Item::Held(_) | Item::Flowing(_) => None,
    }
}

/// Reads these segments and writes them, a piece for each part: what is read last into a buffer of its own size need not be
/// zeroed before. Waits for the disk.
fn written(segments: &[Segment]) -> Result<VecDeque<Piece>, BodyError> {
    let is_rest = |segment: &Segment| matches!(segment, Segment::Rest { .. });
    let mut parts = segments.split_inclusive(is_rest).peekable();
    let mut pieces = VecDeque::new();
    let mut heads = Heads::default();
    while let Some(part) = parts.next() {
        let next = parts.peek().copied().unwrap_or_default();
        let joined = part.last().map_or(0, |rest| rest.joined_head(next));
        let room: u64 = part.iter().map(Segment::room).sum::<u64>() + joined;
        let mut out = Vec::with_capacity(usize::try_from(room).map_err(io::Error::other)?);
        let mut ends_part = false;
        for segment in part {
            match segment {
                Segment::Frame(bytes) => out.extend_from_slice(bytes),
                Segment::Head { source, edits } => heads.append(source, edits, &mut out)?,
                Segment::Rest {
                    source,
                    offset,
                    length,
                    ends,
                } => {
                    source.append(*offset, *length + joined, &mut out)?;
                    if joined > 0 {
                        let joined = usize::try_from(joined).map_err(io::Error::other)?;
                        heads.read = Some(out.split_off(out.len().saturating_sub(joined)));
                    }
                    ends_part = *ends;
                }
            }
        }
        pieces.push_back(Piece {
            bytes: out.into(),
            ends: ends_part,
        });
    }
    Ok(pieces)
}

/// What writes heads anew, one after the other.
#[derive(Default)]
struct Heads<'s> {
    /// Changes that were checked, for the heads that they are the changes of.
    checked: Option<(&'s Arc<[Edit]>, CheckedEdits<'s>)>,
    /// The next head with its file meta information, where it was read with what stands before it.
    read: Option<Vec<u8>>,
}

impl<'s> Heads<'s> {
    /// Appends the file meta information and the head that is written anew.
    fn append(
        &mut self,
        source: &Source,
        edits: &'s Arc<[Edit]>,
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        let old = match self.read.take() {
            Some(read) => read,
            None => {
                let length = source.head_length();
                let mut old =
                    Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
                source.append(source.item.entry().offset, length, &mut old)?;
                old
            }
        };
        let meta = usize::try_from(source.item.entry().meta_length).map_err(io::Error::other)?;
        let (meta, head) = old.split_at_checked(meta).unwrap_or_default();
        out.extend_from_slice(meta);
        let checked = match self.checked.take() {
            Some((of, checked)) if Arc::ptr_eq(of, edits) => checked,
            _ => CheckedEdits::new(edits, Limits::default()).map_err(unreadable)?,
        };
        let (_, checked) = self.checked.insert((edits, checked));
        checked.append_edited(head, out).map_err(unreadable)
    }
}

fn unreadable(error: EditError) -> BodyError {
    BodyError::Unreadable(error.to_string())
}

impl Source {
    /// Bytes of the file meta information and the head.
    fn head_length(&self) -> u64 {
        let entry = self.item.entry();
        entry.meta_length + entry.head_length
    }

    /// Whether it stands where that one ends.
    fn follows(&self, before: &Self, end: u64) -> bool {
        Arc::ptr_eq(&self.file, &before.file) && self.item.entry().offset == end
    }

    /// Appends a range of the file.
    fn append(&self, offset: u64, length: u64, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let read = append_range(&self.file, offset, length, out);
        Ok(read.inspect_err(|error| self.item.is_unreadable(error))?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use dicom_core::{Tag, VR};

    use super::*;
    use crate::cache::Entry;
    use crate::dicom::part10::file_meta;
    use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
    use crate::dicom::write::put_element;
    use crate::dicomweb::body::Pieces;

    fn object(pixels: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_element(&mut bytes, Tag(0x0008, 0x0060), VR::CS, b"CT");
        put_element(&mut bytes, Tag(0x0010, 0x0020), VR::LO, b"OLD");
        let pixels: Vec<u8> = (0..pixels).map(|at| at.to_le_bytes()[0]).collect();
        put_element(&mut bytes, Tag(0x7FE0, 0x0010), VR::OW, &pixels);
        bytes
    }

    /// Parts of these many bytes of pixels, in one file.
    fn parts(pixels: &[usize]) -> Vec<Passed> {
        let class = SopClassUid::known("1.2.840.10008.5.1.4.1.1.2");
        let syntax = TransferSyntaxUid::known("1.2.840.10008.1.2.1");
        let edits: Arc<[Edit]> = Arc::new([Edit::Set {
            tag: Tag(0x0010, 0x0020),
            vr: VR::LO,
            value: b"NEW PATIENT ID".to_vec(),
        }]);
        let mut file = tempfile::tempfile().unwrap();
        let mut offset = 0;
        let mut entries = Vec::new();
        for (number, pixels) in pixels.iter().enumerate() {
            let instance = InstanceUid::parse(&format!("2.25.{}", number + 1)).unwrap();
            let meta = file_meta(&class, &instance, &syntax);
            let object = object(*pixels);
            file.write_all(&meta).unwrap();
            file.write_all(&object).unwrap();
            let length = (meta.len() + object.len()) as u64;
            entries.push(Entry {
                instance,
                sop_class: class.clone(),
                transfer_syntax: syntax.clone(),
                file: 0,
                offset,
                length,
                crc32: 0,
                meta_length: meta.len() as u64,
                head_length: (object.len() - pixels - 12) as u64,
                tail_length: 0,
            });
            offset += length;
        }
        let file = Arc::new(file);
        let part = |entry| Passed {
            item: Item::Stored {
                entry: Arc::new(entry),
                file: Arc::clone(&file),
                fresh: None,
                bundle: None,
            },
            explicit: false,
            edits: Arc::clone(&edits),
        };
        entries.into_iter().map(part).collect()
    }

    fn opening(part: &Passed) -> Bytes {
        format!("--{}\r\n", part.item.entry().instance).into()
    }

    #[tokio::test]
    async fn parts_are_what_they_are_one_by_one_whatever_their_size() {
        let piece = usize::try_from(AT_ONCE).unwrap();
        let mut parts = parts(&[0, 10, piece, 3 * piece + 4, 2, 2 * piece, 0, 8]);
        // Some stand elsewhere than behind the one before them, or in another file.
        parts.swap(1, 4);
        parts.extend(self::parts(&[20, 30]));
        let mut expected = Vec::new();
        for part in &parts {
            expected.extend(opening(part));
            let mut pieces = Pieces::of(part);
            while let Some(bytes) = pieces.next().await.unwrap() {
                expected.extend(bytes);
            }
        }
        let new = b"NEW PATIENT ID";
        assert!(expected.windows(new.len()).any(|window| window == new));

        assert!(parts.iter().all(Rewritten::is_for));
        let count = parts.len() as u64;
        let mut rewritten = Rewritten::new(parts, opening);
        let (mut whole, mut ends) = (Vec::new(), 0);
        while let Some(next) = rewritten.next().await.unwrap() {
            assert!(next.bytes.len() < piece + 4096);
            assert!(next.ends || !next.bytes.is_empty());
            whole.extend(next.bytes);
            ends += u64::from(next.ends);
        }
        assert_eq!(whole, expected);
        assert_eq!(ends, count);
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error() {
        let parts = parts(&[10, 100]);
        let Item::Stored { file, .. } = &parts[1].item else {
            unreachable!()
        };
        let length = file.metadata().unwrap().len();
        file.set_len(length - 1).unwrap();
        let mut rewritten = Rewritten::new(parts, opening);
        assert!(matches!(rewritten.next().await, Err(BodyError::Read(_))));
    }

    #[test]
    fn what_does_not_change_or_has_just_arrived_is_sent_otherwise() {
        let mut parts = parts(&[10, 10]);
        parts[0].edits = Arc::default();
        assert!(!Rewritten::is_for(&parts[0]));
        if let Item::Stored { fresh, .. } = &mut parts[1].item {
            *fresh = Some(Bytes::from_static(b"DICM"));
        }
        assert!(!Rewritten::is_for(&parts[1]));
    }
}
