//! The path of a request below the root of the service: what it names is what was written.
#![no_main]

use drimbox::archive::Scope;
use drimbox::dicomweb::path::{Target, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match parse(text) {
        Ok(Target::Frames(scope, list)) => {
            assert!(!list.is_empty() && list.iter().all(|number| *number > 0));
            assert!(text.starts_with(&path_of(&scope)), "{text}");
        }
        Ok(Target::Rendered { scope, frames, .. }) => {
            assert!(!frames.contains(&0));
            assert!(text.starts_with(&path_of(&scope)), "{text}");
        }
        Ok(Target::Metadata(scope)) => {
            assert_eq!(
                text.trim_end_matches('/'),
                format!("{}/metadata", path_of(&scope))
            );
        }
        Ok(Target::Bulk(scope, path)) => {
            let canonical = format!("{}/bulkdata/{path}", path_of(&scope));
            assert_eq!(parse(&canonical), Ok(Target::Bulk(scope, path)), "{text}");
        }
        // The canonical path of what was found leads to the same.
        Ok(Target::Retrieve(scope)) => {
            let canonical = path_of(&scope);
            assert_eq!(text.trim_end_matches('/'), canonical);
            assert_eq!(parse(&canonical), Ok(Target::Retrieve(scope)));
        }
        _ => {}
    }
});

fn path_of(scope: &Scope) -> String {
    match scope {
        Scope::Study(study) => format!("/studies/{study}"),
        Scope::Series(study, series) => format!("/studies/{study}/series/{series}"),
        Scope::Instance(study, series, instance) => {
            format!("/studies/{study}/series/{series}/instances/{instance}")
        }
    }
}
