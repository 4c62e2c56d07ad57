//! JPEG-LS (ISO/IEC 14495-1; PS3.5 §A.4.3, §8.2.3) through CharLS.

use super::fit;
use super::foreign::{Job, Task};
use super::header::StreamHeader;
use crate::pixels::error::{Codec, PixelError};
use crate::pixels::shape::{ImageShape, SampleKind};
use crate::pixels::worker::Codecs;

const PLANES: u8 = 0;
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// Decodes a lossless or near-lossless frame.
pub(crate) fn decode(
    mut bytes: Vec<u8>,
    shape: &ImageShape,
    codecs: &Codecs,
) -> Result<Vec<u8>, PixelError> {
    let header = StreamHeader::jpeg(Codec::JpegLs, &bytes)?;
    header.check(Codec::JpegLs, shape)?;
    if header.process != 55 {
        return Err(PixelError::UnsupportedForm {
            codec: Codec::JpegLs,
            what: "streams that are not JPEG-LS",
        });
    }
    // CharLS 2.4 reads zeros without end after a scan that is cut inside a long code; it stops at a
    // marker. What follows the end of a whole stream it does not read.
    bytes.extend_from_slice(&END_OF_IMAGE);
    let job = Job {
        bits: header.precision,
        ..job(Task::DecodeJpegLs, shape)
    };
    let samples = codecs.run(&job, &bytes)?;
    let have = if header.precision <= 8 { 1 } else { 2 };
    let samples = if header.components > 1 && header.interleave == PLANES {
        interleave(&samples, usize::from(header.components), have)
    } else {
        samples
    };
    Ok(fit(samples, have, header.precision, shape))
}

fn job(task: Task, shape: &ImageShape) -> Job {
    Job {
        task,
        width: shape.columns,
        height: shape.rows,
        components: shape.samples,
        bits: 0,
        signed: shape.is_signed(),
    }
}

/// Planes to pixels.
pub(crate) fn interleave(planes: &[u8], samples: usize, width: usize) -> Vec<u8> {
    let mut out = vec![0; planes.len()];
    let plane = planes.len() / samples.max(1);
    if plane == 0 {
        return out;
    }
    for (at, plane) in planes.chunks_exact(plane).enumerate() {
        let targets = out.chunks_exact_mut(width).skip(at).step_by(samples);
        for (to, from) in targets.zip(plane.chunks_exact(width)) {
            to.copy_from_slice(from);
        }
    }
    out
}

/// Encodes little endian samples, pixel after pixel, without loss.
///
/// # Errors
/// [`PixelError::UnsupportedForm`] for samples that are not whole numbers of 8 or 16 bits;
/// [`PixelError::Encode`] for a frame that would be larger than it is: noise that fills all bits.
pub(crate) fn encode(
    samples: &[u8],
    shape: &ImageShape,
    codecs: &Codecs,
) -> Result<Vec<u8>, PixelError> {
    if !can_encode(shape) {
        return Err(PixelError::UnsupportedForm {
            codec: Codec::JpegLs,
            what: "samples that are not whole numbers of 8 or 16 bits",
        });
    }
    let (bits, masked) = precision(samples, shape);
    let job = Job {
        bits: u8::try_from(bits).unwrap_or(u8::MAX),
        ..job(Task::EncodeJpegLs, shape)
    };
    codecs.run(&job, masked.as_deref().unwrap_or(samples))
}

/// True when frames of this form can be encoded.
pub(crate) fn can_encode(shape: &ImageShape) -> bool {
    matches!(shape.kind, SampleKind::Integer { .. })
        && matches!(shape.bits_allocated, 8 | 16)
        && matches!(shape.samples, 1 | 3)
        && shape.bits_stored >= 2
}

