//! What a code stream says of its image, read before a decoder is let near it.

use crate::pixels::error::{Codec, PixelError};
use crate::pixels::shape::ImageShape;

/// The frame header of a code stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StreamHeader {
    pub width: u32,
    pub height: u32,
    pub components: u16,
    pub precision: u8,
    /// The number of the SOF marker of JPEG: 0 baseline, 1 extended, 2 progressive, 3 lossless,
    /// 55 JPEG-LS.
    pub process: u8,
    /// JPEG: a JFIF segment (APP0) is there, whose three components are Y, Cb and Cr.
    pub jfif: bool,
    /// JPEG: the colour transform of an Adobe segment (APP14): 0 none, 1 YCbCr.
    pub adobe_transform: Option<u8>,
    /// JPEG-LS: the interleave mode of the first scan: 0 planes, 1 lines, 2 samples.
    pub interleave: u8,
    /// JPEG 2000: tiles.
    pub tiles: u64,
}

/// Tiles of a JPEG 2000 image: the decoder keeps some kilobytes for each before it decodes.
const TILES_MAX: u64 = 8192;

impl StreamHeader {
    /// Reads the header of a JPEG or JPEG-LS stream.
    pub fn jpeg(codec: Codec, bytes: &[u8]) -> Result<Self, PixelError> {
        let damaged = |reason: &str| PixelError::Damaged {
            codec,
            reason: reason.to_owned(),
        };
        let mut header = Self::default();
        let mut rest = bytes
            .strip_prefix(&[0xFF, 0xD8])
            .ok_or_else(|| damaged("the code stream does not begin with SOI"))?;
        let mut framed = false;
        loop {
            let marker;
            (marker, rest) = next_marker(rest).ok_or_else(|| damaged("no frame header"))?;
            if matches!(marker, 0x01 | 0xD0..=0xD7) {
                continue;
            }
            if marker == 0xD9 {
                return Err(damaged("the code stream ends before its image"));
            }
            let segment;
            (segment, rest) = next_segment(rest).ok_or_else(|| damaged("a segment is cut"))?;
            match (marker, segment) {
                (
                    0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7,
                    [precision, h1, h0, w1, w0, count, ..],
                ) => {
                    if framed {
                        return Err(damaged("more than one frame header"));
                    }
                    framed = true;
                    header.precision = *precision;
                    header.height = u32::from(u16::from_be_bytes([*h1, *h0]));
                    header.width = u32::from(u16::from_be_bytes([*w1, *w0]));
                    header.components = u16::from(*count);
                    header.process = if marker == 0xF7 { 55 } else { marker & 0x0F };
                }
                (0xE0, [b'J', b'F', b'I', b'F', 0, ..]) => header.jfif = true,
                (
                    0xEE,
                    [
                        b'A',
                        b'd',
                        b'o',
                        b'b',
                        b'e',
                        _,
                        _,
                        _,
                        _,
                        _,
                        _,
                        transform,
                        ..,
                    ],
                ) => header.adobe_transform = Some(*transform),
                (0xDA, segment) => {
                    if !framed {
                        return Err(damaged("a scan comes before the frame header"));
                    }
                    // Ns, then two bytes for each component, then NEAR and ILV.
                    let components = segment.first().map_or(0, |count| usize::from(*count));
                    header.interleave = segment.get(2 + 2 * components).copied().unwrap_or(0);
                    return Ok(header);
                }
                _ => {}
            }
        }
    }

    /// Reads the header of a JPEG 2000 stream, bare or in the boxes of a JP2 file.
    pub fn jpeg2000(bytes: &[u8]) -> Result<Self, PixelError> {
        let damaged = |reason: &str| PixelError::Damaged {
            codec: Codec::Jpeg2000,
            reason: reason.to_owned(),
        };
        let stream = code_stream(bytes).ok_or_else(|| damaged("no code stream"))?;
        let siz = stream
            .strip_prefix(&[0xFF, 0x4F, 0xFF, 0x51])
            .and_then(next_segment)
            .map(|(segment, _)| segment)
            .ok_or_else(|| damaged("the code stream does not begin with SOC and SIZ"))?;
        let word = |at: usize| {
            siz.get(at..)
                .and_then(|rest| rest.first_chunk::<4>())
                .map(|word| u32::from_be_bytes(*word))
                .ok_or_else(|| damaged("the image size is cut"))
        };
        let [x1, y1, x0, y0] = [word(2)?, word(6)?, word(10)?, word(14)?];
        let [tile_x, tile_y] = [word(18)?, word(22)?];
        let components = siz
            .get(34..)
            .and_then(|rest| rest.first_chunk::<2>())
            .map(|word| u16::from_be_bytes(*word))
            .ok_or_else(|| damaged("the image size is cut"))?;
        let mut precision = 0;
        for component in siz.get(36..).unwrap_or_default().chunks(3) {
            let [depth, 1, 1] = *component else {
                return Err(PixelError::UnsupportedForm {
                    codec: Codec::Jpeg2000,
                    what: "components of reduced resolution",
                });
            };
            precision = precision.max((depth & 0x7F) + 1);
        }
        if tile_x == 0 || tile_y == 0 || x1 <= x0 || y1 <= y0 {
            return Err(damaged("the image or its tiles are empty"));
        }
        let tiles = u64::from(x1.div_ceil(tile_x)) * u64::from(y1.div_ceil(tile_y));
        if tiles > TILES_MAX {
            return Err(PixelError::TooLarge {
                what: "tiles of a JPEG 2000 frame",
                size: tiles,
                limit: TILES_MAX,
            });
        }
        Ok(Self {
            width: x1 - x0,
            height: y1 - y0,
            components,
            precision,
            tiles,
            ..Self::default()
        })
    }

