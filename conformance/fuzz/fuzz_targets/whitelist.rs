//! A white list: what is read has one canonical form, which reads back as the same, and nothing that
//! was not signed is believed.
#![no_main]

use drimbox::trust::DistinguishedName;
use drimbox::trust::whitelist::{canonical_form, inspect};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(name) = text.parse::<DistinguishedName>()
    {
        assert_eq!(name.to_string().parse(), Ok(name), "a name reads back the same");
    }
    if let Ok(once) = canonical_form(bytes) {
        assert_eq!(canonical_form(&once).as_ref(), Ok(&once), "a canonical form is canonical");
    }
    let known = drimbox::net::tls::provider().signature_verification_algorithms;
    let _ = inspect(bytes, &known);
});
