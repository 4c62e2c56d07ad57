#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use super::super::json::{JsonOptions, write_object};
use super::super::path::AttributePath;
use super::super::testdata::{ENCODINGS, Writer, image, tag};
use super::*;

fn parse(bytes: &[u8]) -> Result<DataSet<'_>, ReadError> {
    DataSet::parse(bytes, Encoding::ExplicitLittle, Limits::default())
}

#[test]
fn elements_are_reached_at_every_depth_in_every_encoding() {
    for (encoding, _) in ENCODINGS {
        let bytes = image(encoding);
        let set = DataSet::parse(&bytes, encoding, Limits::default()).unwrap();
        let top = set.elements();
        let latin = top.declared_character_set(Repertoire::Ascii).unwrap();
        assert_eq!(top.text(tag(0x0010_0010), &latin).unwrap(), "Buc^Jérôme");
        assert_eq!(top.u16(tag(0x0028_0010)), Some(2));
        assert_eq!(top.uid(tag(0x0020_000D)).unwrap().as_str(), "1.2.3");
        assert_eq!(top.iter().count(), 15, "{encoding:?}");
        for (sequence, items) in [(0x0008_1140, 2), (0x0010_1002, 1)] {
            assert_eq!(top.items(tag(sequence)).count(), items);
            let first = top.items(tag(sequence)).next().unwrap();
            assert_eq!(first.iter().count(), 2);
            let codes: Vec<_> = first.items(tag(0x0040_A170)).collect();
            assert_eq!(codes.len(), 2);
            assert_eq!(codes[0].text(tag(0x0008_0100), &latin).unwrap(), "CODE");
            assert_eq!(codes[1].iter().count(), 0);
        }
        assert_eq!(
            top.find(tag(0x0009_1001)).unwrap().bytes(),
            Some(&[1, 2, 3, 4][..])
        );
        assert_eq!(top.find(tag(0x0009_0010)).unwrap().vr(), VR::LO);
        let pixels = top.find(tag(0x7FE0_0010)).unwrap();
        assert_eq!(pixels.bytes(), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
    }
}

#[test]
fn the_extents_of_top_level_elements_cover_the_data_set() {
    for (encoding, _) in ENCODINGS {
        let bytes = image(encoding);
        let set = DataSet::parse(&bytes, encoding, Limits::default()).unwrap();
        let mut at = 0;
        for element in set.elements().iter() {
            assert_eq!(element.extent().start, at);
            assert!(element.extent().end >= element.value_extent().end);
            at = element.extent().end;
        }
        assert_eq!(at, bytes.len());
    }
}

#[test]
fn a_prefix_of_a_data_set_never_panics_and_is_whole_only_between_elements() {
    for (encoding, _) in ENCODINGS {
        let bytes = image(encoding);
        let whole = (0..=bytes.len())
            .filter(|end| DataSet::parse(&bytes[..*end], encoding, Limits::default()).is_ok())
            .count();
        assert_eq!(whole, 16, "{encoding:?}");
    }
}

/// The file of 1 426 bytes that made a parser allocate 1.63 GB: PDF text stands where an element
/// header is expected, its VR field is no VR, and the next four characters are the length.
#[test]
fn text_in_place_of_an_element_header_is_refused_whatever_length_it_spells() {
    let mut bytes = Writer::new(Encoding::ExplicitLittle)
        .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.104.1")
        .put((0x0008, 0x0032), VR::TM, b"120000")
        .bytes;
    let header = bytes.len();
    bytes.extend_from_slice(b" 2 0 R/Media");
    bytes.resize(1426 - 132, b'x');
    let error = parse(&bytes).unwrap_err();
    assert_eq!(error.problem, Problem::NotAVr(*b" R"));
    assert_eq!(error.offset, header as u64 + 4);
    assert!(
        error.to_string().contains("value representation"),
        "{error}"
    );
}

#[test]
fn a_length_past_the_end_is_refused_for_every_form_of_header() {
    for vr in [VR::OB, VR::UN, VR::UT, VR::SQ] {
        let mut w = Writer::new(Encoding::ExplicitLittle);
        w.header((0x0042, 0x0011), vr, 0x6169_6465);
        let error = parse(&w.bytes).unwrap_err();
        let expected = Problem::LengthBeyondParent {
            length: 0x6169_6465,
            remaining: 0,
        };
        assert_eq!(error.problem, expected, "{vr}");
        assert_eq!(error.tag, Some(tag(0x0042_0011)));
    }
    // A VR that does not exist yet has a 32-bit length (PS3.5 §7.1.2).
    let error = parse(b"\x08\x00\x01\x00ZZ\0\0\xFF\xFF\xFF\x7Fab").unwrap_err();
    assert_eq!(
        error.problem,
        Problem::LengthBeyondParent {
            length: 0x7FFF_FFFF,
            remaining: 2
        }
    );
    assert_eq!(
        parse(b"\x08\x00\x01\x00ZZ\0\0\x02\0\0\0ab")
            .unwrap()
            .elements()
            .iter()
            .count(),
        1
    );
}

#[test]
fn an_item_longer_than_its_sequence_and_an_element_longer_than_its_item_are_refused() {
    let mut w = Writer::new(Encoding::ExplicitLittle);
    w.header((0x0008, 0x1140), VR::SQ, 8);
    w.raw_item((0xFFFE, 0xE000), 8);
    let w = w.put((0x0008, 0x0100), VR::SH, b"");
    assert!(matches!(
        parse(&w.bytes).unwrap_err().problem,
        Problem::LengthBeyondParent {
            length: 8,
            remaining: 0
        }
    ));

    let mut w = Writer::new(Encoding::ExplicitLittle);
    w.header((0x0008, 0x1140), VR::SQ, 18);
    w.raw_item((0xFFFE, 0xE000), 10);
    let w = w
        .put((0x0008, 0x0100), VR::SH, b"CODE")
        .put((0x0008, 0x0102), VR::SH, b"CODE");
    assert!(matches!(
        parse(&w.bytes).unwrap_err().problem,
        Problem::LengthBeyondParent {
            length: 4,
            remaining: 2
        }
    ));
}

#[test]
fn nesting_and_counts_are_bounded() {
    for encoding in [Encoding::ExplicitLittle, Encoding::ImplicitLittle] {
        let mut w = Writer::new(encoding);
        for _ in 0..100_000 {
            w.header((0x0008, 0x1140), VR::SQ, u32::MAX);
            w.raw_item((0xFFFE, 0xE000), u32::MAX);
        }
        let error = DataSet::parse(&w.bytes, encoding, Limits::default()).unwrap_err();
        assert_eq!(error.problem, Problem::TooDeep(32));
    }
    let limits = Limits {
        elements: 1000,
        ..Limits::default()
    };
    let mut w = Writer::new(Encoding::ExplicitLittle);
    for _ in 0..1001 {
        w = w.put((0x0008, 0x0100), VR::SH, b"");
    }
    let error = DataSet::parse(&w.bytes, Encoding::ExplicitLittle, limits).unwrap_err();
    assert_eq!(error.problem, Problem::TooManyElements(1000));
    let limits = Limits {
        head_bytes: 100,
        ..Limits::default()
    };
    let w = Writer::new(Encoding::ExplicitLittle).put((0x0042, 0x0011), VR::OB, &[0; 100]);
    let error = DataSet::parse(&w.bytes, Encoding::ExplicitLittle, limits).unwrap_err();
    assert_eq!(error.problem, Problem::HeadTooLarge(100));
}

#[test]
fn thirty_two_sequences_inside_one_another_are_read() {
    let mut inner = Vec::new();
    for level in 0..32 {
        inner = Writer::new(Encoding::ExplicitLittle)
            .sequence((0x0008, 0x1140), level % 2 == 0, &[inner])
            .bytes;
    }
    let set = parse(&inner).unwrap();
    let mut elements = set.elements();
    let mut depth = 0;
    while let Some(item) = elements.items(tag(0x0008_1140)).next() {
        depth += 1;
        elements = item;
    }
    assert_eq!(depth, 32);
    let deeper = Writer::new(Encoding::ExplicitLittle)
        .sequence((0x0008, 0x1140), true, &[inner.clone()])
        .bytes;
    assert_eq!(parse(&deeper).unwrap_err().problem, Problem::TooDeep(32));
}

#[test]
fn a_un_of_undefined_length_is_a_sequence_in_implicit_little_endian() {
    let item = Writer::new(Encoding::ImplicitLittle)
        .put((0x0008, 0x0100), VR::SH, b"CODE")
        .bytes;
    for encoding in [Encoding::ExplicitLittle, Encoding::ExplicitBig] {
        let mut w = Writer::new(encoding);
        w.header((0x0009, 0x1002), VR::UN, u32::MAX);
        let mut little = Writer::new(Encoding::ImplicitLittle);
        little.raw_item((0xFFFE, 0xE000), u32::MAX);
        little.bytes.extend_from_slice(&item);
        little.raw_item((0xFFFE, 0xE00D), 0);
        little.raw_item((0xFFFE, 0xE0DD), 0);
        w.bytes.extend_from_slice(&little.bytes);
        let w = w.put((0x0010, 0x0020), VR::LO, b"AFTER");
        let set = DataSet::parse(&w.bytes, encoding, Limits::default()).unwrap();
        let top = set.elements();
        let element = top.find(tag(0x0009_1002)).unwrap();
        assert_eq!(element.vr(), VR::SQ);
        let code = top
            .items(tag(0x0009_1002))
            .next()
            .unwrap()
            .find(tag(0x0008_0100))
            .unwrap();
        assert_eq!((code.vr(), code.bytes()), (VR::SH, Some(&b"CODE"[..])));
        assert_eq!(
            top.text(tag(0x0010_0020), &CharacterSet::default())
                .unwrap(),
            "AFTER"
        );
    }
}

#[test]
fn in_implicit_vr_pixel_representation_decides_us_or_ss() {
    for (representation, vr) in [(0_u16, VR::US), (1, VR::SS)] {
        let w = Writer::new(Encoding::ImplicitLittle)
            .put((0x0028, 0x0103), VR::US, &representation.to_le_bytes())
            .put((0x0028, 0x0106), VR::US, &[0xFF, 0xFF]);
        let item = Writer::new(Encoding::ImplicitLittle)
            .put((0x0028, 0x3002), VR::US, &[0; 6])
            .bytes;
        let w = w.sequence((0x0028, 0x3000), true, &[item]);
        let set = DataSet::parse(&w.bytes, Encoding::ImplicitLittle, Limits::default()).unwrap();
        let top = set.elements();
        assert_eq!(top.find(tag(0x0028_0106)).unwrap().vr(), vr);
        let nested = top.items(tag(0x0028_3000)).next().unwrap();
        assert_eq!(nested.find(tag(0x0028_3002)).unwrap().vr(), vr);
        assert_eq!(
            top.u32(tag(0x0028_0106)),
            (representation == 0).then_some(65535)
        );
    }
}

#[test]
fn odd_lengths_are_read_and_trailing_bytes_are_not() {
    let bytes = b"\x08\x00\x50\x00SH\x03\x00ABC\x10\x00\x20\x00LO\x02\x00ID";
    let set = parse(bytes).unwrap();
    assert_eq!(
        set.elements()
            .text(tag(0x0010_0020), &CharacterSet::default())
            .unwrap(),
        "ID"
    );
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(parse(&longer).is_err());
}

#[test]
fn stray_items_and_undefined_lengths_are_refused() {
    let mut w = Writer::new(Encoding::ExplicitLittle);
    w.raw_item((0xFFFE, 0xE0DD), 0);
    assert_eq!(parse(&w.bytes).unwrap_err().problem, Problem::StrayItem);
    let mut w = Writer::new(Encoding::ExplicitLittle);
    w.header((0x0042, 0x0011), VR::UT, u32::MAX);
    assert_eq!(
        parse(&w.bytes).unwrap_err().problem,
        Problem::UndefinedLength
    );
    let mut w = Writer::new(Encoding::ExplicitLittle);
    w.header((0x0008, 0x1140), VR::SQ, u32::MAX);
    let w = w.put((0x0008, 0x0100), VR::SH, b"");
    assert_eq!(parse(&w.bytes).unwrap_err().problem, Problem::ItemExpected);
}

#[test]
fn delimiters_after_defined_lengths_are_tolerated() {
    let code = Writer::new(Encoding::ExplicitLittle)
        .put((0x0008, 0x0100), VR::SH, b"CODE")
        .bytes;
    let mut w = Writer::new(Encoding::ExplicitLittle);
    w.header(
        (0x0008, 0x1140),
        VR::SQ,
        u32::try_from(8 + code.len() + 8 + 8).unwrap(),
    );
    w.raw_item((0xFFFE, 0xE000), u32::try_from(code.len() + 8).unwrap());
    w.bytes.extend_from_slice(&code);
    w.raw_item((0xFFFE, 0xE00D), 0);
    w.raw_item((0xFFFE, 0xE0DD), 0);
    let w = w.put((0x0010, 0x0020), VR::LO, b"ID");
    let set = parse(&w.bytes).unwrap();
    assert_eq!(set.elements().iter().count(), 2);
    assert_eq!(set.elements().items(tag(0x0008_1140)).count(), 1);
}

#[test]
fn a_command_set_is_read() {
    let w = Writer::new(Encoding::ImplicitLittle)
        .put((0x0000, 0x0000), VR::UL, &56_u32.to_le_bytes())
        .put((0x0000, 0x0002), VR::UI, b"1.2.840.10008.1.1")
        .put((0x0000, 0x0100), VR::US, &0x8030_u16.to_le_bytes())
        .put((0x0000, 0x0900), VR::US, &0_u16.to_le_bytes());
    let set = DataSet::parse(&w.bytes, Encoding::ImplicitLittle, Limits::default()).unwrap();
    assert_eq!(set.elements().u16(tag(0x0000_0100)), Some(0x8030));
    assert_eq!(set.elements().u32(tag(0x0000_0000)), Some(56));
    assert_eq!(
        set.elements().uid(tag(0x0000_0002)).unwrap().as_str(),
        "1.2.840.10008.1.1"
    );
}

#[test]
fn fragments_of_encapsulated_pixels_are_reached() {
    let w = Writer::new(Encoding::ExplicitLittle).fragments(&[&[], &[1, 2], &[3, 4, 5, 6]]);
    let set = parse(&w.bytes).unwrap();
    let Value::Fragments(fragments) = set.elements().find(tag(0x7FE0_0010)).unwrap().value() else {
        panic!("not encapsulated");
    };
    let fragments: Vec<&[u8]> = fragments.iter().collect();
    assert_eq!(fragments, [&[][..], &[1, 2], &[3, 4, 5, 6]]);
}

#[test]
fn the_notes_kept_per_element_are_small() {
    assert!(
        std::mem::size_of::<Node>() <= 28,
        "{}",
        std::mem::size_of::<Node>()
    );
}

fn collect(
    bytes: &[u8],
    encoding: Encoding,
    chunk: usize,
    value_max: u32,
) -> Result<DataSet<'static>, ReadError> {
    let mut collector = Collector::new(encoding, Limits::default(), value_max, 1 << 20);
    for chunk in bytes.chunks(chunk) {
        collector.feed(chunk)?;
    }
    collector.finish()
}

