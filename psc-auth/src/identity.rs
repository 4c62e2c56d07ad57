//! Who a professional is: the national id and the RPPS number.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// National id of a person in the health sector (PS_IdNat), in its prefixed form: `8` + RPPS number, `0` + ADELI,
/// or `5` + structure + `/` + internal id, for instance.
///
/// `Debug` shows the last three characters only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NationalId(String);

/// RPPS number: eleven digits.
///
/// `Debug` shows the last three digits only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rpps(String);

/// A text is no identifier of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NotAnId(&'static str);

impl NationalId {
    /// Reads the prefixed form.
    ///
    /// # Errors
    /// When the first character is no digit, or another is not a letter, a digit, `/`, `-`, `.` or `_`; or when
    /// there are fewer than 3 or more than 64; or when it starts with `8` and no RPPS number follows.
    pub fn parse(text: &str) -> Result<Self, NotAnId> {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_');
        let length = (3..=64).contains(&text.len());
        let prefixed = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if !length || !prefixed || !text.bytes().all(allowed) {
            return Err(NotAnId(
                "not a national id: it starts with a digit, as in 8 + RPPS number",
            ));
        }
        if let Some(number) = text.strip_prefix('8') {
            Rpps::parse(number)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The prefixed form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The RPPS number, when the id is made of one.
    #[must_use]
    pub fn rpps(&self) -> Option<Rpps> {
        self.0
            .strip_prefix('8')
            .and_then(|number| Rpps::parse(number).ok())
    }
}

impl Rpps {
    /// Reads eleven digits.
    ///
    /// # Errors
    /// When there is anything else.
    pub fn parse(text: &str) -> Result<Self, NotAnId> {
        if text.len() == 11 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnId("not an RPPS number: it has eleven digits"))
        }
    }

    /// The eleven digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn masked(f: &mut fmt::Formatter<'_>, kind: &str, id: &str) -> fmt::Result {
    let shown = id.len().saturating_sub(3);
    write!(f, "{kind}:***{}", id.get(shown..).unwrap_or_default())
}

impl fmt::Debug for NationalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked(f, "ps", &self.0)
    }
}

impl fmt::Debug for Rpps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        masked(f, "rpps", &self.0)
    }
}

impl TryFrom<String> for NationalId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        Self::parse(&text)
    }
}

impl From<NationalId> for String {
    fn from(id: NationalId) -> Self {
        id.0
    }
}

impl TryFrom<String> for Rpps {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        Self::parse(&text)
    }
}

impl From<Rpps> for String {
    fn from(number: Rpps) -> Self {
        number.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_in_use_are_read() {
        let doctor = NationalId::parse("899700366240").unwrap();
        assert_eq!(doctor.rpps().unwrap().as_str(), "99700366240");
        let employee = NationalId::parse("500000001815646/CPAT00045").unwrap();
        assert_eq!(employee.rpps(), None);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "8",
            "89970036624",
            "8997003662401",
            "f:550dc1c8:8997",
            "1 2 3",
            "é12",
        ] {
            assert!(NationalId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_shows_three_characters() {
        let id = NationalId::parse("899700366240").unwrap();
        assert_eq!(format!("{id:?}"), "ps:***240");
        assert_eq!(format!("{:?}", id.rpps().unwrap()), "rpps:***240");
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_it_stands_or_refused(text in "\\PC{0,80}") {
            if let Ok(id) = NationalId::parse(&text) {
                prop_assert_eq!(id.as_str(), text.as_str());
            }
        }
    }
}
