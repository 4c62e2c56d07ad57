//! When to renew and when to try again: never a number of days, always a part of the certificate's life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Random, UnixTime, times};

/// First and last wait between failed attempts.
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LAST_RETRY: Duration = Duration::from_secs(6 * 3_600);
/// Longest time that a new certificate is left alone whatever happens.
const LEAST_REST: Duration = Duration::from_secs(3_600);

/// When a certificate is valid (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// Its first second.
    pub not_before: UnixTime,
    /// Its last second.
    pub not_after: UnixTime,
}

/// How far a certificate is through its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// Before two thirds.
    Fresh,
    /// From two thirds on: renewal is due.
    Due,
    /// From three quarters on: renewal should have happened.
    Late,
    /// From nine tenths on.
    Critical,
    /// In its last twentieth: renewed whatever the authority suggests.
    Emergency,
    /// Over.
    Expired,
}

impl Validity {
    /// Its whole life.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// What is left of it at `now`.
    #[must_use]
    pub fn left(&self, now: UnixTime) -> Duration {
        self.not_after.since(now)
    }

    /// How far through its life it is at `now`.
    #[must_use]
    pub fn age(&self, now: UnixTime) -> Age {
        let (life, left) = (self.life(), self.left(now));
        if left.is_zero() {
            Age::Expired
        } else if left < life / 20 {
            Age::Emergency
        } else if left <= life / 10 {
            Age::Critical
        } else if left <= life / 4 {
            Age::Late
        } else if left <= life / 3 {
            Age::Due
        } else {
            Age::Fresh
        }
    }

    /// The moment of renewal without word from the authority: two thirds of the life, and up to a twentieth of it
    /// later so that boxes do not all come at once.
    pub(crate) fn due(&self, random: &dyn Random) -> UnixTime {
        let life = self.life();
        self.not_before
            .plus(life * 2 / 3)
            .plus(times(life / 20, random.fraction()))
    }

    /// The least time between two certificates: an hour, or a twentieth of a life that is shorter than a day. An authority
    /// whose suggestion always lies in the past, or a clock that is wrong, is not asked again and again.
    pub(crate) fn rest(&self) -> Duration {
        (self.life() / 20).min(LEAST_REST)
    }

    /// From then on nothing else counts.
    pub(crate) fn emergency(&self) -> UnixTime {
        self.not_before
            .plus(self.life() - self.life() / 20)
            .plus(Duration::from_secs(1))
    }
}

/// The window that the authority suggests (RFC 9773 §4.2), and the moment chosen in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    start: UnixTime,
    end: UnixTime,
    /// Drawn once for a window: drawing again at each look would favour early moments.
    pub(crate) chosen: UnixTime,
}

impl Window {
    /// The moment in this window; the one of `before` when the window is the same. `None` for a window that ends
    /// before it starts (RFC 9773 §4.2: treated as absent).
    pub(crate) fn choose(
        start: UnixTime,
        end: UnixTime,
        before: Option<&Self>,
        random: &dyn Random,
    ) -> Option<Self> {
        if end <= start {
            return None;
        }
        if let Some(before) = before
            && (before.start, before.end) == (start, end)
        {
            return Some(before.clone());
        }
        let chosen = start.plus(times(end.since(start), random.fraction()));
        Some(Self { start, end, chosen })
    }
}

/// How long to wait after the `failures`-th failure in a row: doubling from one minute to six hours, less when the
/// certificate at hand has little time `left`; up to a tenth more by chance.
pub(crate) fn backoff(failures: u32, left: Option<Duration>, random: &dyn Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let mut wait = (FIRST_RETRY * 2u32.pow(doublings)).min(LAST_RETRY);
    if let Some(left) = left {
        wait = wait.min((left / 8).max(FIRST_RETRY));
    }
    wait + times(wait / 10, random.fraction())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Fixed(f64);

    impl Random for Fixed {
        fn fraction(&self) -> f64 {
            self.0
        }
    }

    const DAY: u64 = 86_400;

    fn days(from: u64, until: u64) -> Validity {
        Validity {
            not_before: UnixTime::from_secs(from * DAY),
            not_after: UnixTime::from_secs(until * DAY),
        }
    }

    #[test]
    fn a_certificate_ages_by_parts_of_its_life() {
        let age = |day| days(100, 160).age(UnixTime::from_secs(day * DAY));
        assert_eq!(age(100), Age::Fresh);
        assert_eq!(age(139), Age::Fresh);
        assert_eq!(age(140), Age::Due);
        assert_eq!(age(145), Age::Late);
        assert_eq!(age(154), Age::Critical);
        assert_eq!(age(158), Age::Emergency);
        assert_eq!(age(160), Age::Expired);
    }

    #[test]
    fn boxes_that_were_installed_together_do_not_all_come_at_once() {
        let due = |chance| days(100, 160).due(&Fixed(chance));
        assert_eq!(due(0.5).since(due(0.0)), Duration::from_secs(DAY * 3 / 2));
        let wait = |chance| backoff(20, None, &Fixed(chance));
        let hours = |hours: f64| Duration::from_secs_f64(hours * 3_600.0);
        assert_eq!([wait(0.0), wait(0.5)], [hours(6.0), hours(6.3)]);
    }

    #[test]
    fn the_moment_in_a_window_is_drawn_once() {
        let at = UnixTime::from_secs;
        let first = Window::choose(at(100), at(200), None, &Fixed(0.5)).unwrap();
        assert_eq!(first.chosen, at(150));
        let same = Window::choose(at(100), at(200), Some(&first), &Fixed(0.1)).unwrap();
        assert_eq!(same.chosen, at(150));
        let moved = Window::choose(at(100), at(110), Some(&first), &Fixed(0.1)).unwrap();
        assert_eq!(moved.chosen, at(101));
        assert!(Window::choose(at(200), at(100), None, &Fixed(0.5)).is_none());
    }

    #[test]
    fn waits_double_up_to_six_hours_and_shrink_when_time_is_short() {
        let wait = |failures, left| backoff(failures, left, &Fixed(0.0)).as_secs();
        assert_eq!(
            [wait(1, None), wait(2, None), wait(5, None)],
            [60, 120, 960]
        );
        assert_eq!([wait(10, None), wait(u32::MAX, None)], [21_600, 21_600]);
        assert_eq!(wait(10, Some(Duration::from_secs(8_000))), 1_000);
        assert_eq!(wait(10, Some(Duration::ZERO)), 60);
    }

    proptest! {
        #[test]
        fn renewal_is_always_due_before_the_emergency(life in 1u64..1_000, chance in 0.0f64..1.0) {
            let validity = days(1, 1 + life);
            let due = validity.due(&Fixed(chance));
            prop_assert!(due < validity.emergency());
            prop_assert_eq!(validity.age(validity.emergency()), Age::Emergency);
            prop_assert!(validity.age(due) >= Age::Due);
        }
    }
}
