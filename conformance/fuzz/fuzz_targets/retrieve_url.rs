//! A Retrieve URL of a forged KOS: whatever is let through leads to the listed host, an allowed port and
//! the series that it stands for.
#![no_main]

use drimbox::archive::peer::{Listed, PeerDirectory, SeriesLocation};
use drimbox::dicom::uid::{SeriesUid, StudyUid};
use libfuzzer_sys::fuzz_target;

struct One;

impl PeerDirectory for One {
    fn lists(&self, db_host: &str) -> Listed {
        match db_host {
            "db1.example.org" => Listed::Yes,
            _ => Listed::No,
        }
    }
}

fuzz_target!(|text: &str| {
    let study = StudyUid::parse("1.2.3").expect("a UID");
    let series = SeriesUid::parse("1.2.3.4").expect("a UID");
    let Ok(found) = SeriesLocation::parse(text, &study, &series, &[443, 8443], &One) else {
        return;
    };
    assert_eq!(found.host(), "db1.example.org");
    assert!(matches!(found.port(), 443 | 8443));
    assert!(found.path().starts_with('/'));
    assert!(found.path().ends_with("/studies/1.2.3/series/1.2.3.4"));
    assert!(found.path().bytes().all(|byte| byte.is_ascii_graphic()));
});
