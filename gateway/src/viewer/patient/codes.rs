//! One-time codes: six digits for one browser, good for a while and for few tries.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use psc_auth::UnixTime;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::access::patient::OneTimeCodes;
use crate::login::{NoRandom, random};

/// Wrong tries of one code.
const TRIES: u32 = 5;
/// Codes that one followed link may have sent.
const MOST_SENT: u32 = 3;

/// The code of one browser. `Debug` shows nothing.
#[derive(Default)]
pub(in crate::viewer) struct Codes(Mutex<State>);

#[derive(Default)]
struct State {
    asked: u32,
    current: Option<Current>,
}

struct Current {
    digest: [u8; 32],
    until: UnixTime,
    tries: u32,
}

/// The codes of a browser at a moment.
#[derive(Debug)]
pub(in crate::viewer) struct CodesNow<'a> {
    pub(in crate::viewer) codes: &'a Codes,
    pub(in crate::viewer) now: UnixTime,
}

impl Codes {
    /// Counts that one is asked for, whether the link names an exam or not; `false` when this link had its share.
    pub(in crate::viewer) fn ask(&self) -> bool {
        let mut state = self.0.lock();
        let has_room = state.asked < MOST_SENT;
        state.asked += u32::from(has_room);
        has_room
    }

    /// A new code in place of the one before.
    pub(in crate::viewer) fn renew(
        &self,
        now: UnixTime,
        lifetime: Duration,
    ) -> Result<Zeroizing<String>, NoRandom> {
        // 2^64 is so much larger than 10^6 that no digit is more likely than another.
        let number = u64::from_be_bytes(random::<8>()?) % 1_000_000;
        let code = Zeroizing::new(format!("{number:06}"));
        self.0.lock().current = Some(Current {
            digest: Sha256::digest(code.as_bytes()).into(),
            until: now.plus(lifetime),
            tries: 0,
        });
        Ok(code)
    }

    /// Whether one was asked for.
    pub(in crate::viewer) fn was_asked(&self) -> bool {
        self.0.lock().asked > 0
    }
}

impl OneTimeCodes for CodesNow<'_> {
    fn take(&self, code: &str) -> bool {
        let mut state = self.codes.0.lock();
        let Some(current) = &mut state.current else {
            return false;
        };
        current.tries += 1;
        let given: [u8; 32] = Sha256::digest(code.as_bytes()).into();
        let same: bool = given.ct_eq(&current.digest).into();
        let fits = same && self.now < current.until && current.tries <= TRIES;
        if fits || current.tries >= TRIES {
            state.current = None;
        }
        fits
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codes(***)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn take(codes: &Codes, code: &str, at: u64) -> bool {
        let now = UnixTime::from_secs(at);
        CodesNow { codes, now }.take(code)
    }

    fn new(codes: &Codes) -> Zeroizing<String> {
        assert!(codes.ask());
        codes.renew(UnixTime::from_secs(0), LIFETIME).unwrap()
    }

    #[test]
    fn a_code_opens_once() {
        let codes = Codes::default();
        assert!(!take(&codes, "", 0) && !codes.was_asked());
        let code = new(&codes);
        assert!(code.len() == 6 && codes.was_asked());
        assert!(take(&codes, &code, 1));
        assert!(!take(&codes, &code, 1));
    }

    #[test]
    fn a_code_is_void_after_its_time_or_a_few_tries() {
        let codes = Codes::default();
        let code = new(&codes);
        assert!(!take(&codes, &code, 600));
        let code = new(&codes);
        for _ in 0..TRIES {
            assert!(!take(&codes, "wrong", 1));
        }
        assert!(!take(&codes, &code, 1));
    }

    #[test]
    fn one_link_sends_few_codes_and_the_last_one_counts() {
        let codes = Codes::default();
        let (first, _, last) = (new(&codes), new(&codes), new(&codes));
        assert!(!codes.ask());
        assert!(*first == *last || !take(&codes, &first, 1));
        assert!(take(&codes, &last, 1));
    }
}
