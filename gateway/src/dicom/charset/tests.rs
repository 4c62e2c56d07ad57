#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
use super::*;
use proptest::prelude::*;

fn declared(value: &str) -> CharacterSet {
    CharacterSet::declared(value, Repertoire::Latin1)
}

/// Bytes of the examples of PS3.5 annexes H, I, J and K.
const EXAMPLES: [(&str, &[u8], &str); 13] = [
    ("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    ("ISO_IR 100", b"\xc4neas^R\xfcdiger", "Äneas^Rüdiger"),
    ("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг"),
    ("ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    ("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    ("ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        "ISO_IR 192",
        b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe4\xb8\x9c=",
        "Wang^XiaoDong=王^小东=",
    ),
    ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    ("ISO_IR 203", b"\xbcuvre^Zo\xeb", "Œuvre^Zoë"),
];

#[test]
fn the_examples_of_the_standard_are_decoded() {
    for (set, bytes, text) in EXAMPLES {
        assert_eq!(declared(set).decode(bytes, VR::PN), text, "{set}");
    }
}

#[test]
fn the_examples_of_the_standard_are_encoded_to_the_same_bytes() {
    for (set, bytes, text) in EXAMPLES {
        assert_eq!(
            declared(set).encode(text, VR::PN).unwrap(),
            bytes,
            "{set}: {text}"
        );
    }
}

#[test]
fn every_single_byte_repertoire_goes_both_ways() {
    for number in [100, 101, 109, 110, 144, 127, 126, 138, 148, 166, 203, 13] {
        let single = declared(&format!("ISO_IR {number}"));
        let extended = declared(&format!("\\ISO 2022 IR {number}"));
        let mut characters = 0;
        for byte in 0xA0..=0xFF_u8 {
            let text = single.decode(&[byte], VR::UT);
            if text == "\u{FFFD}" {
                continue;
            }
            characters += 1;
            assert_eq!(
                single.encode(&text, VR::UT).unwrap(),
                [byte],
                "ISO_IR {number}: {text}"
            );
            let escaped = extended.encode(&text, VR::UT).unwrap();
            assert_eq!(escaped[0], 0x1B);
            assert_eq!(
                extended.decode(&escaped, VR::UT),
                text,
                "ISO 2022 IR {number}"
            );
        }
        assert!(
            characters >= 48,
            "ISO_IR {number} has {characters} characters"
        );
    }
}

#[test]
fn a_value_is_not_split_inside_a_two_byte_character() {
    // 0x5C is the second byte of a GB18030 character, and both bytes of kanji can be 5C or 5E.
    let gb = declared("GB18030");
    let bytes = gb.encode("誠\\腬\\x", VR::LO).unwrap();
    assert!(
        bytes
            .windows(2)
            .any(|pair| pair[0] >= 0x80 && pair[1] == b'\\'),
        "{bytes:x?}"
    );
    assert_eq!(gb.values(&bytes, VR::LO), ["誠", "腬", "x"]);
    let kanji = declared("\\ISO 2022 IR 87");
    let bytes = b"\x1b$B\x4d\x5c\x1b(B\\\x1b$B\x5c\x5e\x1b(B";
    let values = kanji.values(bytes, VR::LO);
    assert_eq!(values.len(), 2, "{values:?}");
    assert_eq!(kanji.encode(&values.join("\\"), VR::LO).unwrap(), bytes);
}

#[test]
fn code_elements_fall_back_at_delimiters_and_controls() {
    let set = declared("ISO 2022 IR 100\\ISO 2022 IR 144");
    // Cyrillic until the caret of a name, the backslash of values, the end of a line.
    assert_eq!(set.decode(b"\x1b-L\xbb^\xe9", VR::PN), "Л^é");
    assert_eq!(set.decode(b"\x1b-L\xbb\\\xe9", VR::LO), "Л\\é");
    assert_eq!(set.decode(b"\x1b-L\xbb\r\n\xe9", VR::LT), "Л\r\né");
    // In text a backslash and a caret are characters.
    assert_eq!(set.decode(b"\x1b-L\xbb\\^\xbb", VR::LT), "Л\\^Л");
    assert_eq!(set.encode("Л^é", VR::PN).unwrap(), b"\x1b-L\xbb^\xe9");
}

#[test]
fn yen_and_overline_of_iso_ir_13_are_not_backslash_and_tilde() {
    let set = declared("ISO_IR 13");
    assert_eq!(set.values(b"\\A~", VR::LT), ["¥A‾"]);
    assert_eq!(set.values(b"A\\B", VR::LO), ["A", "B"]);
    assert_eq!(set.encode("¥‾", VR::LT).unwrap(), b"\\~");
}

#[test]
fn undeclared_bytes_are_read_in_the_fallback() {
    let cases: [(Repertoire, &[u8], &str); 4] = [
        (Repertoire::Latin1, b"Fran\xe7ois", "François"),
        (Repertoire::Utf8, "François".as_bytes(), "François"),
        (Repertoire::Gb18030, b"\xcd\xf5", "王"),
        (Repertoire::Ascii, b"Fran\xe7ois", "Fran\u{FFFD}ois"),
    ];
    for (fallback, bytes, text) in cases {
        assert_eq!(
            CharacterSet::undeclared(fallback).decode(bytes, VR::PN),
            text
        );
        assert_eq!(
            CharacterSet::declared("ISO_IR 6", fallback).decode(bytes, VR::PN),
            text
        );
        assert_eq!(
            CharacterSet::declared("NO SUCH SET", fallback).decode(bytes, VR::PN),
            text
        );
    }
    // Declared extensions, but nothing designated before a high byte.
    let set = CharacterSet::declared("\\ISO 2022 IR 87", Repertoire::Latin1);
    assert_eq!(set.decode(b"Fran\xe7ois", VR::PN), "François");
}

#[test]
fn windows_apostrophes_in_latin_1_are_read() {
    assert_eq!(
        declared("ISO_IR 100").decode(b"l\x92\x9cil", VR::LO),
        "l’œil"
    );
    assert!(declared("ISO_IR 100").encode("œ", VR::LO).is_err());
}

#[test]
fn spelling_variants_of_the_terms_are_understood() {
    for term in [
        "ISO_IR 144",
        "ISO-IR 144",
        "ISO IR 144",
        "ISO_IR_144",
        "iso_ir 144 ",
        "ISO 2022 IR 144",
        "ISO-2022-IR-144",
    ] {
        assert_eq!(declared(term).decode(b"\xbb", VR::LO), "Л", "{term}");
    }
    for term in ["ISO_IR 192", "UTF-8", "ISO_IR 192\\ISO 2022 IR 87"] {
        assert_eq!(declared(term).decode("Л".as_bytes(), VR::LO), "Л", "{term}");
    }
    assert_eq!(Repertoire::parse("ISO_IR 100"), Some(Repertoire::Latin1));
    assert_eq!(Repertoire::parse("iso-ir-203"), Some(Repertoire::Latin9));
    assert_eq!(Repertoire::parse("utf-8"), Some(Repertoire::Utf8));
    assert_eq!(Repertoire::parse("ISO 2022 IR 87"), None);
}

#[test]
fn a_set_that_stands_alone_is_not_combined_with_others() {
    for term in [
        "ISO_IR 192\\ISO 2022 IR 87",
        "\\ISO_IR 192",
        "ISO 2022 IR 6\\ISO_IR 192",
    ] {
        assert_eq!(
            declared(term),
            CharacterSet {
                fallback: Repertoire::Latin1,
                ..CharacterSet::of(Repertoire::Utf8)
            },
            "{term}"
        );
    }
    assert_eq!(declared("\\GBK").decode(b"\xcd\xf5", VR::PN), "王");
    assert_eq!(
        declared("ISO_IR 100\\GBK")
            .encode("王", VR::PN)
            .unwrap_err()
            .character,
        '王'
    );
}

#[test]
fn padding_goes_and_empty_values_stay() {
    let set = declared("ISO_IR 100");
    assert_eq!(set.values(b" A \\\\B\0", VR::LO), ["A", "", "B"]);
    assert_eq!(set.values(b"  text  ", VR::LT), ["  text"]);
    assert_eq!(set.values(b"a\\b ", VR::ST), ["a\\b"]);
    assert!(set.values(b"", VR::LO).is_empty());
    assert!(set.values(b"  ", VR::LO).is_empty());
}

#[test]
fn a_character_the_set_does_not_have_is_an_error_that_names_it() {
    let error = declared("ISO_IR 100").encode("Łódź", VR::PN).unwrap_err();
    assert_eq!(error.character, 'Ł');
    assert!(error.to_string().contains("ISO_IR 192"));
    assert_eq!(
        declared("\\ISO 2022 IR 87")
            .encode("é", VR::PN)
            .unwrap_err()
            .character,
        'é'
    );
}

#[test]
fn supplementary_kanji_go_both_ways() {
    let set = declared("\\ISO 2022 IR 87\\ISO 2022 IR 159");
    let bytes = set.encode("丂山", VR::LO).unwrap();
    assert!(bytes.starts_with(b"\x1b$(D\x30\x21\x1b$B"), "{bytes:x?}");
    assert!(bytes.ends_with(b"\x1b(B"));
    assert_eq!(set.decode(&bytes, VR::LO), "丂山");
}

proptest! {
    #[test]
    fn any_bytes_become_text(bytes in prop::collection::vec(any::<u8>(), 0..200), set in 0_usize..8) {
        let set = ["", "ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 13", "\\ISO 2022 IR 87\\ISO 2022 IR 159",
            "\\ISO 2022 IR 149", "ISO 2022 IR 58"][set];
        for vr in [VR::PN, VR::LO, VR::UT] {
            let _ = declared(set).values(&bytes, vr);
        }
    }

    #[test]
    fn what_can_be_encoded_is_decoded_to_the_same(text in "[ -\\[\\]-~éàüœŒЛюキヤﾔ山田洪吉홍길王丂张\r\n]{0,40}", set in 0_usize..7) {
        let set = declared(["ISO_IR 100", "ISO_IR 192", "GB18030",
            "ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 149\\ISO 2022 IR 87\\ISO 2022 IR 159\\ISO 2022 IR 58\\ISO 2022 IR 13",
            "ISO 2022 IR 13\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "GBK"][set]);
        for vr in [VR::PN, VR::LO, VR::UT] {
            if let Ok(bytes) = set.encode(&text, vr) {
                prop_assert_eq!(set.decode(&bytes, vr), text.clone());
            }
        }
    }
}
