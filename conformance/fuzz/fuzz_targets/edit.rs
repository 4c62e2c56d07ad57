//! The head of an object from outside: with one identifier more, what was a data set still is one.
#![no_main]

use dicom_core::{Tag, VR};
use drimbox::dicom::edit::{Edit, edit_head};
use drimbox::dicom::reader::{DataSet, Limits};
use drimbox::dicom::syntax::Encoding;
use drimbox::dicom::write::put_element;
use libfuzzer_sys::fuzz_target;

const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1002);

fuzz_target!(|head: &[u8]| {
    let mut item = Vec::new();
    put_element(&mut item, Tag(0x0010, 0x0020), VR::LO, b"ADDED");
    let edits = [
        Edit::AppendItem {
            sequence: OTHER_PATIENT_IDS,
            item,
        },
        Edit::Remove(Tag(0x0010, 0x4000)),
    ];
    let Ok(edited) = edit_head(head, &edits, Limits::default()) else {
        return;
    };
    // What follows the changes is not looked at.
    if DataSet::parse(head, Encoding::ExplicitLittle, Limits::default()).is_err() {
        return;
    }
    let set =
        DataSet::parse(&edited, Encoding::ExplicitLittle, Limits::default()).expect("a data set");
    let last = set
        .elements()
        .items(OTHER_PATIENT_IDS)
        .last()
        .expect("an item");
    let id = last
        .find(Tag(0x0010, 0x0020))
        .and_then(|element| element.bytes());
    assert_eq!(id, Some(&b"ADDED "[..]));
});
