//! The codecs behind one form: a code stream in, little endian samples out, pixel after pixel.
//!
//! Each is given a stream whose header was compared with the image it must hold.

pub(super) mod foreign;
pub(super) mod header;
pub(super) mod jpeg;
pub(super) mod jpeg2000;
pub(super) mod jpegls;
pub(super) mod rle;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{Codec, PixelError};
use super::shape::ImageShape;

/// Runs a codec; one that panics becomes an error.
pub(super) fn guarded<T>(
    codec: Codec,
    job: impl FnOnce() -> Result<T, PixelError>,
) -> Result<T, PixelError> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or(Err(PixelError::Panicked(codec)))
}

/// Samples of `have` bytes and `precision` bits as the data set wants them: its width, and the sign
/// carried into the bits above.
pub(super) fn fit(samples: Vec<u8>, have: usize, precision: u8, shape: &ImageShape) -> Vec<u8> {
    let want = usize::from(shape.sample_bytes());
    let precision = u32::from(precision);
    let extend = shape.is_signed() && precision < u32::from(shape.bits_allocated);
    if have == want && !extend {
        return samples;
    }
    let mut out = Vec::with_capacity(samples.len() / have.max(1) * want);
    for sample in samples.chunks_exact(have.max(1)) {
        let mut wide = [0; 4];
        for (to, from) in wide.iter_mut().zip(sample) {
            *to = *from;
        }
        put_sample(
            i64::from(u32::from_le_bytes(wide)),
            precision,
            extend,
            want,
            &mut out,
        );
    }
    out
}

/// Appends one sample in `width` bytes; `extend`: its bits are two's complement of that precision.
pub(super) fn put_sample(
    sample: i64,
    precision: u32,
    extend: bool,
    width: usize,
    out: &mut Vec<u8>,
) {
    let spare = 64 - precision.clamp(1, 63);
    let sample = if extend {
        (sample << spare) >> spare
    } else {
        sample
    };
    out.extend(sample.to_le_bytes().iter().take(width));
}
