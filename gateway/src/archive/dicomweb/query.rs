//! A search as the address of a QIDO-RS request (PS3.18 §10.6).

use std::fmt::Write as _;

use dicom_core::{Tag, VR};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::archive::{FindRequest, Identifier, Key, Level, Scope};
use crate::config::Quirks;

const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);
const INSTANCE_UID: Tag = Tag(0x0008, 0x0018);

/// What stands for itself in a value: unreserved characters (RFC 3986 §2.3) and the wildcard.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*');

/// What cannot stand in a query as it is (RFC 3986 §3.4), or means something there.
const UNSAFE: [char; 7] = ['"', '#', '%', '&', '+', '<', '>'];

/// A search whose pages can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    path: String,
    parameters: String,
    /// Tag that tells two matches apart.
    pub unique: Tag,
    /// Whether the path names what the matches lie in.
    pub below: bool,
    /// Whether names are to match by their meaning.
    pub fuzzy_names: bool,
}

impl Query {
    /// The search that `request` means, in the ways of the server.
    #[must_use]
    pub fn of(request: &FindRequest, quirks: &Quirks) -> Self {
        let mut identifier = request.identifier.clone();
        // Not every server takes a range of days and one of hours for one range of moments (PS3.18
        // §8.3.4.1.1): it is asked for the days, and whoever asked compares the moments.
        for (_, time) in identifier.combined_ranges() {
            identifier.set(time, VR::TM, "");
        }
        let identifier = &identifier;
        let one = |tag| {
            let value = identifier.value(tag)?;
            (!value.contains(['\\', '*', '?'])).then(|| encoded(value))
        };
        // Only what is named above a level can be in its path.
        let (mut path, mut in_path) = (String::new(), Vec::new());
        if request.level > Level::Study
            && let Some(study) = one(STUDY_UID)
        {
            path = format!("/studies/{study}");
            in_path.push(STUDY_UID);
            if request.level > Level::Series
                && let Some(series) = one(SERIES_UID)
            {
                let _ = write!(path, "/series/{series}");
                in_path.push(SERIES_UID);
            }
        }
        let (resource, unique) = match request.level {
            Level::Patient | Level::Study => ("/studies", STUDY_UID),
            Level::Series => ("/series", SERIES_UID),
            Level::Image => ("/instances", INSTANCE_UID),
        };
        let mut parameters = String::new();
        let mut fields = vec![];
        let write = if quirks.decodes_queries {
            encoded
        } else {
            literal
        };
        keys(
            identifier,
            "",
            &in_path,
            write,
            &mut parameters,
            &mut fields,
        );
        for field in fields {
            let _ = write!(parameters, "&includefield={field}");
        }
        let fuzzy_names = quirks.fuzzy_matching && identifier.wants_fuzzy_names();
        if fuzzy_names {
            parameters.push_str("&fuzzymatching=true");
        }
        Self {
            path: path + resource,
            parameters,
            unique,
            below: !in_path.is_empty(),
            fuzzy_names,
        }
    }

    /// Path and query of a page: `limit` matches at most, the first `offset` left out.
    #[must_use]
    pub fn page(&self, limit: usize, offset: usize) -> String {
        let mut page = format!("{}?limit={limit}", self.path);
        if offset > 0 {
            let _ = write!(page, "&offset={offset}");
        }
        page + &self.parameters
    }
}

/// Path of what a scope names (PS3.18 §10.4.1).
#[must_use]
pub fn path_of(scope: &Scope) -> String {
    let mut path = format!("/studies/{}", scope.study().as_str());
    if let Some(series) = scope.series() {
        let _ = write!(path, "/series/{}", series.as_str());
    }
    if let Some(instance) = scope.instance() {
        let _ = write!(path, "/instances/{}", instance.as_str());
    }
    path
}

fn keys(
    identifier: &Identifier,
    prefix: &str,
    in_path: &[Tag],
    write: fn(&str) -> String,
    parameters: &mut String,
    fields: &mut Vec<String>,
) {
    for (tag, key) in identifier.iter() {
        let name = format!("{prefix}{:04X}{:04X}", tag.group(), tag.element());
        match key {
            _ if in_path.contains(&tag) => fields.push(name),
            Key::Value(_, value) if value.is_empty() => fields.push(name),
            Key::Value(vr, value) => {
                let _ = write!(parameters, "&{name}={}", matching(*vr, value, write));
            }
            Key::Sequence(inner) if inner.iter().next().is_none() => fields.push(name),
            Key::Sequence(inner) => {
                keys(inner, &format!("{name}."), &[], write, parameters, fields);
            }
        }
    }
}

