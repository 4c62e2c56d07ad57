#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write as _;

use super::*;
use crate::dicom::syntax::{DEFLATED_EXPLICIT_LITTLE, EXPLICIT_BIG, IMPLICIT_LITTLE};
use crate::dicom::testdata::Writer;
use crate::pixels::testdata::{file, head, native, shape};

fn uid(text: &str) -> TransferSyntaxUid {
    TransferSyntaxUid::parse(text).unwrap()
}

fn to(file: &[u8], target: &str) -> Result<Vec<u8>, PixelError> {
    let mut out = Vec::new();
    transcode(file, &uid(target), &TranscodeOptions::default(), &mut out)?;
    Ok(out)
}

fn open(file: &[u8]) -> StoredImage<&[u8]> {
    StoredImage::open(file, PixelLimits::default()).unwrap()
}

/// What dicom-object reads in a file.
fn element(file: &[u8], tag: Tag) -> Option<String> {
    let object = dicom_object::from_reader(&file[128..]).unwrap();
    let element = object.element(tag).ok()?;
    Some(element.to_str().unwrap().trim_end().to_owned())
}

fn frames_of(shape: &ImageShape) -> Vec<u8> {
    let size = usize::try_from(shape.frame_bytes()).unwrap() * shape.frames as usize;
    (0..size).map(|at| (at * 7 % 64).to_le_bytes()[0]).collect()
}

#[test]
fn every_lossless_way_and_back_gives_the_same_samples() {
    for (samples, bits, signed) in [(1, 8, false), (1, 16, true), (3, 8, false), (1, 16, false)] {
        let mut shape = shape(5, 7, samples, bits);
        shape.frames = 3;
        shape.kind = SampleKind::Integer { signed };
        let pixels = frames_of(&shape);
        let source = native(&shape, &pixels, |w| w);
        for target in available_targets(&uid(EXPLICIT_LITTLE)) {
            let there = to(&source, target.as_str()).unwrap();
            assert_eq!(open(&there).transfer_syntax(), target);
            for frame in 0..3 {
                assert_eq!(
                    open(&there).frame(frame).unwrap().samples,
                    open(&source).frame(frame).unwrap().samples
                );
            }
            let back = to(&there, EXPLICIT_LITTLE).unwrap();
            let object = dicom_object::from_reader(&back[128..]).unwrap();
            let value = object
                .element(dicom_dictionary_std::tags::PIXEL_DATA)
                .unwrap();
            let mut bytes = value.to_bytes().unwrap().into_owned();
            bytes.truncate(pixels.len());
            assert_eq!(bytes, pixels, "{target} {samples} {bits}");
        }
    }
}

#[test]
fn every_native_encoding_becomes_explicit_and_then_compressed() {
    let mut shape = shape(2, 3, 1, 16);
    shape.frames = 2;
    let pixels = frames_of(&shape);
    let expected = native(&shape, &pixels, |w| w);
    for (encoding, syntax) in crate::dicom::testdata::ENCODINGS {
        let mut stored = pixels.clone();
        if encoding.is_big_endian() {
            stored.chunks_exact_mut(2).for_each(<[u8]>::reverse);
        }
        let mut data_set = head(encoding, &shape, |w| w);
        let rest = Writer::new(encoding)
            .put((0x7FE0, 0x0010), VR::OW, &stored)
            .put((0xFFFC, 0xFFFC), VR::OB, &[0; 4]);
        data_set.extend(rest.bytes);
        let source = file(syntax, &data_set);
        let explicit = to(&source, EXPLICIT_LITTLE).unwrap();
        let compressed = to(&source, JPEG_LS_LOSSLESS).unwrap();
        for frame in 0..2 {
            let want = open(&expected).frame(frame).unwrap();
            assert_eq!(open(&explicit).frame(frame).unwrap(), want, "{syntax}");
            assert_eq!(open(&compressed).frame(frame).unwrap(), want, "{syntax}");
        }
        for result in [&explicit, &compressed] {
            assert!(result.ends_with(b"\xFC\xFF\xFC\xFFOB\0\0\x04\0\0\0\0\0\0\0"));
        }
    }
    assert_ne!(IMPLICIT_LITTLE, EXPLICIT_BIG);
}

