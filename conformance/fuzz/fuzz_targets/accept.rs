//! An `Accept` field, one list whether it comes in one line or in several, and what each resource
//! makes of it.
#![no_main]

use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::dicomweb::accept::{Accept, Weight};
use drimbox::dicomweb::frames::{Alone, negotiate_frames};
use drimbox::dicomweb::negotiate::{
    Retrieved, negotiate_bulk, negotiate_instances, negotiate_model,
};
use drimbox::dicomweb::rendered::Asked;
use libfuzzer_sys::fuzz_target;

const STORED: [&str; 8] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.5",
];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    let Ok(accept) = Accept::parse(lines.iter().copied()) else {
        return;
    };
    assert_eq!(
        Accept::parse([lines.join(",").as_str()]).ok().as_ref(),
        Some(&accept),
        "lines are not one list"
    );

    let _ = Asked::parse("", &accept, false);
    let refused = !accept.entries.is_empty()
        && accept
            .entries
            .iter()
            .all(|entry| entry.weight == Weight::NONE);
    assert!(!refused || negotiate_model(&accept).is_err());
    assert!(!refused || negotiate_bulk(&accept).is_err());
    for stored in STORED {
        let stored = TransferSyntaxUid::parse(stored).expect("a UID");
        for alone in [Alone::No, Alone::Frame, Alone::Value] {
            if let Ok(frames) = negotiate_frames(&accept, &stored, alone) {
                assert!(!refused, "frames for a client that takes nothing");
                assert!(!frames.media_type.is_empty());
                assert!(!frames.alone || alone != Alone::No);
            }
        }
    }
    for resource in [Retrieved::Instance, Retrieved::Several] {
        let encoding = negotiate_instances(&accept, resource, Default::default());
        assert!(!refused || encoding.is_err(), "a client that takes nothing");
    }
});
