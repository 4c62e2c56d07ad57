//! What a data set says of its pixels (PS3.3 §C.7.6.3), checked before anything is decoded.

use dicom_core::Tag;

use super::error::{PixelError, PixelLimits};
use crate::dicom::charset::CharacterSet;
use crate::dicom::reader::Elements;

pub(super) const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
pub(super) const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
pub(super) const PLANAR_CONFIGURATION: Tag = Tag(0x0028, 0x0006);
pub(super) const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
pub(super) const ROWS: Tag = Tag(0x0028, 0x0010);
pub(super) const COLUMNS: Tag = Tag(0x0028, 0x0011);
pub(super) const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
pub(super) const BITS_STORED: Tag = Tag(0x0028, 0x0101);
pub(super) const HIGH_BIT: Tag = Tag(0x0028, 0x0102);
pub(super) const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
pub(super) const FLOAT_PIXEL_DATA: Tag = Tag(0x7FE0, 0x0008);
pub(super) const DOUBLE_PIXEL_DATA: Tag = Tag(0x7FE0, 0x0009);

/// Photometric Interpretation (0028,0004), PS3.3 §C.7.6.3.1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the defined terms
pub enum Photometric {
    Monochrome1,
    Monochrome2,
    PaletteColor,
    Rgb,
    YbrFull,
    YbrFull422,
    YbrPartial422,
    YbrPartial420,
    YbrIct,
    YbrRct,
    /// A term that is retired, or private.
    Other(String),
}

impl Photometric {
    /// Reads the defined term.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "MONOCHROME1" => Self::Monochrome1,
            "MONOCHROME2" => Self::Monochrome2,
            "PALETTE COLOR" => Self::PaletteColor,
            "RGB" => Self::Rgb,
            "YBR_FULL" => Self::YbrFull,
            "YBR_FULL_422" => Self::YbrFull422,
            "YBR_PARTIAL_422" => Self::YbrPartial422,
            "YBR_PARTIAL_420" => Self::YbrPartial420,
            "YBR_ICT" => Self::YbrIct,
            "YBR_RCT" => Self::YbrRct,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The defined term.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Monochrome1 => "MONOCHROME1",
            Self::Monochrome2 => "MONOCHROME2",
            Self::PaletteColor => "PALETTE COLOR",
            Self::Rgb => "RGB",
            Self::YbrFull => "YBR_FULL",
            Self::YbrFull422 => "YBR_FULL_422",
            Self::YbrPartial422 => "YBR_PARTIAL_422",
            Self::YbrPartial420 => "YBR_PARTIAL_420",
            Self::YbrIct => "YBR_ICT",
            Self::YbrRct => "YBR_RCT",
            Self::Other(term) => term,
        }
    }

    /// True for the forms with one luminance and two chrominance samples.
    #[must_use]
    pub fn is_ybr(&self) -> bool {
        matches!(
            self,
            Self::YbrFull
                | Self::YbrFull422
                | Self::YbrPartial422
                | Self::YbrPartial420
                | Self::YbrIct
                | Self::YbrRct
        )
    }
}

/// What the values of the samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// Whole numbers, two's complement when signed (Pixel Representation 1).
    Integer {
        /// Pixel Representation (0028,0103).
        signed: bool,
    },
    /// Float Pixel Data (7FE0,0008): IEEE 754 binary32.
    Float,
    /// Double Float Pixel Data (7FE0,0009): IEEE 754 binary64.
    Double,
}

/// The form of the frames of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows (0028,0010).
    pub rows: u16,
    /// Columns (0028,0011).
    pub columns: u16,
    /// Samples per Pixel (0028,0002), 1 to 4.
    pub samples: u16,
    /// Bits Allocated (0028,0100): 1, or a multiple of 8 up to 64.
    pub bits_allocated: u16,
    /// Bits Stored (0028,0101).
    pub bits_stored: u16,
    /// High Bit (0028,0102).
    pub high_bit: u16,
    /// What the samples are.
    pub kind: SampleKind,
    /// Photometric Interpretation (0028,0004).
    pub photometric: Photometric,
    /// Planar Configuration (0028,0006) is 1: plane after plane instead of pixel after pixel.
    pub planar: bool,
    /// Number of Frames (0028,0008), at least 1.
    pub frames: u32,
}

