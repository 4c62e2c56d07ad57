//! RLE Lossless (PS3.5 annex G), both ways.

use crate::pixels::error::{Codec, PixelError};
use crate::pixels::shape::ImageShape;

const HEADER: usize = 64;
const SEGMENTS_MAX: usize = 15;

fn damaged(reason: &str) -> PixelError {
    PixelError::Damaged {
        codec: Codec::Rle,
        reason: reason.to_owned(),
    }
}

/// Decodes a frame to little endian samples, pixel after pixel.
///
/// Each segment holds one byte of every sample of one kind, the most significant first (PS3.5 §G.2).
pub(crate) fn decode(bytes: &[u8], shape: &ImageShape) -> Result<Vec<u8>, PixelError> {
    let (pixels, samples, width) = sizes(shape)?;
    let stride = samples * width;
    let header: Vec<usize> = bytes
        .get(..HEADER)
        .ok_or_else(|| damaged("the header is cut"))?
        .chunks_exact(4)
        .filter_map(|word| word.first_chunk::<4>())
        .map(|word| u32::from_le_bytes(*word) as usize)
        .collect();
    let (count, offsets) = header.split_first().ok_or_else(|| damaged("no header"))?;
    if *count != stride {
        return Err(PixelError::HeaderMismatch {
            codec: Codec::Rle,
            stream: format!("{count} segments"),
            shape: format!("{stride} bytes per pixel"),
        });
    }
    // Every byte of the stream gives at most 64 bytes of the result.
    if bytes.len().saturating_mul(64) < pixels * stride {
        return Err(damaged("the frame is too short for its image"));
    }
    let mut out = vec![0; pixels * stride];
    for segment in 0..stride {
        let from = *offsets.get(segment).unwrap_or(&0);
        let to = offsets
            .get(segment + 1)
            .copied()
            .filter(|_| segment + 1 < stride)
            .unwrap_or(bytes.len());
        let packed = bytes
            .get(from..to)
            .filter(|_| from >= HEADER)
            .ok_or_else(|| damaged("a segment is not where the header says"))?;
        let (sample, byte) = (segment / width, segment % width);
        let first = sample * width + (width - 1 - byte);
        let targets = out.iter_mut().skip(first).step_by(stride);
        unpack(packed, targets)?;
    }
    Ok(out)
}

fn sizes(shape: &ImageShape) -> Result<(usize, usize, usize), PixelError> {
    let width = usize::from(shape.bits_allocated / 8);
    let samples = usize::from(shape.samples);
    if !shape.bits_allocated.is_multiple_of(8) || samples * width > SEGMENTS_MAX {
        return Err(PixelError::UnsupportedForm {
            codec: Codec::Rle,
            what: "this number of bits and samples",
        });
    }
    let pixels = usize::try_from(shape.pixels()).unwrap_or(usize::MAX);
    Ok((pixels, samples, width))
}

/// PackBits (PS3.5 §G.3.2) into every place there is.
fn unpack<'o>(
    mut packed: &[u8],
    mut targets: impl ExactSizeIterator<Item = &'o mut u8>,
) -> Result<(), PixelError> {
    while targets.len() > 0 {
        let short = || damaged("a segment is too short for its image");
        let (control, rest) = packed.split_first().ok_or_else(short)?;
        packed = match i8::from_le_bytes([*control]) {
            -128 => rest,
            length @ 0.. => {
                let length = usize::from(length.unsigned_abs()) + 1;
                let literal = rest.get(..length).ok_or_else(short)?;
                for (byte, target) in literal.iter().zip(&mut targets) {
                    *target = *byte;
                }
                rest.get(length..).unwrap_or_default()
            }
            length => {
                let (byte, rest) = rest.split_first().ok_or_else(short)?;
                let length = usize::from(length.unsigned_abs()) + 1;
                for target in targets.by_ref().take(length) {
                    *target = *byte;
                }
                rest
            }
        };
    }
    Ok(())
}

