//! Palette colours (PS3.3 §C.7.6.3.1.5, §C.7.6.3.1.6, §C.7.9).

use dicom_core::{Tag, VR};

use super::grey::integers;
use crate::dicom::reader::{Element, Elements};
use crate::pixels::decode::Frame;
use crate::pixels::error::PixelError;

const DESCRIPTORS: [Tag; 3] = [
    Tag(0x0028, 0x1101),
    Tag(0x0028, 0x1102),
    Tag(0x0028, 0x1103),
];
const DATA: [Tag; 3] = [
    Tag(0x0028, 0x1201),
    Tag(0x0028, 0x1202),
    Tag(0x0028, 0x1203),
];
const SEGMENTED: [Tag; 3] = [
    Tag(0x0028, 0x1221),
    Tag(0x0028, 0x1222),
    Tag(0x0028, 0x1223),
];

/// The colours that values stand for.
pub(super) struct Palette {
    first: i64,
    /// Red, green and blue of each entry; never empty.
    colours: Vec<[u8; 3]>,
}

impl Palette {
    pub(super) fn read(head: Elements<'_>) -> Result<Self, PixelError> {
        let missing = PixelError::NotRenderable("an image whose palette is missing or damaged");
        let mut tables = Vec::with_capacity(3);
        let mut first = None;
        for ((descriptor, data), segmented) in DESCRIPTORS.into_iter().zip(DATA).zip(SEGMENTED) {
            let table = head
                .find(descriptor)
                .and_then(|descriptor| channel(head, descriptor, data, segmented));
            let Some((start, table)) = table else {
                return Err(missing);
            };
            first.get_or_insert(start);
            tables.push(table);
        }
        let [red, green, blue] = tables.as_slice() else {
            return Err(missing);
        };
        let colours: Vec<[u8; 3]> = red
            .iter()
            .zip(green)
            .zip(blue)
            .map(|((r, g), b)| [*r, *g, *b])
            .collect();
        if colours.is_empty() {
            return Err(missing);
        }
        Ok(Self {
            first: first.unwrap_or(0),
            colours,
        })
    }

    /// The colours of a frame.
    pub(super) fn apply(&self, frame: &Frame) -> Vec<u8> {
        let last = self.colours.len() - 1;
        let pixels = usize::try_from(frame.shape.pixels()).unwrap_or(0);
        let mut out = Vec::with_capacity(pixels * 3);
        for value in integers(frame) {
            let at = usize::try_from(value.saturating_sub(self.first)).unwrap_or(0);
            out.extend_from_slice(self.colours.get(at.min(last)).unwrap_or(&[0; 3]));
        }
        out
    }
}

/// One of the three tables in 8 bits, and the value its first entry stands for.
fn channel(
    head: Elements<'_>,
    descriptor: Element<'_>,
    data: Tag,
    segmented: Tag,
) -> Option<(i64, Vec<u8>)> {
    let numbers = descriptor.bytes()?;
    let entries = match descriptor.u16_at(numbers, 0)? {
        0 => 65_536,
        entries => usize::from(entries),
    };
    let first = descriptor.u16_at(numbers, 1)?;
    let first = if descriptor.vr() == VR::SS {
        i64::from(first.cast_signed())
    } else {
        i64::from(first)
    };
    let wide = descriptor.u16_at(numbers, 2)? > 8;
    let table = match head.find(data) {
        Some(element) => {
            let bytes = element.bytes()?;
            if bytes.len() < entries * 2 {
                // Packed bytes, whatever the descriptor says.
                let narrow: Vec<u16> = bytes.iter().map(|b| u16::from(*b)).collect();
                return Some((first, to_bytes(&narrow, entries, false)));
            }
            words(element, bytes)
        }
        None => {
            let element = head.find(segmented)?;
            let bytes = element.bytes()?;
            let codes = if wide {
                words(element, bytes)
            } else {
                bytes.iter().map(|b| u16::from(*b)).collect()
            };
            expand(&codes, entries, wide)?
        }
    };
    Some((first, to_bytes(&table, entries, wide)))
}

fn words(element: Element<'_>, bytes: &[u8]) -> Vec<u16> {
    (0..bytes.len() / 2)
        .map_while(|at| element.u16_at(bytes, at))
        .collect()
}

/// Some systems write values of 8 bits as if they were of 16.
fn to_bytes(table: &[u16], entries: usize, wide: bool) -> Vec<u8> {
    let table = table.get(..entries).unwrap_or(table);
    let shift = if wide && table.iter().any(|value| *value > 255) {
        8
    } else {
        0
    };
    table
        .iter()
        .map(|value| u8::try_from(value >> shift).unwrap_or(u8::MAX))
        .collect()
}

/// Segmented tables (PS3.3 §C.7.9.2): discrete, linear and, in 16 bits, indirect segments.
fn expand(codes: &[u16], entries: usize, wide: bool) -> Option<Vec<u16>> {
    let mut out = Vec::with_capacity(entries);
    segments(codes, 0, codes.len(), entries, wide, &mut out)?;
    Some(out)
}

fn segments(
    codes: &[u16],
    mut at: usize,
    mut count: usize,
    entries: usize,
    indirect: bool,
    out: &mut Vec<u16>,
) -> Option<()> {
    while at + 1 < codes.len() && count > 0 && out.len() < entries {
        count -= 1;
        let length = usize::from(*codes.get(at + 1)?);
        match codes.get(at)? {
            0 => {
                let values = codes.get(at + 2..at + 2 + length)?;
                out.extend_from_slice(values);
                at += 2 + length;
            }
            1 => {
                let to = i64::from(*codes.get(at + 2)?);
                let from = i64::from(*out.last()?);
                let steps = i64::try_from(length).ok()?;
                for step in 1..=steps {
                    let value = from + (to - from) * step / steps;
                    out.push(u16::try_from(value).ok()?);
                }
                at += 3;
            }
            2 if indirect => {
                let low = usize::from(*codes.get(at + 2)?);
                let high = usize::from(*codes.get(at + 3)?);
                // An offset in bytes from the first segment; what it leads to holds no other.
                segments(codes, (high << 16 | low) / 2, length, entries, false, out)?;
                at += 4;
            }
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_are_expanded() {
        // Two values, four more on a line to 50, then the first segment once more.
        let codes = [0, 2, 5, 10, 1, 4, 50, 2, 1, 0, 0];
        assert_eq!(
            expand(&codes, 8, true).unwrap(),
            [5, 10, 20, 30, 40, 50, 5, 10]
        );
        assert_eq!(expand(&[1, 4, 50], 4, true), None);
        assert_eq!(expand(&[0, 4, 50], 4, true), None);
    }

    proptest! {
        #[test]
        fn no_codes_make_it_panic_or_grow(
            codes in prop::collection::vec(prop_oneof![0_u16..4, any::<u16>()], 0..40),
            wide in any::<bool>(),
        ) {
            if let Some(table) = expand(&codes, 1000, wide) {
                // One segment may go beyond the last entry.
                prop_assert!(table.len() <= 1000 + 65_535);
            }
        }
    }
}
