//! One byte, the size of pieces, then an answer of a QIDO-RS server: cut into its matches alike however it arrives, and
//! each match that is DICOM JSON is a data set that reads and writes back to itself.
#![no_main]

use drimbox::archive::dicomweb::items::{Items, ItemsError};
use drimbox::dicom::json::read::read_object;
use drimbox::dicom::json::{JsonOptions, write_object};
use drimbox::dicom::reader::{DataSet, Limits};
use drimbox::dicom::syntax::Encoding;
use libfuzzer_sys::fuzz_target;

/// Bytes of a match.
const LIMIT: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let Some((&size, answer)) = input.split_first() else {
        return;
    };
    let whole = matches(answer, answer.len().max(1));
    assert_eq!(whole, matches(answer, usize::from(size).max(1)));
    for found in whole.0 {
        let Ok(bytes) = read_object(&found) else {
            continue;
        };
        let again = read_object(&written(&bytes)).expect("what was written reads");
        assert_eq!(written(&again), written(&bytes));
    }
});

/// The matches of an answer that arrives in pieces of this size, and how it ended.
fn matches(answer: &[u8], size: usize) -> (Vec<Vec<u8>>, Result<bool, ItemsError>) {
    let mut items = Items::new(LIMIT);
    let mut found = Vec::new();
    for piece in answer.chunks(size) {
        let pushed = items.push(piece, |object| {
            found.push(object.to_vec());
            Ok::<_, ItemsError>(())
        });
        if let Err(error) = pushed {
            return (found, Err(error));
        }
    }
    (found, Ok(items.is_done()))
}

fn written(bytes: &[u8]) -> Vec<u8> {
    let set = DataSet::parse(bytes, Encoding::ExplicitLittle, Limits::default());
    let set = set.expect("a data set of our own");
    let mut json = Vec::new();
    write_object(&mut json, set.elements(), &JsonOptions::default());
    json
}
