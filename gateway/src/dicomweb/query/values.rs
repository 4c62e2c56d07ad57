//! Values of matching keys: which form of matching they mean (PS3.4 §C.2.2.2), and whether they
//! are values of their representation at all (PS3.5 §6.2).

use dicom_core::VR;
use time::{Date, Month};

use super::MAX_VALUES;
use crate::dicom::uid::Uid;

/// Characters of a value at most; the longest short text of PS3.5 has as many.
const MAX_CHARACTERS: usize = 1024;

/// Codes of one key, and combinations of the codes of all keys: the archive is asked for each.
pub(super) const MAX_CODES: usize = 32;
pub(super) const FEWER_CODES: &str = "ask for fewer values at a time";

/// What the value of a key asks for (PS3.4 §C.2.2.2). Texts are as written, in Unicode; no
/// wildcard was added or taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matching {
    /// Any value; the attribute is returned.
    Universal,
    /// This value.
    SingleValue(String),
    /// One of these UIDs.
    ListOfUid(Vec<Uid>),
    /// One of these values: several codes in one key.
    AnyOf(Vec<String>),
    /// A text with `*` (any characters) or `?` (one character).
    WildCard(String),
    /// From a date, time or date-time to another, both included; one of the ends may be open.
    Range {
        /// First value, `None` when open.
        from: Option<String>,
        /// Last value, `None` when open.
        to: Option<String>,
    },
}

impl Matching {
    /// The value as the identifier of a C-FIND request holds it, without padding.
    #[must_use]
    pub fn to_identifier(&self) -> String {
        match self {
            Self::Universal => String::new(),
            Self::SingleValue(text) | Self::WildCard(text) => text.clone(),
            Self::ListOfUid(uids) => uids.iter().map(Uid::as_str).collect::<Vec<_>>().join("\\"),
            Self::AnyOf(values) => values.join("\\"),
            Self::Range { from, to } => {
                format!(
                    "{}-{}",
                    from.as_deref().unwrap_or(""),
                    to.as_deref().unwrap_or("")
                )
            }
        }
    }
}

/// Reads the decoded value of a key of representation `vr`. The error is the remedy.
pub(super) fn parse(vr: VR, value: &str) -> Result<Matching, &'static str> {
    let value = value.trim_matches(' ');
    if value.chars().any(char::is_control) {
        return Err("leave out control characters");
    }
    if vr != VR::UI && value.chars().count() > MAX_CHARACTERS {
        return Err("use a value of at most 1024 characters");
    }
    // A lone star is the usual way to say "any", also where wildcards do not exist.
    if value.is_empty() || value == "*" {
        return Ok(Matching::Universal);
    }
    match vr {
        VR::UI => uids(value),
        VR::DA => range(value, is_date)
            .ok_or("write a date as 20260131, or a range as 20260101-20260131, 20260101- or -20260131"),
        VR::TM => range(value, is_time)
            .ok_or("write a time as 1430 or 143000, or a range as 0800-1200, 0800- or -1200"),
        VR::DT => range(value, is_date_time).ok_or(
            "write a date-time as 20260131143000, or a range as 20260101-20260131, with %2B for the + of an offset",
        ),
        VR::IS => one(value, |text| text.len() <= 12 && text.parse::<i32>().is_ok())
            .ok_or("write a whole number"),
        VR::DS => one(value, |text| text.len() <= 16 && is_decimal(text))
            .ok_or("write a decimal number of at most 16 characters"),
        VR::US => one(value, |text| text.parse::<u16>().is_ok()).ok_or("write a number from 0 to 65535"),
        VR::SS => one(value, |text| text.parse::<i16>().is_ok())
            .ok_or("write a whole number from -32768 to 32767"),
        VR::UL => one(value, |text| text.parse::<u32>().is_ok()).ok_or("write a number of 32 bits"),
        VR::SL => one(value, |text| text.parse::<i32>().is_ok()).ok_or("write a number of 32 bits"),
        VR::UV => one(value, |text| text.parse::<u64>().is_ok()).ok_or("write a number of 64 bits"),
        VR::SV => one(value, |text| text.parse::<i64>().is_ok()).ok_or("write a number of 64 bits"),
        VR::FL | VR::FD => one(value, is_decimal).ok_or("write a decimal number"),
        VR::AS => one(value, is_age).ok_or("write an age as 045Y"),
        VR::AT => one(value, |text| text.len() == 8 && is_hexadecimal(text))
            .ok_or("write a tag as eight hexadecimal digits"),
        VR::CS => codes(value),
        VR::AE | VR::LO | VR::PN | VR::SH | VR::UC => {
            text(value, true).ok_or("use one value, without backslash")
        }
        VR::LT | VR::ST | VR::UR | VR::UT => text(value, false).ok_or("use one value"),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::SQ | VR::UN => {
            Err("search by another attribute: this one has no value that can be matched")
        }
    }
}

