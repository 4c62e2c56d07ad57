//! Shapes for tests.

use super::shape::{ImageShape, Photometric, SampleKind};

pub fn shape(rows: u16, columns: u16, samples: u16, bits: u16) -> ImageShape {
    ImageShape {
        rows,
        columns,
        samples,
        bits_allocated: bits,
        bits_stored: bits,
        high_bit: bits - 1,
        kind: SampleKind::Integer { signed: false },
        photometric: if samples == 3 {
            Photometric::Rgb
        } else {
            Photometric::Monochrome2
        },
        planar: false,
        frames: 1,
    }
}
