//! The character repertoires of PS3.3 tables C.12-2 and C.12-5.

use encoding_rs::Encoding;

/// A character repertoire that a data set can use alone.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repertoire {
    /// ISO_IR 6, the default: ASCII.
    Ascii,
    /// ISO_IR 100: ISO 8859-1, Western European. Bytes 80-9F are read as Windows-1252, which is what
    /// a system that writes them means. What bytes mean when nothing says it.
    #[default]
    Latin1,
    /// ISO_IR 101: ISO 8859-2, Central European.
    Latin2,
    /// ISO_IR 109: ISO 8859-3.
    Latin3,
    /// ISO_IR 110: ISO 8859-4.
    Latin4,
    /// ISO_IR 148: ISO 8859-9, Turkish.
    Latin5,
    /// ISO_IR 203: ISO 8859-15.
    Latin9,
    /// ISO_IR 144: ISO 8859-5.
    Cyrillic,
    /// ISO_IR 127: ISO 8859-6.
    Arabic,
    /// ISO_IR 126: ISO 8859-7.
    Greek,
    /// ISO_IR 138: ISO 8859-8.
    Hebrew,
    /// ISO_IR 166: TIS 620-2533.
    Thai,
    /// ISO_IR 13: JIS X 0201, romaji and half-width katakana.
    Katakana,
    /// ISO_IR 192: UTF-8.
    Utf8,
    /// GB18030.
    Gb18030,
    /// GBK.
    Gbk,
}

impl Repertoire {
    /// All of them, each with its defined term.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Ascii, "ISO_IR 6"),
        (Self::Latin1, "ISO_IR 100"),
        (Self::Latin2, "ISO_IR 101"),
        (Self::Latin3, "ISO_IR 109"),
        (Self::Latin4, "ISO_IR 110"),
        (Self::Latin5, "ISO_IR 148"),
        (Self::Latin9, "ISO_IR 203"),
        (Self::Cyrillic, "ISO_IR 144"),
        (Self::Arabic, "ISO_IR 127"),
        (Self::Greek, "ISO_IR 126"),
        (Self::Hebrew, "ISO_IR 138"),
        (Self::Thai, "ISO_IR 166"),
        (Self::Katakana, "ISO_IR 13"),
        (Self::Utf8, "ISO_IR 192"),
        (Self::Gb18030, "GB18030"),
        (Self::Gbk, "GBK"),
    ];

    /// Reads a defined term of (0008,0005), as written in a configuration; `None` when it is not one
    /// of a repertoire that can stand alone.
    #[must_use]
    pub fn parse(term: &str) -> Option<Self> {
        let plain = |text: &str| -> String {
            text.chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|c| c.to_ascii_uppercase())
                .collect()
        };
        match plain(term).as_str() {
            "UTF8" => Some(Self::Utf8),
            "GB2312" => Some(Self::Gbk),
            term => Self::ALL
                .iter()
                .find(|(_, known)| plain(known) == term)
                .map(|(found, _)| *found),
        }
    }

    /// The defined term of (0008,0005).
    #[must_use]
    pub fn term(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == self)
            .map_or("ISO_IR 6", |(_, term)| term)
    }

    /// The repertoire of this ISO registration number.
    pub(super) fn from_number(number: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, term)| term.strip_prefix("ISO_IR ") == Some(number))
            .map(|(found, _)| *found)
    }

    /// True for those that PS3.3 §C.12.1.1.2 forbids to combine with others.
    pub(super) fn excludes_code_extensions(self) -> bool {
        matches!(self, Self::Utf8 | Self::Gb18030 | Self::Gbk)
    }

    /// The tables of the bytes from 0x80; `None` where they are not needed.
    fn tables(self) -> Option<&'static Encoding> {
        Some(match self {
            Self::Ascii | Self::Katakana => return None,
            Self::Latin1 => encoding_rs::WINDOWS_1252,
            Self::Latin2 => encoding_rs::ISO_8859_2,
            Self::Latin3 => encoding_rs::ISO_8859_3,
            Self::Latin4 => encoding_rs::ISO_8859_4,
            Self::Latin5 => encoding_rs::WINDOWS_1254,
            Self::Latin9 => encoding_rs::ISO_8859_15,
            Self::Cyrillic => encoding_rs::ISO_8859_5,
            Self::Arabic => encoding_rs::ISO_8859_6,
            Self::Greek => encoding_rs::ISO_8859_7,
            Self::Hebrew => encoding_rs::ISO_8859_8,
            Self::Thai => encoding_rs::WINDOWS_874,
            Self::Utf8 => encoding_rs::UTF_8,
            Self::Gb18030 => encoding_rs::GB18030,
            Self::Gbk => encoding_rs::GBK,
        })
    }

    /// The text of bytes that hold no escape sequence; U+FFFD for what is not in the repertoire.
    pub(super) fn decode_run(self, bytes: &[u8]) -> String {
        match self.tables() {
            Some(tables) => tables.decode_without_bom_handling(bytes).0.into_owned(),
            None => bytes.iter().map(|byte| self.decode_byte(*byte)).collect(),
        }
    }

    fn decode_byte(self, byte: u8) -> char {
        match (self, byte) {
            (_, 0..=0x7F) => char::from(byte),
            (Self::Katakana, 0xA1..=0xDF) => char::from_u32(0xFF61 + u32::from(byte) - 0xA1)
                .unwrap_or(char::REPLACEMENT_CHARACTER),
            _ => char::REPLACEMENT_CHARACTER,
        }
    }

    /// The bytes of a character; `None` when the repertoire does not have it.
    pub(super) fn encode(self, character: char) -> Option<Vec<u8>> {
        if self == Self::Katakana {
            return match character {
                '\u{A5}' => Some(vec![0x5C]),
                '\u{203E}' => Some(vec![0x7E]),
                '~' => None,
                '\u{FF61}'..='\u{FF9F}' => u8::try_from(character as u32 - 0xFF61 + 0xA1)
                    .ok()
                    .map(|byte| vec![byte]),
                _ => ascii(character),
            };
        }
        if character.is_ascii() {
            return ascii(character);
        }
        let mut buffer = [0; 4];
        let (bytes, _, unmappable) = self.tables()?.encode(character.encode_utf8(&mut buffer));
        // Windows-1252 and -1254 also fill 80-9F, which are control characters in ISO 8859.
        let control =
            !self.excludes_code_extensions() && bytes.first().is_some_and(|byte| *byte < 0xA0);
        (!unmappable && !control).then(|| bytes.into_owned())
    }
}

fn ascii(character: char) -> Option<Vec<u8>> {
    u8::try_from(character)
        .ok()
        .filter(u8::is_ascii)
        .map(|byte| vec![byte])
}
