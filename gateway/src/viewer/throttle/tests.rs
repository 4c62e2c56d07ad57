#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use futures_util::future::BoxFuture;

use super::*;
use crate::store::{SharedAttempts, SledStore};

const NOW: u64 = 1_000_000;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(NOW + seconds)
}

fn study(number: u32) -> StudyUid {
    StudyUid::parse(&format!("1.{number}")).unwrap()
}

thread_local! {
    /// The alarms of this test.
    static ALARMS: RefCell<Vec<Lock>> = const { RefCell::new(Vec::new()) };
}

/// The alarms since the last look.
fn alarms() -> Vec<Lock> {
    ALARMS.take()
}

fn with(store: impl AttemptStore + 'static, now: UnixTime) -> Throttle {
    let alarm = |lock| ALARMS.with_borrow_mut(|alarms| alarms.push(lock));
    Throttle::with_alarm(Arc::new(store), now, alarm).unwrap()
}

fn throttle(dir: &std::path::Path, now: UnixTime) -> Throttle {
    with(SledStore::open(dir).unwrap().attempts().unwrap(), now)
}

fn node(dir: &std::path::Path, name: &str) -> Throttle {
    with(SharedAttempts::open(dir, name).unwrap(), at(0))
}

fn new() -> (tempfile::TempDir, Throttle) {
    let dir = tempfile::tempdir().unwrap();
    let throttle = throttle(dir.path(), at(0));
    (dir, throttle)
}

#[tokio::test]
async fn an_address_that_guesses_is_locked_out_and_the_others_are_not() {
    let (_dir, throttle) = new();
    let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    for number in 0..REFUSED_OF_ADDRESS.most {
        assert!(throttle.may_follow(one, at(0)).await);
        assert!(throttle.may_open(one, &study(number), at(0)).await);
        assert_eq!(alarms(), [], "{number}");
        throttle.refused(one, &study(number)).await;
    }
    assert_eq!(alarms(), [Lock::Address]);
    assert!(!throttle.may_follow(one, at(1)).await);
    assert!(!throttle.may_open(one, &study(0), at(1)).await);
    assert!(throttle.may_follow(other, at(1)).await);
    assert!(throttle.may_follow(one, at(3600)).await);
}

#[tokio::test]
async fn a_study_that_is_guessed_at_is_locked_whoever_asks_also_after_a_restart() {
    let (dir, before) = new();
    for address in 0..REFUSED_OF_STUDY.most {
        let address = IpAddr::from([198, 51, 100, address as u8]);
        assert!(before.may_open(address, &study(2), at(0)).await);
        before.refused(address, &study(2)).await;
    }
    assert_eq!(alarms(), [Lock::Study], "the lock is told once");
    drop(before);
    let after = throttle(dir.path(), at(60));
    let other = "203.0.113.1".parse().unwrap();
    assert!(!after.may_open(other, &study(2), at(61)).await);
    assert!(after.may_open(other, &study(3), at(61)).await);
    assert!(after.may_open(other, &study(2), at(3600)).await);
    drop(after);
    let later = throttle(dir.path(), at(24 * 3600 + 1));
    assert!(later.store.all(MOST).unwrap().is_empty());
}

#[tokio::test]
async fn attempts_at_once_get_no_further_than_one_after_the_other() {
    let (_dir, throttle) = new();
    let mut looked_at = 0;
    for n in 0..100 {
        let address = IpAddr::from([198, 51, 100, n]);
        looked_at += u32::from(throttle.may_open(address, &study(1), at(0)).await);
    }
    assert_eq!(looked_at, REFUSED_OF_STUDY.most);
}

#[tokio::test]
async fn whoever_has_the_right_link_is_never_locked_out() {
    let (_dir, throttle) = new();
    let address = "192.0.2.1".parse().unwrap();
    for _ in 0..10 * REFUSED_OF_STUDY.most {
        assert!(throttle.may_open(address, &study(1), at(0)).await);
        throttle.succeeded(address, &study(1));
    }
}

#[tokio::test]
async fn a_network_of_ipv6_counts_as_one() {
    let (dir, before) = new();
    for n in 0..REFUSED_OF_ADDRESS.most {
        let address: IpAddr = format!("2001:db8::{n:x}").parse().unwrap();
        assert!(before.may_open(address, &study(n), at(0)).await);
        before.refused(address, &study(n)).await;
    }
    drop(before);
    let after = throttle(dir.path(), at(0));
    let address = |text: &str| text.parse().unwrap();
    assert!(!after.may_follow(address("2001:db8::ffff"), at(0)).await);
    assert!(after.may_follow(address("2001:db8:0:1::1"), at(0)).await);
}

