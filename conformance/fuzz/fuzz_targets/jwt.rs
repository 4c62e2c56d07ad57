//! A token that a peer presents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use psc_auth::{GateError, TokenGate};
use secrecy::SecretString;

#[path = "../psc.rs"]
#[allow(dead_code)]
mod psc;

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    // Either what anybody can send, or claims that PSC would have signed.
    let signed = first % 2 == 0;
    let token = if signed {
        psc::signed(rest)
    } else {
        String::from_utf8_lossy(rest).into_owned()
    };
    let gate = psc::gate(psc::Canned::default());
    let checked = psc::run(async { gate.check(&SecretString::from(token), None).await });
    match checked {
        // The introspection describes one token: no other passes.
        Ok(checked) => {
            assert!(signed, "a token that PSC did not sign");
            assert_eq!(checked.jti, "j");
            assert_eq!(checked.national_id.as_str(), "899700218896");
        }
        Err(GateError::Busy | GateError::Inactive) => panic!("PSC was asked and said yes"),
        Err(_) => {}
    }
});
