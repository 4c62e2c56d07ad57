//! A line of the audit trail: what is read as a record stands for its bytes, and every export takes it.
#![no_main]

use drimbox::audit::atna::Source;
use drimbox::audit::stats::Mapping;
use drimbox::audit::{Event, Filter, Record, syslog};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(event) = serde_json::from_slice::<Event>(input) {
        let json = serde_json::to_string(&event).expect("an event is JSON");
        let again: Event = serde_json::from_str(&json).expect("what was written is read");
        assert_eq!(
            json,
            serde_json::to_string(&again).expect("an event is JSON")
        );
    }
    let Ok(record) = Record::parse(input) else {
        return;
    };
    let line = input.strip_suffix(b"\n").unwrap_or(input);
    assert_eq!(record.line().as_bytes(), line);
    let Some(event) = record.event() else { return };
    let source = Source::new(Some("Centre"), "drimbox");
    assert!(syslog::message(&record, &event, &source).starts_with('<'));
    let _ = Filter::default().admits(&event);
    let mut row = Vec::new();
    let mapping = Mapping::default();
    mapping.row(&mut row, &record, &event, None).expect("a row");
    assert!(row.ends_with(b"\r\n"));
});
