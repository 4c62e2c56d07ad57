#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use serde_json::json;

use super::super::testdata::{ENCODINGS, Writer as DataWriter, image, tag};
use super::*;

fn explicit() -> DataWriter {
    DataWriter::new(Encoding::ExplicitLittle)
}

fn object(bytes: &[u8], options: &JsonOptions<'_>) -> serde_json::Value {
    object_of(bytes, Encoding::ExplicitLittle, options)
}

fn object_of(bytes: &[u8], encoding: Encoding, options: &JsonOptions<'_>) -> serde_json::Value {
    let set = DataSet::parse(bytes, encoding, Limits::default()).unwrap();
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), options);
    let text = std::str::from_utf8(&out).expect("JSON is UTF-8");
    let names: Vec<&str> = text
        .match_indices("\":{\"vr\"")
        .map(|(at, _)| &text[at - 8..at])
        .collect();
    assert!(!names.is_empty() || text == "{}");
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn plain(bytes: &[u8]) -> serde_json::Value {
    object(bytes, &JsonOptions::default())
}

#[test]
fn every_encoding_gives_the_same_object() {
    let expected = json!({
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.4.5"]},
        "00081140": {"vr": "SQ", "Value": [
            {
                "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
                "0040A170": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["CODE"]}}, {}]}
            },
            {"00080100": {"vr": "SH", "Value": ["CODE"]}}
        ]},
        "00090010": {"vr": "LO", "Value": ["MAKER"]},
        "00091001": {"vr": "UN", "InlineBinary": "AQIDBA=="},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Buc^Jérôme"}]},
        "00101002": {"vr": "SQ", "Value": [{
            "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
            "0040A170": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["CODE"]}}, {}]}
        }]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "0020000E": {"vr": "UI", "Value": ["1.2.3.4"]},
        "00280010": {"vr": "US", "Value": [2]},
        "00280011": {"vr": "US", "Value": [2]},
        "00280103": {"vr": "US", "Value": [0]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "https://x/bulkdata/7FE00010"}
    });
    let bulk = |path: &AttributePath| format!("https://x/bulkdata/{path}");
    let options = JsonOptions {
        inline_max: 64,
        bulk_uri: Some(&bulk),
        ..JsonOptions::default()
    };
    for (encoding, _) in ENCODINGS {
        assert_eq!(
            object_of(&image(encoding), encoding, &options),
            expected,
            "{encoding:?}"
        );
    }
}

