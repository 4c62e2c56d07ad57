//! A revocation list (RFC 5280 §5): read or refused, with never more entries than bytes can hold.
#![no_main]

use drimbox::trust::crl::inspect;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = inspect(bytes) {
        assert!(entries * 18 <= bytes.len(), "an entry has a serial number and a date");
    }
});
