//! Code extension techniques of ISO 2022 as DICOM uses them (PS3.5 §6.1.2.5).
//!
//! Two code elements are active at a time: G0 for bytes 21-7E and G1 for bytes A0-FF. Escape
//! sequences designate others. Both fall back to those of value 1 at a delimiter, at a control
//! character and at the end of a value.

use std::collections::HashMap;
use std::sync::LazyLock;

use dicom_core::VR;

use super::repertoire::Repertoire;

const ESC: u8 = 0x1B;

/// A code element that an escape sequence designates (PS3.3 tables C.12-3 and C.12-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Designation {
    /// G0: ISO-IR 6.
    Ascii,
    /// G0: ISO-IR 14, JIS X 0201 romaji.
    Romaji,
    /// G0: ISO-IR 87, JIS X 0208 kanji, two bytes.
    Jis0208,
    /// G0: ISO-IR 159, JIS X 0212 supplementary kanji, two bytes.
    Jis0212,
    /// G1: the right half of a single-byte repertoire (katakana for ISO-IR 13).
    Single(Repertoire),
    /// G1: ISO-IR 149, KS X 1001 hangul and hanja, two bytes.
    Ksx1001,
    /// G1: ISO-IR 58, GB 2312-80, two bytes.
    Gb2312,
}

const ESCAPES: [(&[u8], Designation); 18] = [
    (b"(B", Designation::Ascii),
    (b"(J", Designation::Romaji),
    (b"$B", Designation::Jis0208),
    (b"$(D", Designation::Jis0212),
    (b"-A", Designation::Single(Repertoire::Latin1)),
    (b"-B", Designation::Single(Repertoire::Latin2)),
    (b"-C", Designation::Single(Repertoire::Latin3)),
    (b"-D", Designation::Single(Repertoire::Latin4)),
    (b"-M", Designation::Single(Repertoire::Latin5)),
    (b"-b", Designation::Single(Repertoire::Latin9)),
    (b"-L", Designation::Single(Repertoire::Cyrillic)),
    (b"-G", Designation::Single(Repertoire::Arabic)),
    (b"-F", Designation::Single(Repertoire::Greek)),
    (b"-H", Designation::Single(Repertoire::Hebrew)),
    (b"-T", Designation::Single(Repertoire::Thai)),
    (b")I", Designation::Single(Repertoire::Katakana)),
    (b"$)C", Designation::Ksx1001),
    (b"$)A", Designation::Gb2312),
];

/// How a value is divided, which is where code elements fall back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// Values separated by backslashes.
    Values,
    /// The same, with name components and component groups (PN).
    Names,
    /// One text, in which a backslash is a character (ST, LT, UT, UR).
    Whole,
}

impl Text {
    pub fn of(vr: VR) -> Self {
        match vr {
            VR::PN => Self::Names,
            VR::ST | VR::LT | VR::UT | VR::UR => Self::Whole,
            _ => Self::Values,
        }
    }

    fn is_delimiter(self, byte: u8) -> bool {
        match self {
            Self::Values => byte == b'\\',
            Self::Names => matches!(byte, b'\\' | b'^' | b'='),
            Self::Whole => false,
        }
    }
}

/// The code elements of a single-byte repertoire.
pub(super) fn designations(repertoire: Repertoire) -> Vec<Designation> {
    match repertoire {
        Repertoire::Ascii => vec![Designation::Ascii],
        Repertoire::Katakana => vec![Designation::Romaji, Designation::Single(repertoire)],
        other => vec![Designation::Ascii, Designation::Single(other)],
    }
}

impl Designation {
    fn is_g0(self) -> bool {
        matches!(
            self,
            Self::Ascii | Self::Romaji | Self::Jis0208 | Self::Jis0212
        )
    }

