//! UserInfo, and the choice of a situation d'exercice in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use psc_auth::UserInfo;

fuzz_target!(|input: &[u8]| {
    let Ok(user) = UserInfo::parse(input) else {
        return;
    };
    for situation in user.situations() {
        let id = situation.id.to_string();
        let again = user.situation(&id).expect("a situation of this user");
        assert_eq!(again.id.to_string(), id);
    }
    if let Some(only) = user.only_situation() {
        assert!(user.situation(&only.to_string()).is_some());
    }
    let _ = user.rpps();
    let _ = format!("{user:?}");
});