/// The precision of the stream, and the samples with the sign bits above it removed.
///
/// It is Bits Stored when nothing is lost by it: the bits above are zero, or copies of the sign, which
/// a reader restores. Else something is in those bits (an overlay, most often), and all are kept.
fn precision(samples: &[u8], shape: &ImageShape) -> (u16, Option<Vec<u8>>) {
    let (allocated, stored) = (shape.bits_allocated, shape.bits_stored);
    // A stream of up to 8 bits has one byte per sample.
    if stored == allocated || shape.high_bit + 1 != stored || (allocated == 16 && stored <= 8) {
        return (allocated, None);
    }
    let spare = 16 - u32::from(stored);
    let value = |sample: &[u8]| match *sample {
        [low, high] => u16::from_le_bytes([low, high]),
        // An 8-bit sample is widened with its sign where it has one.
        [byte] if shape.is_signed() => i16::from(byte.cast_signed()).cast_unsigned(),
        [byte] => u16::from(byte),
        _ => 0,
    };
    let width = usize::from(allocated / 8);
    let fits = |sample: &[u8]| {
        let value = value(sample);
        if shape.is_signed() {
            ((value << spare).cast_signed() >> spare).cast_unsigned() == value
        } else {
            (value << spare) >> spare == value
        }
    };
    if !samples.chunks_exact(width).all(fits) {
        return (allocated, None);
    }
    if !shape.is_signed() {
        return (stored, None);
    }
    let mask = u16::MAX >> spare;
    let masked = samples
        .chunks_exact(width)
        .flat_map(|sample| {
            let masked = (value(sample) & mask).to_le_bytes();
            masked.into_iter().take(width)
        })
        .collect();
    (stored, Some(masked))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::pixels::testdata::shape;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_encoded_is_decoded(
            rows in 1_u16..20,
            columns in 1_u16..40,
            samples in prop::sample::select(vec![1_u16, 3]),
            bits in prop::sample::select(vec![8_u16, 16]),
            less in 0_u16..7,
            signed in any::<bool>(),
            dirty in any::<bool>(),
            seed in prop::collection::vec(any::<i16>(), 1..60),
        ) {
            let mut shape = shape(rows, columns, samples, bits);
            shape.bits_stored = bits - less;
            shape.high_bit = shape.bits_stored - 1;
            shape.kind = SampleKind::Integer { signed };
            let spare = if dirty { 0 } else { 16 - shape.bits_stored };
            let width = usize::from(bits / 8);
            let count = usize::from(rows) * usize::from(columns) * usize::from(samples);
            let pixels: Vec<u8> = seed.iter().cycle().take(count).flat_map(|value| {
                // Numbers of the stored bits, unless something is to be above them.
                let value = if signed {
                    (value >> spare).cast_unsigned()
                } else {
                    value.cast_unsigned() >> spare
                };
                value.to_le_bytes().into_iter().take(width)
            }).collect();
            let stream = encode(&pixels, &shape, &Codecs::InProcess).unwrap();
            prop_assert_eq!(decode(stream, &shape, &Codecs::InProcess).unwrap(), pixels);
        }

        #[test]
        fn no_change_to_a_stream_makes_it_panic(at in 0_usize..400, to in any::<u8>()) {
            let shape = shape(16, 16, 1, 16);
            let pixels: Vec<u8> = (0..512_u32).map(|v| (v * v).to_le_bytes()[0]).collect();
            let mut stream = encode(&pixels, &shape, &Codecs::InProcess).unwrap();
            let at = at % stream.len();
            stream[at] = to;
            let _ = decode(stream.clone(), &shape, &Codecs::InProcess);
            stream.truncate(at);
            let _ = decode(stream, &shape, &Codecs::InProcess);
        }
    }

    #[test]
    fn a_stored_precision_below_the_allocated_one_is_used() {
        let mut shape = shape(2, 2, 1, 16);
        shape.bits_stored = 12;
        shape.high_bit = 11;
        shape.kind = SampleKind::Integer { signed: true };
        let pixels: Vec<u8> = [-1_i16, -2048, 2047, 0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let stream = encode(&pixels, &shape, &Codecs::InProcess).unwrap();
        let header = StreamHeader::jpeg(Codec::JpegLs, &stream).unwrap();
        assert_eq!(header.precision, 12);
        assert_eq!(decode(stream, &shape, &Codecs::InProcess).unwrap(), pixels);
    }

    #[test]
    fn a_stream_cut_anywhere_ends_in_an_error() {
        let shape = shape(16, 16, 1, 16);
        let pixels: Vec<u8> = (0..512_u32).map(|v| (v * v).to_le_bytes()[0]).collect();
        let stream = encode(&pixels, &shape, &Codecs::InProcess).unwrap();
        for end in 0..stream.len() - 2 {
            assert!(
                decode(stream[..end].to_vec(), &shape, &Codecs::InProcess).is_err(),
                "{end}"
            );
        }
    }

    #[test]
    fn noise_of_twelve_bits_is_written_and_what_only_grows_is_an_error() {
        let mut shape = shape(300, 300, 1, 16);
        let mut state = 1_u64;
        let mut noise = |mask: u8| -> Vec<u8> {
            (0..shape.frame_bytes())
                .map(|at| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let byte = state.to_be_bytes()[0];
                    if at % 2 == 1 { byte & mask } else { byte }
                })
                .collect()
        };
        let (full, twelve) = (noise(0xFF), noise(0x0F));
        assert!(matches!(
            encode(&full, &shape, &Codecs::InProcess),
            Err(PixelError::Encode { .. })
        ));
        shape.bits_stored = 12;
        shape.high_bit = 11;
        let stream = encode(&twelve, &shape, &Codecs::InProcess).unwrap();
        assert_eq!(decode(stream, &shape, &Codecs::InProcess).unwrap(), twelve);
    }

    #[test]
    fn planes_become_pixels() {
        assert_eq!(
            interleave(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 3, 2),
            [1, 2, 5, 6, 9, 10, 3, 4, 7, 8, 11, 12]
        );
    }
}
