//! Patients' names in the character sets of PS3.3 §C.12.1.1.2, encoded as a modality would.

use encoding_rs::{
    EUC_KR, Encoding, GB18030, ISO_2022_JP, ISO_8859_2, ISO_8859_5, ISO_8859_7, ISO_8859_15, UTF_8,
};

use super::plan::Name;

/// A name of each character set with a short name for it. The Japanese, Korean and Chinese names are
/// the examples of PS3.5 annexes H, I and J.
pub(super) fn names() -> Vec<(&'static str, Name)> {
    let japanese = "Yamada^Tarou=山田^太郎=やまだ^たろう";
    vec![
        ("ir100", latin1("Buc^Jérôme", "ISO_IR 100")),
        ("ir100-capitals", latin1("LEFÈVRE^ZOÉ", "ISO_IR 100")),
        ("ir101", whole("Žižka^Přemysl", "ISO_IR 101", ISO_8859_2)),
        ("ir126", whole("Διονυσιος", "ISO_IR 126", ISO_8859_7)),
        ("ir144", whole("Люкceмбypг", "ISO_IR 144", ISO_8859_5)),
        ("ir192-latin", whole("Łódź^Œdipe", "ISO_IR 192", UTF_8)),
        (
            "ir192-groups",
            whole("Wang^XiaoDong=王^小東=", "ISO_IR 192", UTF_8),
        ),
        ("ir203", whole("Cœur^Noël", "ISO_IR 203", ISO_8859_15)),
        (
            "gb18030",
            whole("Wang^XiaoDong=王^小东", "GB18030", GB18030),
        ),
        (
            "ir87",
            by_component(japanese, "\\ISO 2022 IR 87", iso_2022_jp),
        ),
        ("ir13-ir87", katakana()),
        (
            "ir149",
            by_component(
                "Hong^Gildong=洪^吉洞=홍^길동",
                "\\ISO 2022 IR 149",
                iso_2022_kr,
            ),
        ),
        ("undeclared-latin1", latin1("Gâté^Éloïse", "")),
    ]
}

/// ISO 8859-1: the first 256 code points, one byte each.
fn latin1(text: &str, character_set: &str) -> Name {
    Name {
        text: text.to_owned(),
        bytes: text
            .chars()
            .map(|character| u32::from(character) as u8)
            .collect(),
        character_set: character_set.to_owned(),
    }
}

/// A name in a character set without code extensions.
fn whole(text: &str, character_set: &str, encoding: &'static Encoding) -> Name {
    Name {
        text: text.to_owned(),
        bytes: encoding.encode(text).0.into_owned(),
        character_set: character_set.to_owned(),
    }
}

/// A name with code extensions (PS3.5 §6.1.2.5): every component starts and ends in the initial
/// set, so the delimiters `^` and `=` stay single bytes.
fn by_component(text: &str, character_set: &str, encode: fn(&str) -> Vec<u8>) -> Name {
    let mut bytes = Vec::new();
    let mut component = String::new();
    for character in text.chars() {
        if matches!(character, '^' | '=') {
            bytes.extend(encode(&component));
            bytes.push(character as u8);
            component.clear();
        } else {
            component.push(character);
        }
    }
    bytes.extend(encode(&component));
    Name {
        text: text.to_owned(),
        bytes,
        character_set: character_set.to_owned(),
    }
}

/// JIS X 0208 between `ESC $ B` and `ESC ( B`.
fn iso_2022_jp(component: &str) -> Vec<u8> {
    ISO_2022_JP.encode(component).0.into_owned()
}

/// KS X 1001 in G1 after `ESC $ ) C`.
fn iso_2022_kr(component: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !component.is_ascii() {
        bytes.extend_from_slice(b"\x1B$)C");
    }
    bytes.extend_from_slice(&EUC_KR.encode(component).0);
    bytes
}

/// PS3.5 §H.3.2: half-width katakana of JIS X 0201 in the first group, `ESC ( J` after each JIS X 0208.
fn katakana() -> Name {
    let romaji = |component: &str| {
        if component
            .chars()
            .all(|character| ('｡'..='ﾟ').contains(&character))
        {
            // JIS X 0201 has U+FF61…U+FF9F at A1…DF.
            return component
                .chars()
                .map(|character| (u32::from(character) - 0xFF61 + 0xA1) as u8)
                .collect();
        }
        let mut bytes = iso_2022_jp(component);
        if let Some(last) = bytes.last_mut() {
            *last = b'J';
        }
        bytes
    };
    by_component(
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        romaji,
    )
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::names;

    fn bytes(name: &str) -> Vec<u8> {
        names()
            .into_iter()
            .find(|(key, _)| *key == name)
            .unwrap()
            .1
            .bytes
    }

    #[test]
    fn japanese_names_have_the_bytes_of_ps35_annex_h() {
        let multi_byte =
            b"=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B";
        assert_eq!(bytes("ir87"), [b"Yamada^Tarou", &multi_byte[..]].concat());
        let romaji = multi_byte.to_vec();
        let romaji = String::from_utf8(romaji)
            .unwrap()
            .replace("\x1B(B", "\x1B(J");
        let katakana = b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3";
        assert_eq!(bytes("ir13-ir87"), [katakana, romaji.as_bytes()].concat());
    }

    #[test]
    fn a_korean_name_has_the_bytes_of_ps35_annex_i() {
        let expected = b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF";
        assert_eq!(bytes("ir149"), expected);
    }

    #[test]
    fn a_chinese_name_has_the_bytes_of_ps35_annex_j() {
        assert_eq!(bytes("gb18030"), b"Wang^XiaoDong=\xCD\xF5^\xD0\xA1\xB6\xAB");
    }

    #[test]
    fn a_french_name_is_one_byte_a_letter_in_latin_1() {
        assert_eq!(bytes("ir100"), b"Buc^J\xE9r\xF4me");
    }
}
