//! One frame from its stored form to samples in memory.

use std::io::Read;

use super::codec::{jpeg, jpeg2000, jpegls, rle};
use super::colour;
use super::error::{Codec, PixelError};
use super::shape::{ImageShape, Photometric};
use super::worker::Codecs;
use crate::dicom::syntax::{
    DEFLATED_EXPLICIT_LITTLE, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, RLE,
};
use crate::dicom::uid::TransferSyntaxUid;

/// A decoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The form of the samples; photometric interpretation and planar configuration are those after
    /// decoding.
    pub shape: ImageShape,
    /// The samples in little endian; eight to a byte, the first in the lowest bit, where Bits
    /// Allocated is 1.
    pub samples: Vec<u8>,
}

/// What decodes a transfer syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Coding {
    /// Nothing: the samples themselves.
    Native,
    /// The samples themselves, in fragments.
    EncapsulatedNative,
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
    Deflated,
}

impl Coding {
    /// The coding of a transfer syntax (PS3.6 table A-1); `None`: nothing here decodes it.
    pub(super) fn of(syntax: &TransferSyntaxUid) -> Option<Self> {
        Some(match syntax.as_str() {
            IMPLICIT_LITTLE | EXPLICIT_LITTLE | EXPLICIT_BIG | DEFLATED_EXPLICIT_LITTLE => {
                Self::Native
            }
            "1.2.840.10008.1.2.1.98" => Self::EncapsulatedNative,
            "1.2.840.10008.1.2.8.1" => Self::Deflated,
            RLE => Self::Rle,
            // Baseline, extended, progressive (retired), lossless.
            "1.2.840.10008.1.2.4.50"
            | "1.2.840.10008.1.2.4.51"
            | "1.2.840.10008.1.2.4.53"
            | "1.2.840.10008.1.2.4.55"
            | "1.2.840.10008.1.2.4.57"
            | "1.2.840.10008.1.2.4.70" => Self::Jpeg,
            "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => Self::JpegLs,
            "1.2.840.10008.1.2.4.90"
            | "1.2.840.10008.1.2.4.91"
            | "1.2.840.10008.1.2.4.92"
            | "1.2.840.10008.1.2.4.93"
            | "1.2.840.10008.1.2.4.201"
            | "1.2.840.10008.1.2.4.202"
            | "1.2.840.10008.1.2.4.203" => Self::Jpeg2000,
            _ => return None,
        })
    }
}

/// True when frames in this transfer syntax can be decoded.
#[must_use]
pub fn is_decodable(syntax: &TransferSyntaxUid) -> bool {
    Coding::of(syntax).is_some()
}

/// Decodes one frame, given as [`FrameIndex::frame`](super::FrameIndex::frame) reads it.
///
/// Lossless codings keep the colours they are in, but for the reversible transform of JPEG 2000;
/// what JPEG and JPEG 2000 hold as luminance and chrominance becomes RGB. Pixels whose chrominance
/// is shared are given their own.
///
/// # Errors
/// [`PixelError::Unsupported`] for a transfer syntax without a decoder; [`PixelError::Damaged`],
/// [`PixelError::HeaderMismatch`] and the like for a frame that cannot be decoded.
pub fn decode(
    stored: Vec<u8>,
    shape: &ImageShape,
    syntax: &TransferSyntaxUid,
    codecs: &Codecs,
) -> Result<Frame, PixelError> {
    let coding = Coding::of(syntax).ok_or_else(|| PixelError::Unsupported(syntax.clone()))?;
    let same = |samples| (samples, shape.photometric.clone(), false);
    let (samples, photometric, planar) = match coding {
        Coding::Native | Coding::EncapsulatedNative => native(stored, shape)?,
        Coding::Deflated => native(inflate(&stored, shape)?, shape)?,
        Coding::Rle => same(rle::decode(&stored, shape)?),
        Coding::JpegLs => same(jpegls::decode(stored, shape, codecs)?),
        Coding::Jpeg => {
            let (samples, photometric) = jpeg::decode(&stored, shape)?;
            (samples, photometric, false)
        }
        Coding::Jpeg2000 => {
            let (samples, photometric) = jpeg2000::decode(&stored, shape, codecs)?;
            (samples, photometric, false)
        }
    };
    Ok(Frame {
        shape: ImageShape {
            photometric,
            planar,
            frames: 1,
            ..shape.clone()
        },
        samples,
    })
}

