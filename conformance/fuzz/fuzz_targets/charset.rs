//! Text in any declared set: it becomes text, and text that is encoded is decoded to itself.
#![no_main]

use dicom_core::VR;
use drimbox::dicom::charset::{CharacterSet, Repertoire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let declared = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let bytes = parts.next().unwrap_or_default();
    for fallback in [Repertoire::Latin1, Repertoire::Utf8, Repertoire::Gb18030] {
        let set = CharacterSet::declared(&declared, fallback);
        for vr in [VR::PN, VR::LO, VR::UT] {
            let text = set.decode(bytes, vr);
            let _ = set.values(bytes, vr);
            if let Ok(encoded) = set.encode(&text, vr) {
                assert_eq!(set.decode(&encoded, vr), text, "{declared} {vr:?}");
            }
        }
    }
});
