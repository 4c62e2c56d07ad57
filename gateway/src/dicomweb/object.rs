//! What an instance holds besides its pixels, read in bounded memory whatever its size.

use std::io;

use bytes::Bytes;
use dicom_core::{Tag, VR};

use super::body::{BodyError, opening_of};
use super::frames::ItemSource;
use crate::cache::read_range;
use crate::dicom::reader::{Collector, DataSet, Elements, Limits};
use crate::dicom::syntax::{Encoding, PixelForm};
use crate::pixels::ReadAt;
use crate::studies::{Item, MEMORY_BUDGET};

/// Bytes that are read at once and kept whole. Of an object with more than these besides its pixels
/// only the values up to [`VALUE_KEPT`] are.
const AT_ONCE: u64 = 4 << 20;
/// Bytes of a value that is kept of a large object; of a longer one it is known where it is.
const VALUE_KEPT: u32 = 256 << 10;
/// Bytes read at a time of a large object.
const STEP: usize = 256 << 10;

/// An instance without its pixels.
pub struct Object {
    kept: Kept,
    encoding: Encoding,
    limits: Limits,
    pixels: Option<PixelElement>,
}

/// The element that holds the pixels, where it is not among the others.
#[derive(Debug, Clone, Copy)]
pub struct PixelElement {
    /// Pixel Data, Float Pixel Data or Double Float Pixel Data.
    pub tag: Tag,
    /// As stored, or as the transfer syntax has it.
    pub vr: VR,
    /// Where the value is in the data set, and its length in bytes; `None`: encapsulated.
    pub value: Option<(u64, u32)>,
}

enum Kept {
    /// Whole elements, before and after the pixels.
    Elements(Bytes),
    /// The structure of everything, and the small values.
    Collected(DataSet<'static>),
}

impl Object {
    /// Waits for what [`read`](Self::read) needs of an item that flows through; its pixel data are
    /// not waited for.
    ///
    /// # Errors
    /// Why it does not come.
    pub async fn await_head(item: &Item, limits: Limits) -> Result<(), BodyError> {
        let Item::Flowing(flowing) = item else {
            return Ok(());
        };
        let entry = item.entry();
        if entry.head_length > limits.head_bytes.min(MEMORY_BUDGET as u64) {
            return Err(BodyError::Unreadable(
                "the disk has no room for it, and its head is too large for memory".into(),
            ));
        }
        let head = opening_of(item, entry.meta_length, entry.head_length).await?;
        flowing.keep_head(head.into());
        Ok(())
    }

    /// Reads an item; `limits.head_bytes` bounds what is kept of it. Blocks.
    ///
    /// Of an item that flows through memory what stands after its pixels is not there: it has not
    /// arrived yet.
    ///
    /// # Errors
    /// [`BodyError::Unreadable`] for a damaged object, or one beyond the limits.
    pub fn read(item: &Item, limits: Limits) -> Result<Self, BodyError> {
        let entry = item.entry();
        let encoding = Encoding::of(&entry.transfer_syntax);
        let besides = entry.head_length.saturating_add(entry.tail_length);
        let flows = matches!(item, Item::Flowing(_));
        let deflated = encoding == Encoding::DeflatedExplicitLittle;
        if !flows && (deflated || besides > AT_ONCE) {
            return Self::collect(item, encoding, limits, VALUE_KEPT);
        }
        Ok(Self {
            kept: Kept::Elements(besides_pixels(item)?),
            encoding,
            limits,
            pixels: pixel_element(item, encoding)?,
        })
    }

    /// Reads an item so that even long values are at hand, pixels excepted. Blocks.
    ///
    /// # Errors
    /// As [`read`](Self::read); also when the values together exceed `limits.head_bytes`.
    pub fn read_whole(item: &Item, limits: Limits) -> Result<Self, BodyError> {
        Self::collect(
            item,
            Encoding::of(&item.entry().transfer_syntax),
            limits,
            u32::MAX,
        )
    }