/// UIDs between commas or backslashes (PS3.18 §8.3.4.1, PS3.4 §C.2.2.2.2).
fn uids(value: &str) -> Result<Matching, &'static str> {
    let mut list = Vec::new();
    for part in value.split([',', '\\']) {
        if list.len() == MAX_VALUES {
            return Err("ask for fewer UIDs at a time");
        }
        let uid = Uid::parse(part.trim_matches(' '))
            .map_err(|_| "write UIDs of digits and dots, with commas between them")?;
        if !list.contains(&uid) {
            list.push(uid);
        }
    }
    Ok(Matching::ListOfUid(list))
}

/// Codes never hold a comma: several of them in one key are alternatives.
fn codes(value: &str) -> Result<Matching, &'static str> {
    let mut list = Vec::new();
    for part in value.split([',', '\\']).map(|part| part.trim_matches(' ')) {
        if list.len() == MAX_CODES {
            return Err(FEWER_CODES);
        }
        if part.is_empty() || (part.contains(['*', '?']) && part != value) {
            return Err(
                "write one code, wildcards allowed, or several with commas and without wildcards",
            );
        }
        list.push(part.to_owned());
    }
    match list.as_slice() {
        [only] if only.contains(['*', '?']) => Ok(Matching::WildCard(only.clone())),
        [only] => Ok(Matching::SingleValue(only.clone())),
        _ => Ok(Matching::AnyOf(list)),
    }
}

fn text(value: &str, single: bool) -> Option<Matching> {
    if single && value.contains('\\') {
        return None;
    }
    let value = value.to_owned();
    Some(if value.contains(['*', '?']) {
        Matching::WildCard(value)
    } else {
        Matching::SingleValue(value)
    })
}

fn one(value: &str, valid: impl Fn(&str) -> bool) -> Option<Matching> {
    valid(value).then(|| Matching::SingleValue(value.to_owned()))
}

/// One value or a range of them. The sign of a negative offset is a hyphen too: what is valid as
/// one value is one value, else the first hyphen with a valid value on either side divides.
fn range(value: &str, valid: impl Fn(&str) -> bool) -> Option<Matching> {
    if valid(value) {
        return Some(Matching::SingleValue(value.to_owned()));
    }
    let end = |text: &str| match text {
        "" => Some(None),
        text => valid(text).then(|| Some(text.to_owned())),
    };
    value.match_indices('-').find_map(|(at, _)| {
        let from = end(value.get(..at)?.trim_end_matches(' '))?;
        let to = end(value.get(at + 1..)?.trim_start_matches(' '))?;
        let backwards = from
            .as_deref()
            .zip(to.as_deref())
            .is_some_and(ends_before_it_starts);
        ((from.is_some() || to.is_some()) && !backwards).then_some(Matching::Range { from, to })
    })
}

/// Compares to the precision both ends have; ends with fractions or offsets are left to the
/// archive.
fn ends_before_it_starts((from, to): (&str, &str)) -> bool {
    let common = from.len().min(to.len());
    is_digits(from) && is_digits(to) && from.get(..common) > to.get(..common)
}

/// `YYYYMMDD`, a day of the calendar.
fn is_date(text: &str) -> bool {
    text.len() == 8
        && is_digits(text)
        && match (number(text, 0, 4), number(text, 4, 6), number(text, 6, 8)) {
            (Some(year), Some(month), Some(day)) => is_day(year, month, day),
            _ => false,
        }
}

fn is_day(year: u16, month: u16, day: u16) -> bool {
    let (Ok(month), Ok(day)) = (u8::try_from(month), u8::try_from(day)) else {
        return false;
    };
    Month::try_from(month)
        .is_ok_and(|month| Date::from_calendar_date(i32::from(year), month, day).is_ok())
}

/// `HH[MM[SS[.F{1,6}]]]`.
fn is_time(text: &str) -> bool {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let fits = match fraction {
        Some(fraction) => {
            whole.len() == 6 && (1..=6).contains(&fraction.len()) && is_digits(fraction)
        }
        None => matches!(whole.len(), 2 | 4 | 6),
    };
    let within = |start, end, limit| match number(whole, start, end) {
        Some(value) => value <= limit,
        None => whole.len() <= start,
    };
    // 60 is a leap second (PS3.5 §6.2).
    fits && is_digits(whole) && within(0, 2, 23) && within(2, 4, 59) && within(4, 6, 60)
}

