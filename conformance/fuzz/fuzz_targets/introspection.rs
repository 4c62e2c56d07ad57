//! The answer of the introspection, and UserInfo after it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use psc_auth::TokenGate;
use secrecy::SecretString;

#[path = "../psc.rs"]
#[allow(dead_code)]
mod psc;

static TOKEN: LazyLock<String> = LazyLock::new(|| psc::signed(&psc::claims(psc::NOW)));

fuzz_target!(|input: &[u8]| {
    let canned = psc::Canned {
        introspection: Some(input.to_vec()),
        ..psc::Canned::default()
    };
    let gate = psc::gate(canned);
    let token = SecretString::from(TOKEN.as_str());
    if psc::run(async { gate.check(&token, None).await }).is_ok() {
        let text = String::from_utf8_lossy(input);
        assert!(text.contains("active"), "accepted without being active");
    }
});
