//! Shapes and files for tests.

#![allow(clippy::unwrap_used)]

use dicom_core::VR;

use super::shape::{ImageShape, Photometric, SampleKind};
use crate::dicom::part10::file_meta;
use crate::dicom::syntax::Encoding;
use crate::dicom::testdata::Writer;
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};

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

/// The elements before the pixels, with more of them in group 0028 or above.
pub fn head(encoding: Encoding, shape: &ImageShape, more: impl Fn(Writer) -> Writer) -> Vec<u8> {
    let w = Writer::new(encoding);
    let [
        samples,
        planar,
        rows,
        columns,
        allocated,
        stored,
        high,
        signed,
    ] = [
        shape.samples,
        u16::from(shape.planar),
        shape.rows,
        shape.columns,
        shape.bits_allocated,
        shape.bits_stored,
        shape.high_bit,
        u16::from(shape.is_signed()),
    ]
    .map(|number| w.number(number));
    let frames = shape.frames.to_string();
    let mut w = w
        .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.7")
        .put((0x0008, 0x0018), VR::UI, b"1.2.3.4.5")
        .put((0x0028, 0x0002), VR::US, &samples)
        .put(
            (0x0028, 0x0004),
            VR::CS,
            shape.photometric.as_str().as_bytes(),
        );
    if shape.samples > 1 {
        w = w.put((0x0028, 0x0006), VR::US, &planar);
    }
    let w = w
        .put((0x0028, 0x0008), VR::IS, frames.as_bytes())
        .put((0x0028, 0x0010), VR::US, &rows)
        .put((0x0028, 0x0011), VR::US, &columns)
        .put((0x0028, 0x0100), VR::US, &allocated)
        .put((0x0028, 0x0101), VR::US, &stored)
        .put((0x0028, 0x0102), VR::US, &high)
        .put((0x0028, 0x0103), VR::US, &signed);
    more(w).bytes
}

/// A file: its meta information, then this data set.
pub fn file(syntax: &str, data_set: &[u8]) -> Vec<u8> {
    let mut bytes = file_meta(
        &SopClassUid::parse("1.2.840.10008.5.1.4.1.1.7").unwrap(),
        &InstanceUid::parse("1.2.3.4.5").unwrap(),
        &TransferSyntaxUid::parse(syntax).unwrap(),
    );
    bytes.extend_from_slice(data_set);
    bytes
}

/// A file in Explicit VR Little Endian with these native pixels.
pub fn native(shape: &ImageShape, pixels: &[u8], more: impl Fn(Writer) -> Writer) -> Vec<u8> {
    let encoding = Encoding::ExplicitLittle;
    let mut data_set = head(encoding, shape, more);
    let element = Writer::new(encoding).put((0x7FE0, 0x0010), VR::OW, pixels);
    data_set.extend(element.bytes);
    file("1.2.840.10008.1.2.1", &data_set)
}