    /// Compares it with what the data set describes: a decoder allocates what this header says.
    pub fn check(&self, codec: Codec, shape: &ImageShape) -> Result<(), PixelError> {
        let same = self.width == u32::from(shape.columns)
            && self.height == u32::from(shape.rows)
            && self.components == shape.samples
            && u16::from(self.precision) <= shape.bits_allocated
            && self.precision > 0;
        if same {
            return Ok(());
        }
        Err(PixelError::HeaderMismatch {
            codec,
            stream: format!(
                "{} × {} × {}, {} bits",
                self.width, self.height, self.components, self.precision
            ),
            shape: format!(
                "{} × {} × {}, {} bits",
                shape.columns, shape.rows, shape.samples, shape.bits_allocated
            ),
        })
    }
}

/// The next marker and what follows; fill bytes are passed over.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let mut rest = bytes.strip_prefix(&[0xFF])?;
    loop {
        let (marker, after) = rest.split_first()?;
        if *marker != 0xFF {
            return Some((*marker, after));
        }
        rest = after;
    }
}

/// The content of a segment, its length left out, and what follows.
fn next_segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk::<2>()?));
    let segment = bytes.get(2..length)?;
    Some((segment, bytes.get(length..)?))
}

/// The code stream in a JP2 file (ISO/IEC 15444-1 annex I), or the bytes themselves. PS3.5 §A.4.4
/// wants the bare stream; some systems write the file.
fn code_stream(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.starts_with(&[0xFF, 0x4F]) {
        return Some(bytes);
    }
    let mut rest = bytes;
    // The signature, the file type, the header, then the code stream; some files hold more.
    for _ in 0..64 {
        let length = usize::try_from(u32::from_be_bytes(*rest.first_chunk::<4>()?)).ok()?;
        let kind = rest.get(4..8)?;
        let (header, length) = match length {
            0 => (8, rest.len()),
            1 => {
                let wide = u64::from_be_bytes(*rest.get(8..)?.first_chunk::<8>()?);
                (16, usize::try_from(wide).ok()?)
            }
            length => (8, length),
        };
        if kind == b"jp2c" {
            return rest.get(header..);
        }
        rest = rest.get(length.max(header)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    /// SOI, an APP0, a frame header of 3 components, a scan header.
    fn jpeg() -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xE0, 0, 9];
        bytes.extend_from_slice(b"JFIF\0\x01\x01");
        bytes.extend_from_slice(&[0xFF, 0xFF, 0xC1, 0, 17, 12, 0, 20, 1, 0, 3]);
        bytes.extend_from_slice(&[1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
        bytes.extend_from_slice(&[0xFF, 0xDA, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
        bytes
    }

    fn siz(width: u32, height: u32, tile: u32) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 41, 0, 0];
        for number in [width, height, 0, 0, tile, tile, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&[0, 1, 15, 1, 1, 0xFF, 0x52]);
        bytes
    }

    #[test]
    fn the_frame_header_of_a_jpeg_is_found_after_other_segments() {
        let header = StreamHeader::jpeg(Codec::Jpeg, &jpeg()).unwrap();
        assert_eq!((header.width, header.height), (256, 20));
        assert_eq!((header.components, header.precision), (3, 12));
        assert_eq!((header.process, header.jfif), (1, true));
    }

    #[test]
    fn the_image_size_of_jpeg_2000_is_found_bare_or_boxed() {
        let bare = siz(640, 480, 640);
        let header = StreamHeader::jpeg2000(&bare).unwrap();
        assert_eq!((header.width, header.height), (640, 480));
        assert_eq!((header.components, header.precision), (1, 16));
        let mut boxed = b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\0jp2c".to_vec();
        boxed.extend_from_slice(&bare);
        assert_eq!(StreamHeader::jpeg2000(&boxed).unwrap(), header);
    }

    #[test]
    fn an_image_of_too_many_tiles_is_refused() {
        assert!(matches!(
            StreamHeader::jpeg2000(&siz(60_000, 60_000, 100)),
            Err(PixelError::TooLarge { .. })
        ));
        assert!(StreamHeader::jpeg2000(&siz(0, 10, 10)).is_err());
        assert!(StreamHeader::jpeg2000(&siz(10, 10, 0)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = StreamHeader::jpeg(Codec::Jpeg, &bytes);
            let _ = StreamHeader::jpeg2000(&bytes);
        }

        #[test]
        fn no_change_to_a_header_makes_it_panic(at in 0_usize..48, to in any::<u8>(), cut in 0_usize..48) {
            for mut bytes in [jpeg(), siz(640, 480, 64)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = to;
                }
                let _ = StreamHeader::jpeg(Codec::Jpeg, &bytes);
                let _ = StreamHeader::jpeg2000(&bytes);
                bytes.truncate(cut);
                let _ = StreamHeader::jpeg(Codec::Jpeg, &bytes);
                let _ = StreamHeader::jpeg2000(&bytes);
            }
        }
    }
}