/// Encodes little endian samples that come pixel after pixel.
pub(crate) fn encode(samples: &[u8], shape: &ImageShape) -> Result<Vec<u8>, PixelError> {
    let (_, per_pixel, width) = sizes(shape)?;
    let stride = per_pixel * width;
    let columns = usize::from(shape.columns);
    let mut header = [0_u32; HEADER / 4];
    let mut out = vec![0; HEADER];
    let mut row = Vec::with_capacity(columns);
    for (segment, slot) in (0..stride).zip(header.iter_mut().skip(1)) {
        *slot = u32::try_from(out.len()).map_err(|_| PixelError::Encode {
            codec: Codec::Rle,
            reason: "the frame has more than 4 GiB".to_owned(),
        })?;
        let (sample, byte) = (segment / width, segment % width);
        let first = sample * width + (width - 1 - byte);
        // PS3.5 §G.3.1: each row is encoded separately.
        for line in samples.chunks(columns * stride) {
            row.clear();
            row.extend(line.iter().skip(first).step_by(stride));
            pack(&row, &mut out);
        }
        if out.len() % 2 == 1 {
            out.push(0);
        }
    }
    if let Some(count) = header.first_mut() {
        *count = u32::try_from(stride).unwrap_or(0);
    }
    for (slot, word) in out.chunks_exact_mut(4).zip(header) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    Ok(out)
}

fn pack(row: &[u8], out: &mut Vec<u8>) {
    let mut literal: &[u8] = &[];
    let mut rest = row;
    let flush = |literal: &[u8], out: &mut Vec<u8>| {
        for piece in literal.chunks(128) {
            out.push(u8::try_from(piece.len() - 1).unwrap_or(127));
            out.extend_from_slice(piece);
        }
    };
    while let Some(first) = rest.first() {
        let run = rest.iter().take(128).take_while(|b| *b == first).count();
        if run >= 3 || (run == 2 && literal.is_empty()) {
            flush(literal, out);
            // 257 - run, the two's complement of 1 - run.
            out.push(u8::try_from(257 - run).unwrap_or(129));
            out.push(*first);
            rest = rest.get(run..).unwrap_or_default();
            literal = &[];
        } else {
            let taken = literal.len() + run;
            let start = row.len() - rest.len() - literal.len();
            literal = row.get(start..start + taken).unwrap_or_default();
            rest = rest.get(run..).unwrap_or_default();
        }
    }
    flush(literal, out);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::pixels::testdata::shape;

    #[test]
    fn the_example_of_packbits_is_decoded() {
        let packed = [
            0xFE, 0xAA, 0x02, 0x80, 0x00, 0x2A, 0xFD, 0xAA, 0x03, 0x80, 0x00, 0x2A, 0x22, 0xF7,
            0xAA,
        ];
        let mut out = [0; 24];
        unpack(&packed, out.iter_mut()).unwrap();
        assert_eq!(
            out[..14],
            [
                0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0xAA, 0xAA, 0xAA, 0xAA, 0x80, 0x00, 0x2A, 0x22
            ]
        );
        assert_eq!(out[14..], [0xAA; 10]);
    }

    #[test]
    fn the_bytes_of_a_sample_are_most_significant_first() {
        let shape = shape(1, 2, 1, 16);
        let mut frame = vec![0; 64];
        frame[0] = 2;
        frame[4] = 64;
        frame[8] = 68;
        frame.extend_from_slice(&[1, 0x12, 0x34, 0, 1, 0x56, 0x78, 0]);
        assert_eq!(decode(&frame, &shape).unwrap(), [0x56, 0x12, 0x78, 0x34]);
    }

    #[test]
    fn a_frame_that_is_cut_is_an_error() {
        let shape = shape(4, 4, 3, 8);
        let pixels: Vec<u8> = (0..48).collect();
        let frame = encode(&pixels, &shape).unwrap();
        assert_eq!(decode(&frame, &shape).unwrap(), pixels);
        for end in 0..frame.len() - 1 {
            assert!(decode(&frame[..end], &shape).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            rows in 1_u16..6,
            columns in 1_u16..300,
            samples in prop::sample::select(vec![1_u16, 3]),
            bits in prop::sample::select(vec![8_u16, 16, 32]),
            seed in prop::collection::vec(0_u8..4, 1..50),
        ) {
            let shape = shape(rows, columns, samples, bits);
            let size = usize::try_from(shape.frame_bytes()).unwrap();
            let pixels: Vec<u8> = seed.iter().copied().cycle().take(size).collect();
            let frame = encode(&pixels, &shape).unwrap();
            prop_assert_eq!(frame.len() % 2, 0);
            prop_assert_eq!(decode(&frame, &shape).unwrap(), pixels);
        }

        #[test]
        fn no_bytes_make_it_panic(
            count in 0_u32..16,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut frame = count.to_le_bytes().to_vec();
            frame.extend_from_slice(&bytes);
            let _ = decode(&frame, &shape(5, 5, 1, 16));
        }
    }
}
