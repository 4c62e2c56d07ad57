#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use dicom_core::Tag;
use dicom_core::value::{DataSetSequence, PrimitiveValue};
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::entries;
use proptest::prelude::*;

use super::super::json::{JsonOptions, write_object};
use super::super::reader::DataSet;
use super::super::testdata::{ENCODINGS, Writer, image, pixel_offset, tag};
use super::*;

fn convert(bytes: &[u8], encoding: Encoding, chunk: usize) -> Result<Vec<u8>, ReadError> {
    let mut converter = Converter::from_encoding(encoding, Limits::default());
    let mut out = Vec::new();
    for chunk in bytes.chunks(chunk) {
        converter.feed(chunk, &mut out)?;
    }
    converter.finish(&mut out)?;
    Ok(out)
}

fn json(bytes: &[u8], encoding: Encoding) -> String {
    let set = DataSet::parse(bytes, encoding, Limits::default()).unwrap();
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), &JsonOptions::default());
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_converted_says_the_same_as_before() {
    for (encoding, name) in ENCODINGS {
        let bytes = image(encoding);
        let converted = convert(&bytes, encoding, usize::MAX).unwrap();
        assert_eq!(
            json(&converted, Encoding::ExplicitLittle),
            json(&bytes, encoding),
            "{name}"
        );
    }
}

#[test]
fn words_of_big_endian_pixels_are_turned_around_wherever_fragments_are_cut() {
    let bytes = image(Encoding::ExplicitBig);
    let whole = convert(&bytes, Encoding::ExplicitBig, usize::MAX).unwrap();
    let at = pixel_offset(&whole, Encoding::ExplicitLittle);
    assert_eq!(
        whole[at..at + 20],
        *b"\xe0\x7f\x10\x00OW\0\0\x08\0\0\0\x02\x01\x04\x03\x06\x05\x08\x07"
    );
    for chunk in [1, 2, 3, 5, 7, 64] {
        assert_eq!(
            convert(&bytes, Encoding::ExplicitBig, chunk).unwrap(),
            whole,
            "fragments of {chunk}"
        );
    }
}

#[test]
fn a_data_set_cut_inside_an_element_is_not_converted() {
    for (encoding, name) in ENCODINGS {
        let bytes = image(encoding);
        let whole = (0..=bytes.len())
            .filter(|end| convert(&bytes[..*end], encoding, 9).is_ok())
            .count();
        assert_eq!(whole, 16, "{name}");
    }
}

#[test]
fn group_lengths_go_and_odd_values_become_even() {
    let bytes = Writer::new(Encoding::ImplicitLittle)
        .put((0x0008, 0x0000), VR::UL, &[99, 0, 0, 0])
        .put((0x0008, 0x0060), VR::CS, b"CT")
        .bytes;
    assert_eq!(
        convert(&bytes, Encoding::ImplicitLittle, 1).unwrap(),
        b"\x08\0\x60\0CS\x02\0CT"
    );
    let odd = b"\x08\0\x18\0\x03\0\0\x001.2\x08\0\x50\0\x01\0\0\0A";
    let expected = b"\x08\0\x18\0UI\x04\x001.2\0\x08\0\x50\0SH\x02\0A ";
    assert_eq!(convert(odd, Encoding::ImplicitLittle, 1).unwrap(), expected);
}

