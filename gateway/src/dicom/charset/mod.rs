//! Specific Character Set (0008,0005): bytes to text and back (PS3.3 §C.12.1.1.2, PS3.5 §6.1).
//!
//! Decoding never fails: bytes that no declaration covers are read in a fallback repertoire, and
//! what has no meaning becomes U+FFFD. Encoding fails on a character the set does not have, so that
//! a query never asks for something else than what was typed.

mod iso2022;
mod repertoire;

use dicom_core::VR;
pub use repertoire::Repertoire;

use iso2022::{Designation, Text};

/// A character set as declared by a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharacterSet {
    form: Form,
    fallback: Repertoire,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Nothing usable is declared: the default repertoire, ASCII.
    Undeclared,
    /// One repertoire, without code extensions.
    Single(Repertoire),
    /// Code extensions (PS3.5 §6.1.2.5): value 1, then what may be switched to.
    Extended {
        initial: Vec<Designation>,
        others: Vec<Designation>,
    },
}

/// A character that cannot be written in the set asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a character (U+{:04X}) does not exist in the character set {set}; use ISO_IR 192", *character as u32)]
pub struct EncodeError {
    /// The character.
    pub character: char,
    /// The defined term of the set.
    pub set: &'static str,
}

impl Default for CharacterSet {
    /// Nothing declared, Latin-1 for the bytes that are not ASCII.
    fn default() -> Self {
        Self::undeclared(Repertoire::Latin1)
    }
}

impl CharacterSet {
    /// The set of a data set without (0008,0005).
    #[must_use]
    pub fn undeclared(fallback: Repertoire) -> Self {
        Self {
            form: Form::Undeclared,
            fallback,
        }
    }

    /// One repertoire for everything, whatever the data declare.
    #[must_use]
    pub fn of(repertoire: Repertoire) -> Self {
        let form = match repertoire {
            Repertoire::Ascii => Form::Undeclared,
            other => Form::Single(other),
        };
        Self {
            form,
            fallback: repertoire,
        }
    }

    /// Reads the value of (0008,0005). Spelling variants seen in the field are understood; a term
    /// that is not leaves the data undeclared.
    #[must_use]
    pub fn declared(value: &str, fallback: Repertoire) -> Self {
        let mut terms = value.split('\\').map(Term::parse);
        let mut first = terms.next().unwrap_or(Term::Unknown);
        let (alone, rest): (Vec<Term>, Vec<Term>) = terms.partition(|term| term.stands_alone());
        // UTF-8 and the Chinese sets cannot be combined; after an empty value 1 they are meant alone.
        if let (true, Some(alone)) = (first.is_ascii(), alone.first()) {
            first = *alone;
        }
        let form = match first {
            Term::Repertoire { repertoire, .. } if first.stands_alone() => Form::Single(repertoire),
            Term::Repertoire {
                repertoire,
                extended: false,
            } if rest.is_empty() => match repertoire {
                Repertoire::Ascii => Form::Undeclared,
                other => Form::Single(other),
            },
            Term::Unknown if rest.is_empty() => Form::Undeclared,
            // Empty or unknown value 1 is the default repertoire.
            first => Form::Extended {
                initial: first.designations(),
                others: rest.iter().flat_map(|term| term.designations()).collect(),
            },
        };
        Self { form, fallback }
    }

    /// The text of a whole value, delimiters and padding included.
    #[must_use]
    pub fn decode(&self, bytes: &[u8], vr: VR) -> String {
        if bytes.iter().all(|b| (b' '..=b'~').contains(b)) && self.is_ascii_compatible() {
            return bytes.iter().copied().map(char::from).collect();
        }
        let text = Text::of(vr);
        match &self.form {
            Form::Undeclared if bytes.contains(&0x1B) => {
                iso2022::decode(bytes, text, &[Designation::Ascii], self.fallback)
            }
            Form::Undeclared => decode_single(self.fallback, bytes, text),
            Form::Single(repertoire) => decode_single(*repertoire, bytes, text),
            Form::Extended { initial, .. } => iso2022::decode(bytes, text, initial, self.fallback),
        }
    }

    /// The values of an element, without padding (PS3.5 §6.2); none when it is empty.
    #[must_use]
    pub fn values(&self, bytes: &[u8], vr: VR) -> Vec<String> {
        let text = self.decode(bytes, vr);
        let values: Vec<String> = match Text::of(vr) {
            Text::Whole => vec![trim(&text, vr).to_owned()],
            _ => text
                .split('\\')
                .map(|value| trim(value, vr).to_owned())
                .collect(),
        };
        if values.iter().all(String::is_empty) && values.len() == 1 {
            Vec::new()
        } else {
            values
        }
    }