#[test]
fn names_are_split_into_their_groups() {
    let bytes = explicit()
        .put((0x0008, 0x0005), VR::CS, b"\\ISO 2022 IR 87")
        .put(
            (0x0010, 0x0010),
            VR::PN,
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        )
        .put((0x0010, 0x1001), VR::PN, b"A^B\\==C \\\\=D")
        .bytes;
    assert_eq!(
        plain(&bytes),
        json!({
            "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
            "00100010": {"vr": "PN", "Value": [
                {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
            ]},
            "00101001": {"vr": "PN", "Value": [
                {"Alphabetic": "A^B"}, {"Phonetic": "C"}, null, {"Ideographic": "D"}
            ]},
        })
    );
}

#[test]
fn utf_8_is_declared_when_text_is_not_ascii_and_only_then() {
    let ascii = explicit().put((0x0010, 0x0010), VR::PN, b"Doe").bytes;
    assert_eq!(
        plain(&ascii),
        json!({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe"}]}})
    );
    let undeclared = explicit()
        .put((0x0010, 0x0010), VR::PN, b"Buc^J\xe9r\xf4me")
        .bytes;
    let expected = json!({
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Buc^Jérôme"}]},
    });
    assert_eq!(plain(&undeclared), expected);
    let nested = explicit()
        .sequence((0x0008, 0x1140), true, &[undeclared])
        .bytes;
    assert_eq!(plain(&nested)["00080005"]["Value"][0], "ISO_IR 192");
}

#[test]
fn an_item_can_declare_its_own_set_and_a_pacs_can_be_overruled() {
    let item = explicit()
        .put((0x0008, 0x0005), VR::CS, b"ISO_IR 144")
        .put((0x0008, 0x0104), VR::LO, b"\xbb")
        .bytes;
    let inherits = explicit().put((0x0008, 0x0104), VR::LO, b"\xe9").bytes;
    let bytes = explicit()
        .put((0x0008, 0x0005), VR::CS, b"ISO_IR 100")
        .sequence((0x0008, 0x1140), false, &[item, inherits])
        .bytes;
    let value = plain(&bytes);
    assert_eq!(value["00081140"]["Value"][0]["00080104"]["Value"][0], "Л");
    assert_eq!(
        value["00081140"]["Value"][0]["00080005"]["Value"][0],
        "ISO_IR 192"
    );
    assert_eq!(value["00081140"]["Value"][1]["00080104"]["Value"][0], "é");

    let charset = CharacterSet::of(Repertoire::Utf8);
    let options = JsonOptions {
        charset_override: Some(&charset),
        ..JsonOptions::default()
    };
    let lie = explicit()
        .put((0x0008, 0x0005), VR::CS, b"ISO_IR 100")
        .put((0x0010, 0x0010), VR::PN, "Jérôme".as_bytes())
        .bytes;
    assert_eq!(
        object(&lie, &options)["00100010"]["Value"][0]["Alphabetic"],
        "Jérôme"
    );
}

#[test]
fn decimal_strings_keep_their_digits_and_what_is_no_number_is_a_string() {
    for (text, number) in [
        ("1.50", "1.50"),
        ("-0.1e-3", "-0.1e-3"),
        ("+1.5", "1.5"),
        (".5", "0.5"),
        ("-.5E+2", "-0.5E+2"),
        ("1.", "1"),
        ("007", "7"),
        ("000", "0"),
        ("0.30000000000000004", "0.30000000000000004"),
    ] {
        assert_eq!(number_text(text).as_deref(), Some(number), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(number).unwrap();
        assert!(parsed.is_number());
    }
    for text in [
        "NaN", "inf", "1e999", "1,5", "", "-", ".", "e5", "1e", "1e+-5", "0x10", "1 2", "--1",
        "+-1",
    ] {
        assert_eq!(number_text(text), None, "{text}");
    }
    let bytes = explicit()
        .put((0x0018, 0x0050), VR::DS, b" 2.50 \\\\abc")
        .put((0x0020, 0x0013), VR::IS, b"7 ")
        .bytes;
    let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), &JsonOptions::default());
    let text = String::from_utf8(out).unwrap();
    let expected =
        r#"{"00180050":{"vr":"DS","Value":[2.50,null,"abc"]},"00200013":{"vr":"IS","Value":[7]}}"#;
    assert_eq!(text, expected);
}

#[test]
fn numbers_of_every_vr_are_written_in_both_byte_orders() {
    for encoding in [Encoding::ExplicitLittle, Encoding::ExplicitBig] {
        let big = encoding == Encoding::ExplicitBig;
        let order = |mut bytes: Vec<u8>| {
            if !big {
                bytes.reverse();
            }
            bytes
        };
        let bytes = DataWriter::new(encoding)
            .put(
                (0x0009, 0x1001),
                VR::SS,
                &order((-2_i16).to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1002),
                VR::UL,
                &order(u32::MAX.to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1003),
                VR::SL,
                &order(i32::MIN.to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1004),
                VR::FL,
                &order(0.1_f32.to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1005),
                VR::FD,
                &order(0.1_f64.to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1006),
                VR::FD,
                &order(f64::NAN.to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1007),
                VR::UV,
                &order(u64::MAX.to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1008),
                VR::SV,
                &order((-5_i64).to_be_bytes().to_vec()),
            )
            .put(
                (0x0009, 0x1009),
                VR::AT,
                &if big {
                    [0, 0x28, 0, 0x10]
                } else {
                    [0x28, 0, 0x10, 0]
                },
            )
            .put((0x0009, 0x100A), VR::OW, &order(vec![1, 2]))
            .bytes;
        assert_eq!(
            object_of(&bytes, encoding, &JsonOptions::default()),
            json!({
                "00091001": {"vr": "SS", "Value": [-2]},
                "00091002": {"vr": "UL", "Value": [4_294_967_295_u32]},
                "00091003": {"vr": "SL", "Value": [-2_147_483_648]},
                "00091004": {"vr": "FL", "Value": [0.1]},
                "00091005": {"vr": "FD", "Value": [0.1]},
                "00091006": {"vr": "FD", "Value": [null]},
                "00091007": {"vr": "UV", "Value": ["18446744073709551615"]},
                "00091008": {"vr": "SV", "Value": [-5]},
                "00091009": {"vr": "AT", "Value": ["00280010"]},
                "0009100A": {"vr": "OW", "InlineBinary": "AgE="},
            }),
            "{encoding:?}"
        );
    }
}

#[test]
fn empty_values_have_no_value_and_empty_items_are_empty_objects() {
    let bytes = explicit()
        .put((0x0008, 0x0020), VR::DA, b"")
        .put((0x0008, 0x0050), VR::SH, b"  ")
        .sequence((0x0008, 0x1110), true, &[])
        .sequence((0x0008, 0x1140), true, &[Vec::new()])
        .put((0x0008, 0x2111), VR::ST, b"a\\b ")
        .put((0x0010, 0x0010), VR::PN, b"")
        .put((0x0028, 0x0010), VR::US, b"")
        .put((0x0042, 0x0011), VR::OB, b"")
        .bytes;
    assert_eq!(
        plain(&bytes),
        json!({
            "00080020": {"vr": "DA"},
            "00080050": {"vr": "SH"},
            "00081110": {"vr": "SQ"},
            "00081140": {"vr": "SQ", "Value": [{}]},
            "00082111": {"vr": "ST", "Value": ["a\\b"]},
            "00100010": {"vr": "PN"},
            "00280010": {"vr": "US"},
            "00420011": {"vr": "OB"},
        })
    );
}

#[test]
fn groups_0000_and_0002_and_group_lengths_are_left_out_and_order_is_restored() {
    let bytes = explicit()
        .put((0x0002, 0x0010), VR::UI, b"1.2.840.10008.1.2.1")
        .put((0x0010, 0x0020), VR::LO, b"SECOND")
        .put((0x0008, 0x0000), VR::UL, &[4, 0, 0, 0])
        .put((0x0008, 0x0060), VR::CS, b"CT")
        .put((0x0010, 0x0020), VR::LO, b"AGAIN")
        .put((0xFFFC, 0xFFFC), VR::OB, &[0, 0])
        .bytes;
    let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), &JsonOptions::default());
    let expected =
        r#"{"00080060":{"vr":"CS","Value":["CT"]},"00100020":{"vr":"LO","Value":["SECOND"]}}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn attributes_are_added_replaced_and_removed_in_order() {
    let bytes = explicit()
        .put((0x0008, 0x0060), VR::CS, b"CT")
        .put((0x0010, 0x0020), VR::LO, b"ID")
        .put((0x0020, 0x000D), VR::UI, b"1.2.3")
        .bytes;
    let extra = BTreeMap::from([
        (tag(0x0008_0056), Attribute::text(VR::CS, "ONLINE")),
        (
            tag(0x0008_1190),
            Attribute::text(VR::UR, "https://x/studies/1.2.3"),
        ),
        (
            tag(0x0008_3002),
            Attribute::Strings(VR::UI, vec!["1.2".into(), "1.3".into()]),
        ),
        (tag(0x0010_0020), Attribute::Absent),
        (tag(0x0020_000D), Attribute::text(VR::UI, "9.9")),
        (tag(0x0020_1206), Attribute::Numbers(VR::IS, vec![2])),
        (
            tag(0x7FE0_0010),
            Attribute::BulkData(VR::OW, "https://x/b".into()),
        ),
    ]);
    let options = JsonOptions {
        extra,
        ..JsonOptions::default()
    };
    let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), &options);
    let expected = concat!(
        r#"{"00080056":{"vr":"CS","Value":["ONLINE"]},"00080060":{"vr":"CS","Value":["CT"]},"#,
        r#""00081190":{"vr":"UR","Value":["https://x/studies/1.2.3"]},"#,
        r#""00083002":{"vr":"UI","Value":["1.2","1.3"]},"0020000D":{"vr":"UI","Value":["9.9"]},"#,
        r#""00201206":{"vr":"IS","Value":[2]},"7FE00010":{"vr":"OW","BulkDataURI":"https://x/b"}}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn large_binary_values_become_uris_that_lead_back_to_them() {
    let lut = explicit()
        .put((0x0028, 0x3006), VR::OW, &[5; 100])
        .put((0x0009, 0x1001), VR::UN, &[6; 4])
        .bytes;
    let bytes = explicit()
        .sequence((0x0028, 0x3010), true, &[Vec::new(), lut])
        .put((0x0028, 0x1201), VR::OW, &[7; 80])
        .bytes;
    let bulk = |path: &AttributePath| format!("b/{path}");
    let options = JsonOptions {
        inline_max: 64,
        bulk_uri: Some(&bulk),
        ..JsonOptions::default()
    };
    let value = object(&bytes, &options);
    assert_eq!(
        value["00281201"],
        json!({"vr": "OW", "BulkDataURI": "b/00281201"})
    );
    let item = &value["00283010"]["Value"][1];
    assert_eq!(item["00283006"]["BulkDataURI"], "b/00283010/1/00283006");
    assert_eq!(item["00091001"]["InlineBinary"], "BgYGBg==");
    let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let path: AttributePath = "00283010/1/00283006".parse().unwrap();
    assert_eq!(
        path.find(set.elements()).unwrap().bytes(),
        Some(&[5; 100][..])
    );
}