    fn escape(self) -> &'static [u8] {
        ESCAPES
            .iter()
            .find(|(_, known)| *known == self)
            .map_or(b"(B", |(escape, _)| escape)
    }

    /// The character of a two-byte code, given with the high bits set.
    fn decode_pair(self, pair: [u8; 2]) -> char {
        let [a, b] = pair;
        let three = [0x8F, a, b];
        let (tables, bytes) = match self {
            Self::Jis0208 => (encoding_rs::EUC_JP, &pair[..]),
            Self::Jis0212 => (encoding_rs::EUC_JP, &three[..]),
            Self::Ksx1001 => (encoding_rs::EUC_KR, &pair[..]),
            _ => (encoding_rs::GBK, &pair[..]),
        };
        let (text, _) = tables.decode_without_bom_handling(bytes);
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(character), None) => character,
            _ => char::REPLACEMENT_CHARACTER,
        }
    }

    /// The bytes of a character in this code element; `None` when it does not have it.
    fn encode(self, character: char) -> Option<Vec<u8>> {
        let mut buffer = [0; 4];
        let tables = match self {
            Self::Ascii => {
                return character
                    .is_ascii()
                    .then(|| Repertoire::Ascii.encode(character))?;
            }
            Self::Romaji => {
                return Repertoire::Katakana
                    .encode(character)
                    .filter(|bytes| bytes.iter().all(u8::is_ascii));
            }
            Self::Single(repertoire) => {
                return repertoire
                    .encode(character)
                    .filter(|bytes| bytes.iter().all(|b| *b >= 0xA0));
            }
            Self::Jis0212 => return JIS0212.get(&character).map(|pair| pair.to_vec()),
            Self::Jis0208 => encoding_rs::EUC_JP,
            Self::Ksx1001 => encoding_rs::EUC_KR,
            Self::Gb2312 => encoding_rs::GBK,
        };
        let (bytes, _, unmappable) = tables.encode(character.encode_utf8(&mut buffer));
        // The tables hold more than these sets: only rows and cells 21-7E are theirs.
        let [a @ 0xA1..=0xFE, b @ 0xA1..=0xFE] = *bytes else {
            return None;
        };
        match self {
            _ if unmappable => None,
            Self::Jis0208 => Some(vec![a & 0x7F, b & 0x7F]),
            _ => Some(vec![a, b]),
        }
    }
}

/// JIS X 0212 backwards: the tables at hand only decode it.
static JIS0212: LazyLock<HashMap<char, [u8; 2]>> = LazyLock::new(|| {
    let cells = (0x21..=0x7E_u8).flat_map(|a| (0x21..=0x7E_u8).map(move |b| [a, b]));
    cells
        .map(|[a, b]| {
            (
                Designation::Jis0212.decode_pair([a | 0x80, b | 0x80]),
                [a, b],
            )
        })
        .filter(|(character, _)| *character != char::REPLACEMENT_CHARACTER)
        .collect()
});

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    g0: Designation,
    g1: Option<Designation>,
}

impl State {
    fn of(designations: &[Designation]) -> Self {
        Self {
            g0: designations
                .iter()
                .copied()
                .find(|d| d.is_g0())
                .unwrap_or(Designation::Ascii),
            g1: designations.iter().copied().find(|d| !d.is_g0()),
        }
        .with_single_byte_g0()
    }

    /// Kanji as value 1 means kanji after an escape sequence, ASCII before.
    fn with_single_byte_g0(self) -> Self {
        match self.g0 {
            Designation::Jis0208 | Designation::Jis0212 => Self {
                g0: Designation::Ascii,
                ..self
            },
            _ => self,
        }
    }

    fn designate(&mut self, designation: Designation) {
        if designation.is_g0() {
            self.g0 = designation;
        } else {
            self.g1 = Some(designation);
        }
    }
}

