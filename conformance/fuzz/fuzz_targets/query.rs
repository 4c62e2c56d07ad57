//! The query string of a search.
#![no_main]

use drimbox::dicomweb::query::{IncludeFields, Level, Query, Scope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for level in [Level::Study, Level::Series, Level::Instance] {
        let Ok(query) = Query::parse(level, Scope::default(), text) else {
            continue;
        };
        for (at, key) in query.keys.iter().enumerate() {
            assert!(!key.path.is_empty(), "a key of no attribute");
            assert!(
                !key.value.to_identifier().is_empty(),
                "a matching key without value"
            );
            let twice = query.keys.iter().skip(at + 1).any(|k| k.path == key.path);
            assert!(!twice, "{:?} is a key twice", key.path);
        }
        if let IncludeFields::Listed(paths) = &query.include {
            assert!(paths.iter().all(|path| !path.is_empty()));
        }
    }
});