    fn collect(
        item: &Item,
        encoding: Encoding,
        limits: Limits,
        value_max: u32,
    ) -> Result<Self, BodyError> {
        let unreadable = |error: String| BodyError::Unreadable(error);
        let source =
            ItemSource::of(item).ok_or_else(|| unreadable("the disk has no room for it".into()))?;
        let kept = u32::try_from(limits.head_bytes).unwrap_or(u32::MAX);
        // The values that are kept are bounded, not how far apart they are.
        let structure = Limits {
            head_bytes: u64::MAX,
            ..limits
        };
        let mut collector = Collector::new(encoding, structure, value_max, kept);
        let (mut at, end) = (item.entry().meta_length, item.entry().length);
        let mut piece = vec![0; STEP];
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
            let into = piece.get_mut(..most).unwrap_or_default();
            source.read_exact_at(at, into)?;
            collector
                .feed(into)
                .map_err(|error| unreadable(error.to_string()))?;
            at += most as u64;
        }
        let set = collector
            .finish()
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            kept: Kept::Collected(set),
            encoding,
            limits,
            pixels: None,
        })
    }

    /// Its pixels, where they are not among its elements.
    #[must_use]
    pub fn pixels(&self) -> Option<PixelElement> {
        self.pixels
    }

    /// Hands its elements out.
    ///
    /// # Errors
    /// [`BodyError::Unreadable`] for a damaged object, or one beyond the limits.
    pub fn with<R>(&self, look: impl FnOnce(Elements<'_>) -> R) -> Result<R, BodyError> {
        match &self.kept {
            Kept::Collected(set) => Ok(look(set.elements())),
            Kept::Elements(bytes) => {
                let set = DataSet::parse(bytes, self.encoding, self.limits)
                    .map_err(|error| BodyError::Unreadable(error.to_string()))?;
                Ok(look(set.elements()))
            }
        }
    }
}

/// The data set of an item without its pixel data: what stands before and what stands after, whole
/// elements of one encoding, and so a data set again.
fn besides_pixels(item: &Item) -> Result<Bytes, BodyError> {
    let entry = item.entry();
    if let Item::Flowing(flowing) = item {
        return Ok(flowing.head().cloned().unwrap_or_default());
    }
    let before = range(item, entry.meta_length, entry.head_length)?;
    if entry.tail_length == 0 {
        return Ok(before);
    }
    let tail_at = entry.length.saturating_sub(entry.tail_length);
    let after = range(item, tail_at, entry.tail_length)?;
    Ok([before, after].concat().into())
}

/// The element that stands between head and tail.
fn pixel_element(item: &Item, encoding: Encoding) -> Result<Option<PixelElement>, BodyError> {
    let entry = item.entry();
    let at = entry.meta_length.saturating_add(entry.head_length);
    let flows = matches!(item, Item::Flowing(_));
    // Tag, then VR and length, or the length alone (PS3.5 §7.1.2, §7.1.3).
    let header_length: u8 = if encoding.is_implicit() { 8 } else { 12 };
    let end = at.saturating_add(u64::from(header_length));
    if flows || end.saturating_add(entry.tail_length) > entry.length {
        return Ok(None);
    }
    let header = range(item, at, u64::from(header_length))?;
    let (Some(&[g0, g1, e0, e1, v0, v1]), Some(&length)) =
        (header.first_chunk::<6>(), header.last_chunk::<4>())
    else {
        return Ok(None);
    };
    let length = if encoding.is_big_endian() {
        u32::from_be_bytes(length)
    } else {
        u32::from_le_bytes(length)
    };
    let tag = if encoding.is_big_endian() {
        Tag(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1]))
    } else {
        Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]))
    };
    let encapsulated = PixelForm::of(&entry.transfer_syntax) == PixelForm::Encapsulated;
    let vr = match (tag.1, VR::from_binary([v0, v1])) {
        (_, Some(vr)) if !encoding.is_implicit() => vr,
        (0x0008, _) => VR::OF,
        (0x0009, _) => VR::OD,
        _ if encapsulated => VR::OB,
        _ => VR::OW,
    };
    Ok(Some(PixelElement {
        tag,
        vr,
        value: (length != u32::MAX).then_some((end - entry.meta_length, length)),
    }))
}

/// Bytes of an item that is stored or held.
fn range(item: &Item, at: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    match item {
        Item::Stored { entry, file, .. } => read_range(file, entry.offset + at, length)
            .inspect_err(|error| item.is_unreadable(error)),
        Item::Held(held) => {
            let at = usize::try_from(at).map_err(io::Error::other)?;
            let mut bytes = Vec::with_capacity(length);
            copy_range(&held.pieces, at, length, &mut bytes);
            Ok(bytes.into())
        }
        Item::Flowing(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Appends `length` bytes from `start` on, counted over all pieces.
fn copy_range(pieces: &[Bytes], start: usize, length: usize, out: &mut Vec<u8>) {
    let (mut skip, mut left) = (start, length);
    for piece in pieces {
        let rest = piece.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(piece.len());
        let taken = rest.get(..left).unwrap_or(rest);
        out.extend_from_slice(taken);
        left -= taken.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_same_however_its_bytes_are_cut_in_pieces() {
        let whole: Vec<u8> = (0..12).collect();
        for size in 1..=12 {
            let pieces: Vec<Bytes> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
            for start in 0..=12 {
                for length in 0..=12 - start {
                    let mut out = vec![0xFF];
                    copy_range(&pieces, start, length, &mut out);
                    let expected = whole.iter().skip(start).take(length);
                    assert!(
                        out.iter().skip(1).eq(expected),
                        "{length} bytes from {start} in pieces of {size}"
                    );
                }
            }
        }
    }
}
