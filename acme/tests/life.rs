//! The life of a certificate, from the first start to years later, with an authority in the same process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::time::Duration;

use acme::{Age, Cause, Clock as _, KeyType, Reason, UnixTime};
use support::{Bench, NAME, START};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn the_first_start_gets_a_certificate_and_leaves_nothing_of_the_order() {
    let bench = Bench::new(1);
    let status = bench.start().tick().await;

    assert!(status.renewed, "{status:?}");
    assert_eq!(status.last_failure, None);
    assert_eq!(bench.served.count(), 1);
    assert_eq!(bench.authority().issued(), 1);
    assert_eq!(bench.authority().contact(0)[0], "mailto:it@centre.example");
    let books = bench.authority().books.lock().unwrap();
    assert_eq!(books.certificates[0].names, [NAME]);
    assert!(!books.certificates[0].rsa);
    drop(books);
    assert_eq!(bench.files(&format!("names/{NAME}")), ["current", "state"]);
    assert!(bench.files("challenges").is_empty());
}

#[tokio::test]
async fn a_restart_serves_what_is_there_and_asks_for_nothing() {
    let bench = Bench::new(1);
    bench.start().tick().await;
    let status = bench.start().tick().await;

    assert!(!status.renewed);
    assert_eq!(bench.served.count(), 2);
    assert_eq!(
        (bench.authority().issued(), bench.authority().accounts()),
        (1, 1)
    );
    let same = bench.served.installed.lock().unwrap();
    assert_eq!(same[0].chain_pem, same[1].chain_pem);
    let swaps = bench.served.swaps.lock().unwrap();
    assert_eq!(swaps.len(), 1, "a restart is no new certificate");
    assert!(swaps[0].0.is_none());
}

#[tokio::test]
async fn a_suggested_window_stays_while_the_authority_cannot_be_asked() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| b.window = Some((0.3, 0.4)));
    let life = bench.start();
    let first = life.tick().await;
    assert_eq!(first.next.1, Reason::Suggested);
    bench.authority().behave(|b| b.unreachable = true);
    bench.clock.set(first.wake);
    let later = life.tick().await;
    assert_eq!(later.next, first.next);
    let restarted = bench.start().tick().await;
    assert_eq!(restarted.next, first.next);
}

#[tokio::test]
async fn an_authority_is_told_of_other_contact_addresses_with_the_next_order() {
    let bench = Bench::new(1);
    bench.start().tick().await;
    let mut configured = bench.configured();
    configured[0].contact = vec!["mailto:direction@centre.example".into()];
    let life = bench.start_with(bench.transport(), bench.store(), configured);
    life.renew_now().await.unwrap();
    assert!(life.tick().await.renewed);
    let told = bench.authority().contact(0);
    assert_eq!(told[0], "mailto:direction@centre.example");
    assert_eq!(bench.authority().accounts(), 1);
}

#[tokio::test]
async fn renewal_is_due_at_two_thirds_of_the_life_with_a_key_of_its_own() {
    let mut bench = Bench::new(1);
    let life = bench.start();
    let first = life.tick().await;
    let (at, reason) = first.next;
    assert_eq!(reason, Reason::TwoThirds);
    let validity = first.validity.unwrap();
    assert_eq!(validity.age(at), Age::Due);

    bench.clock.set(UnixTime::from_secs(at.as_secs() - 10));
    assert!(!life.tick().await.renewed);
    bench.clock.set(at);
    assert!(life.tick().await.renewed);
    bench.key_type = KeyType::Rsa2048;
    let after = bench.start().tick().await;
    bench.clock.set(after.next.0);
    assert!(bench.start().tick().await.renewed);

    let books = bench.authority().books.lock().unwrap();
    let keys: std::collections::HashSet<_> = books
        .certificates
        .iter()
        .map(|c| c.public_key.clone())
        .collect();
    assert_eq!((books.certificates.len(), keys.len()), (3, 3));
    assert_eq!(
        books.certificates.iter().map(|c| c.rsa).collect::<Vec<_>>(),
        [false, false, true]
    );
}

#[tokio::test]
async fn the_authority_s_window_comes_before_two_thirds_and_the_order_says_what_it_replaces() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| {
        b.window = Some((0.3, 0.4));
        b.window_retry_after = false;
    });
    let life = bench.start();
    let first = life.tick().await;
    let (at, reason) = first.next;
    assert_eq!(reason, Reason::Suggested);
    let passed = at.since(first.validity.unwrap().not_before);
    assert!((DAY * 27..DAY * 36).contains(&passed), "{passed:?}");
    // Asked again long before: the authority may change its mind.
    assert!(first.wake < at);

    // It does: the certificate is to be replaced at once.
    bench
        .authority()
        .behave(|b| b.window = Some((0.0, 0.000_001)));
    bench.clock.set(first.wake);
    assert!(life.tick().await.renewed);
    let books = bench.authority().books.lock().unwrap();
    assert!(books.certificates[1].replaces.is_some());
}

