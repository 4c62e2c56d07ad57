//! The part of a picture to show, and its size (PS3.18 §8.3.5.1.3).

use super::Picture;
use crate::pixels::error::{PixelError, PixelLimits};

/// A part of an image in its own pixels, from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width; negative: the picture is flipped from left to right. 0: up to the right edge.
    pub width: f64,
    /// Height; negative: the picture is flipped upside down. 0: up to the lower edge.
    pub height: f64,
}

impl Region {
    /// The width or height of what reaches to the edge of the picture.
    pub const TO_THE_EDGE: f64 = 0.0;
}

/// The size that a picture is fitted into; its proportions stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Viewport {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// What to show; `None`: all.
    pub region: Option<Region>,
}

impl Viewport {
    /// Bytes of the largest picture that fits.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }

    pub(super) fn check(&self, limits: &PixelLimits) -> Result<(), PixelError> {
        if self.bytes() > limits.frame_bytes {
            return Err(PixelError::TooLarge {
                what: "bytes of the picture asked for",
                size: self.bytes(),
                limit: limits.frame_bytes,
            });
        }
        Ok(())
    }

    /// The picture fitted into the viewport. A region outside the picture is cut to it.
    pub(super) fn apply(&self, picture: &Picture) -> Picture {
        let whole = Region {
            x: 0.0,
            y: 0.0,
            width: f64::from(picture.width),
            height: f64::from(picture.height),
        };
        let region = self.region.unwrap_or(whole);
        let across = Span::cut(region.x, region.width, picture.width);
        let down = Span::cut(region.y, region.height, picture.height);
        let factor = (f64::from(self.width.max(1)) / across.length)
            .min(f64::from(self.height.max(1)) / down.length);
        let size = |length: f64, most: u16| {
            // Within 1 and the side of the viewport, which is a u16.
            (length * factor).round().clamp(1.0, f64::from(most.max(1))) as u16
        };
        let (width, height) = (
            size(across.length, self.width),
            size(down.length, self.height),
        );
        let channels = if picture.colour { 3 } else { 1 };
        let columns = across.taps(picture.width, width);
        let mut samples = Vec::with_capacity(usize::from(width) * usize::from(height) * channels);
        let row_bytes = usize::from(picture.width) * channels;
        let mut sum = vec![0.0_f32; row_bytes];
        for taps in down.taps(picture.height, height) {
            sum.fill(0.0);
            for (row, weight) in &taps {
                let from = usize::from(*row) * row_bytes;
                let row = picture.samples.get(from..from + row_bytes);
                for (sum, sample) in sum.iter_mut().zip(row.unwrap_or_default()) {
                    *sum += weight * f32::from(*sample);
                }
            }
            for taps in &columns {
                for channel in 0..channels {
                    let value: f32 = taps
                        .iter()
                        .map(|(column, weight)| {
                            let at = usize::from(*column) * channels + channel;
                            weight * sum.get(at).copied().unwrap_or(0.0)
                        })
                        .sum();
                    // A weighted mean of bytes.
                    samples.push(value.round().clamp(0.0, 255.0) as u8);
                }
            }
        }
        Picture {
            width,
            height,
            colour: picture.colour,
            samples,
        }
    }
}

/// One dimension of a region.
struct Span {
    start: f64,
    length: f64,
    flipped: bool,
}

impl Span {
    fn cut(start: f64, length: f64, most: u16) -> Self {
        let most = f64::from(most);
        let number = |value: f64| if value.is_finite() { value } else { 0.0 };
        let start = number(start).clamp(0.0, most - 1.0);
        let room = most - start;
        let wanted = number(length).abs();
        Self {
            start,
            length: if wanted > 0.0 { wanted.min(room) } else { room },
            flipped: length < 0.0,
        }
    }

    /// Which pixels of the source make each pixel of the result, with their weights: the mean of the
    /// area it covers when it shrinks, linear between two when it grows.
    fn taps(&self, source: u16, result: u16) -> Vec<Vec<(u16, f32)>> {
        let step = self.length / f64::from(result);
        let last = source - 1;
        // What is outside the region does not shine into it.
        let ends = (self.start, (self.start + self.length - 1.0).max(self.start));
        let mut all: Vec<Vec<(u16, f32)>> = (0..result)
            .map(|at| {
                let from = self.start + f64::from(at) * step;
                if step > 1.0 {
                    covered(from, from + step, last)
                } else {
                    let centre = (from + step / 2.0 - 0.5).clamp(ends.0, ends.1);
                    // Between 0 and the last pixel, which is a u16.
                    let left = (centre.floor() as u16).min(last);
                    let part = (centre - centre.floor()) as f32;
                    vec![(left, 1.0 - part), (left.saturating_add(1).min(last), part)]
                }
            })
            .collect();
        if self.flipped {
            all.reverse();
        }
        all
    }
}

fn covered(from: f64, to: f64, last: u16) -> Vec<(u16, f32)> {
    let first = from.floor().clamp(0.0, f64::from(last)) as u16;
    let end = (to.ceil() - 1.0).clamp(f64::from(first), f64::from(last)) as u16;
    let part = |at: u16| (to.min(f64::from(at) + 1.0) - from.max(f64::from(at))).max(0.0);
    let total: f64 = (first..=end).map(part).sum();
    if total <= 0.0 {
        return vec![(first, 1.0)];
    }
    (first..=end)
        .map(|at| (at, (part(at) / total) as f32))
        .collect()
}