#[test]
fn a_value_too_long_for_its_vr_is_un() {
    for (length, vr) in [(65_534_usize, "DS"), (65_536, "UN"), (70_000, "UN")] {
        let value = vec![b'1'; length];
        let bytes = Writer::new(Encoding::ImplicitLittle)
            .put((0x3006, 0x0050), VR::DS, &value)
            .bytes;
        let out = convert(&bytes, Encoding::ImplicitLittle, 4096).unwrap();
        assert_eq!(std::str::from_utf8(&out[4..6]).unwrap(), vr, "{length}");
        assert!(out.ends_with(&value));
        // Our own reader gets the VR back.
        assert!(
            json(&out, Encoding::ExplicitLittle).starts_with(r#"{"30060050":{"vr":"DS","Value":["#)
        );
    }
}

#[test]
fn encapsulated_pixels_are_refused_in_a_native_syntax() {
    let bytes = Writer::new(Encoding::ExplicitLittle)
        .fragments(&[&[], &[1, 2]])
        .bytes;
    let error = convert(&bytes, Encoding::ExplicitLittle, 8).unwrap_err();
    assert_eq!(error.problem, Problem::EncapsulatedInNative);
    let icon = Writer::new(Encoding::ExplicitLittle)
        .sequence((0x0088, 0x0200), true, &[bytes])
        .bytes;
    let out = convert(&icon, Encoding::ExplicitLittle, 8).unwrap();
    assert_eq!(convert(&out, Encoding::ExplicitLittle, 8).unwrap(), out);
}

#[test]
fn pixels_of_any_size_pass_through_in_small_pieces() {
    let mut head = Writer::new(Encoding::ExplicitBig);
    head.header((0x7FE0, 0x0010), VR::OW, 8 << 20);
    let mut converter = Converter::from_encoding(Encoding::ExplicitBig, Limits::default());
    let mut out = Vec::new();
    converter.feed(&head.bytes, &mut out).unwrap();
    let (mut total, mut largest) = (0, 0);
    let piece = vec![1; 65_537];
    let mut left: usize = 8 << 20;
    while left > 0 {
        out.clear();
        let take = left.min(piece.len());
        converter.feed(&piece[..take], &mut out).unwrap();
        left -= take;
        total += out.len();
        largest = largest.max(out.capacity());
    }
    converter.finish(&mut out).unwrap();
    assert_eq!(total, 8 << 20);
    assert!(largest < 256 << 10, "{largest} bytes were held");
}

/// One object with every VR that has numbers, and nesting, as another toolkit makes it.
fn foreign_object() -> InMemDicomObject {
    let item = InMemDicomObject::from_element_iter([
        InMemElement::new(Tag(0x0008, 0x0100), VR::SH, "CODE"),
        InMemElement::new(
            Tag(0x0040, 0x9096),
            VR::SQ,
            DataSetSequence::<InMemDicomObject>::empty(),
        ),
    ]);
    InMemDicomObject::from_element_iter([
        InMemElement::new(Tag(0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.2"),
        InMemElement::new(Tag(0x0008, 0x0018), VR::UI, "1.2.3.4.5"),
        InMemElement::new(
            Tag(0x0008, 0x1140),
            VR::SQ,
            DataSetSequence::from(vec![item.clone(), item]),
        ),
        InMemElement::new(Tag(0x0010, 0x0010), VR::PN, "Doe^John"),
        InMemElement::new(Tag(0x0018, 0x605A), VR::FL, PrimitiveValue::from(1.5_f32)),
        InMemElement::new(Tag(0x0018, 0x9087), VR::FD, PrimitiveValue::from(-2.25_f64)),
        InMemElement::new(
            Tag(0x0018, 0x6018),
            VR::UL,
            PrimitiveValue::from(70_000_u32),
        ),
        InMemElement::new(
            Tag(0x0018, 0x6020),
            VR::SL,
            PrimitiveValue::from(-70_000_i32),
        ),
        InMemElement::new(Tag(0x0020, 0x000D), VR::UI, "1.2.3"),
        InMemElement::new(
            Tag(0x0028, 0x0009),
            VR::AT,
            PrimitiveValue::from(Tag(0x0018, 0x1063)),
        ),
        InMemElement::new(Tag(0x0028, 0x0103), VR::US, PrimitiveValue::from(1_u16)),
        InMemElement::new(Tag(0x0028, 0x0106), VR::SS, PrimitiveValue::from(-3_i16)),
        InMemElement::new(
            Tag(0x7FE0, 0x0010),
            VR::OW,
            PrimitiveValue::U16([1, 2, 0x0304].into_iter().collect()),
        ),
    ])
}

#[test]
fn what_dicom_object_writes_is_converted_to_what_dicom_object_reads() {
    let object = foreign_object();
    let explicit = entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
    for (syntax, encoding) in [
        (
            entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
            Encoding::ImplicitLittle,
        ),
        (
            entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
            Encoding::ExplicitBig,
        ),
        (
            entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            Encoding::ExplicitLittle,
        ),
    ] {
        let mut bytes = Vec::new();
        object.write_dataset_with_ts(&mut bytes, &syntax).unwrap();
        let converted = convert(&bytes, encoding, 13).unwrap();
        let read = InMemDicomObject::read_dataset_with_ts(&converted[..], &explicit).unwrap();
        let mut expected = Vec::new();
        object
            .write_dataset_with_ts(&mut expected, &explicit)
            .unwrap();
        let expected = InMemDicomObject::read_dataset_with_ts(&expected[..], &explicit).unwrap();
        assert_eq!(read.iter().count(), expected.iter().count());
        for element in &expected {
            let ours = read.element(element.header().tag).unwrap();
            assert_eq!(
                ours.vr(),
                element.vr(),
                "{encoding:?} {}",
                element.header().tag
            );
            match element.items() {
                None => assert_eq!(
                    ours.to_bytes().unwrap(),
                    element.to_bytes().unwrap(),
                    "{encoding:?}"
                ),
                Some(items) => assert_eq!(ours.items().unwrap().len(), items.len()),
            }
        }
        let set = DataSet::parse(&converted, Encoding::ExplicitLittle, Limits::default()).unwrap();
        assert_eq!(set.elements().items(tag(0x0008_1140)).count(), 2);
    }
}

#[test]
fn what_dicom_object_writes_is_read_the_same_by_both() {
    let object = foreign_object();
    for (syntax, encoding) in [
        (
            entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
            Encoding::ImplicitLittle,
        ),
        (
            entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
            Encoding::ExplicitBig,
        ),
        (
            entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
            Encoding::ExplicitLittle,
        ),
    ] {
        let mut bytes = Vec::new();
        object.write_dataset_with_ts(&mut bytes, &syntax).unwrap();
        let text = json(&bytes, encoding);
        for expected in [
            r#""0018605A":{"vr":"FL","Value":[1.5]}"#,
            r#""00189087":{"vr":"FD","Value":[-2.25]}"#,
            r#""00186018":{"vr":"UL","Value":[70000]}"#,
            r#""00186020":{"vr":"SL","Value":[-70000]}"#,
            r#""00280009":{"vr":"AT","Value":["00181063"]}"#,
            r#""00280106":{"vr":"SS","Value":[-3]}"#,
            r#""7FE00010":{"vr":"OW","InlineBinary":"AQACAAQD"}"#,
        ] {
            assert!(
                text.contains(expected),
                "{encoding:?}: {expected} is not in {text}"
            );
        }
    }
}

proptest! {
    #[test]
    fn fragments_make_no_difference(chunk in 1_usize..40, at in 0_usize..500, byte in any::<u8>()) {
        for (encoding, _) in ENCODINGS {
            let mut bytes = image(encoding);
            let at = at % bytes.len();
            bytes[at] = byte;
            let whole = convert(&bytes, encoding, usize::MAX);
            prop_assert_eq!(convert(&bytes, encoding, chunk), whole.clone());
            if let Ok(whole) = whole {
                // The result is stable, and a data set.
                prop_assert_eq!(convert(&whole, Encoding::ExplicitLittle, chunk).unwrap(), whole);
            }
        }
    }
}