/// `YYYY[MM[DD[HH[MM[SS[.F{1,6}]]]]]][&ZZXX]`.
fn is_date_time(text: &str) -> bool {
    let (local, offset) = match text
        .char_indices()
        .find(|(_, sign)| matches!(sign, '+' | '-'))
    {
        Some((at, _)) => text.split_at(at),
        None => (text, ""),
    };
    if !offset.is_empty() && !is_offset(offset) {
        return false;
    }
    let (whole, _) = local.split_once('.').unwrap_or((local, ""));
    if !is_digits(whole) {
        return false;
    }
    match whole.len() {
        4 => local.len() == 4,
        6 => local.len() == 6 && number(whole, 4, 6).is_some_and(|month| (1..=12).contains(&month)),
        8 => local.len() == 8 && is_date(whole),
        10 | 12 | 14 => local.get(..8).is_some_and(is_date) && local.get(8..).is_some_and(is_time),
        _ => false,
    }
}

/// `+0000` to `+1400`, `-0015` to `-1200`.
fn is_offset(text: &str) -> bool {
    let (Some(hours), Some(minutes)) = (number(text, 1, 3), number(text, 3, 5)) else {
        return false;
    };
    let total = hours * 60 + minutes;
    let limit = if text.starts_with('+') {
        14 * 60
    } else {
        12 * 60
    };
    text.len() == 5 && minutes < 60 && total <= limit && !(text.starts_with('-') && total == 0)
}

/// `nnnD`, `nnnW`, `nnnM` or `nnnY`.
fn is_age(text: &str) -> bool {
    text.len() == 4 && text.get(..3).is_some_and(is_digits) && text.ends_with(['D', 'W', 'M', 'Y'])
}