impl ImageShape {
    /// Reads the shape from the head of an object; `pixel_data` is the tag of the element that holds
    /// the pixels.
    ///
    /// # Errors
    /// [`PixelError::Missing`] and [`PixelError::Shape`] when the head describes no image,
    /// [`PixelError::TooLarge`] when it exceeds the limits.
    pub fn read(
        head: Elements<'_>,
        pixel_data: Tag,
        limits: &PixelLimits,
    ) -> Result<Self, PixelError> {
        let required = |tag, name| {
            head.u16(tag)
                .filter(|number| *number > 0)
                .ok_or(PixelError::Missing { tag, name })
        };
        let rows = required(ROWS, "Rows")?;
        let columns = required(COLUMNS, "Columns")?;
        let text = head
            .text(PHOTOMETRIC_INTERPRETATION, &CharacterSet::default())
            .unwrap_or_else(|| "MONOCHROME2".to_owned());
        let photometric = Photometric::parse(text.trim());
        let colour = photometric == Photometric::Rgb || photometric.is_ybr();
        let samples = head
            .u16(SAMPLES_PER_PIXEL)
            .unwrap_or(if colour { 3 } else { 1 });
        let (kind, allocated) = match pixel_data {
            FLOAT_PIXEL_DATA => (SampleKind::Float, 32),
            DOUBLE_PIXEL_DATA => (SampleKind::Double, 64),
            _ => {
                let signed = head.u16(PIXEL_REPRESENTATION) == Some(1);
                let allocated = required(BITS_ALLOCATED, "Bits Allocated")?;
                (SampleKind::Integer { signed }, allocated)
            }
        };
        let integer = matches!(kind, SampleKind::Integer { .. });
        let stored = head
            .u16(BITS_STORED)
            .filter(|_| integer)
            .unwrap_or(allocated);
        let shape = Self {
            rows,
            columns,
            samples,
            bits_allocated: allocated,
            bits_stored: stored,
            high_bit: head
                .u16(HIGH_BIT)
                .filter(|_| integer)
                .unwrap_or(stored.saturating_sub(1)),
            kind,
            photometric,
            planar: samples > 1 && head.u16(PLANAR_CONFIGURATION) == Some(1),
            frames: frames(head)?,
        };
        shape.check(limits)?;
        Ok(shape)
    }

    fn check(&self, limits: &PixelLimits) -> Result<(), PixelError> {
        let wrong = |what: String| Err(PixelError::Shape(what));
        if !(1..=4).contains(&self.samples) {
            return wrong(format!("{} samples per pixel", self.samples));
        }
        if self.bits_allocated != 1
            && (!self.bits_allocated.is_multiple_of(8) || !(8..=64).contains(&self.bits_allocated))
        {
            return wrong(format!("{} bits allocated", self.bits_allocated));
        }
        if self.bits_stored == 0
            || self.bits_stored > self.bits_allocated
            || self.high_bit >= self.bits_allocated
            || self.high_bit + 1 < self.bits_stored
        {
            return wrong(format!(
                "{} bits stored below bit {} of {} allocated",
                self.bits_stored, self.high_bit, self.bits_allocated
            ));
        }
        let mono = matches!(
            self.photometric,
            Photometric::Monochrome1 | Photometric::Monochrome2 | Photometric::PaletteColor
        );
        let colour = self.photometric == Photometric::Rgb || self.photometric.is_ybr();
        if (mono && self.samples != 1) || (colour && self.samples != 3) {
            return wrong(format!(
                "{} samples per pixel in {}",
                self.samples,
                self.photometric.as_str()
            ));
        }
        let size = self.frame_bytes();
        if size > limits.frame_bytes {
            return Err(PixelError::TooLarge {
                what: "bytes of one decoded frame",
                size,
                limit: limits.frame_bytes,
            });
        }
        if self.frames > limits.frames {
            return Err(PixelError::TooLarge {
                what: "frames",
                size: u64::from(self.frames),
                limit: u64::from(limits.frames),
            });
        }
        Ok(())
    }

    /// Pixels of one frame.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.columns)
    }

    /// Bytes of one sample; 1 where eight samples share a byte.
    #[must_use]
    pub fn sample_bytes(&self) -> u16 {
        self.bits_allocated.div_ceil(8)
    }

    /// Bits of one decoded frame, chrominance not reduced.
    #[must_use]
    pub fn frame_bits(&self) -> u64 {
        self.pixels() * u64::from(self.samples) * u64::from(self.bits_allocated)
    }

    /// Bytes of one decoded frame, chrominance not reduced.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.frame_bits().div_ceil(8)
    }

    /// True when the samples are signed whole numbers.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        matches!(self.kind, SampleKind::Integer { signed: true })
    }

    /// An estimate of the memory, in bytes, that decoding and rendering one frame takes: what the
    /// decoders keep beside the result, and the result.
    #[must_use]
    pub fn working_memory(&self) -> u64 {
        // OpenJPEG holds 32 bits per sample twice over, the JPEG decoder 16 and 32 bits; the result is
        // there twice when it comes from another process.
        let samples = self.pixels() * u64::from(self.samples);
        samples.saturating_mul(10) + self.frame_bytes().saturating_mul(3) + (1 << 20)
    }
}