fn json(set: &DataSet<'_>) -> String {
    let bulk = |path: &AttributePath| path.to_string();
    let options = JsonOptions {
        inline_max: 16,
        bulk_uri: Some(&bulk),
        ..JsonOptions::default()
    };
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), &options);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_collected_from_fragments_says_the_same_as_the_whole() {
    for (encoding, _) in ENCODINGS {
        let bytes = image(encoding);
        let whole = json(&DataSet::parse(&bytes, encoding, Limits::default()).unwrap());
        assert!(whole.contains(r#""7FE00010":{"vr":"OW","BulkDataURI":"7FE00010"}"#));
        for chunk in [1, 7, usize::MAX] {
            assert_eq!(
                json(&collect(&bytes, encoding, chunk, 64).unwrap()),
                whole,
                "{encoding:?}"
            );
        }
    }
}

#[test]
fn large_values_and_pixels_are_not_kept_but_found() {
    let lut = Writer::new(Encoding::ExplicitLittle)
        .put((0x0028, 0x3006), VR::OW, &[5; 100])
        .bytes;
    let bytes = Writer::new(Encoding::ExplicitLittle)
        .sequence((0x0028, 0x3010), false, &[lut])
        .put((0x0042, 0x0011), VR::OB, &[7; 64])
        .fragments(&[&[], &[9; 5000]])
        .bytes;
    let set = collect(&bytes, Encoding::ExplicitLittle, 11, 64).unwrap();
    assert_eq!(set.bytes(), [7; 64]);
    let path: AttributePath = "00283010/0/00283006".parse().unwrap();
    let Value::Large(large) = path.find(set.elements()).unwrap().value() else {
        panic!("kept")
    };
    let at = usize::try_from(large.offset).unwrap();
    assert_eq!(bytes[at..at + large.length.unwrap() as usize], [5; 100]);
    let Value::Large(pixels) = set.elements().find(tag(0x7FE0_0010)).unwrap().value() else {
        panic!("kept")
    };
    assert_eq!(pixels.length, None);
    assert_eq!(
        bytes[usize::try_from(pixels.offset).unwrap()..][..4],
        [0xFE, 0xFF, 0x00, 0xE0]
    );
    assert!(json(&set).contains(r#""00283006":{"vr":"OW","BulkDataURI":"00283010/0/00283006"}"#));
}

#[test]
fn what_is_kept_altogether_is_bounded() {
    let mut collector = Collector::new(Encoding::ExplicitLittle, Limits::default(), 64, 100);
    let element = Writer::new(Encoding::ExplicitLittle)
        .put((0x0008, 0x0104), VR::LO, &[b'x'; 60])
        .bytes;
    collector.feed(&element).unwrap();
    assert_eq!(
        collector.feed(&element).unwrap_err().problem,
        Problem::HeadTooLarge(100)
    );
}

#[test]
fn pixels_whose_vr_was_damaged_say_the_same_collected_as_whole() {
    // A VR that nobody knows has the long form, and is read as UN: the dictionary gives OW back.
    for (encoding, _) in &ENCODINGS[1..] {
        let bytes = Writer::new(*encoding)
            .put((0x7FE0, 0x0010), VR::OW, &[1; 8])
            .bytes;
        let mut damaged = bytes.clone();
        damaged[4] = b'A';
        let whole = json(&DataSet::parse(&damaged, *encoding, Limits::default()).unwrap());
        let collected = json(&collect(&damaged, *encoding, 13, 1 << 16).unwrap());
        assert_eq!(
            whole,
            r#"{"7FE00010":{"vr":"OW","BulkDataURI":"7FE00010"}}"#
        );
        assert_eq!(collected, whole, "{encoding:?}");
    }
}

proptest::proptest! {
    #[test]
    fn a_damaged_data_set_is_collected_if_and_only_if_it_is_read(at in 0_usize..500, byte in proptest::prelude::any::<u8>()) {
        for (encoding, _) in ENCODINGS {
            let mut bytes = image(encoding);
            let at = at % bytes.len();
            bytes[at] = byte;
            let whole = DataSet::parse(&bytes, encoding, Limits::default()).ok();
            let collected = collect(&bytes, encoding, 13, 1 << 16).ok();
            proptest::prop_assert_eq!(collected.map(|set| json(&set)), whole.map(|set| json(&set)));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        for (encoding, _) in ENCODINGS {
            if let Ok(set) = DataSet::parse(&bytes, encoding, Limits::default()) {
                visit(set.elements());
            }
        }
    }

    #[test]
    fn a_damaged_data_set_is_read_or_refused(at in 0_usize..500, byte in proptest::prelude::any::<u8>()) {
        for (encoding, _) in ENCODINGS {
            let mut bytes = image(encoding);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(set) = DataSet::parse(&bytes, encoding, Limits::default()) {
                visit(set.elements());
            }
        }
    }
}

fn visit(elements: Elements<'_>) {
    for element in elements.iter() {
        let _ = element.strings(&CharacterSet::default());
        match element.value() {
            Value::Bytes(_) | Value::Large(_) => {}
            Value::Items(items) => items.iter().for_each(visit),
            Value::Fragments(fragments) => fragments.iter().for_each(|f| assert!(f.len() < 1000)),
        }
    }
}