#[tokio::test]
async fn a_new_certificate_is_left_alone_for_a_while_whatever_the_authority_suggests() {
    // The suggestion lies in the past for each new certificate too.
    let bench = Bench::new(1);
    bench
        .authority()
        .behave(|b| b.window = Some((0.0, 0.000_001)));
    let start = bench.clock.now();
    let mut status = bench.start().tick().await;
    while bench.clock.now() < start.plus(DAY) {
        assert!(status.wake > bench.clock.now(), "{status:?}");
        bench.clock.set(status.wake);
        status = bench.start().tick().await;
    }
    assert!(
        (20..=25).contains(&bench.authority().issued()),
        "{}",
        bench.authority().issued()
    );

    // A life of months, and one of an hour.
    for (life, least) in [(DAY * 90, 3_600), (DAY / 24, 180)] {
        let bench = Bench::new(1);
        bench.authority().behave(|b| {
            b.life = life;
            b.window = Some((0.0, 4.0 / life.as_secs_f64()));
        });
        let first = bench.start().tick().await;
        assert_eq!(first.next.0.since(bench.clock.now()).as_secs(), least);
        bench.clock.advance(Duration::from_secs(least - 1));
        assert!(!bench.start().tick().await.renewed);
        // Whoever asks does not wait.
        let life = bench.start();
        life.renew_now().await.unwrap();
        assert!(life.tick().await.renewed);
    }
}

#[tokio::test]
async fn an_order_with_replaces_that_is_not_repeated_serves_all_the_same() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| {
        b.window = Some((0.3, 0.4));
        b.echoes_replaces = false;
    });
    let life = bench.start();
    let first = life.tick().await;
    bench.clock.set(first.next.0);
    assert!(life.tick().await.renewed);
    assert_eq!(
        (bench.authority().orders(), bench.authority().issued()),
        (2, 2)
    );
}

#[tokio::test]
async fn an_order_whose_replaces_is_refused_is_sent_again_without() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| {
        b.window = Some((0.3, 0.4));
        b.refuses_replaces = true;
    });
    let life = bench.start();
    let first = life.tick().await;
    bench.clock.set(first.next.0);
    let second = life.tick().await;
    assert!(second.renewed);
    assert!(second.met.is_empty());
    let books = bench.authority().books.lock().unwrap();
    assert_eq!(books.certificates[1].replaces, None);
}

#[tokio::test]
async fn in_the_last_twentieth_no_suggestion_of_the_authority_counts() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| b.window = Some((0.97, 0.99)));
    let first = bench.start().tick().await;
    let (at, reason) = first.next;
    assert_eq!(reason, Reason::Emergency);
    assert_eq!(first.validity.unwrap().age(at), Age::Emergency);
    bench.clock.set(at);
    assert!(bench.start().tick().await.renewed);
}

#[tokio::test]
async fn refused_nonces_and_an_authority_that_takes_its_time_change_nothing() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| {
        b.bad_nonce_every = Some(4);
        b.processing = 5;
    });
    let status = bench.start().tick().await;
    assert!(status.renewed, "{status:?}");
    assert_eq!(bench.authority().issued(), 1);
}

#[tokio::test]
async fn many_nonces_refused_in_a_row_do_not_put_an_attempt_off() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| {
        b.bad_nonce_every = Some(9);
        b.bad_nonce_run = 4;
    });
    let status = bench.start().tick().await;
    assert!(status.renewed, "{status:?}");
    assert_eq!(bench.authority().issued(), 1);
}

#[tokio::test]
async fn an_order_that_is_not_decided_goes_on_at_the_next_attempt() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| b.processing = usize::MAX);
    let first = bench.start().tick().await;
    assert_eq!(first.last_failure.unwrap().cause, Cause::Slow);

    bench.authority().behave(|b| b.processing = 0);
    bench.clock.set(first.next.0);
    assert!(bench.start().tick().await.renewed);
    assert_eq!(
        (bench.authority().orders(), bench.authority().issued()),
        (1, 1)
    );
}

