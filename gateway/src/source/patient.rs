//! What a centre knows of the patient of a published exam that proves who they are.

use std::fmt;
use std::num::NonZeroU32;

#[cfg(feature = "aws_lc_rs")]
use aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
use ring as crypto;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crypto::pbkdf2;
use crypto::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

/// Characters of a code once spaces and dashes are taken out.
const CODE_LENGTH: std::ops::RangeInclusive<usize> = 8..=32;
/// Rounds of PBKDF2 (RFC 8018 §5.2) of a code that is taken in now: a code of a report has few characters.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
/// Most rounds that a record may ask for.
const MAX_ROUNDS: u32 = 1_000_000;
const SALT: usize = 16;
const HASH: usize = 32;

/// Facts about the patient of an exam. `Debug` shows none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatientFacts {
    /// Date of birth, `YYYYMMDD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<String>,
    /// The code that is printed on the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<HashedCode>,
    /// Mail address that the patient gave to the centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Telephone number that the patient gave to the centre: `+` and digits (E.164).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// A code of which only a slow hash is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashedCode {
    rounds: u32,
    salt: String,
    hash: String,
}

/// Why facts about a patient are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFacts {
    /// Not a calendar date.
    #[error("the date of birth is none: write YYYY-MM-DD")]
    BirthDate,
    /// Too short to protect anything, or not what a report prints.
    #[error("the code has not 8 to 32 letters and digits without accents")]
    Code,
    /// Not a mail address.
    #[error("the mail address is none")]
    Mail,
    /// Not an international number.
    #[error("the telephone number is none: write + and the digits, country first")]
    Phone,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: try again")]
    NoRandom,
}

/// The same as they come from an administrator, the code in clear.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GivenFacts {
    birth_date: Option<String>,
    code: Option<String>,
    mail: Option<String>,
    phone: Option<String>,
}

impl GivenFacts {
    /// Checks them, and hashes the code. Blocks for the time of the hash.
    ///
    /// # Errors
    /// [`InvalidFacts`].
    pub fn checked(self) -> Result<PatientFacts, InvalidFacts> {
        let birth_date = self.birth_date.map(|text| date(&text));
        let birth_date = birth_date.map(|date| date.ok_or(InvalidFacts::BirthDate));
        let code = self.code.map(|code| HashedCode::of(&code));
        let mail = self.mail.map(|mail| {
            let mail = mail.trim().to_owned();
            let fits = mail.len() <= 254 && mail.is_ascii();
            let address = mail.parse::<lettre::Address>().ok();
            address
                .filter(|_| fits)
                .map(|_| mail)
                .ok_or(InvalidFacts::Mail)
        });
        let phone = self.phone.map(|phone| {
            let phone: String = phone
                .chars()
                .filter(|c| !matches!(c, ' ' | '.' | '-'))
                .collect();
            let digits = phone.strip_prefix('+').unwrap_or_default();
            let fits = (7..=15).contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit());
            fits.then_some(phone).ok_or(InvalidFacts::Phone)
        });
        Ok(PatientFacts {
            birth_date: birth_date.transpose()?,
            code: code.transpose()?,
            mail: mail.transpose()?,
            phone: phone.transpose()?,
        })
    }
}

impl PatientFacts {
    /// Checks what [`serde`] cannot.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let date_fits = self
            .birth_date
            .as_deref()
            .is_none_or(|text| text.len() == 8 && date(text).is_some());
        let code_fits = self
            .code
            .as_ref()
            .is_none_or(|code| (1..=MAX_ROUNDS).contains(&code.rounds) && code.decoded().is_some());
        let mut texts = [&self.mail, &self.phone].into_iter().flatten();
        date_fits && code_fits && texts.all(|text| (1..=254).contains(&text.len()))
    }
}

impl HashedCode {
    /// Hashes a code with a salt of its own. Blocks.
    ///
    /// # Errors
    /// [`InvalidFacts::Code`], [`InvalidFacts::NoRandom`].
    pub fn of(code: &str) -> Result<Self, InvalidFacts> {
        let code = plain_code(code).ok_or(InvalidFacts::Code)?;
        let mut salt = [0; SALT];
        let random = SystemRandom::new().fill(&mut salt);
        random.map_err(|_| InvalidFacts::NoRandom)?;
        let mut hash = [0; HASH];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, ROUNDS, &salt, code.as_bytes(), &mut hash);
        Ok(Self {
            rounds: ROUNDS.get(),
            salt: STANDARD_NO_PAD.encode(salt),
            hash: STANDARD_NO_PAD.encode(hash),
        })
    }

    /// Whether this is the code. Without a known one the same work is done, and the answer is no. Blocks.
    #[must_use]
    pub fn fits(known: Option<&Self>, code: &str) -> bool {
        let parts = known.and_then(|known| {
            let rounds = NonZeroU32::new(known.rounds.min(MAX_ROUNDS))?;
            let (salt, hash) = known.decoded()?;
            Some((rounds, salt, hash))
        });
        let given = plain_code(code);
        let (rounds, salt, hash) = parts
            .clone()
            .unwrap_or((ROUNDS, vec![0; SALT], vec![0; HASH]));
        let secret = given.as_deref().unwrap_or_default();
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let same = pbkdf2::verify(algorithm, rounds, &salt, secret.as_bytes(), &hash).is_ok();
        same && parts.is_some() && given.is_some()
    }

    fn decoded(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let salt = STANDARD_NO_PAD.decode(&self.salt).ok()?;
        let hash = STANDARD_NO_PAD.decode(&self.hash).ok()?;
        (salt.len() == SALT && hash.len() == HASH).then_some((salt, hash))
    }
}