    /// The bytes of this text (delimiters included, padding not added).
    ///
    /// # Errors
    /// [`EncodeError`] on the first character the set does not have.
    pub fn encode(&self, text: &str, vr: VR) -> Result<Vec<u8>, EncodeError> {
        match &self.form {
            Form::Undeclared => encode_single(Repertoire::Ascii, text),
            Form::Single(repertoire) => encode_single(*repertoire, text),
            Form::Extended { initial, others } => {
                iso2022::encode(text, Text::of(vr), initial, others).map_err(|character| {
                    EncodeError {
                        character,
                        set: "with code extensions",
                    }
                })
            }
        }
    }

    /// True when nothing usable is declared.
    #[must_use]
    pub fn is_undeclared(&self) -> bool {
        self.form == Form::Undeclared
    }

    /// True when printable ASCII bytes are always themselves.
    fn is_ascii_compatible(&self) -> bool {
        match &self.form {
            Form::Undeclared => true,
            Form::Single(repertoire) => *repertoire != Repertoire::Katakana,
            Form::Extended { initial, .. } => !initial.contains(&Designation::Romaji),
        }
    }
}

/// True for the VRs that (0008,0005) applies to (PS3.5 §6.1.2.3).
#[must_use]
pub fn is_affected(vr: VR) -> bool {
    matches!(
        vr,
        VR::SH | VR::LO | VR::ST | VR::LT | VR::PN | VR::UC | VR::UT
    )
}

/// Removes the padding of a value (PS3.5 §6.2): spaces on the right always, on the left where they
/// mean nothing, and the NULs that some systems pad with.
fn trim(value: &str, vr: VR) -> &str {
    let right = value.trim_end_matches([' ', '\0']);
    match vr {
        VR::ST | VR::LT | VR::UT | VR::UC | VR::UR => right,
        _ => right.trim_start_matches(' '),
    }
}

fn decode_single(repertoire: Repertoire, bytes: &[u8], text: Text) -> String {
    match repertoire {
        Repertoire::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Repertoire::Gb18030 | Repertoire::Gbk => repertoire.decode_run(bytes),
        other => iso2022::decode(bytes, text, &iso2022::designations(other), other),
    }
}

fn encode_single(repertoire: Repertoire, text: &str) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match repertoire.encode(character) {
            Some(encoded) => bytes.extend_from_slice(&encoded),
            None => {
                return Err(EncodeError {
                    character,
                    set: repertoire.term(),
                });
            }
        }
    }
    Ok(bytes)
}

/// One value of (0008,0005).
#[derive(Debug, Clone, Copy)]
enum Term {
    Repertoire {
        repertoire: Repertoire,
        extended: bool,
    },
    MultiByte(Designation),
    Unknown,
}

impl Term {
    fn parse(text: &str) -> Self {
        let text = text.to_ascii_uppercase().replace(['_', '-'], " ");
        let mut words: Vec<&str> = text
            .split([' ', '\0'])
            .filter(|word| !word.is_empty())
            .collect();
        let number = words.pop().unwrap_or_default();
        let extended = match words.as_slice() {
            ["ISO", "IR"] => false,
            ["ISO", "2022", "IR"] => true,
            ["UTF"] | [] => {
                return Repertoire::parse(&text).map_or(Self::Unknown, |repertoire| {
                    Self::Repertoire {
                        repertoire,
                        extended: false,
                    }
                });
            }
            _ => return Self::Unknown,
        };
        match number {
            "87" => Self::MultiByte(Designation::Jis0208),
            "159" => Self::MultiByte(Designation::Jis0212),
            "149" => Self::MultiByte(Designation::Ksx1001),
            "58" => Self::MultiByte(Designation::Gb2312),
            number => Repertoire::from_number(number).map_or(Self::Unknown, |repertoire| {
                Self::Repertoire {
                    repertoire,
                    extended,
                }
            }),
        }
    }

    fn stands_alone(self) -> bool {
        matches!(self, Self::Repertoire { repertoire, .. } if repertoire.excludes_code_extensions())
    }

    fn is_ascii(self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::Repertoire {
                    repertoire: Repertoire::Ascii,
                    ..
                }
        )
    }

    fn designations(self) -> Vec<Designation> {
        match self {
            Self::Repertoire { repertoire, .. } => iso2022::designations(repertoire),
            Self::MultiByte(designation) => vec![Designation::Ascii, designation],
            Self::Unknown => vec![Designation::Ascii],
        }
    }
}

#[cfg(test)]
mod tests;
