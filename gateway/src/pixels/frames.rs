//! Where each frame of an object is, without decoding any (PS3.5 §A.4, §8.1.1).

use std::ops::Range;

use dicom_core::Tag;

use super::error::{PixelError, PixelLimits};
use super::shape::{ImageShape, Photometric};
use super::source::{ReadAt, cut, read_ranges};
use crate::dicom::reader::Elements;
use crate::dicom::syntax::RLE;
use crate::dicom::uid::TransferSyntaxUid;

const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
const EXTENDED_LENGTHS: Tag = Tag(0x7FE0, 0x0002);
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const SEQUENCE_END: [u8; 4] = [0xFE, 0xFF, 0xDD, 0xE0];

/// True when all frames of an object in this transfer syntax are one stream: MPEG-2, MPEG-4, HEVC
/// (PS3.5 §A.4.5 and following) and SMPTE ST 2110 (PS3.5 §A.7).
#[must_use]
pub fn is_video(syntax: &TransferSyntaxUid) -> bool {
    let uid = syntax.as_str();
    if uid.starts_with("1.2.840.10008.1.2.7.") {
        return true;
    }
    uid.strip_prefix("1.2.840.10008.1.2.4.")
        .and_then(|last| last.split('.').next())
        .and_then(|number| number.parse::<u16>().ok())
        .is_some_and(|number| (100..=108).contains(&number))
}

/// Where the pixels of an object are in its bytes, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelSpan {
    /// Offset in the source of the first byte of the value.
    pub offset: u64,
    /// Length of a native value; `None`: encapsulated.
    pub length: Option<u32>,
    /// Bytes to turn around together in native pixels: 1 but in big endian.
    pub word: usize,
}

/// Where each frame of one object is.
#[derive(Debug, Clone)]
pub struct FrameIndex {
    layout: Layout,
    frames: u32,
    end: u64,
}

#[derive(Debug, Clone)]
enum Layout {
    Native {
        span: PixelSpan,
        bits: u64,
        length: u64,
    },
    Encapsulated {
        fragments: Vec<Fragment>,
        /// The first fragment of each frame; empty: one fragment for each.
        starts: Vec<u32>,
    },
    /// One stream for all frames.
    Stream { fragments: Vec<Fragment> },
}

#[derive(Debug, Clone, Copy)]
struct Fragment {
    offset: u64,
    length: u32,
}

impl FrameIndex {
    /// Reads the structure of the pixels; of encapsulated ones only the headers of the fragments.
    ///
    /// An offset table is believed when it has an entry for each frame and each points to an item that
    /// begins a code stream; else frames are told apart by the beginnings of their code streams.
    ///
    /// # Errors
    /// [`PixelError::Structure`] when the items are damaged, [`PixelError::FramesUnknown`] when it
    /// cannot be told which fragments belong together, [`PixelError::TooLarge`] beyond the limits.
    pub fn read<S: ReadAt + ?Sized>(
        source: &S,
        span: PixelSpan,
        shape: &ImageShape,
        syntax: &TransferSyntaxUid,
        head: Elements<'_>,
        limits: &PixelLimits,
    ) -> Result<Self, PixelError> {
        if let Some(length) = span.length {
            return Ok(Self::native(span, u64::from(length), shape));
        }
        let items = Items::read(source, span.offset, limits)?;
        let index = |layout, frames| Self {
            layout,
            frames,
            end: items.end,
        };
        if is_video(syntax) {
            let fragments = items.fragments;
            return Ok(index(Layout::Stream { fragments }, 1));
        }
        let (fragments, starts) = group(source, &items, shape.frames, syntax, head)?;
        Ok(index(
            Layout::Encapsulated { fragments, starts },
            shape.frames,
        ))
    }

    fn native(span: PixelSpan, length: u64, shape: &ImageShape) -> Self {
        Self {
            end: span.offset.saturating_add(length),
            layout: Layout::Native {
                span,
                bits: native_frame_bits(shape, length),
                length,
            },
            frames: shape.frames,
        }
    }