type Native = (Vec<u8>, Photometric, bool);

fn native(mut stored: Vec<u8>, shape: &ImageShape) -> Result<Native, PixelError> {
    let full = shape.frame_bytes();
    let width = usize::from(shape.sample_bytes());
    // A fragment may be padded to an even length.
    let have = stored.len() as u64;
    if have >= full {
        stored.truncate(usize::try_from(full).unwrap_or(usize::MAX));
        let photometric = match &shape.photometric {
            Photometric::YbrFull422 => Photometric::YbrFull,
            other => other.clone(),
        };
        return Ok((stored, photometric, shape.planar));
    }
    let reduced = full / 3 * 2;
    match shape.photometric {
        Photometric::YbrFull422 | Photometric::YbrPartial422 if have >= reduced => {
            stored.truncate(usize::try_from(reduced).unwrap_or(usize::MAX));
            let photometric = match &shape.photometric {
                Photometric::YbrFull422 => Photometric::YbrFull,
                other => other.clone(),
            };
            Ok((colour::expand_422(&stored, width), photometric, false))
        }
        _ => Err(PixelError::Shape(format!(
            "{have} bytes for a frame of {full}"
        ))),
    }
}

fn inflate(stored: &[u8], shape: &ImageShape) -> Result<Vec<u8>, PixelError> {
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(stored)
        .take(shape.frame_bytes() + 1)
        .read_to_end(&mut out)
        .map_err(|error| PixelError::Damaged {
            codec: Codec::Deflate,
            reason: error.to_string(),
        })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;
    use crate::pixels::testdata::shape;

    fn uid(text: &str) -> TransferSyntaxUid {
        TransferSyntaxUid::parse(text).unwrap()
    }

    #[test]
    fn a_syntax_without_a_decoder_is_named() {
        let video = uid("1.2.840.10008.1.2.4.102");
        let error =
            decode(vec![0; 10], &shape(2, 2, 1, 8), &video, &Codecs::InProcess).unwrap_err();
        assert!(matches!(error, PixelError::Unsupported(syntax) if syntax == video));
    }

    #[test]
    fn shared_chrominance_is_expanded_and_a_wrong_term_corrected() {
        let mut shape = shape(1, 2, 3, 8);
        shape.photometric = Photometric::YbrFull422;
        let explicit = uid(EXPLICIT_LITTLE);
        let frame = decode(vec![1, 2, 8, 9], &shape, &explicit, &Codecs::InProcess).unwrap();
        assert_eq!(frame.samples, [1, 8, 9, 2, 8, 9]);
        assert_eq!(frame.shape.photometric, Photometric::YbrFull);
        let frame = decode(
            vec![1, 8, 9, 2, 8, 9],
            &shape,
            &explicit,
            &Codecs::InProcess,
        )
        .unwrap();
        assert_eq!(frame.samples, [1, 8, 9, 2, 8, 9]);
        assert_eq!(frame.shape.photometric, Photometric::YbrFull);
        assert!(decode(vec![1, 2, 8], &shape, &explicit, &Codecs::InProcess).is_err());
    }

    #[test]
    fn a_deflated_frame_is_inflated_to_its_size_and_no_further() {
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(&vec![7; 1 << 20]).unwrap();
        let stored = deflate.finish().unwrap();
        let frame = decode(
            stored,
            &shape(2, 2, 1, 8),
            &uid("1.2.840.10008.1.2.8.1"),
            &Codecs::InProcess,
        )
        .unwrap();
        assert_eq!(frame.samples, [7; 4]);
    }
}