/// A code as it is compared: people type small letters and leave dashes out.
fn plain_code(code: &str) -> Option<String> {
    let code: String = code
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '\u{a0}'))
        .take(CODE_LENGTH.end() + 1)
        .collect();
    let fits = CODE_LENGTH.contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then(|| code.to_ascii_uppercase())
}

/// A date as people and programs write it, `JJ/MM/AAAA`, `AAAA-MM-JJ` or `AAAAMMJJ`, as `YYYYMMDD`.
#[must_use]
pub fn date(text: &str) -> Option<String> {
    let text = text.trim();
    if text.len() > 10 || !text.is_ascii() {
        return None;
    }
    let parts: Vec<&str> = text.split(['/', '-', '.', ' ']).collect();
    let (year, month, day) = match *parts.as_slice() {
        [all] if all.len() == 8 => (all.get(..4)?, all.get(4..6)?, all.get(6..)?),
        [year, month, day] if year.len() == 4 => (year, month, day),
        [day, month, year] if year.len() == 4 => (year, month, day),
        _ => return None,
    };
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?);
    let date = date.ok().filter(|_| year >= 1800)?;
    Some(format!("{year:04}{:02}{:02}", u8::from(month), date.day()))
}

impl fmt::Debug for PatientFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientFacts(***)")
    }
}

impl fmt::Debug for GivenFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenFacts(***)")
    }
}

impl fmt::Debug for HashedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedCode(***)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_date_is_read_as_people_write_it_and_nothing_else_is() {
        for text in [
            "02/01/1980",
            "2/1/1980",
            "1980-01-02",
            "19800102",
            " 02.01.1980 ",
            "02 01 1980",
        ] {
            assert_eq!(date(text).as_deref(), Some("19800102"), "{text}");
        }
        for text in [
            "",
            "31/02/1980",
            "02/01/80",
            "1980",
            "00/01/1980",
            "02/13/1980",
            "02/01/1980/1",
            "٠٢/٠١/١٩٨٠",
            "+2/1/1980",
            "01/01/1700",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn a_code_is_kept_as_a_hash_and_known_again() {
        let kept = HashedCode::of("abcd-EFGH 23").unwrap();
        let stored = serde_json::to_string(&kept).unwrap();
        assert!(!stored.to_ascii_uppercase().contains("ABCD"), "{stored}");
        assert_ne!(
            kept,
            HashedCode::of("ABCDEFGH23").unwrap(),
            "each has its salt"
        );
        assert!(HashedCode::fits(Some(&kept), "ABCDEFGH23"));
        assert!(HashedCode::fits(Some(&kept), "abcd efgh 23"));
        for wrong in ["ABCDEFGH2", "ABCDEFGH24", "", "ABCDEFGH23X"] {
            assert!(!HashedCode::fits(Some(&kept), wrong), "{wrong}");
        }
        assert!(!HashedCode::fits(None, "ABCDEFGH23"));
        assert!(!HashedCode::fits(None, ""));
    }

    #[test]
    fn facts_that_cannot_be_right_are_not_taken() {
        let given = |json: &str| serde_json::from_str::<GivenFacts>(json).unwrap().checked();
        let good = given(
            r#"{"birth_date":"1980-01-02","mail":"a@b.example","phone":"+33 6 12 34 56 78"}"#,
        )
        .unwrap();
        assert_eq!(good.phone.as_deref(), Some("+33612345678"));
        assert!(good.is_well_formed());
        assert_eq!(format!("{good:?}"), "PatientFacts(***)");
        assert_eq!(
            given(r#"{"birth_date":"soon"}"#),
            Err(InvalidFacts::BirthDate)
        );
        assert_eq!(given(r#"{"code":"1234567"}"#), Err(InvalidFacts::Code));
        assert_eq!(given(r#"{"code":"éééééééé"}"#), Err(InvalidFacts::Code));
        assert_eq!(
            given(r#"{"mail":"a@b\r\nBcc: c@d"}"#),
            Err(InvalidFacts::Mail)
        );
        assert_eq!(given(r#"{"phone":"0612345678"}"#), Err(InvalidFacts::Phone));
    }
}