    /// How many frames can be asked for: one where all are a video.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Offset after the last byte of the pixels, delimiters included.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// True when the pixels are one value, not fragments.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(self.layout, Layout::Native { .. })
    }

    /// Bytes of one frame of native pixels, as [`FrameIndex::frame`] gives them.
    #[must_use]
    pub fn native_frame_bytes(&self) -> Option<u64> {
        match &self.layout {
            Layout::Native { bits, .. } => Some(bits.div_ceil(8)),
            _ => None,
        }
    }

    /// The bytes that hold a frame (from 0), in order; of a frame of single bits, the first and the
    /// last byte may be shared with its neighbours.
    ///
    /// # Errors
    /// [`PixelError::NoSuchFrame`]; [`PixelError::Structure`] when the pixels end before the frame.
    pub fn ranges(&self, frame: u32) -> Result<Vec<Range<u64>>, PixelError> {
        if frame >= self.frames {
            return Err(PixelError::NoSuchFrame {
                frame,
                frames: self.frames,
            });
        }
        let fragments = match &self.layout {
            Layout::Native { span, bits, length } => {
                let first = u64::from(frame) * bits;
                let range = first / 8..(first + bits).div_ceil(8);
                if range.end > *length {
                    return Err(PixelError::Structure {
                        offset: span.offset.saturating_add(*length),
                        what: "Pixel Data are too short for the number of frames",
                    });
                }
                let range = span.offset + range.start..span.offset + range.end;
                return Ok(std::iter::once(range).collect());
            }
            Layout::Stream { fragments } => fragments.as_slice(),
            Layout::Encapsulated { fragments, starts } if starts.is_empty() => {
                let at = frame as usize;
                fragments.get(at..=at).unwrap_or_default()
            }
            Layout::Encapsulated { fragments, starts } => {
                let at = frame as usize;
                let from = starts.get(at).map_or(0, |start| *start as usize);
                let to = starts
                    .get(at + 1)
                    .map_or(fragments.len(), |start| *start as usize);
                fragments.get(from..to).unwrap_or_default()
            }
        };
        Ok(fragments
            .iter()
            .map(|fragment| fragment.offset..fragment.offset + u64::from(fragment.length))
            .collect())
    }

    /// The bytes of a frame (from 0) as they are stored: a bare code stream, or native samples in
    /// little endian, the first bit of the first pixel in the lowest bit of the first byte.
    ///
    /// # Errors
    /// Those of [`FrameIndex::ranges`]; [`PixelError::TooLarge`] beyond the limit;
    /// [`PixelError::Io`].
    pub fn frame<S: ReadAt + ?Sized>(
        &self,
        source: &S,
        frame: u32,
        limits: &PixelLimits,
    ) -> Result<Vec<u8>, PixelError> {
        let ranges = self.ranges(frame)?;
        let limit = limits.stored_frame_bytes;
        let Layout::Native { span, bits, length } = &self.layout else {
            return read_ranges(source, &ranges, limit);
        };
        let Some(range) = ranges.first() else {
            return Ok(Vec::new());
        };
        let mut bytes = if span.word > 1 {
            swapped(source, *span, *length, range, limit)?
        } else {
            read_ranges(source, &ranges, limit)?
        };
        let shift = (u64::from(frame) * bits) % 8;
        if bits % 8 != 0 || shift != 0 {
            align(&mut bytes, u32::try_from(shift).unwrap_or(0), *bits);
        }
        Ok(bytes)
    }
}

/// Bits of one native frame. With YBR_FULL_422 two pixels share their chrominance (PS3.3
/// §C.7.6.3.1.2); some systems write that term over samples that are not reduced, which the length
/// tells.
fn native_frame_bits(shape: &ImageShape, length: u64) -> u64 {
    let full = shape.frame_bits();
    let reduced = match shape.photometric {
        Photometric::YbrFull422 | Photometric::YbrPartial422 if shape.columns.is_multiple_of(2) => {
            full / 3 * 2
        }
        Photometric::YbrPartial420
            if shape.columns.is_multiple_of(2) && shape.rows.is_multiple_of(2) =>
        {
            full / 2
        }
        _ => return full,
    };
    if length.saturating_mul(8) >= full.saturating_mul(u64::from(shape.frames)) {
        full
    } else {
        reduced
    }
}

