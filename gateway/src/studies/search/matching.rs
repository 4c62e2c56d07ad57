//! Whether an answer is a match (PS3.4 §C.2.2.2): archives leave out keys that they do not know, add
//! wildcards, or compare less than they were asked to.
//!
//! What the answer does not hold cannot be compared and is believed. Where the standard leaves a
//! choice to the archive (case, accents, precision of times), every choice is a match.

use dicom_core::{Tag, VR};

use crate::archive::{Identifier, Key};
use crate::dicom::charset::CharacterSet;
use crate::dicom::compose::Reading;
use crate::dicom::reader::{Element, Elements, Value};

/// Whether the elements of an answer are what the identifier asks for. With `fuzzy` the archive
/// compared names of persons by their meaning.
pub(super) fn is_match(
    identifier: &Identifier,
    elements: Elements<'_>,
    reading: Reading<'_>,
    fuzzy: bool,
) -> bool {
    matches(identifier, elements, &reading.charset(elements), fuzzy)
}

fn matches(
    identifier: &Identifier,
    elements: Elements<'_>,
    charset: &CharacterSet,
    fuzzy: bool,
) -> bool {
    let combined = identifier.combined_ranges();
    let in_range = |&(date, time): &(Tag, Tag)| {
        let moment = |tag| elements.text(tag, charset).unwrap_or_default();
        is_within(identifier, (date, time), &moment(date), &moment(time))
    };
    let alone = |tag| {
        !combined
            .iter()
            .any(|&(date, time)| tag == date || tag == time)
    };
    combined.iter().all(in_range)
        && identifier
            .iter()
            .filter(|(tag, key)| key.is_matching() && alone(*tag))
            .all(|(tag, key)| match elements.find(tag) {
                Some(element) => has_value(key, element, charset, fuzzy),
                None => true,
            })
}

/// Whether one of these values is what the value of a key asks for; true without any.
pub(super) fn any_matches(vr: VR, wanted: &str, values: &[String]) -> bool {
    let mut given = values.iter().filter(|value| !value.is_empty()).peekable();
    given.peek().is_none() || given.any(|value| value_matches(vr, wanted, value))
}

fn has_value(key: &Key, element: Element<'_>, charset: &CharacterSet, fuzzy: bool) -> bool {
    match (key, element.value()) {
        (Key::Sequence(inner), Value::Items(items)) => {
            let mut items = items.iter().peekable();
            items.peek().is_none() || items.any(|item| matches(inner, item, charset, fuzzy))
        }
        (Key::Value(VR::PN, _), _) if fuzzy => true,
        (Key::Value(vr @ (VR::US | VR::UL), wanted), Value::Bytes(bytes)) if !bytes.is_empty() => {
            let number = match vr {
                VR::US => element.u16_at(bytes, 0).map(u32::from),
                _ => element.u32_at(bytes, 0),
            };
            wanted.trim().parse().ok() == number
        }
        (Key::Value(vr, wanted), Value::Bytes(_)) => {
            any_matches(*vr, wanted, &element.strings(charset))
        }
        _ => true,
    }
}

fn value_matches(vr: VR, wanted: &str, found: &str) -> bool {
    match vr {
        VR::UI => wanted.split('\\').any(|uid| uid.trim() == found),
        VR::DA | VR::TM => {
            let found = digits(found);
            match wanted.split_once('-') {
                Some((from, to)) => from_to(from.trim(), to.trim(), &found),
                None => same_precision(wanted, &found),
            }
        }
        VR::IS | VR::DS => match (number(wanted), number(found)) {
            (Some(wanted), Some(found)) => (wanted - found).abs() <= f64::EPSILON * wanted.abs(),
            _ => true,
        },
        VR::AS => wanted == found,
        VR::CS => wanted
            .split('\\')
            .any(|code| text_matches(code.trim(), found)),
        VR::PN => name_matches(wanted, found),
        VR::AE | VR::LO | VR::SH | VR::UC | VR::LT | VR::ST | VR::UT | VR::UR => {
            text_matches(wanted, found)
        }
        // Offsets from UTC make date-times a matter of the archive; numbers in binary are above.
        _ => true,
    }
}

