//! From any native transfer syntax to Explicit VR Little Endian, as the data set goes by.
//!
//! PS3.18 wants no Implicit VR and no big endian on the web. Values pass through unchanged but for
//! the order of their bytes; sequences come out with undefined lengths, group lengths are dropped.
//! Memory stays at a few hundred bytes besides what the caller is given.

use dicom_core::VR;

use super::inflate::Inflater;
use super::reader::{Limits, Problem, ReadError};
use super::syntax::Encoding;
use super::uid::TransferSyntaxUid;
use super::walk::{Event, Header, Walker, word_size};
use super::write::{ITEM_END, SEQUENCE_END, UNDEFINED, padding, put_header, put_item_header};

/// The converter; one per object.
#[derive(Debug)]
pub struct Converter {
    walker: Walker,
    inflater: Option<Inflater>,
    value: ValueState,
}

impl Converter {
    /// A converter for a data set in this transfer syntax, which must be one whose Pixel Data are
    /// native.
    #[must_use]
    pub fn new(from: &TransferSyntaxUid, limits: Limits) -> Self {
        Self::from_encoding(Encoding::of(from), limits)
    }

    /// A converter for a data set in this encoding.
    #[must_use]
    pub fn from_encoding(encoding: Encoding, limits: Limits) -> Self {
        Self {
            walker: Walker::new(encoding, limits, None),
            inflater: (encoding == Encoding::DeflatedExplicitLittle)
                .then(|| Inflater::new(limits.inflated_bytes)),
            value: ValueState::default(),
        }
    }

    /// Takes the next bytes of the data set, and appends to `out` what they become.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes are no data set, exceed the limits, or hold encapsulated Pixel
    /// Data.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ReadError> {
        let Self {
            walker,
            inflater,
            value,
        } = self;
        match inflater {
            None => walker.feed(bytes, &mut |event| value.take(event, out)),
            Some(inflater) => inflater.feed(bytes, |bytes| {
                walker.feed(bytes, &mut |event| value.take(event, out))
            }),
        }
    }

    /// Says that the data set ends here, and appends what was still to come.
    ///
    /// # Errors
    /// [`ReadError`] when the data set was cut short: what was written before is not a whole object.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let Self {
            mut walker,
            inflater,
            mut value,
        } = self;
        if let Some(inflater) = inflater {
            inflater.finish()?;
        }
        walker.finish(&mut |event| value.take(event, out))
    }
}

/// What is being done with the bytes of the current value.
#[derive(Debug, Default)]
struct ValueState {
    /// The element is not written.
    dropped: bool,
    /// Bytes to turn around together; 0 or 1: none.
    word: usize,
    /// The beginning of a word that the fragment cut.
    held: [u8; 8],
    held_length: usize,
    /// Bytes of the value still to come.
    left: u64,
    /// Byte that makes an odd value even.
    pad: Option<u8>,
}

impl ValueState {
    fn take(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), ReadError> {
        match event {
            Event::Element(header) => self.begin(&header, out),
            Event::Value(bytes) => self.value(bytes, out),
            Event::Sequence(header) => put_header(out, header.tag, VR::SQ, UNDEFINED),
            Event::Item { .. } => put_item_header(out, UNDEFINED),
            Event::ItemEnd { .. } => out.extend_from_slice(&ITEM_END),
            Event::SequenceEnd { .. } => out.extend_from_slice(&SEQUENCE_END),
            Event::Encapsulated(header) if header.depth == 0 => {
                return Err(ReadError {
                    offset: header.offset,
                    tag: Some(header.tag),
                    problem: Problem::EncapsulatedInNative,
                });
            }
            // An icon can be compressed in an image that is not.
            Event::Encapsulated(header) => put_header(out, header.tag, VR::OB, UNDEFINED),
            Event::Fragment { length, .. } => {
                *self = Self {
                    left: u64::from(length),
                    ..Self::default()
                };
                put_item_header(out, length);
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: &Header, out: &mut Vec<u8>) {
        let length = header.length.unwrap_or(0);
        let odd = length % 2 == 1;
        let word = if header.encoding.is_big_endian() {
            word_size(header.vr)
        } else {
            1
        };
        *self = Self {
            // PS3.5 §7.2: group lengths are retired, and would be wrong.
            dropped: header.tag.1 == 0,
            word,
            left: u64::from(length),
            pad: odd.then(|| padding(header.vr)),
            ..Self::default()
        };
        if !self.dropped {
            put_header(
                out,
                header.tag,
                header.vr,
                length.saturating_add(u32::from(odd)),
            );
        }
    }

    fn value(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.dropped {
            return;
        }
        if self.word <= 1 {
            out.extend_from_slice(bytes);
        } else {
            while self.held_length > 0 && !bytes.is_empty() {
                bytes = self.hold(bytes, out);
            }
            let words = bytes.chunks_exact(self.word);
            let rest = words.remainder();
            for word in words {
                out.extend(word.iter().rev());
            }
            if !rest.is_empty() {
                self.hold(rest, out);
            }
        }
        if self.left == 0 {
            // What is no whole word at the end of a value stays as it is.
            out.extend_from_slice(self.held.get(..self.held_length).unwrap_or_default());
            self.held_length = 0;
            out.extend(self.pad.take());
        }
    }

    /// Adds to the word being held, and writes it when it is whole; gives the bytes that are left.
    fn hold<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        let take = (self.word - self.held_length).min(bytes.len());
        let (taken, rest) = bytes.split_at(take);
        if let Some(space) = self.held.get_mut(self.held_length..self.held_length + take) {
            space.copy_from_slice(taken);
        }
        self.held_length += take;
        if self.held_length == self.word {
            out.extend(self.held.iter().take(self.word).rev());
            self.held_length = 0;
        }
        rest
    }
}

#[cfg(test)]
mod tests;