/// Bytes of big endian words, in little endian. A frame can begin inside a word.
fn swapped<S: ReadAt + ?Sized>(
    source: &S,
    span: PixelSpan,
    length: u64,
    range: &Range<u64>,
    limit: u64,
) -> Result<Vec<u8>, PixelError> {
    let word = span.word as u64;
    let (from, to) = (range.start - span.offset, range.end - span.offset);
    let start = from / word * word;
    let end = (to.div_ceil(word) * word).min(length);
    let wide = span.offset + start..span.offset + end;
    let mut bytes = read_ranges(source, std::slice::from_ref(&wide), limit)?;
    for word in bytes.chunks_exact_mut(span.word) {
        word.reverse();
    }
    let from = usize::try_from(from - start).unwrap_or(0);
    bytes.drain(..from.min(bytes.len()));
    bytes.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Moves bits down so that the first is at the bottom of the first byte, and clears those after the
/// last.
fn align(bytes: &mut Vec<u8>, shift: u32, bits: u64) {
    if shift > 0 {
        let mut above = 0_u8;
        for byte in bytes.iter_mut().rev() {
            let wide = u16::from_le_bytes([*byte, above]) >> shift;
            above = *byte;
            *byte = wide.to_le_bytes()[0];
        }
    }
    bytes.truncate(usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX));
    if let (Some(last), rest @ 1..) = (bytes.last_mut(), bits % 8) {
        *last &= (1_u8 << rest) - 1;
    }
}

/// The items of encapsulated pixels.
struct Items {
    /// The Basic Offset Table, as 32-bit numbers.
    table: Vec<u32>,
    /// Offset of the first item after the table: the zero of both offset tables.
    base: u64,
    fragments: Vec<Fragment>,
    end: u64,
}

impl Items {
    fn read<S: ReadAt + ?Sized>(
        source: &S,
        offset: u64,
        limits: &PixelLimits,
    ) -> Result<Self, PixelError> {
        let mut at = offset;
        let next = |at: &mut u64| -> Result<Option<Fragment>, PixelError> {
            let mut header = [0; 8];
            source
                .read_exact_at(*at, &mut header)
                .map_err(|error| cut(error, *at))?;
            let [a, b, c, d, l0, l1, l2, l3] = header;
            let length = u32::from_le_bytes([l0, l1, l2, l3]);
            let item = Fragment {
                offset: at.saturating_add(8),
                length,
            };
            let wrong = |what| PixelError::Structure { offset: *at, what };
            match [a, b, c, d] {
                ITEM if length == u32::MAX => Err(wrong("an item without a length")),
                ITEM => {
                    *at = item.offset.saturating_add(u64::from(length));
                    Ok(Some(item))
                }
                SEQUENCE_END => {
                    *at = item.offset;
                    Ok(None)
                }
                _ => Err(wrong("an item was expected")),
            }
        };
        let mut table = Vec::new();
        if let Some(first) = next(&mut at)? {
            let entries = u64::from(first.length) / 4;
            // A table with more entries than fragments may be is no table: it is not read.
            if entries <= u64::from(limits.fragments) {
                let range = first.offset..first.offset + u64::from(first.length);
                let bytes = read_ranges(source, &[range], u64::from(first.length))?;
                table = bytes
                    .chunks_exact(4)
                    .filter_map(|chunk| chunk.first_chunk::<4>())
                    .map(|word| u32::from_le_bytes(*word))
                    .collect();
            }
        } else {
            return Ok(Self {
                table,
                base: at,
                fragments: Vec::new(),
                end: at,
            });
        }
        let base = at;
        let mut fragments = Vec::new();
        while let Some(fragment) = next(&mut at)? {
            if fragments.len() >= limits.fragments as usize {
                return Err(PixelError::TooLarge {
                    what: "fragments",
                    size: fragments.len() as u64 + 1,
                    limit: u64::from(limits.fragments),
                });
            }
            fragments.push(fragment);
        }
        Ok(Self {
            table,
            base,
            fragments,
            end: at,
        })
    }

    /// The fragment that begins at each of these offsets, when each begins one, the first begins
    /// the first, and they ascend.
    fn starts(&self, offsets: impl Iterator<Item = u64>, frames: u32) -> Option<Vec<u32>> {
        let mut starts: Vec<u32> = Vec::new();
        for offset in offsets {
            let value = self.base.checked_add(offset)?.checked_add(8)?;
            let at = self
                .fragments
                .binary_search_by_key(&value, |fragment| fragment.offset)
                .ok()?;
            let at = u32::try_from(at).ok()?;
            match starts.last() {
                None if at != 0 => return None,
                Some(last) if *last >= at => return None,
                _ => starts.push(at),
            }
        }
        (starts.len() == frames as usize).then_some(starts)
    }
}