/// Whether a moment lies in a range given as one of dates and one of times of the same form
/// (PS3.4 §C.2.2.2.5); without the time of day, the day decides.
fn is_within(identifier: &Identifier, (date, time): (Tag, Tag), day: &str, clock: &str) -> bool {
    let ends = |tag| {
        identifier
            .value(tag)
            .and_then(|value| value.split_once('-'))
    };
    let (Some(dates), Some(times)) = (ends(date), ends(time)) else {
        return true;
    };
    let (day, clock) = (digits(day), digits(clock));
    if day.is_empty() {
        return true;
    }
    if clock.is_empty() {
        return from_to(dates.0.trim(), dates.1.trim(), &day);
    }
    let join = |date: &str, time: &str| format!("{}{}", date.trim(), time.trim());
    from_to(
        &join(dates.0, times.0),
        &join(dates.1, times.1),
        &format!("{day}{clock}"),
    )
}

/// Both ends included, the last one with all that it is short for: to 12 is to 12:59.
fn from_to(from: &str, to: &str, found: &str) -> bool {
    let until = found.get(..to.len()).unwrap_or(found);
    found.is_empty() || (!is_before(found, from) && until <= to)
}

/// 08 is not before 0800.
fn is_before(found: &str, from: &str) -> bool {
    let common = found.len().min(from.len());
    found.get(..common) < from.get(..common)
}

/// 0830 is 083000 and 083012.5.
fn same_precision(wanted: &str, found: &str) -> bool {
    let common = wanted.len().min(found.len());
    wanted.get(..common) == found.get(..common)
}

