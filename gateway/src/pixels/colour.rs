//! Luminance and chrominance to RGB (PS3.3 §C.7.6.3.1.2).

/// YBR_FULL of 8 bits, pixel after pixel, to RGB where it is.
pub(super) fn ybr_full_to_rgb(samples: &mut [u8]) {
    for pixel in samples.chunks_exact_mut(3) {
        if let [y, b, r] = pixel {
            let rgb = full(*y, *b, *r);
            pixel.copy_from_slice(&rgb);
        }
    }
}

/// YBR_PARTIAL of 8 bits, pixel after pixel, to RGB where it is.
pub(super) fn ybr_partial_to_rgb(samples: &mut [u8]) {
    for pixel in samples.chunks_exact_mut(3) {
        if let [y, b, r] = pixel {
            let rgb = partial(*y, *b, *r);
            pixel.copy_from_slice(&rgb);
        }
    }
}

/// Fractions of 2^16.
fn full(y: u8, b: u8, r: u8) -> [u8; 3] {
    let y = i32::from(y) << 16;
    let (b, r) = (i32::from(b) - 128, i32::from(r) - 128);
    [
        clamp(y + 91_881 * r),
        clamp(y - 22_554 * b - 46_802 * r),
        clamp(y + 116_130 * b),
    ]
}

fn partial(y: u8, b: u8, r: u8) -> [u8; 3] {
    let y = (i32::from(y) - 16) * 76_309;
    let (b, r) = (i32::from(b) - 128, i32::from(r) - 128);
    [
        clamp(y + 104_597 * r),
        clamp(y - 25_675 * b - 53_279 * r),
        clamp(y + 132_201 * b),
    ]
}

fn clamp(fixed: i32) -> u8 {
    u8::try_from(((fixed + (1 << 15)) >> 16).clamp(0, 255)).unwrap_or(u8::MAX)
}

/// Two pixels that share their chrominance, `Y1 Y2 Cb Cr`, to one of each for both: nothing is lost
/// by it.
pub(super) fn expand_422(samples: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(samples.len() / 2 * 3);
    for pair in samples.chunks_exact(4 * width) {
        let (luminance, chrominance) = pair.split_at(2 * width);
        for y in luminance.chunks_exact(width) {
            out.extend_from_slice(y);
            out.extend_from_slice(chrominance);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_stays_grey_and_the_primaries_are_themselves() {
        for y in 0..=255 {
            assert_eq!(full(y, 128, 128), [y; 3]);
        }
        assert_eq!(partial(16, 128, 128), [0; 3]);
        assert_eq!(partial(235, 128, 128), [255; 3]);
        for (ybr, rgb) in [
            ([76, 85, 255], [254, 0, 0]),
            ([150, 44, 21], [0, 255, 1]),
            ([29, 255, 107], [0, 0, 254]),
        ] {
            let [y, b, r] = ybr;
            assert_eq!(full(y, b, r), rgb);
        }
    }

    #[test]
    fn shared_chrominance_is_given_to_both_pixels() {
        assert_eq!(expand_422(&[1, 2, 8, 9], 1), [1, 8, 9, 2, 8, 9]);
    }
}