#[tokio::test]
async fn a_patient_who_guesses_is_locked_out_for_a_day_from_everywhere_also_after_a_restart() {
    let (dir, before) = new();
    for try_ in 0..REFUSED_PROOFS.most {
        let address = IpAddr::from([198, 51, 100, try_ as u8]);
        assert!(before.may_try(address, &study(2), at(0)).await);
        assert!(before.may_prove(&study(2), at(0)).await);
        before.failed(address, &study(2)).await;
    }
    assert_eq!(alarms(), [Lock::Exam], "the lock is told once");
    drop(before);
    let after = throttle(dir.path(), at(60));
    let other = "203.0.113.1".parse().unwrap();
    assert!(after.may_try(other, &study(2), at(61)).await);
    assert!(!after.may_prove(&study(2), at(61)).await);
    assert!(after.may_prove(&study(3), at(61)).await);
    // Professionals come in all the same.
    assert!(after.may_open(other, &study(2), at(61)).await);
    assert!(after.may_prove(&study(2), at(24 * 3600)).await);
}

#[tokio::test]
async fn wrong_links_of_patients_lock_their_address_and_no_exam() {
    let (dir, before) = new();
    let one = "192.0.2.1".parse().unwrap();
    for number in 0..REFUSED_OF_ADDRESS.most {
        assert!(before.may_try(one, &study(number), at(0)).await);
        before.mistaken(one, &study(number)).await;
    }
    assert_eq!(alarms(), [Lock::Address]);
    drop(before);
    let after = throttle(dir.path(), at(1));
    assert!(!after.may_try(one, &study(1), at(1)).await);
    let other = "192.0.2.2".parse().unwrap();
    assert!(after.may_try(other, &study(1), at(1)).await);
    assert!(after.may_prove(&study(1), at(1)).await);
}

#[tokio::test]
async fn what_tries_cost_their_address_does_not_tell_a_right_link_from_a_wrong_one() {
    let (dir, before) = new();
    let [right, wrong] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
    let mut looked_at = Vec::new();
    for _ in 0..2 * REFUSED_OF_ADDRESS.most {
        let tried = before.may_try(right, &study(1), at(0)).await;
        if tried && before.may_prove(&study(1), at(0)).await {
            before.failed(right, &study(1)).await;
        } else if tried {
            before.mistaken(right, &study(1)).await;
        }
        let same = before.may_try(wrong, &study(1), at(0)).await;
        if same {
            before.mistaken(wrong, &study(1)).await;
        }
        assert_eq!(tried, same);
        looked_at.push(tried);
    }
    let count = looked_at.iter().filter(|looked| **looked).count();
    assert_eq!(count as u32, TRIES_OF_ADDRESS.most);
    drop(before);
    let after = throttle(dir.path(), at(1));
    for address in [right, wrong] {
        assert!(!after.may_try(address, &study(1), at(1)).await);
        // Neither is locked out of the rest.
        assert!(after.may_follow(address, at(1)).await);
        assert!(after.may_try(address, &study(2), at(1)).await);
    }
}

#[tokio::test]
async fn a_mailbox_gets_few_codes_in_an_hour_also_after_a_restart() {
    let (dir, before) = new();
    for _ in 0..CODES_OF_STUDY.most {
        assert!(before.may_send(&study(1), at(0)).await);
    }
    drop(before);
    let after = throttle(dir.path(), at(1));
    assert!(!after.may_send(&study(1), at(1)).await);
    assert!(after.may_send(&study(2), at(1)).await);
    assert!(after.may_send(&study(1), at(3600)).await);
}

#[tokio::test]
async fn an_address_follows_no_more_links_for_a_restart() {
    let (dir, before) = new();
    let address = "192.0.2.1".parse().unwrap();
    for _ in 0..OF_ADDRESS.most {
        assert!(before.may_follow(address, at(0)).await);
    }
    drop(before);
    let after = throttle(dir.path(), at(1));
    assert!(!after.may_follow(address, at(1)).await);
    assert!(after.may_follow(address, at(600)).await);
}

#[tokio::test]
async fn clicks_on_a_locked_exam_do_not_lock_the_practice_that_makes_them() {
    let (_dir, throttle) = new();
    let practice = "192.0.2.1".parse().unwrap();
    for n in 0..REFUSED_OF_STUDY.most {
        let address = IpAddr::from([198, 51, 100, n as u8]);
        assert!(throttle.may_open(address, &study(1), at(0)).await);
        throttle.refused(address, &study(1)).await;
    }
    for _ in 0..2 * REFUSED_OF_ADDRESS.most {
        assert!(!throttle.may_open(practice, &study(1), at(1)).await);
    }
    assert!(throttle.may_open(practice, &study(2), at(1)).await);
    assert!(throttle.may_follow(practice, at(1)).await);
}

