//! JPEG (ISO/IEC 10918-1; PS3.5 §A.4.1, §8.2.1): baseline, extended, progressive and lossless in,
//! baseline out. Of 12 bits the DCT is decoded where it is sequential and of one component.

use jpeg_decoder::{ColorTransform, Decoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::header::StreamHeader;
use super::{fit, guarded};
use crate::pixels::colour;
use crate::pixels::error::{Codec, PixelError};
use crate::pixels::shape::{ImageShape, Photometric};

fn damaged(reason: impl ToString) -> PixelError {
    PixelError::Damaged {
        codec: Codec::Jpeg,
        reason: reason.to_string(),
    }
}

/// Decodes a frame; tells the photometric interpretation it is then in.
///
/// What the DCT wrote as luminance and chrominance becomes RGB. Lossless streams stay in the colours
/// they are in.
pub(crate) fn decode(
    bytes: &[u8],
    shape: &ImageShape,
) -> Result<(Vec<u8>, Photometric), PixelError> {
    let header = StreamHeader::jpeg(Codec::Jpeg, bytes)?;
    header.check(Codec::Jpeg, shape)?;
    let what = match (header.process, header.precision, header.components) {
        (0..=2, 8, 1 | 3) | (3, 2..=16, 1 | 3) | (0..=1, 12, 1) => None,
        (2, 12, _) => Some("progressive streams of 12 bits"),
        (0..=1, 12, _) => Some("colours of 12 bits"),
        (5..=7 | 13..=15, ..) => Some("hierarchical streams"),
        (9..=11, ..) => Some("arithmetic coding"),
        (55, ..) => Some("JPEG-LS streams in a JPEG transfer syntax"),
        _ => Some("this precision or number of components"),
    };
    if let Some(what) = what {
        return Err(PixelError::UnsupportedForm {
            codec: Codec::Jpeg,
            what,
        });
    }
    if header.precision == 12 && header.process <= 1 {
        let samples = extended(bytes, shape)?;
        let samples = fit(samples, 2, header.precision, shape);
        return Ok((samples, shape.photometric.clone()));
    }
    let samples = guarded(Codec::Jpeg, || {
        let mut decoder = Decoder::new(bytes);
        // Components side by side as they are; `None` means plane after plane to this decoder.
        decoder.set_color_transform(ColorTransform::RGB);
        decoder.set_max_decoding_buffer_size(
            usize::try_from(shape.pixels() * u64::from(shape.samples) * 2).unwrap_or(usize::MAX),
        );
        decoder.decode().map_err(damaged)
    })?;
    let have = if header.precision == 8 { 1 } else { 2 };
    let count = shape.pixels() * u64::from(shape.samples);
    if samples.len() as u64 != count * have {
        return Err(damaged("the frame has another size than its header says"));
    }
    let samples = if have == 2 {
        // The decoder gives samples in the order of the machine.
        let words = samples.chunks_exact(2).filter_map(|s| s.first_chunk::<2>());
        words
            .flat_map(|word| u16::from_ne_bytes(*word).to_le_bytes())
            .collect()
    } else {
        samples
    };
    let mut samples = fit(
        samples,
        usize::try_from(have).unwrap_or(1),
        header.precision,
        shape,
    );
    if shape.samples != 3 {
        return Ok((samples, shape.photometric.clone()));
    }
    if header.process == 3 {
        let photometric = match &shape.photometric {
            Photometric::YbrFull422 => Photometric::YbrFull,
            other => other.clone(),
        };
        return Ok((samples, photometric));
    }
    if is_ybr(&header, shape) {
        if shape.bits_allocated != 8 {
            return Err(PixelError::UnsupportedForm {
                codec: Codec::Jpeg,
                what: "chrominance in more than 8 bits",
            });
        }
        colour::ybr_full_to_rgb(&mut samples);
    }
    Ok((samples, Photometric::Rgb))
}

/// Decodes one component of 12 bits (process 4, PS3.5 §8.2.1) to two bytes a sample.
fn extended(bytes: &[u8], shape: &ImageShape) -> Result<Vec<u8>, PixelError> {
    // The decoder takes what is missing at the end for zeros.
    let is_filler = |byte: &u8| matches!(byte, 0 | 0xFF);
    let end = bytes.iter().rposition(|byte| !is_filler(byte));
    if !end.is_some_and(|end| {
        bytes
            .get(..=end)
            .is_some_and(|all| all.ends_with(&[0xFF, 0xD9]))
    }) {
        return Err(damaged("the stream ends without its end marker"));
    }
    let expected = usize::try_from(shape.pixels() * 2).unwrap_or(usize::MAX);
    let raster = guarded(Codec::Jpeg, || {
        openreadout_codecs::jpeg_decode_limited(bytes, expected).map_err(damaged)
    })?;
    if raster.channels != 1 || raster.data.len() != expected {
        return Err(damaged("the frame has another size than its header says"));
    }
    Ok(raster.data)
}

/// The data set says it; where it says RGB, a JFIF or Adobe segment that says otherwise is right:
/// many systems compress to YCbCr and leave the attribute.
fn is_ybr(header: &StreamHeader, shape: &ImageShape) -> bool {
    shape.photometric.is_ybr()
        || match header.adobe_transform {
            Some(transform) => transform == 1,
            None => header.jfif,
        }
}

/// Encodes 8-bit samples, pixel after pixel: grey, or RGB as YCbCr with chrominance at half width
/// (YBR_FULL_422). `quality` is 1 to 100.
pub(crate) fn encode(
    samples: &[u8],
    columns: u16,
    rows: u16,
    colour: bool,
    quality: u8,
) -> Result<Vec<u8>, PixelError> {
    guarded(Codec::Jpeg, || {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, quality.clamp(1, 100));
        encoder.set_sampling_factor(SamplingFactor::R_4_2_2);
        let kind = if colour {
            ColorType::Rgb
        } else {
            ColorType::Luma
        };
        encoder
            .encode(samples, columns, rows, kind)
            .map_err(|error| PixelError::Encode {
                codec: Codec::Jpeg,
                reason: error.to_string(),
            })?;
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::pixels::testdata::shape;

    fn gradient(samples: usize) -> Vec<u8> {
        (0..16 * 16_u32)
            .flat_map(|at| {
                let (x, y) = (at % 16, at / 16);
                [x * 4, y * 4, 255 - x * 4]
                    .into_iter()
                    .take(samples)
                    .map(|v| u8::try_from(v).unwrap())
            })
            .collect()
    }

    fn close(a: &[u8], b: &[u8], most: u8) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= most)
    }

    #[test]
    fn grey_and_colour_come_back_nearly_the_same() {
        for samples in [1, 3] {
            let pixels = gradient(samples);
            let mut shape = shape(16, 16, u16::try_from(samples).unwrap(), 8);
            let stream = encode(&pixels, 16, 16, samples == 3, 100).unwrap();
            let (decoded, photometric) = decode(&stream, &shape).unwrap();
            assert!(close(&decoded, &pixels, 8), "{samples}");
            assert_eq!(photometric, shape.photometric);
            if samples == 3 {
                shape.photometric = Photometric::YbrFull422;
                let declared = decode(&stream, &shape).unwrap();
                assert_eq!(declared, (decoded, Photometric::Rgb));
            }
        }
    }

    #[test]
    fn a_stream_of_another_size_never_reaches_the_decoder() {
        let stream = encode(&gradient(1), 16, 16, false, 90).unwrap();
        assert!(matches!(
            decode(&stream, &shape(16, 15, 1, 8)),
            Err(PixelError::HeaderMismatch { .. })
        ));
    }

    #[test]
    fn a_stream_cut_anywhere_ends_in_an_error() {
        let stream = encode(&gradient(3), 16, 16, true, 90).unwrap();
        for end in 0..stream.len() - 2 {
            assert!(
                decode(&stream[..end], &shape(16, 16, 3, 8)).is_err(),
                "{end}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_change_to_a_stream_makes_it_panic(at in 0_usize..700, to in any::<u8>()) {
            let mut stream = encode(&gradient(3), 16, 16, true, 90).unwrap();
            let at = at % stream.len();
            stream[at] = to;
            let _ = decode(&stream, &shape(16, 16, 3, 8));
            let _ = decode(&stream[..at], &shape(16, 16, 3, 8));
        }
    }
}
