#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use dicom_core::VR;
use proptest::prelude::*;

use super::*;
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::syntax::Encoding;
use crate::dicom::testdata::Writer;
use crate::pixels::testdata::shape;

const JPEG: &str = "1.2.840.10008.1.2.4.50";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";

/// Encapsulated pixels: the offset table, then the fragments.
fn encapsulated(table: &[u32], fragments: &[&[u8]]) -> Vec<u8> {
    let table: Vec<u8> = table.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut all: Vec<&[u8]> = vec![&table];
    all.extend_from_slice(fragments);
    let element = Writer::new(Encoding::ExplicitLittle).fragments(&all).bytes;
    element[12..].to_vec()
}

fn index_with(
    value: &[u8],
    frames: u32,
    syntax: &str,
    head: &[u8],
    limits: &PixelLimits,
) -> Result<FrameIndex, PixelError> {
    let head = DataSet::parse(head, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let mut shape = shape(2, 2, 1, 8);
    shape.frames = frames;
    let span = PixelSpan {
        offset: 0,
        length: None,
        word: 1,
    };
    let syntax = TransferSyntaxUid::parse(syntax).unwrap();
    FrameIndex::read(value, span, &shape, &syntax, head.elements(), limits)
}

fn index(value: &[u8], frames: u32, syntax: &str) -> Result<FrameIndex, PixelError> {
    index_with(value, frames, syntax, &[], &PixelLimits::default())
}

fn frames(value: &[u8], index: &FrameIndex) -> Vec<Vec<u8>> {
    (0..index.frames())
        .map(|frame| index.frame(value, frame, &PixelLimits::default()).unwrap())
        .collect()
}

#[test]
fn one_fragment_for_each_frame_needs_no_table() {
    let value = encapsulated(&[], &[b"one.", b"two...", b"3333"]);
    let index = index(&value, 3, JPEG).unwrap();
    assert_eq!(frames(&value, &index), [&b"one."[..], b"two...", b"3333"]);
    assert_eq!(index.end(), value.len() as u64);
    assert!(matches!(
        index.ranges(3),
        Err(PixelError::NoSuchFrame {
            frame: 3,
            frames: 3
        })
    ));
}

#[test]
fn one_frame_is_all_fragments() {
    let value = encapsulated(&[0], &[b"one.", b"two...", b"3333"]);
    let index = index(&value, 1, JPEG).unwrap();
    assert_eq!(frames(&value, &index), [b"one.two...3333"]);
}

#[test]
fn a_table_tells_which_fragments_belong_together() {
    let value = encapsulated(&[0, 24], &[b"1111", b"2222", b"3333"]);
    let index = index(&value, 2, JPEG).unwrap();
    assert_eq!(frames(&value, &index), [&b"11112222"[..], b"3333"]);
}

#[test]
fn a_wrong_table_is_not_believed() {
    let fragments: [&[u8]; 3] = [b"\xFF\xD8\xFF\xE0", b"more", b"\xFF\xD8\xFF\xDB"];
    for table in [
        &[][..],
        &[0, 10],
        // An item that begins no code stream.
        &[0, 12],
        &[0, 13],
        &[4, 24],
        &[12, 24],
        &[0, 0],
        &[24, 0],
        &[0],
        &[0, 12, 24],
        &[0, u32::MAX],
    ] {
        let value = encapsulated(table, &fragments);
        let index = index(&value, 2, JPEG).unwrap();
        assert_eq!(
            frames(&value, &index),
            [&b"\xFF\xD8\xFF\xE0more"[..], b"\xFF\xD8\xFF\xDB"],
            "{table:?}"
        );
    }
}

#[test]
fn the_beginning_of_a_jpeg_2000_stream_is_known_too() {
    let start = b"\xFF\x4F\xFF\x51";
    let value = encapsulated(&[], &[start, b"more", start, b"tail"]);
    let index = index(&value, 2, JPEG_2000).unwrap();
    assert_eq!(
        frames(&value, &index),
        [b"\xFF\x4F\xFF\x51more", b"\xFF\x4F\xFF\x51tail"]
    );
}

#[test]
fn frames_that_cannot_be_told_apart_are_an_error() {
    let value = encapsulated(&[], &[b"1111", b"2222", b"3333"]);
    for (frames, syntax) in [(2, JPEG), (2, "1.2.840.10008.1.2.5"), (4, JPEG)] {
        assert!(matches!(
            index(&value, frames, syntax),
            Err(PixelError::FramesUnknown { fragments: 3, .. })
        ));
    }
    assert!(index(&encapsulated(&[], &[]), 1, JPEG).is_err());
}

#[test]
fn empty_fragments_beside_the_frames_are_passed_over() {
    let value = encapsulated(&[], &[b"1111", b"2222", b""]);
    let index = index(&value, 2, JPEG).unwrap();
    assert_eq!(frames(&value, &index), [b"1111", b"2222"]);
}

#[test]
fn the_extended_table_tells_frames_and_their_lengths() {
    let quads =
        |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let head = |offsets: &[u64], lengths: &[u64]| {
        Writer::new(Encoding::ExplicitLittle)
            .put((0x7FE0, 0x0001), VR::OV, &quads(offsets))
            .put((0x7FE0, 0x0002), VR::OV, &quads(lengths))
            .bytes
    };
    let limits = PixelLimits::default();
    let value = encapsulated(&[], &[b"111\0", b"2222"]);
    let index = index_with(&value, 2, JPEG, &head(&[0, 12], &[3, 4]), &limits).unwrap();
    assert_eq!(frames(&value, &index), [&b"111"[..], b"2222"]);

    let value = encapsulated(&[], &[b"1111", b"2222", b"3333"]);
    let index = index_with(&value, 2, JPEG, &head(&[0, 12], &[4, 8]), &limits).unwrap();
    assert_eq!(frames(&value, &index), [&b"1111"[..], b"22223333"]);
    let wrong = head(&[0, 13], &[4, 8]);
    assert!(index_with(&value, 2, JPEG, &wrong, &limits).is_err());
}

#[test]
fn a_video_is_one_frame_whatever_their_number() {
    let value = encapsulated(&[], &[b"1111", b"2222"]);
    let index = index(&value, 250, "1.2.840.10008.1.2.4.102").unwrap();
    assert_eq!(frames(&value, &index), [b"11112222"]);
}

#[test]
fn items_that_are_cut_or_none_are_an_error() {
    let value = encapsulated(&[], &[b"1111", b"2222"]);
    for end in 0..value.len() {
        assert!(
            matches!(
                index(&value[..end], 2, JPEG),
                Err(PixelError::Structure { .. })
            ),
            "{end}"
        );
    }
    let mut garbled = value.clone();
    garbled[8] = 0;
    assert!(index(&garbled, 2, JPEG).is_err());
    let mut endless = value;
    endless[12..16].copy_from_slice(&[0xFF; 4]);
    assert!(index(&endless, 2, JPEG).is_err());
}

#[test]
fn more_fragments_than_allowed_are_refused() {
    let limits = PixelLimits {
        fragments: 2,
        ..PixelLimits::default()
    };
    let value = encapsulated(&[], &[b"11", b"22", b"33"]);
    assert!(matches!(
        index_with(&value, 3, JPEG, &[], &limits),
        Err(PixelError::TooLarge { .. })
    ));
}

fn native(value: &[u8], shape: &ImageShape, word: usize) -> FrameIndex {
    let head = DataSet::parse(&[], Encoding::ExplicitLittle, Limits::default()).unwrap();
    let span = PixelSpan {
        offset: 0,
        length: Some(u32::try_from(value.len()).unwrap()),
        word,
    };
    let syntax = TransferSyntaxUid::parse(EXPLICIT).unwrap();
    FrameIndex::read(
        value,
        span,
        shape,
        &syntax,
        head.elements(),
        &PixelLimits::default(),
    )
    .unwrap()
}

#[test]
fn native_frames_follow_each_other_even_at_odd_lengths() {
    let mut shape = shape(1, 3, 1, 8);
    shape.frames = 3;
    let value = b"abcdefghi\0";
    let index = native(value, &shape, 1);
    assert_eq!(frames(value, &index), [b"abc", b"def", b"ghi"]);
    assert_eq!(index.end(), 10);
}

#[test]
fn bytes_in_big_endian_words_are_put_in_order_for_each_frame() {
    let mut shape = shape(1, 3, 1, 8);
    shape.frames = 3;
    let value = b"badcfehg\0i";
    let index = native(value, &shape, 2);
    assert_eq!(frames(value, &index), [b"abc", b"def", b"ghi"]);
}

#[test]
fn a_frame_beyond_the_pixels_is_an_error_and_those_before_are_not() {
    let mut shape = shape(2, 2, 1, 16);
    shape.frames = 3;
    let value = vec![5; 17];
    let index = native(&value, &shape, 1);
    let limits = PixelLimits::default();
    assert_eq!(index.frame(value.as_slice(), 1, &limits).unwrap(), [5; 8]);
    assert!(matches!(
        index.frame(value.as_slice(), 2, &limits),
        Err(PixelError::Structure { .. })
    ));
}

#[test]
fn frames_of_shared_chrominance_are_shorter() {
    let mut shape = shape(2, 2, 3, 8);
    shape.photometric = Photometric::YbrFull422;
    shape.frames = 2;
    let value: Vec<u8> = (0..16).collect();
    assert_eq!(
        native(&value, &shape, 1).ranges(1).unwrap(),
        std::slice::from_ref(&(8..16))
    );
    let value: Vec<u8> = (0..24).collect();
    assert_eq!(
        native(&value, &shape, 1).ranges(1).unwrap(),
        std::slice::from_ref(&(12..24))
    );
}

proptest! {
    #[test]
    fn frames_of_single_bits_are_found_between_bytes(
        rows in 1_u16..5,
        columns in 1_u16..13,
        count in 1_u32..6,
        seed in prop::collection::vec(any::<bool>(), 300),
    ) {
        let mut shape = shape(rows, columns, 1, 1);
        shape.frames = count;
        let size = usize::from(rows) * usize::from(columns);
        let bits = &seed[..size * count as usize];
        let pack = |bits: &[bool]| -> Vec<u8> {
            bits.chunks(8)
                .map(|byte| byte.iter().enumerate().map(|(at, bit)| u8::from(*bit) << at).sum())
                .collect()
        };
        let value = pack(bits);
        let index = native(&value, &shape, 1);
        let expected: Vec<Vec<u8>> = bits.chunks(size).map(pack).collect();
        prop_assert_eq!(frames(&value, &index), expected);
    }

    #[test]
    fn no_bytes_make_it_panic_or_allocate(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        at in 0_usize..60,
        to in any::<[u8; 4]>(),
        count in 1_u32..5,
    ) {
        let limits = PixelLimits { fragments: 1000, ..PixelLimits::default() };
        let _ = index_with(&bytes, count, JPEG, &[], &limits);
        let mut value = encapsulated(&[0, 12], &[b"1111", b"2222", b"3333"]);
        let room = value.len() - 4;
        value[at.min(room)..][..4].copy_from_slice(&to);
        if let Ok(index) = index_with(&value, count, JPEG, &[], &limits) {
            for frame in 0..count {
                let _ = index.frame(value.as_slice(), frame, &limits);
            }
        }
    }
}
