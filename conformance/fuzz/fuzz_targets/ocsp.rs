//! An answer of an OCSP responder (RFC 6960 §4.2): read or refused, with never more statements and signers than bytes
//! can hold.
#![no_main]

use drimbox::trust::ocsp::inspect;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(seen) = inspect(bytes) {
        // Two hashes of 20 bytes, their algorithm, a moment.
        assert!(seen.statements * 60 <= bytes.len(), "{seen:?}");
        assert!(seen.signers <= 4, "{seen:?}");
        // What follows the answer is no part of it.
        let longer = [bytes, b"\x30\x00"].concat();
        assert_eq!(inspect(&longer).ok(), Some(seen));
    }
});
