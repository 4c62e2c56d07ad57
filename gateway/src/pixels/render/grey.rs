//! Grey samples to 8 bits.

use super::voi::{Transform, Window};
use crate::pixels::decode::Frame;
use crate::pixels::shape::{ImageShape, Photometric, SampleKind};

/// The picture of a frame with one sample per pixel.
pub(super) fn render(frame: &Frame, transform: &Transform, window: Option<Window>) -> Vec<u8> {
    let shape = &frame.shape;
    let invert = shape.photometric == Photometric::Monochrome1;
    let finish = |grey: u8| if invert { !grey } else { grey };
    match shape.kind {
        SampleKind::Integer { .. } if shape.bits_allocated <= 16 => {
            let lowest = lowest(shape);
            let output = transform.output(window, || range(integers(frame), transform));
            // What each of the values becomes, once for all pixels.
            let table: Vec<u8> = (lowest..lowest + (1_i64 << shape.bits_stored))
                .map(|value| finish(output.grey(transform.modality(value as f64))))
                .collect();
            integers(frame)
                .map(|value| {
                    let at = usize::try_from(value - lowest).unwrap_or(0);
                    table.get(at).copied().unwrap_or(0)
                })
                .collect()
        }
        SampleKind::Integer { .. } => {
            let output = transform.output(window, || range(integers(frame), transform));
            integers(frame)
                .map(|value| finish(output.grey(transform.modality(value as f64))))
                .collect()
        }
        SampleKind::Float | SampleKind::Double => {
            let output = transform.output(window, || extremes(floats(frame)));
            floats(frame)
                .map(|value| finish(output.grey(value)))
                .collect()
        }
    }
}

/// The lowest value that the bits stored can say.
pub(super) fn lowest(shape: &ImageShape) -> i64 {
    if shape.is_signed() {
        -(1_i64 << (shape.bits_stored - 1).min(62))
    } else {
        0
    }
}

/// The values of the samples: Bits Stored below High Bit, the sign extended (PS3.5 §8.1.1).
pub(super) fn integers(frame: &Frame) -> Box<dyn Iterator<Item = i64> + '_> {
    let shape = &frame.shape;
    if shape.bits_allocated == 1 {
        let count = usize::try_from(shape.pixels()).unwrap_or(usize::MAX);
        let bits = frame
            .samples
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| i64::from((byte >> bit) & 1)));
        return Box::new(bits.take(count));
    }
    let width = usize::from(shape.sample_bytes());
    let stored = u32::from(shape.bits_stored);
    let above = 63_u32.saturating_sub(u32::from(shape.high_bit));
    let below = 64 - stored;
    let signed = shape.is_signed();
    Box::new(frame.samples.chunks_exact(width).map(move |sample| {
        let mut wide = [0; 8];
        for (to, from) in wide.iter_mut().zip(sample) {
            *to = *from;
        }
        let top = u64::from_le_bytes(wide) << above;
        if signed {
            top.cast_signed() >> below
        } else {
            i64::try_from(top >> below).unwrap_or(i64::MAX)
        }
    }))
}

fn floats(frame: &Frame) -> Box<dyn Iterator<Item = f64> + '_> {
    if frame.shape.kind == SampleKind::Double {
        let words = frame.samples.chunks_exact(8);
        Box::new(words.filter_map(|word| Some(f64::from_le_bytes(*word.first_chunk()?))))
    } else {
        let words = frame.samples.chunks_exact(4);
        Box::new(words.filter_map(|word| Some(f32::from_le_bytes(*word.first_chunk()?).into())))
    }
}

/// The lowest and the highest of the values that are not padding, after the modality transformation.
fn range(values: impl Iterator<Item = i64>, transform: &Transform) -> Option<(f64, f64)> {
    let mut found: Option<(i64, i64)> = None;
    for value in values.filter(|value| !transform.is_padding(*value)) {
        let (low, high) = found.unwrap_or((value, value));
        found = Some((low.min(value), high.max(value)));
    }
    let (low, high) = found?;
    let ends = [low as f64, high as f64].map(|value| transform.modality(value));
    extremes(ends.into_iter())
}

fn extremes(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |found, value| {
            let (low, high) = found.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })
}