fn frames(head: Elements<'_>) -> Result<u32, PixelError> {
    let Some(text) = head.text(NUMBER_OF_FRAMES, &CharacterSet::default()) else {
        return Ok(1);
    };
    match text.trim().parse::<i64>() {
        // Some systems write 0 for an image that is not multi-frame.
        Ok(0) => Ok(1),
        Ok(count) => u32::try_from(count).map_err(|_| PixelError::Shape(format!("{count} frames"))),
        Err(_) => Err(PixelError::Missing {
            tag: NUMBER_OF_FRAMES,
            name: "Number of Frames",
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dicom_core::VR;
    use proptest::prelude::*;

    use super::*;
    use crate::dicom::reader::{DataSet, Limits};
    use crate::dicom::syntax::Encoding;
    use crate::dicom::testdata::Writer;

    const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

    fn head(
        [samples, rows, columns, allocated, stored, high]: [u16; 6],
        photometric: &str,
        frames: &str,
    ) -> Vec<u8> {
        Writer::new(Encoding::ExplicitLittle)
            .put((0x0028, 0x0002), VR::US, &samples.to_le_bytes())
            .put((0x0028, 0x0004), VR::CS, photometric.as_bytes())
            .put((0x0028, 0x0008), VR::IS, frames.as_bytes())
            .put((0x0028, 0x0010), VR::US, &rows.to_le_bytes())
            .put((0x0028, 0x0011), VR::US, &columns.to_le_bytes())
            .put((0x0028, 0x0100), VR::US, &allocated.to_le_bytes())
            .put((0x0028, 0x0101), VR::US, &stored.to_le_bytes())
            .put((0x0028, 0x0102), VR::US, &high.to_le_bytes())
            .bytes
    }

    fn read(bytes: &[u8], limits: &PixelLimits) -> Result<ImageShape, PixelError> {
        let set = DataSet::parse(bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
        ImageShape::read(set.elements(), PIXEL_DATA, limits)
    }

    #[test]
    fn an_image_is_read_as_its_attributes_say() {
        let shape = read(
            &head([3, 480, 640, 8, 8, 7], "YBR_FULL_422", "60 "),
            &PixelLimits::default(),
        )
        .unwrap();
        assert_eq!(shape.photometric, Photometric::YbrFull422);
        assert_eq!((shape.rows, shape.columns, shape.frames), (480, 640, 60));
        assert_eq!(shape.frame_bytes(), 480 * 640 * 3);
        assert!(!shape.is_signed());
    }

    #[test]
    fn attributes_that_cannot_be_are_refused() {
        let limits = PixelLimits::default();
        for (numbers, photometric, frames) in [
            ([1, 2, 2, 16, 17, 15], "MONOCHROME2", "1"),
            ([1, 2, 2, 16, 12, 16], "MONOCHROME2", "1"),
            ([1, 2, 2, 16, 12, 3], "MONOCHROME2", "1"),
            ([1, 2, 2, 12, 12, 11], "MONOCHROME2", "1"),
            ([3, 2, 2, 8, 8, 7], "MONOCHROME2", "1"),
            ([1, 2, 2, 8, 8, 7], "RGB", "1"),
            ([0, 2, 2, 8, 8, 7], "OTHER", "1"),
            ([1, 2, 2, 8, 8, 7], "MONOCHROME2", "-1"),
            ([1, 2, 2, 8, 0, 7], "MONOCHROME2", "1"),
        ] {
            assert!(
                matches!(
                    read(&head(numbers, photometric, frames), &limits),
                    Err(PixelError::Shape(_))
                ),
                "{numbers:?} {photometric} {frames}"
            );
        }
        assert!(matches!(
            read(&head([1, 0, 2, 8, 8, 7], "MONOCHROME2", "1"), &limits),
            Err(PixelError::Missing { .. })
        ));
    }

    #[test]
    fn frames_and_sizes_beyond_the_limits_are_refused() {
        let limits = PixelLimits {
            frame_bytes: 1000,
            frames: 5,
            ..PixelLimits::default()
        };
        assert!(read(&head([1, 50, 10, 16, 12, 11], "MONOCHROME2", "5"), &limits).is_ok());
        for (rows, frames) in [(51, "1"), (50, "6")] {
            let bytes = head([1, rows, 10, 16, 12, 11], "MONOCHROME2", frames);
            assert!(matches!(
                read(&bytes, &limits),
                Err(PixelError::TooLarge { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_panic(
            numbers in any::<[u16; 6]>(),
            frames in "[-0-9 ]{0,12}",
            photometric in prop::sample::select(vec!["MONOCHROME1", "RGB", "YBR_FULL_422", "X"]),
        ) {
            let limits = PixelLimits::default();
            if let Ok(shape) = read(&head(numbers, photometric, &frames), &limits) {
                prop_assert!(shape.frame_bytes() <= limits.frame_bytes);
                prop_assert!(shape.working_memory() > shape.frame_bytes());
            }
        }
    }
}