#[test]
fn a_deflated_object_is_transcoded() {
    let shape = shape(4, 4, 1, 8);
    let pixels = frames_of(&shape);
    let plain = native(&shape, &pixels, |w| w);
    let start = part10::parse(&plain).unwrap().data_set_offset;
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(&plain[start..]).unwrap();
    let source = file(DEFLATED_EXPLICIT_LITTLE, &deflate.finish().unwrap());
    for target in [EXPLICIT_LITTLE, JPEG_LS_LOSSLESS, RLE] {
        let result = to(&source, target).unwrap();
        assert_eq!(open(&result).frame(0).unwrap().samples, pixels, "{target}");
    }
}

#[test]
fn planes_become_pixels_and_the_head_says_so() {
    let mut shape = shape(2, 2, 3, 8);
    shape.planar = true;
    let source = native(&shape, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], |w| w);
    let result = to(&source, JPEG_LS_LOSSLESS).unwrap();
    let image = open(&result);
    assert!(!image.shape().planar);
    assert_eq!(
        image.frame(0).unwrap().samples,
        [1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12]
    );
}

/// A frame of JPEG that holds luminance and chrominance.
fn jpeg_file(more: impl Fn(Writer) -> Writer) -> Vec<u8> {
    let mut shape = shape(16, 16, 3, 8);
    let red: Vec<u8> = [200, 30, 30].repeat(256);
    let stream = jpeg::encode(&red, 16, 16, true, 95).unwrap();
    shape.photometric = Photometric::YbrFull422;
    let encoding = Encoding::ExplicitLittle;
    let mut data_set = head(encoding, &shape, more);
    data_set.extend(Writer::new(encoding).fragments(&[&[], &stream]).bytes);
    file(JPEG_BASELINE, &data_set)
}

#[test]
fn luminance_and_chrominance_become_rgb_and_the_loss_stays_told() {
    let source = jpeg_file(|w| {
        w.put((0x0028, 0x2110), VR::CS, b"01")
            .put((0x0028, 0x2112), VR::DS, b"12.5")
            .put((0x0028, 0x2114), VR::CS, b"ISO_10918_1")
    });
    for target in [EXPLICIT_LITTLE, JPEG_LS_LOSSLESS, RLE] {
        let result = to(&source, target).unwrap();
        assert_eq!(element(&result, PHOTOMETRIC_INTERPRETATION).unwrap(), "RGB");
        assert_eq!(element(&result, LOSSY).unwrap(), "01");
        assert_eq!(element(&result, LOSSY_RATIO).unwrap(), "12.5");
        let frame = open(&result).frame(0).unwrap();
        let [red, green, blue] = frame.samples[..3] else {
            unreachable!()
        };
        assert!(red.abs_diff(200) < 4 && green.abs_diff(30) < 4 && blue.abs_diff(30) < 4);
    }
}