/// A fixed or floating point number; not the words that Rust also reads.
fn is_decimal(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The digits of `text` from `start` to before `end` as a number.
fn number(text: &str, start: usize, end: usize) -> Option<u16> {
    text.get(start..end)
        .filter(|digits| is_digits(digits))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;
    use proptest::prelude::*;

    fn single(text: &str) -> Result<Matching, &'static str> {
        Ok(Matching::SingleValue(text.to_owned()))
    }

    fn between(from: &str, to: &str) -> Result<Matching, &'static str> {
        let end = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Matching::Range {
            from: end(from),
            to: end(to),
        })
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        assert_eq!(parse(VR::DA, "20240229"), single("20240229"));
        assert_eq!(
            parse(VR::DA, "20240101-20240131"),
            between("20240101", "20240131")
        );
        assert_eq!(
            parse(VR::DA, "20240101 - 20240131"),
            between("20240101", "20240131")
        );
        assert_eq!(parse(VR::DA, "20240101-"), between("20240101", ""));
        assert_eq!(parse(VR::DA, "-20240131"), between("", "20240131"));
        for wrong in [
            "2024",
            "2024-01-01",
            "20230229",
            "20241301",
            "20240100",
            "-",
            "20240102-20240101",
            "2024010*",
            "20240101-20240102-20240103",
            "today",
            "２０２４０１０１",
        ] {
            assert!(parse(VR::DA, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_the_precision_they_are_given() {
        for right in [
            "08",
            "0830",
            "083015",
            "083015.5",
            "083015.123456",
            "235960",
        ] {
            assert_eq!(parse(VR::TM, right), single(right));
        }
        assert_eq!(parse(VR::TM, "0830-12"), between("0830", "12"));
        assert_eq!(parse(VR::TM, "0830-08"), between("0830", "08"));
        assert!(parse(VR::TM, "09-0830").is_err());
        for wrong in [
            "8",
            "24",
            "0860",
            "08:30",
            "083015.",
            "0830.5",
            "083015.1234567",
            "-",
        ] {
            assert!(parse(VR::TM, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hyphen_in_a_date_time_may_be_an_offset_or_a_range() {
        for right in [
            "2024",
            "202402",
            "20240229",
            "2024022908",
            "20240229083015.25",
            "20240229+0100",
            "20240229083015-1200",
            "2024-0500",
        ] {
            assert_eq!(parse(VR::DT, right), single(right));
        }
        assert_eq!(parse(VR::DT, "2023-2024"), between("2023", "2024"));
        assert_eq!(
            parse(VR::DT, "20240101-0500-20240201-0500"),
            between("20240101-0500", "20240201-0500")
        );
        assert_eq!(
            parse(VR::DT, "20240101+0100-"),
            between("20240101+0100", "")
        );
        for wrong in [
            "20240230",
            "202413",
            "20240229+1500",
            "20240229-0000",
            "20240229.5",
            "24",
        ] {
            assert!(parse(VR::DT, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn uid_lists_are_divided_by_commas_and_backslashes() {
        let uids = |list: &[&str]| {
            Ok(Matching::ListOfUid(
                list.iter().map(|uid| Uid::parse(uid).unwrap()).collect(),
            ))
        };
        assert_eq!(parse(VR::UI, "1.2"), uids(&["1.2"]));
        assert_eq!(
            parse(VR::UI, "1.2,1.3\\1.4, 1.2"),
            uids(&["1.2", "1.3", "1.4"])
        );
        for wrong in ["1.2,", "1.2*", "../1", "a", ",1"] {
            assert!(parse(VR::UI, wrong).is_err(), "{wrong}");
        }
        let many = vec!["1"; MAX_VALUES].join(",");
        assert_eq!(parse(VR::UI, &many), uids(&["1"]));
    }

    #[test]
    fn wildcards_stay_where_they_are_and_nowhere_else() {
        assert_eq!(
            parse(VR::PN, "LEFÈVRE*"),
            Ok(Matching::WildCard("LEFÈVRE*".into()))
        );
        assert_eq!(parse(VR::PN, "MARTIN"), single("MARTIN"));
        assert_eq!(parse(VR::LO, "A?C"), Ok(Matching::WildCard("A?C".into())));
        assert_eq!(parse(VR::CS, "C*"), Ok(Matching::WildCard("C*".into())));
        for vr in [VR::DA, VR::TM, VR::DT, VR::UI, VR::IS, VR::DS, VR::US] {
            assert!(parse(vr, "2*").is_err(), "{vr:?}");
        }
    }

    #[test]
    fn an_empty_value_and_a_lone_star_mean_any() {
        for vr in [VR::PN, VR::DA, VR::UI, VR::SQ, VR::IS] {
            assert_eq!(parse(vr, "").ok(), Some(Matching::Universal));
            assert_eq!(parse(vr, " * ").ok(), Some(Matching::Universal));
        }
    }

    #[test]
    fn several_codes_are_alternatives() {
        let both = Ok(Matching::AnyOf(vec!["CT".into(), "MR".into()]));
        assert_eq!(parse(VR::CS, "CT,MR"), both);
        assert_eq!(parse(VR::CS, "CT\\MR"), both);
        assert!(parse(VR::CS, "C*,MR").is_err());
        assert!(parse(VR::CS, "CT,").is_err());
    }

    #[test]
    fn numbers_are_within_their_representation() {
        assert_eq!(parse(VR::IS, "-12"), single("-12"));
        assert_eq!(parse(VR::US, "65535"), single("65535"));
        assert_eq!(parse(VR::DS, "1.5e-3"), single("1.5e-3"));
        for (vr, wrong) in [
            (VR::IS, "1.5"),
            (VR::IS, "99999999999"),
            (VR::US, "65536"),
            (VR::US, "-1"),
            (VR::DS, "inf"),
            (VR::DS, "NaN"),
            (VR::FL, "1e999"),
            (VR::AS, "45Y"),
            (VR::AT, "0010"),
        ] {
            assert!(parse(vr, wrong).is_err(), "{vr:?} {wrong}");
        }
    }

    #[test]
    fn what_could_change_the_request_to_the_archive_is_refused() {
        assert!(parse(VR::LO, "A\\B").is_err());
        assert!(parse(VR::PN, "A\u{0}B").is_err());
        assert!(parse(VR::LO, "A\u{1b}(B").is_err());
        assert!(parse(VR::LO, &"x".repeat(MAX_CHARACTERS + 1)).is_err());
        assert!(parse(VR::OW, "1").is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_goes_to_the_archive(
            vr in prop::sample::select(vec![VR::DA, VR::TM, VR::DT, VR::PN, VR::LO, VR::IS, VR::DS]),
            value in "[0-9A-Z*?.+^-]{0,20}",
        ) {
            if let Ok(matching) = parse(vr, &value) {
                let expected = if value == "*" { "" } else { value.as_str() };
                prop_assert_eq!(matching.to_identifier(), expected);
            }
        }

        #[test]
        fn every_day_is_a_date(ordinal in 1_i64..1_000_000) {
            let day = Date::from_calendar_date(1, Month::January, 1).unwrap()
                + time::Duration::days(ordinal);
            let text = format!("{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day());
            prop_assert_eq!(parse(VR::DA, &text), single(&text));
        }

        #[test]
        fn no_text_makes_it_fail_otherwise_than_by_an_error(value in "\\PC*") {
            for vr in [VR::DA, VR::TM, VR::DT, VR::UI, VR::CS, VR::PN, VR::DS, VR::AS, VR::AT] {
                let _ = parse(vr, &value);
            }
        }
    }
}