#[test]
fn known_attributes_written_as_un_get_their_vr_back() {
    let code = DataWriter::new(Encoding::ImplicitLittle)
        .put((0x0008, 0x0100), VR::SH, b"CODE")
        .bytes;
    let sequence = DataWriter::new(Encoding::ImplicitLittle)
        .sequence((0x0008, 0x1140), false, &[code])
        .bytes;
    let bytes = explicit()
        .put((0x0008, 0x0060), VR::UN, b"CT")
        .put((0x0008, 0x1140), VR::UN, &sequence[8..sequence.len() - 8])
        .put((0x0008, 0x1150), VR::UN, b"1.2.3")
        .put((0x0009, 0x1001), VR::UN, b"ab")
        .put((0x0028, 0x0010), VR::UN, &[2, 1])
        .put((0x0040, 0xA170), VR::UN, b"no items")
        .bytes;
    assert_eq!(
        plain(&bytes),
        json!({
            "00080060": {"vr": "CS", "Value": ["CT"]},
            "00081140": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["CODE"]}}]},
            "00081150": {"vr": "UI", "Value": ["1.2.3"]},
            "00091001": {"vr": "UN", "InlineBinary": "YWI="},
            "00280010": {"vr": "US", "Value": [258]},
            "0040A170": {"vr": "UN", "InlineBinary": "bm8gaXRlbXM="},
        })
    );
}

#[test]
fn control_characters_and_quotes_are_escaped() {
    let bytes = explicit()
        .put((0x0008, 0x2111), VR::ST, b"a\"b\\c\r\n\x01\x1bd")
        .bytes;
    assert_eq!(
        plain(&bytes)["00082111"]["Value"][0],
        "a\"b\\c\r\n\u{1}\u{FFFD}d"
    );
}

proptest::proptest! {
    #[test]
    fn any_readable_data_set_gives_json(at in 0_usize..500, byte in proptest::prelude::any::<u8>(), skip in 0_usize..500) {
        for (encoding, _) in ENCODINGS {
            let mut bytes = image(encoding);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.drain(..skip % bytes.len() * usize::from(skip < 250));
            if let Ok(set) = DataSet::parse(&bytes, encoding, Limits::default()) {
                let mut out = Vec::new();
                write_object(&mut out, set.elements(), &JsonOptions::default());
                let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&out);
                proptest::prop_assert!(parsed.is_ok(), "{}", String::from_utf8_lossy(&out));
            }
        }
    }
}
