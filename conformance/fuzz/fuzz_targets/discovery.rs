//! A discovery document and a key set, and a return from the login page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use psc_auth::{Callback, LoginChoice, RelyingParty};

#[path = "../psc.rs"]
#[allow(dead_code)]
mod psc;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let part = |bytes: Option<&[u8]>| bytes.filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec);
    let canned = psc::Canned {
        discovery: part(parts.next()),
        keys: part(parts.next()),
        ..psc::Canned::default()
    };
    let query = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let party = RelyingParty::new(psc::provider(canned));
    psc::run(async {
        let Ok(pending) = party.begin_login(LoginChoice::default()).await else {
            return;
        };
        assert_eq!(pending.url().scheme(), "https");
        if let Ok(callback) = Callback::parse(&query) {
            let outcome = party.complete_login(pending, callback).await;
            assert!(outcome.is_err(), "nobody knows the state of this login");
        }
    });
});