#[tokio::test]
async fn the_chain_that_is_preferred_is_taken_when_it_is_offered() {
    let bench = Bench::new(1);
    let issuer = |bench: &Bench| {
        let chain = bench.served.last().unwrap().chain().unwrap();
        let (_, top) = x509_parser::parse_x509_certificate(&chain[1]).unwrap();
        top.issuer()
            .iter_common_name()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    bench.start().tick().await;
    assert_eq!(issuer(&bench), "Root");

    let mut authorities = bench.configured();
    authorities[0].preferred_chain = Some("Other Root".into());
    let life = bench.start_with(bench.transport(), bench.store(), authorities.clone());
    life.renew_now().await.unwrap();
    assert!(life.tick().await.renewed);
    assert_eq!(issuer(&bench), "Other Root");

    // One that nobody offers is no reason to have none.
    authorities[0].preferred_chain = Some("Third Root".into());
    let life = bench.start_with(bench.transport(), bench.store(), authorities);
    life.renew_now().await.unwrap();
    assert!(life.tick().await.renewed);
    assert_eq!(issuer(&bench), "Root");
}

#[tokio::test]
async fn a_revoked_certificate_is_replaced_at_once() {
    let bench = Bench::new(1);
    let life = bench.start();
    assert!(!life.revoke(true).await.unwrap());
    life.tick().await;
    assert!(life.revoke(true).await.unwrap());
    let status = life.tick().await;
    assert!(status.renewed);
    let books = bench.authority().books.lock().unwrap();
    let revoked: Vec<_> = books.certificates.iter().map(|c| c.revoked).collect();
    assert_eq!(revoked, [Some(1), None]);
}

#[tokio::test]
async fn what_another_process_obtains_is_served_here_and_nobody_is_asked_for_it() {
    let bench = Bench::new(1);
    let (orders, follows) = (bench.start(), bench.start());
    let swaps = || bench.served.swaps.lock().unwrap().len();
    let status = follows.follow().await.unwrap();
    assert_eq!((status.validity, bench.served.count()), (None, 0));

    let first = orders.tick().await;
    let asked = bench.authority().books.lock().unwrap().requests;
    for _ in 0..2 {
        let status = follows.follow().await.unwrap();
        assert_eq!(status.validity, first.validity);
        assert_eq!(status.directory, first.directory);
        assert!(!status.renewed);
        assert_eq!(
            (bench.served.count(), swaps()),
            (2, 2),
            "put in service once"
        );
    }
    orders.renew_now().await.unwrap();
    bench.clock.advance(DAY);
    orders.tick().await;
    follows.follow().await.unwrap();
    let told = bench.served.swaps.lock().unwrap()[3].clone();
    let all = bench.served.installed.lock().unwrap().clone();
    assert_eq!(told.0.unwrap().chain_pem, all[0].chain_pem);
    assert_eq!(told.1.chain_pem, all[2].chain_pem);

    // After its start it serves what there is, which is no new one; and so it goes on when it orders itself.
    let late = bench.start();
    late.follow().await.unwrap();
    assert_eq!((bench.served.count(), swaps()), (5, 4));
    assert!(!late.tick().await.renewed);
    assert_eq!((bench.served.count(), swaps()), (5, 4));
    let books = bench.authority().books.lock().unwrap();
    assert!(books.requests > asked && books.certificates.len() == 2);
}

#[tokio::test]
async fn who_takes_over_serves_what_the_other_obtained_last() {
    let bench = Bench::new(1);
    let (orders, follows) = (bench.start(), bench.start());
    orders.tick().await;
    follows.follow().await.unwrap();
    bench.clock.advance(DAY);
    orders.renew_now().await.unwrap();
    orders.tick().await;
    assert!(!follows.tick().await.renewed);
    let all = bench.served.installed.lock().unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(all[3].chain_pem, all[2].chain_pem);
}

/// Lives shrink as the CA/Browser Forum's calendar says; the authority fails for days; the box is off for days.
#[tokio::test]
async fn for_three_years_no_certificate_expires() {
    let bench = Bench::in_memory(2);
    let end = UnixTime::from_secs(START).plus(DAY * 3 * 365);
    let mut renewals = 0;
    let mut failures = 0;
    let mut steps = 0;
    let mut life = bench.start();
    loop {
        let now = bench.clock.now();
        if now >= end {
            break;
        }
        let day = now.since(UnixTime::from_secs(START)).as_secs() / 86_400;
        let days = match day {
            0..130 => 90,
            130..470 => 64,
            _ => 45,
        };
        for (number, authority) in bench.authorities.iter().enumerate() {
            authority.behave(|b| {
                b.life = DAY * days;
                b.window = (number == 0 && day % 300 < 150).then_some((0.6, 0.7));
                // Ten days of every ninety the first authority is away; for a day in between, both are.
                b.unreachable = (number == 0 && day % 90 < 10) || day % 90 == 5;
                b.bad_nonce_every = Some(5);
            });
        }
        let status = life.tick().await;
        steps += 1;
        renewals += usize::from(status.renewed);
        failures += status.met.len();
        let now = bench.clock.now();
        let validity = status
            .validity
            .expect("a certificate from the first step on");
        assert!(validity.age(now) < Age::Emergency, "day {day}: {status:?}");
        assert!(status.wake > now, "no step without progress: {status:?}");
        assert!(steps < 20_000, "it spins");
        // At most six hours at once, and every hundred days off for four days.
        let off = if steps % 400 == 0 {
            DAY * 4
        } else {
            Duration::ZERO
        };
        let next = status.wake.min(now.plus(DAY / 4)).plus(off);
        bench.clock.set(next);
        if !off.is_zero() {
            life = bench.start();
        }
    }
    let issued: usize = bench
        .authorities
        .iter()
        .map(|authority| authority.issued())
        .sum();
    assert_eq!(
        renewals, issued,
        "every certificate that was issued was put in service"
    );
    assert!((25..=40).contains(&renewals), "{renewals} renewals");
    assert!(failures > 0, "the outages were met");
    let accounts: Vec<_> = bench.authorities.iter().map(|a| a.accounts()).collect();
    assert!(accounts.iter().all(|made| *made <= 1), "{accounts:?}");
}
