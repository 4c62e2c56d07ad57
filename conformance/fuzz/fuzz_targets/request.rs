//! What a DICOMweb client writes: path, query string, `Accept`.
#![no_main]

use drimbox::dicomweb::accept::Accept;
use drimbox::dicomweb::path;
use drimbox::dicomweb::query::{Level, Query, Scope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let _ = path::parse(text);
    let _ = Accept::parse([text]);
    for level in [Level::Study, Level::Series, Level::Instance] {
        if let Ok(query) = Query::parse(level, Scope::default(), text) {
            for key in query.keys {
                assert!(
                    !key.value.to_identifier().is_empty(),
                    "a matching key without value"
                );
            }
        }
    }
});