/// Which fragments belong to which frame.
fn group<S: ReadAt + ?Sized>(
    source: &S,
    items: &Items,
    frames: u32,
    syntax: &TransferSyntaxUid,
    head: Elements<'_>,
) -> Result<(Vec<Fragment>, Vec<u32>), PixelError> {
    let fragments = &items.fragments;
    let unknown = || PixelError::FramesUnknown {
        fragments: u32::try_from(fragments.len()).unwrap_or(u32::MAX),
        frames,
    };
    if fragments.is_empty() {
        return Err(unknown());
    }
    if frames == 1 {
        return Ok((fragments.clone(), vec![0]));
    }
    let count = frames as usize;
    if fragments.len() == count {
        let mut fragments = fragments.clone();
        trim(&mut fragments, head);
        return Ok((fragments, Vec::new()));
    }
    // Some writers end with empty fragments.
    let filled: Vec<Fragment> = fragments.iter().copied().filter(|f| f.length > 0).collect();
    if filled.len() == count {
        return Ok((filled, Vec::new()));
    }
    if filled.len() < count {
        return Err(unknown());
    }
    let extended =
        quads(head, EXTENDED_OFFSETS).and_then(|offsets| items.starts(offsets.into_iter(), frames));
    let told = extended
        .or_else(|| items.starts(items.table.iter().map(|offset| u64::from(*offset)), frames));
    // PS3.5 §A.4.2: a frame in RLE is one fragment, and has no mark to look for.
    if syntax.as_str() == RLE {
        let starts = told.ok_or_else(unknown)?;
        return Ok((fragments.clone(), starts));
    }
    if let Some(starts) = &told
        && begin_code_streams(source, fragments, starts)?
    {
        return Ok((fragments.clone(), starts.clone()));
    }
    let mut starts = Vec::new();
    for (at, fragment) in filled.iter().enumerate() {
        if begins_code_stream(source, *fragment)? {
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
    }
    if starts.len() == count && starts.first() == Some(&0) {
        return Ok((filled, starts));
    }
    // Streams of which no mark is known: the table is all there is.
    let starts = told.ok_or_else(unknown)?;
    Ok((fragments.clone(), starts))
}

/// Whether a code stream begins with each of these fragments.
fn begin_code_streams<S: ReadAt + ?Sized>(
    source: &S,
    fragments: &[Fragment],
    starts: &[u32],
) -> Result<bool, PixelError> {
    for start in starts {
        match fragments.get(*start as usize) {
            Some(fragment) if begins_code_stream(source, *fragment)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// JPEG and JPEG-LS: SOI, then a marker. JPEG 2000: SOC, then SIZ. Or the box of a JP2 file.
fn begins_code_stream<S: ReadAt + ?Sized>(
    source: &S,
    fragment: Fragment,
) -> Result<bool, PixelError> {
    if fragment.length < 4 {
        return Ok(false);
    }
    let mut start = [0; 4];
    source
        .read_exact_at(fragment.offset, &mut start)
        .map_err(|error| cut(error, fragment.offset))?;
    Ok(matches!(
        start,
        [0xFF, 0xD8, 0xFF, 0xC0..=0xFF] | [0xFF, 0x4F, 0xFF, 0x51] | [0, 0, 0, 12]
    ))
}

/// Takes off the padding byte that the Extended Offset Table Lengths tell (PS3.3 §C.7.6.3.1.8).
fn trim(fragments: &mut [Fragment], head: Elements<'_>) {
    let Some(lengths) = quads(head, EXTENDED_LENGTHS) else {
        return;
    };
    if lengths.len() != fragments.len() {
        return;
    }
    for (fragment, length) in fragments.iter_mut().zip(lengths) {
        if length + 1 == u64::from(fragment.length) {
            fragment.length -= 1;
        }
    }
}

/// The 64-bit numbers of an element, which an unknown VR holds as bytes.
fn quads(head: Elements<'_>, tag: Tag) -> Option<Vec<u64>> {
    let bytes = head.find(tag)?.bytes()?;
    let numbers: Vec<u64> = bytes
        .chunks_exact(8)
        .filter_map(|chunk| chunk.first_chunk::<8>())
        .map(|word| u64::from_le_bytes(*word))
        .collect();
    (!numbers.is_empty()).then_some(numbers)
}

#[cfg(test)]
mod tests;