#[test]
fn a_lossy_target_is_written_only_when_named_and_says_what_was_lost() {
    let mut shape = shape(16, 16, 3, 8);
    shape.frames = 2;
    let source = native(&shape, &[90; 16 * 16 * 6], |w| {
        w.put((0x0028, 0x2112), VR::DS, b"3")
    });
    let stored = uid(EXPLICIT_LITTLE);
    assert!(!available_targets(&stored).contains(&uid(JPEG_BASELINE)));
    assert!(lossy_targets(&stored).contains(&uid(JPEG_BASELINE)));
    let result = to(&source, JPEG_BASELINE).unwrap();
    let photometric = element(&result, PHOTOMETRIC_INTERPRETATION).unwrap();
    assert_eq!(photometric, "YBR_FULL_422");
    assert_eq!(element(&result, LOSSY).unwrap(), "01");
    assert_eq!(element(&result, LOSSY_METHOD).unwrap(), "ISO_10918_1");
    assert!(element(&result, LOSSY_RATIO).unwrap().starts_with("3\\"));
    for frame in 0..2 {
        let frame = open(&result).frame(frame).unwrap();
        assert!(frame.samples.iter().all(|sample| sample.abs_diff(90) <= 2));
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_the_first_byte() {
    let float = {
        let mut data_set = head(Encoding::ExplicitLittle, &shape(1, 1, 1, 32), |w| w);
        let element = Writer::new(Encoding::ExplicitLittle).put((0x7FE0, 0x0008), VR::OF, &[0; 4]);
        data_set.extend(element.bytes);
        file(EXPLICIT_LITTLE, &data_set)
    };
    let wide = native(&shape(1, 1, 1, 16), &[0; 2], |w| w);
    let video = {
        let mut data_set = head(Encoding::ExplicitLittle, &shape(2, 2, 1, 8), |w| w);
        let element = Writer::new(Encoding::ExplicitLittle).fragments(&[&[], b"00dc"]);
        data_set.extend(element.bytes);
        file("1.2.840.10008.1.2.4.102", &data_set)
    };
    let mut damaged = jpeg_file(|w| w);
    let end = damaged.len();
    damaged.truncate(end - 40);
    for (source, target) in [
        (&float, JPEG_LS_LOSSLESS),
        (&float, RLE),
        (&wide, JPEG_BASELINE),
        (&wide, "1.2.840.10008.1.2.4.90"),
        (&video, EXPLICIT_LITTLE),
        (&damaged, EXPLICIT_LITTLE),
    ] {
        let mut out = Vec::new();
        let options = TranscodeOptions::default();
        assert!(transcode(source.as_slice(), &uid(target), &options, &mut out).is_err());
        assert!(out.is_empty(), "{target}");
    }
    assert_eq!(to(&video, "1.2.840.10008.1.2.4.102").unwrap(), video);
    assert!(available_targets(&uid("1.2.840.10008.1.2.4.102")).is_empty());
}

#[test]
fn an_object_without_pixels_is_converted_and_no_more() {
    let data_set = Writer::new(Encoding::ImplicitLittle)
        .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.88.11")
        .put((0x0008, 0x0018), VR::UI, b"1.2.3.4.5")
        .bytes;
    let source = file(IMPLICIT_LITTLE, &data_set);
    let result = to(&source, EXPLICIT_LITTLE).unwrap();
    let class = element(&result, SOP_CLASS).unwrap();
    assert_eq!(class, "1.2.840.10008.5.1.4.1.1.88.11");
    assert!(matches!(
        to(&source, JPEG_LS_LOSSLESS),
        Err(PixelError::NoPixels)
    ));
}

#[test]
fn an_icon_that_is_compressed_does_not_stay_in_a_native_object() {
    let icon = Writer::new(Encoding::ExplicitLittle)
        .fragments(&[&[], b"icon"])
        .bytes;
    let source = jpeg_file(|w| w.sequence((0x0088, 0x0200), true, std::slice::from_ref(&icon)));
    let result = to(&source, EXPLICIT_LITTLE).unwrap();
    let object = dicom_object::from_reader(&result[128..]).unwrap();
    assert!(object.element(ICON_IMAGE_SEQUENCE).is_err());
}

#[test]
fn single_bits_stay_as_they_are_between_native_syntaxes() {
    let mut shape = shape(3, 3, 1, 1);
    shape.frames = 2;
    let source = native(&shape, &[0b1010_1010, 0b0101_0111, 0b11, 0], |w| w);
    let image = open(&source);
    assert_eq!(image.frame(1).unwrap().samples, [0b1010_1011, 1]);
    assert!(!can_transcode(
        image.shape(),
        &uid(EXPLICIT_LITTLE),
        &uid(JPEG_LS_LOSSLESS)
    ));
}
