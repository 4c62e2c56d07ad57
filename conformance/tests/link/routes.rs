//! Every route of the studies service, as a path leads to it.

use std::collections::BTreeSet;

use conformance::samples::{Exam, Series};
use drimbox::archive::Scope;
use drimbox::dicomweb::path::{Target, parse};

use crate::support::{instance_path, series_path, study_path};

pub const ROOT: &str = "/dicom-web";
/// Searches of all that a PACS has.
pub const OF_ALL: [&str; 3] = ["/studies", "/series", "/instances"];
/// What follows the path of a study.
pub const OF_STUDY: [&str; 8] = [
    "",
    "/metadata",
    "/rendered",
    "/thumbnail",
    "/bulkdata",
    "/pixeldata",
    "/series",
    "/instances",
];
/// What follows the path of a series.
pub const OF_SERIES: [&str; 7] = [
    "",
    "/metadata",
    "/rendered",
    "/thumbnail",
    "/bulkdata",
    "/pixeldata",
    "/instances",
];
/// What follows the path of an instance.
pub const OF_INSTANCE: [&str; 13] = [
    "",
    "/metadata",
    "/rendered",
    "/thumbnail",
    "/bulkdata",
    "/bulkdata/7FE00010",
    "/pixeldata",
    "/frames/1",
    "/frames/1,1",
    "/frames/1/rendered",
    "/frames/1,1/rendered",
    "/frames/1/thumbnail",
    "/frames/1,1/thumbnail",
];

/// Whether a route searches.
pub fn is_search(rest: &str) -> bool {
    matches!(rest, "/series" | "/instances")
}

/// Every route that retrieves something of a series.
pub fn retrievals(exam: &Exam, series: &Series) -> Vec<String> {
    let below = OF_SERIES.iter().filter(|rest| !is_search(rest));
    let of_series = below.map(|rest| ROOT.to_owned() + &series_path(exam, series) + rest);
    let of_instance =
        OF_INSTANCE.map(|rest| ROOT.to_owned() + &instance_path(exam, series, 0) + rest);
    of_series.chain(of_instance).collect()
}

/// The searches within a study, and within one of its series.
pub fn searches(exam: &Exam, series: &Series) -> Vec<String> {
    let below = |path: String, rests: &[&str]| {
        let searches = rests.iter().filter(|rest| is_search(rest));
        let paths = searches.map(|rest| format!("{ROOT}{path}{rest}"));
        paths.collect::<Vec<_>>()
    };
    [
        below(study_path(exam), &OF_STUDY),
        below(series_path(exam, series), &OF_SERIES),
    ]
    .concat()
}

/// Every route about some exams.
pub fn everything(exams: &[&Exam]) -> Vec<String> {
    let mut routes = OF_ALL.map(|path| ROOT.to_owned() + path).to_vec();
    for exam in exams {
        let of_study = OF_STUDY.map(|rest| ROOT.to_owned() + &study_path(exam) + rest);
        routes.extend(of_study);
        for series in &exam.series {
            routes.extend(retrievals(exam, series));
            routes.push(format!("{ROOT}{}/instances", series_path(exam, series)));
        }
    }
    routes
}

/// How many UIDs a resource is named by.
fn level(target: &Target) -> usize {
    match target {
        Target::Search { study, series, .. } => {
            usize::from(study.is_some()) + usize::from(series.is_some())
        }
        Target::Retrieve(scope)
        | Target::Metadata(scope)
        | Target::Frames(scope, _)
        | Target::Rendered { scope, .. }
        | Target::Bulk(scope, _)
        | Target::AllBulk(scope)
        | Target::Pixels(scope) => match scope {
            Scope::Study(_) => 1,
            Scope::Series(..) => 2,
            Scope::Instance(..) => 3,
        },
    }
}

/// Every sequence of up to three of these words.
fn sequences<'w>(words: &[&'w str]) -> Vec<Vec<&'w str>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..3 {
        let longer = last.iter().flat_map(|begun: &Vec<&str>| {
            let with = |word: &&'w str| [begun.as_slice(), &[*word]].concat();
            words.iter().map(with).collect::<Vec<_>>()
        });
        last = longer.collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[test]
fn every_route_that_the_paths_know_is_in_the_table() {
    let source = include_str!("../../../gateway/src/dicomweb/path.rs");
    let (parser, _) = source.split_once("#[cfg(test)]").unwrap();
    let is_word = |text: &&str| {
        let lower = text.bytes().all(|byte| byte.is_ascii_lowercase());
        lower && !text.is_empty()
    };
    let known: BTreeSet<&str> = parser.split('"').filter(is_word).collect();
    for word in ["studies", "series", "frames", "pixeldata"] {
        assert!(known.contains(word), "the parser is read: {word}");
    }
    let words: Vec<&str> = known.into_iter().chain(["1,1", "7FE00010"]).collect();
    // A number is a UID too: only below an instance is it nothing else than a frame.
    let below_instance = [words.as_slice(), &["1"]].concat();
    for (prefix, count, words, table) in [
        ("", 0, &words, OF_ALL.as_slice()),
        ("/studies/1.2", 1, &words, &OF_STUDY),
        ("/studies/1.2/series/1.3", 2, &words, &OF_SERIES),
        (
            "/studies/1.2/series/1.3/instances/1.4",
            3,
            &below_instance,
            &OF_INSTANCE,
        ),
    ] {
        let rests = sequences(words).into_iter().map(|rest| {
            let rest: Vec<String> = rest.iter().map(|word| format!("/{word}")).collect();
            rest.concat()
        });
        let leads = |rest: &String| {
            let target = parse(&format!("{prefix}{rest}"));
            target.is_ok_and(|target| level(&target) == count)
        };
        let found: BTreeSet<String> = rests.filter(leads).collect();
        let table: BTreeSet<String> = table.iter().map(|rest| (*rest).to_owned()).collect();
        assert_eq!(found, table, "below {prefix:?}");
    }
}