/// Decodes a value; `fallback` reads the high bytes for which nothing was designated.
pub(super) fn decode(
    bytes: &[u8],
    text: Text,
    initial: &[Designation],
    fallback: Repertoire,
) -> String {
    let initial = State::of(initial);
    let mut state = initial;
    let mut last_g1 = None;
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        let from = rest;
        rest = tail;
        match byte {
            ESC => match ESCAPES.iter().find(|(escape, _)| tail.starts_with(escape)) {
                Some((escape, designation)) => {
                    state.designate(*designation);
                    last_g1 = state.g1;
                    rest = tail.get(escape.len()..).unwrap_or_default();
                }
                None => out.push(char::REPLACEMENT_CHARACTER),
            },
            0..0x20 | 0x7F => {
                state = initial;
                out.push(char::from(byte));
            }
            b' ' => out.push(' '),
            0x21..=0x7E => match (state.g0, tail.split_first()) {
                (
                    Designation::Jis0208 | Designation::Jis0212,
                    Some((&second @ 0x21..=0x7E, after)),
                ) => {
                    out.push(state.g0.decode_pair([byte | 0x80, second | 0x80]));
                    rest = after;
                }
                (Designation::Jis0208 | Designation::Jis0212, _) => {
                    out.push(char::REPLACEMENT_CHARACTER)
                }
                (_, _) if text.is_delimiter(byte) => {
                    state = initial;
                    out.push(char::from(byte));
                }
                (Designation::Romaji, _) if byte == b'\\' => out.push('\u{A5}'),
                (Designation::Romaji, _) if byte == b'~' => out.push('\u{203E}'),
                _ => out.push(char::from(byte)),
            },
            // Some systems leave out the escape sequence after a delimiter: the last one holds.
            0x80..=0xFF => match (state.g1.or(last_g1), tail.split_first()) {
                (
                    Some(set @ (Designation::Ksx1001 | Designation::Gb2312)),
                    Some((&second @ 0xA1..=0xFE, after)),
                ) => {
                    out.push(set.decode_pair([byte, second]));
                    rest = after;
                }
                (Some(Designation::Ksx1001 | Designation::Gb2312), _) => {
                    out.push(char::REPLACEMENT_CHARACTER)
                }
                (set, _) => {
                    let repertoire = match set {
                        Some(Designation::Single(repertoire)) => repertoire,
                        _ => fallback,
                    };
                    let (run, after) = high_run(from);
                    out.push_str(&repertoire.decode_run(run));
                    rest = after;
                }
            },
        }
    }
    out
}

/// The bytes from 0x80 at the start, and what follows them.
fn high_run(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = bytes.iter().take_while(|byte| **byte >= 0x80).count();
    bytes.split_at(length)
}

/// Encodes a value; the character that no code element has is the error.
pub(super) fn encode(
    text: &str,
    kind: Text,
    initial: &[Designation],
    others: &[Designation],
) -> Result<Vec<u8>, char> {
    let start = State::of(initial);
    let mut state = start;
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        let byte = u8::try_from(character).unwrap_or(0);
        if character.is_ascii() && (byte < 0x20 || kind.is_delimiter(byte)) {
            return_to_g0(&mut state, start, &mut out);
            state = start;
            out.push(byte);
            continue;
        }
        let active = [Some(state.g0), state.g1];
        let candidates = active
            .into_iter()
            .flatten()
            .chain([start.g0])
            .chain(start.g1);
        let candidates = candidates
            .chain(initial.iter().copied())
            .chain(others.iter().copied());
        let found = candidates
            .map(|set| (set, set.encode(character)))
            .find(|(_, bytes)| bytes.is_some());
        let Some((set, Some(bytes))) = found else {
            return Err(character);
        };
        if state.g0 != set && state.g1 != Some(set) {
            out.push(ESC);
            out.extend_from_slice(set.escape());
            state.designate(set);
        }
        out.extend_from_slice(&bytes);
    }
    return_to_g0(&mut state, start, &mut out);
    Ok(out)
}

fn return_to_g0(state: &mut State, start: State, out: &mut Vec<u8>) {
    if state.g0 != start.g0 {
        out.push(ESC);
        out.extend_from_slice(start.g0.escape());
        state.g0 = start.g0;
    }
}