/// A value to match; UIDs of a list are separated by commas (PS3.18 §8.3.4.1).
fn matching(vr: VR, value: &str, write: fn(&str) -> String) -> String {
    match vr {
        VR::UI => value.split('\\').map(write).collect::<Vec<_>>().join(","),
        _ => write(value),
    }
}

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// A value as it is; what a query cannot hold becomes `?`, which matches any character (PS3.4
/// §C.2.2.2.4).
fn literal(value: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !UNSAFE.contains(&c);
    value
        .chars()
        .map(|c| if plain(c) { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn page(level: Level, identifier: Identifier) -> String {
        let request = FindRequest {
            level,
            identifier,
            max_matches: 10,
        };
        Query::of(&request, &QUIRKS).page(10, 0)
    }

    const QUIRKS: Quirks = Quirks {
        relational_queries: true,
        related_counts: true,
        max_results: None,
        charset: None,
        charset_overrides: false,
        send_charset: true,
        uncompressed_only: false,
        decodes_queries: true,
        fuzzy_matching: false,
    };

    #[test]
    fn each_level_has_its_path_and_what_is_named_above_stands_in_it() {
        let study = Identifier::default().with(STUDY_UID, VR::UI, "1.2");
        let series = study.clone().with(SERIES_UID, VR::UI, "1.3");
        for (level, identifier, expected) in [
            (Level::Study, &study, "/studies?limit=10&0020000D=1.2"),
            (
                Level::Series,
                &study,
                "/studies/1.2/series?limit=10&includefield=0020000D",
            ),
            (
                Level::Series,
                &series,
                "/studies/1.2/series?limit=10&0020000E=1.3&includefield=0020000D",
            ),
            (
                Level::Image,
                &series,
                "/studies/1.2/series/1.3/instances?limit=10&includefield=0020000D&includefield=0020000E",
            ),
            (
                Level::Image,
                &study,
                "/studies/1.2/instances?limit=10&includefield=0020000D",
            ),
            (
                Level::Image,
                &Identifier::default().with(SERIES_UID, VR::UI, "1.3"),
                "/instances?limit=10&0020000E=1.3",
            ),
        ] {
            assert_eq!(page(level, identifier.clone()), expected);
        }
        let wide = Identifier::default().with(STUDY_UID, VR::UI, "1.2\\1.3");
        assert_eq!(
            page(Level::Series, wide),
            "/series?limit=10&0020000D=1.2,1.3"
        );
    }

    #[test]
    fn values_are_encoded_and_nested_keys_are_paths() {
        let mut identifier = Identifier::default()
            .with(Tag(0x0008, 0x0020), VR::DA, "20240101-20240131")
            .with(Tag(0x0010, 0x0010), VR::PN, "LEFÈVRE^A, B*&x=1#+")
            .with(Tag(0x0008, 0x1111), VR::SQ, "");
        let request = (Tag(0x0040, 0x0275), VR::SQ);
        identifier.set_path(&[request, (Tag(0x0040, 0x0007), VR::LO)], "");
        identifier.set_path(&[request, (Tag(0x0040, 0x1001), VR::SH)], "a?");
        assert_eq!(
            page(Level::Study, identifier),
            "/studies?limit=10&00080020=20240101-20240131\
             &00100010=LEF%C3%88VRE%5EA%2C%20B*%26x%3D1%23%2B&00400275.00401001=a%3F\
             &includefield=00081111&includefield=00400275.00400007"
        );
    }

    #[test]
    fn a_server_that_takes_values_literally_gets_wildcards_for_what_it_cannot() {
        let request = FindRequest {
            level: Level::Study,
            identifier: Identifier::default().with(Tag(0x0010, 0x0010), VR::PN, "LEFÈVRE^A B&C*"),
            max_matches: 10,
        };
        let literal = Quirks {
            decodes_queries: false,
            ..QUIRKS
        };
        assert_eq!(
            Query::of(&request, &literal).page(10, 0),
            "/studies?limit=10&00100010=LEF?VRE^A?B?C*"
        );
    }

    #[test]
    fn of_a_range_of_moments_the_days_are_asked_for() {
        let days = Identifier::default().with(Tag(0x0008, 0x0020), VR::DA, "20250101-20250104");
        let moments = days.with(Tag(0x0008, 0x0030), VR::TM, "0900-1000");
        assert_eq!(
            page(Level::Study, moments),
            "/studies?limit=10&00080020=20250101-20250104&includefield=00080030"
        );
        let hours = Identifier::default().with(Tag(0x0008, 0x0030), VR::TM, "0900-1000");
        assert_eq!(
            page(Level::Study, hours),
            "/studies?limit=10&00080030=0900-1000"
        );
    }

    #[test]
    fn a_later_page_says_where_it_starts() {
        let request = FindRequest {
            level: Level::Study,
            identifier: Identifier::default(),
            max_matches: 10,
        };
        let query = Query::of(&request, &QUIRKS);
        assert_eq!(query.page(5, 10), "/studies?limit=5&offset=10");
    }
}
