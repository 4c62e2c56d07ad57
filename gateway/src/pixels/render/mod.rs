//! A frame as a picture of 8 bits per sample (PS3.18 §8.3.5, PS3.4 §N.2).
//!
//! Grey values go through the modality and the VOI transformation of the object, or of the frame's
//! functional groups; palettes and luminance become RGB. Overlays, presentation states and ICC
//! profiles are not applied.

mod grey;
mod palette;
mod scale;
mod voi;

use dicom_core::Tag;

use super::codec::{guarded, jpeg};
use super::colour;
use super::decode::Frame;
use super::error::{Codec, PixelError};
use super::image::StoredImage;
use super::shape::{ImageShape, Photometric, SampleKind};
use super::source::ReadAt;
use super::transcode::by_pixel;

pub use scale::{Region, Viewport};
pub use voi::{VoiFunction, Window};

const REPRESENTATIVE_FRAME: Tag = Tag(0x0028, 0x6010);

/// What is asked of a picture (PS3.18 §8.3.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RenderOptions {
    /// Takes the place of the object's window; without meaning for colours.
    pub window: Option<Window>,
    /// The size to fit into, and the part of the image to show; all of it in its own size by default.
    pub viewport: Option<Viewport>,
}

/// The file formats of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// `image/jpeg`.
    Jpeg {
        /// 1 to 100.
        quality: u8,
    },
    /// `image/png`.
    Png,
}

/// A picture: 8 bits per sample, pixel after pixel, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// RGB; grey otherwise.
    pub colour: bool,
    /// The samples.
    pub samples: Vec<u8>,
}

impl Picture {
    /// The picture as a file.
    ///
    /// # Errors
    /// [`PixelError::Encode`].
    pub fn encode(&self, format: PictureFormat) -> Result<Vec<u8>, PixelError> {
        match format {
            PictureFormat::Jpeg { quality } => {
                jpeg::encode(&self.samples, self.width, self.height, self.colour, quality)
            }
            PictureFormat::Png => guarded(Codec::Png, || self.png()),
        }
    }

    fn png(&self) -> Result<Vec<u8>, PixelError> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, self.width.into(), self.height.into());
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_color(if self.colour {
            png::ColorType::Rgb
        } else {
            png::ColorType::Grayscale
        });
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.samples))
            .map_err(|error| PixelError::Encode {
                codec: Codec::Png,
                reason: error.to_string(),
            })?;
        Ok(out)
    }
}

/// Makes a picture of a frame (from 0).
///
/// # Errors
/// [`PixelError::Unsupported`] and [`PixelError::NotRenderable`] for what cannot be shown;
/// [`PixelError::TooLarge`] for a viewport beyond the limit on frames; what is wrong with a frame
/// that cannot be decoded.
pub fn render<S: ReadAt>(
    image: &StoredImage<S>,
    frame: u32,
    options: &RenderOptions,
) -> Result<Picture, PixelError> {
    if let Some(viewport) = &options.viewport {
        viewport.check(&image.limits)?;
    }
    let decoded = image.frame(frame)?;
    let head = image.head()?;
    let (width, height) = (decoded.shape.columns, decoded.shape.rows);
    let (samples, colour) = match decoded.shape.photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => {
            let values = voi::Transform::read(head.elements(), frame, &decoded.shape);
            (grey::render(&decoded, &values, options.window), false)
        }
        Photometric::PaletteColor => {
            let palette = palette::Palette::read(head.elements())?;
            (palette.apply(&decoded), true)
        }
        Photometric::Other(_) => {
            return Err(PixelError::NotRenderable(
                "an image in a retired or private photometric interpretation",
            ));
        }
        _ => (colours(decoded)?, true),
    };
    let picture = Picture {
        width,
        height,
        colour,
        samples,
    };
    Ok(match &options.viewport {
        None => picture,
        Some(viewport) => viewport.apply(&picture),
    })
}

/// The frame (from 0) that stands for an object: Representative Frame Number (0028,6010), else the
/// one in the middle.
///
/// # Errors
/// Those of [`StoredImage::head`].
pub fn representative_frame<S: ReadAt>(image: &StoredImage<S>) -> Result<u32, PixelError> {
    let frames = image.index().frames();
    let named = image.head()?.elements().u32(REPRESENTATIVE_FRAME);
    Ok(named
        .filter(|number| (1..=frames).contains(number))
        .map_or(frames / 2, |number| number - 1))
}

/// RGB of 8 bits.
fn colours(mut frame: Frame) -> Result<Vec<u8>, PixelError> {
    if frame.shape.samples != 3 || !matches!(frame.shape.kind, SampleKind::Integer { .. }) {
        return Err(PixelError::NotRenderable("an image of this kind of colour"));
    }
    if frame.shape.planar {
        frame = by_pixel(frame);
    }
    let mut samples = if frame.shape.bits_allocated == 8 && frame.shape.bits_stored == 8 {
        frame.samples
    } else {
        let most = max_value(frame.shape.bits_stored);
        grey::integers(&frame)
            .map(|value| {
                let value = u64::try_from(value.max(0)).unwrap_or(0).min(most);
                u8::try_from((value * 255 + most / 2) / most).unwrap_or(u8::MAX)
            })
            .collect()
    };
    match frame.shape.photometric {
        Photometric::YbrFull | Photometric::YbrFull422 => colour::ybr_full_to_rgb(&mut samples),
        Photometric::YbrPartial422 | Photometric::YbrPartial420 => {
            colour::ybr_partial_to_rgb(&mut samples);
        }
        _ => {}
    }
    Ok(samples)
}

/// The highest value of so many bits; 64-bit samples are not shown in colour, and 48 bits are the
/// most that can be scaled.
fn max_value(bits: u16) -> u64 {
    (1_u64 << bits.clamp(1, 48)) - 1
}

/// An estimate of the memory, in bytes, that [`render`] takes for a frame of this form.
#[must_use]
pub fn memory(shape: &ImageShape, viewport: Option<&Viewport>) -> u64 {
    let picture = shape.pixels().saturating_mul(3);
    let scaled = viewport.map_or(0, Viewport::bytes);
    shape.working_memory() + picture + scaled.saturating_mul(2)
}

#[cfg(test)]
mod tests;
