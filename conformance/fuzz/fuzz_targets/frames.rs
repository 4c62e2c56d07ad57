//! The pixels of an object: offset tables, fragments and shapes from outside. A frame that is
//! promised can be read or is an error, and takes no more memory than was allowed.
//!
//! The first bytes choose the transfer syntax, the shape and the kind of offset table; the rest is
//! what follows the element header of Pixel Data.
#![no_main]

use dicom_core::{Tag, VR};
use drimbox::dicom::part10::file_meta;
use drimbox::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use drimbox::dicom::write::put_element;
use drimbox::pixels::render::{RenderOptions, render};
use drimbox::pixels::{PixelLimits, StoredImage};
use libfuzzer_sys::fuzz_target;

/// Those that are decoded without a C library.
const SYNTAXES: [&str; 5] = [
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.1",
];

const LIMITS: PixelLimits = PixelLimits {
    frame_bytes: 1 << 16,
    stored_frame_bytes: 1 << 16,
    frames: 64,
    fragments: 256,
    head_bytes: 1 << 16,
    inflated_bytes: 1 << 16,
};

fuzz_target!(|input: &[u8]| {
    let Some((choices, pixels)) = input.split_at_checked(8) else {
        return;
    };
    let file = file(choices, pixels);
    let Ok(image) = StoredImage::open(file.clone(), LIMITS) else {
        return;
    };
    let frames = image.index().frames();
    assert!((1..=LIMITS.frames).contains(&frames), "{frames} frames");
    for number in [0, 1, frames - 1, frames, u32::MAX] {
        let stored = image.stored_frame(number);
        if number >= frames {
            assert!(stored.is_err(), "a frame beyond the last");
            continue;
        }
        let Ok(stored) = stored else { continue };
        assert!(stored.len() as u64 <= LIMITS.stored_frame_bytes);
        assert!(stored.len() <= file.len(), "more than the file holds");
        if let Ok(decoded) = image.frame(number) {
            assert_eq!(
                decoded.samples.len() as u64,
                image.shape().frame_bytes(),
                "samples of frame {number}"
            );
        }
        if let Ok(picture) = render(&image, number, &RenderOptions::default()) {
            let pixels = u64::from(picture.width) * u64::from(picture.height);
            assert_eq!(picture.samples.len() as u64 % pixels, 0);
        }
    }
});

/// A Part 10 file with a head of this shape.
fn file(choices: &[u8], pixels: &[u8]) -> Vec<u8> {
    let at = |index: usize| choices.get(index).copied().unwrap_or_default();
    let syntax = SYNTAXES[usize::from(at(0)) % SYNTAXES.len()];
    let mut out = file_meta(
        &SopClassUid::parse("1.2.840.10008.5.1.4.1.1.7").expect("a UID"),
        &InstanceUid::parse("1.2.3").expect("a UID"),
        &TransferSyntaxUid::parse(syntax).expect("a UID"),
    );
    let mut short = |element: u16, value: u16| {
        put_element(&mut out, Tag(0x0028, element), VR::US, &value.to_le_bytes());
    };
    let allocated = [1, 8, 16, 32][usize::from(at(1)) % 4];
    let colour = at(2) & 1 == 1;
    short(0x0002, if colour { 3 } else { 1 });
    let photometric = match (colour, at(2) >> 1) {
        (false, 0) => "MONOCHROME1",
        (false, _) => "MONOCHROME2",
        (true, 0) => "YBR_FULL",
        (true, _) => "RGB",
    };
    put_element(
        &mut out,
        Tag(0x0028, 0x0004),
        VR::CS,
        photometric.as_bytes(),
    );
    let mut short = |element: u16, value: u16| {
        put_element(&mut out, Tag(0x0028, element), VR::US, &value.to_le_bytes());
    };
    if colour {
        short(0x0006, u16::from(at(3) & 1));
    }
    let frames = (at(4) % 80).to_string();
    put_element(&mut out, Tag(0x0028, 0x0008), VR::IS, frames.as_bytes());
    for (element, value) in [
        (0x0010, u16::from(at(5))),
        (0x0011, u16::from(at(6))),
        (0x0100, allocated),
        (0x0101, allocated - u16::from(at(7) & 7).min(allocated - 1)),
        (0x0102, allocated - 1),
        (0x0103, u16::from(at(7) >> 7)),
    ] {
        put_element(&mut out, Tag(0x0028, element), VR::US, &value.to_le_bytes());
    }
    // Extended offset tables (PS3.3 §C.7.6.3.1.8), whatever they hold.
    let table = usize::from(at(3) >> 4) * 8;
    if at(3) & 2 != 0 && pixels.len() >= 2 * table {
        let (offsets, rest) = pixels.split_at(table);
        put_element(&mut out, Tag(0x7FE0, 0x0001), VR::OV, offsets);
        put_element(&mut out, Tag(0x7FE0, 0x0002), VR::OV, &rest[..table]);
    }
    if syntax == "1.2.840.10008.1.2.1" {
        put_element(&mut out, Tag(0x7FE0, 0x0010), VR::OW, pixels);
    } else {
        out.extend_from_slice(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff");
        out.extend_from_slice(pixels);
    }
    out
}