#[test]
fn a_full_table_forgets_who_did_little_and_keeps_every_lock() {
    let counters = Counters::with_room_for(20);
    let of = |number| Subject::Proofs(study(number));
    let lock = |subject: &Subject| while counters.take(subject, at(0)) {};
    lock(&of(0));
    assert!(counters.take(&of(1), at(0)));
    assert!(counters.take(&of(1), at(0)));
    for number in 100..200 {
        assert!(counters.take(&of(number), at(0)), "{number}");
    }
    assert!(!counters.take(&of(0), at(0)));
    let kept = counters.get(&of(1)).unwrap();
    assert_eq!(kept.count, 2, "those who did less went first");
    // Where all are locked, whoever comes anew waits, and none of the locks opens.
    (0..200).for_each(|number| lock(&of(number)));
    let known = counters.counters.lock().len();
    assert_eq!(known, 20);
    assert!(!counters.take(&of(900), at(0)));
    assert!(!counters.take(&of(0), at(0)));
    assert!(counters.take(&of(900), at(24 * 3600)));
}

#[tokio::test]
async fn what_was_refused_on_one_node_counts_on_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (node(dir.path(), "one"), node(dir.path(), "two"));
    let address = |n: u32| IpAddr::from([198, 51, 100, n as u8]);
    for n in 0..REFUSED_PROOFS.most {
        let node = if n % 2 == 0 { &one } else { &two };
        assert!(node.may_prove(&study(1), at(0)).await, "{n}");
        node.failed(address(n), &study(1)).await;
    }
    assert_eq!(alarms(), [], "neither has counted enough by itself");
    for node in [&one, &two] {
        for _ in 0..2 {
            assert!(!node.may_prove(&study(1), at(1)).await);
        }
        assert_eq!(alarms(), [Lock::Exam], "told by each, once");
        assert!(node.may_prove(&study(2), at(1)).await);
    }
    // A node that starts again, and one that is new.
    for name in ["one", "three"] {
        let node = node(dir.path(), name);
        assert!(!node.may_prove(&study(1), at(2)).await, "{name}");
    }
}

#[tokio::test]
async fn every_limit_holds_over_all_nodes_together() {
    let (here, there) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    type Attempt = for<'a> fn(&'a Throttle, IpAddr, u32) -> BoxFuture<'a, bool>;
    // The attempt that nodes share, what is closed by it, and to whom it stays open.
    let limits: [(&str, u32, Attempt, Attempt); 6] = [
        (
            "links that an address follows",
            OF_ADDRESS.most,
            |node, address, _| Box::pin(node.may_follow(address, at(0))),
            |node, address, _| Box::pin(node.may_follow(address, at(1))),
        ),
        (
            "refusals of an address, and what it follows",
            REFUSED_OF_ADDRESS.most,
            |node, address, n| {
                Box::pin(async move {
                    let looked = node.may_open(address, &study(n), at(0)).await;
                    node.refused(address, &study(n)).await;
                    looked
                })
            },
            |node, address, _| Box::pin(node.may_follow(address, at(1))),
        ),
        (
            "refusals of an address, and what it opens",
            REFUSED_OF_ADDRESS.most,
            |node, address, n| {
                Box::pin(async move {
                    let looked = node.may_try(address, &study(n), at(0)).await;
                    node.mistaken(address, &study(n)).await;
                    looked
                })
            },
            |node, address, _| {
                Box::pin(async move { node.may_open(address, &study(500), at(1)).await })
            },
        ),
        (
            "links of professionals to a study",
            REFUSED_OF_STUDY.most,
            |node, address, n| {
                let address = if address == IpAddr::from([192, 0, 2, 1]) {
                    IpAddr::from([198, 51, 100, n as u8])
                } else {
                    address
                };
                Box::pin(async move {
                    let looked = node.may_open(address, &study(1), at(0)).await;
                    node.refused(address, &study(1)).await;
                    looked
                })
            },
            |node, address, _| {
                let own = address == IpAddr::from([192, 0, 2, 1]);
                let asked = if own { study(1) } else { study(2) };
                Box::pin(async move { node.may_open(address, &asked, at(1)).await })
            },
        ),
        (
            "what patients at an address give for a study",
            TRIES_OF_ADDRESS.most,
            |node, address, _| {
                Box::pin(async move {
                    let looked = node.may_try(address, &study(1), at(0)).await;
                    node.mistaken(address, &study(1)).await;
                    looked
                })
            },
            |node, address, _| {
                Box::pin(async move { node.may_try(address, &study(1), at(1)).await })
            },
        ),
        (
            "codes for a study",
            CODES_OF_STUDY.most,
            |node, _, _| Box::pin(async move { node.may_send(&study(1), at(0)).await }),
            |node, address, _| {
                let own = address == IpAddr::from([192, 0, 2, 1]);
                let asked = if own { study(1) } else { study(2) };
                Box::pin(async move { node.may_send(&asked, at(1)).await })
            },
        ),
    ];
    for (what, most, attempt, after) in limits {
        let dir = tempfile::tempdir().unwrap();
        let nodes = [node(dir.path(), "one"), node(dir.path(), "two")];
        for n in 0..most {
            let node = if n % 2 == 0 { &nodes[0] } else { &nodes[1] };
            assert!(attempt(node, here, n).await, "{what}: {n}");
        }
        for node in &nodes {
            assert!(!after(node, here, 0).await, "{what}");
            assert!(after(node, there, 0).await, "{what}: somebody else");
        }
    }
}
