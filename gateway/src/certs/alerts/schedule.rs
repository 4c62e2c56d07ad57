//! When people are told that a certificate is about to expire.

use time::{Duration, OffsetDateTime};

use crate::certs::facts::Facts;
use crate::certs::place::Role;

/// Days left at which an alert is due; below the last one, each day.
const DAYS: [i64; 6] = [90, 60, 30, 15, 7, 3];
/// Shares of the life of a market certificate after which an alert is due, as fractions; after the last
/// one, each day. Its life is a matter of weeks: days left would say nothing.
const SHARES: [(i64, i64); 3] = [(2, 3), (3, 4), (9, 10)];

/// One moment at which an alert is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Grows with time for one certificate: what has a smaller one was overtaken.
    pub order: i64,
    /// For people: `J-30`, `J+2`, `3/4 de sa vie`.
    pub name: String,
}

/// The latest step that a certificate has reached at `now`; `None` while there is time.
///
/// `renewed_here`: the gateway renews it itself, which begins after two thirds of its life. That is then
/// no news; that it is still the same certificate after three quarters is.
#[must_use]
pub fn step(facts: &Facts, role: Role, renewed_here: bool, now: OffsetDateTime) -> Option<Step> {
    match role {
        Role::Market => by_share(facts, renewed_here, now),
        _ => by_days(facts.days_left(now)),
    }
}

/// The latest step of a certificate that others present, once it is spoken of.
#[must_use]
pub fn step_of_others(facts: &Facts, now: OffsetDateTime) -> Option<Step> {
    by_days(facts.days_left(now))
}

fn by_days(left: i64) -> Option<Step> {
    let named = |left: i64| Step {
        order: -left,
        name: days_name(left),
    };
    let last = DAYS.last().copied().unwrap_or_default();
    if left < last {
        return Some(named(left));
    }
    DAYS.iter()
        .rev()
        .find(|days| left <= **days)
        .map(|days| named(*days))
}

fn by_share(facts: &Facts, renewed_here: bool, now: OffsetDateTime) -> Option<Step> {
    let life = (facts.not_after - facts.not_before).whole_seconds();
    let mut reached = None;
    for (rank, (part, of)) in SHARES.iter().enumerate() {
        let begins = facts.not_before + Duration::seconds(life / of * part);
        if now >= begins && !(rank == 0 && renewed_here) {
            reached = Some((rank, begins, part, of));
        }
    }
    let (rank, begins, part, of) = reached?;
    let mut order = i64::try_from(rank).unwrap_or(i64::MAX);
    let days = (now - begins).whole_days();
    if rank + 1 == SHARES.len() && days > 0 {
        order = order.saturating_add(days);
        return Some(Step {
            order,
            name: days_name(facts.days_left(now)),
        });
    }
    Some(Step {
        order,
        name: format!("{part}/{of} de sa vie"),
    })
}

fn days_name(left: i64) -> String {
    match left {
        0 => "jour J".to_owned(),
        left if left > 0 => format!("J-{left}"),
        left => format!("J+{}", left.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::certs::alerts::testdata::{START, facts};

    #[test]
    fn people_are_told_at_the_days_of_the_schedule_then_each_day() {
        let mut names = Vec::new();
        for left in (-2..100).rev() {
            let name = by_days(left).map(|step| step.name).unwrap_or_default();
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        let wanted = [
            "", "J-90", "J-60", "J-30", "J-15", "J-7", "J-3", "J-2", "J-1", "jour J", "J+1", "J+2",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn the_life_of_a_market_certificate_counts_by_shares() {
        let facts = facts("m", 40);
        let told = |day, renewed_here| {
            let step = step(
                &facts,
                Role::Market,
                renewed_here,
                START + Duration::days(day),
            );
            step.map(|step| step.name).unwrap_or_default()
        };
        assert_eq!(told(26, false), "");
        assert_eq!(told(27, false), "2/3 de sa vie");
        assert_eq!(told(27, true), "", "the gateway is about to renew it");
        assert_eq!(told(30, true), "3/4 de sa vie");
        assert_eq!(told(36, true), "9/10 de sa vie");
        assert_eq!(told(37, true), "J-3");
        assert_eq!(told(40, true), "jour J");
        assert_eq!(told(41, true), "J+1");
    }

    #[test]
    fn a_later_step_has_a_greater_order() {
        let (igc, market) = (facts("a", 1095), facts("b", 45));
        for (facts, role) in [(igc, Role::ServSsl), (market, Role::Market)] {
            let mut last: Option<Step> = None;
            for hour in 0..1110 * 24 {
                let now = START + Duration::hours(hour);
                let next = step(&facts, role, false, now);
                if let (Some(last), Some(next)) = (&last, &next) {
                    assert!(next.order >= last.order);
                    assert!(next.name == last.name || next.order > last.order || last.order > 2);
                }
                last = next.or(last);
            }
        }
    }
}