/// Without the `.` and `:` that old objects have in dates and times (PS3.5 §6.2).
fn digits(text: &str) -> String {
    let (whole, fraction) = match text.rsplit_once('.') {
        // A fraction of a second comes after all six digits.
        Some((whole, fraction)) if whole.len() == 6 => (whole, Some(fraction)),
        _ => (text, None),
    };
    let whole: String = whole.chars().filter(|c| !matches!(c, '.' | ':')).collect();
    match fraction {
        Some(fraction) => format!("{whole}.{fraction}"),
        None => whole,
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

/// A name matches as a whole or by one of its component groups; components that are empty at the
/// end do not count (PS3.5 §6.2.1).
fn name_matches(wanted: &str, found: &str) -> bool {
    let plain = |name: &str| {
        name.trim_matches([' ', '='])
            .trim_end_matches(['^', ' '])
            .to_owned()
    };
    let group_of = |group: &str| text_matches(&plain(wanted), &plain(group));
    text_matches(&plain(wanted), &plain(found)) || found.split('=').any(group_of)
}

/// Single value or wildcard matching, whatever the case. A character beyond ASCII matches any other
/// one and none: archives compare without accents, and lose what their character set does not have.
fn text_matches(wanted: &str, found: &str) -> bool {
    let fold = |text: &str| {
        text.chars()
            .flat_map(char::to_lowercase)
            .collect::<Vec<_>>()
    };
    let (pattern, text) = (fold(wanted), fold(found));
    // reached[n]: the pattern so far matches the first n characters of the text.
    let mut reached = vec![false; text.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for sign in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut any = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or_default();
            let before = at.checked_sub(1);
            let step = before.is_some_and(|before| {
                reached.get(before).copied().unwrap_or_default()
                    && text.get(before).is_some_and(|&c| {
                        sign == '?' || sign == c || !c.is_ascii() || !sign.is_ascii()
                    })
            });
            any |= here;
            *slot = if sign == '*' {
                any
            } else {
                step || (here && !sign.is_ascii())
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use proptest::prelude::*;

    use super::*;
    use crate::dicom::charset::Repertoire;
    use crate::dicom::reader::{DataSet, Limits};
    use crate::dicom::syntax::Encoding;
    use crate::dicom::testdata::Writer;

    const DATE: Tag = Tag(0x0008, 0x0020);
    const TIME: Tag = Tag(0x0008, 0x0030);

    fn found(identifier: &Identifier, day: &str, clock: &str) -> bool {
        let bytes = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x0020), VR::DA, day.as_bytes())
            .put((0x0008, 0x0030), VR::TM, clock.as_bytes())
            .bytes;
        let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
        let reading = Reading {
            fallback: Repertoire::Latin1,
            replaces: None,
        };
        is_match(identifier, set.elements(), reading, false)
    }

    #[test]
    fn a_range_of_dates_and_one_of_times_are_one_range_of_moments() {
        let both = Identifier::default()
            .with(DATE, VR::DA, "20250101-20250103")
            .with(TIME, VR::TM, "1200-1300");
        assert!(!found(&both, "20250101", "115959"));
        assert!(found(&both, "20250101", "120000"));
        assert!(found(&both, "20250102", "030000"));
        assert!(found(&both, "20250103", "130059.9"));
        assert!(!found(&both, "20250103", "130100"));
        assert!(found(&both, "20250102", ""));
        let open =
            Identifier::default()
                .with(DATE, VR::DA, "20250102-")
                .with(TIME, VR::TM, "1200-");
        assert!(!found(&open, "20250102", "0800"));
        assert!(found(&open, "20250103", "0800"));
        // Ranges of different forms are compared each on its own.
        let mixed = Identifier::default()
            .with(DATE, VR::DA, "20250101-20250103")
            .with(TIME, VR::TM, "-1300");
        assert!(found(&mixed, "20250101", "115959"));
        assert!(!found(&mixed, "20250102", "140000"));
    }

    #[test]
    fn dates_and_times_are_compared_to_the_precision_they_have() {
        let date = |wanted, found| value_matches(VR::DA, wanted, found);
        assert!(date("20250101", "2025.01.01"));
        assert!(date("20250101-", "20250101"));
        assert!(date("-20250101", "20250101"));
        assert!(!date("-20250101", "20250102"));
        assert!(!date("20250102-20250103", "20250101"));
        let time = |wanted, found| value_matches(VR::TM, wanted, found);
        assert!(time("0830", "083015.25"));
        assert!(time("083015.25", "0830"));
        assert!(!time("0831", "083015"));
        assert!(time("0800-09", "095959"));
        assert!(!time("0800-09", "100000"));
        assert!(time("083015.2-", "083015.25"));
    }

    #[test]
    fn names_match_by_group_and_whatever_their_case() {
        let name = |wanted, found| value_matches(VR::PN, wanted, found);
        assert!(name("martin^jean", "MARTIN^JEAN^^"));
        assert!(name("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう"));
        assert!(name("YAMADA*", "Yamada^Tarou=山田^太郎"));
        assert!(!name("MARTIN", "MARTIN^JEAN"));
        assert!(!name("MARTIN", "MARTINEZ"));
        // Without accents, or with characters lost, at the choice of the archive.
        assert!(name("LEFÈVRE*", "LEFEVRE^Anne"));
        assert!(name("LEFEVRE*", "Lefèvre^Anne"));
        assert!(name("ŻAK", "AK"));
        assert!(!name("LEFÈVRE", "DUPONT"));
    }

    #[test]
    fn lists_are_alternatives_and_numbers_have_many_spellings() {
        assert!(value_matches(VR::UI, "1.2\\1.3", "1.3"));
        assert!(!value_matches(VR::UI, "1.2", "1.2.3"));
        assert!(value_matches(VR::CS, "CT\\MR", "MR"));
        assert!(!value_matches(VR::CS, "CT\\MR", "MG"));
        assert!(value_matches(VR::IS, "7", "+007"));
        assert!(!value_matches(VR::IS, "7", "8"));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_its_wildcards(text in "[A-Z0-9 ^è]{0,20}", at in 0usize..20) {
            prop_assert!(text_matches(&text, &text));
            prop_assert!(text_matches("*", &text));
            let chars: Vec<char> = text.chars().collect();
            let at = at.min(chars.len());
            let with = |sign: &str, skip: usize| {
                let rest = chars.iter().skip(at + skip);
                chars.iter().take(at).collect::<String>() + sign + &rest.collect::<String>()
            };
            prop_assert!(text_matches(&with("*", 0), &text));
            if at < chars.len() {
                prop_assert!(text_matches(&with("?", 1), &text));
                prop_assert!(text_matches(&with("*", 1), &text));
            }
        }

        #[test]
        fn ascii_matches_as_a_regular_expression_does(
            pattern in "[abc*?]{0,8}",
            text in "[abc]{0,8}",
        ) {
            fn reference(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|n| reference(rest, &text[n..])),
                    Some((sign, rest)) => text.split_first().is_some_and(|(c, after)| {
                        (*sign == b'?' || sign == c) && reference(rest, after)
                    }),
                }
            }
            prop_assert_eq!(
                text_matches(&pattern, &text),
                reference(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
