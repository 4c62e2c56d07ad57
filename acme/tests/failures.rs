//! What stands in the way, told apart, and what then happens: the old certificate serves, the next attempt comes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::time::Duration;

use acme::{AccountStanding, Accounts, Caa, Cause, Clock as _, Failure, Port80, Seen, Status};
use http::StatusCode;
use support::authority::Behaviour;
use support::{Bench, Validation};

async fn failure_of(bench: &Bench) -> (Status, Failure) {
    let status = bench.start().tick().await;
    let failure = status
        .last_failure
        .clone()
        .unwrap_or_else(|| panic!("{status:?}"));
    (status, failure)
}

async fn validation(kind: &'static str, addresses: usize, port80: Port80) -> Failure {
    let bench = Bench::new(1);
    bench
        .authority()
        .behave(|b| b.validation = Validation::Refused(kind));
    *bench.probe.0.lock().unwrap() = Seen {
        addresses: vec![[192, 0, 2, 7].into(); addresses],
        elsewhere: Vec::new(),
        port80,
    };
    failure_of(&bench).await.1
}

#[tokio::test]
async fn failures_of_validation_are_told_apart_by_what_is_seen_from_both_sides() {
    let cases = [
        ("dns", 0, Port80::NotTried, Cause::NameUnresolved),
        ("dns", 1, Port80::Ours, Cause::NameUnresolved),
        ("connection", 1, Port80::Refused, Cause::PortBlocked),
        ("connection", 1, Port80::Silent, Cause::PortBlocked),
        ("connection", 1, Port80::Ours, Cause::PortBlocked),
        ("connection", 1, Port80::Other, Cause::AnsweredElsewhere),
        ("connection", 0, Port80::NotTried, Cause::PortBlocked),
        ("unauthorized", 1, Port80::Other, Cause::AnsweredElsewhere),
        ("unauthorized", 1, Port80::Ours, Cause::AnsweredElsewhere),
        ("unauthorized", 1, Port80::Refused, Cause::PortBlocked),
        (
            "incorrectResponse",
            1,
            Port80::Other,
            Cause::AnsweredElsewhere,
        ),
        ("caa", 1, Port80::Ours, Cause::Caa),
        ("rejectedIdentifier", 1, Port80::Ours, Cause::NameRefused),
        ("serverInternal", 1, Port80::Ours, Cause::AuthorityFault),
    ];
    for (kind, addresses, port80, expected) in cases {
        let failure = validation(kind, addresses, port80).await;
        assert_eq!(failure.cause, expected, "{kind} {port80:?}: {failure}");
        assert_eq!(
            failure.authority.as_deref(),
            Some("https://ca0.example/directory")
        );
    }
    let detail = validation("connection", 1, Port80::Refused).await.detail;
    assert!(
        detail.contains("192.0.2.7 refuses connections on port 80"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_name_that_the_dns_sends_elsewhere_is_told_apart_from_a_closed_port() {
    for (kind, port80) in [
        ("connection", Port80::Silent),
        ("unauthorized", Port80::Other),
    ] {
        let bench = Bench::new(1);
        bench
            .authority()
            .behave(|b| b.validation = Validation::Refused(kind));
        *bench.probe.0.lock().unwrap() = Seen {
            addresses: vec![[192, 0, 2, 7].into()],
            elsewhere: vec![[192, 0, 2, 7].into()],
            port80,
        };
        let failure = failure_of(&bench).await.1;
        assert_eq!(failure.cause, Cause::PointsElsewhere, "{kind}: {failure}");
        assert!(failure.detail.contains("192.0.2.7"), "{failure}");
    }
}

#[tokio::test]
async fn caa_records_explain_a_refusal_that_the_authority_calls_something_else() {
    let refused = async |records: Caa| {
        let bench = Bench::new(1);
        bench.authority().behave(|b| b.refuses_name = true);
        *bench.probe.1.lock().unwrap() = records;
        failure_of(&bench).await.1
    };
    let only = |issuer: &str| Caa::Only {
        at: "centre.example".into(),
        issuers: vec![issuer.into()],
    };
    let failure = refused(only("other.example")).await;
    assert_eq!(failure.cause, Cause::Caa, "{failure}");
    let said = "CAA of centre.example allows other.example";
    assert!(failure.detail.contains(said), "{failure}");
    for allowed in [only("ca0.example"), Caa::Open, Caa::Unknown] {
        assert_eq!(refused(allowed).await.cause, Cause::NameRefused);
    }
    // What the authority says itself counts, whatever is seen from here.
    let bench = Bench::new(1);
    bench
        .authority()
        .behave(|b| b.validation = Validation::Refused("caa"));
    assert_eq!(failure_of(&bench).await.1.cause, Cause::Caa);
}

#[tokio::test]
async fn how_an_account_stands_is_asked_without_making_one() {
    let bench = Bench::new(1);
    let authority = &bench.configured()[0];
    let standing = async || accounts(&bench).standing(authority).await.unwrap();
    assert_eq!(standing().await, AccountStanding::None);
    bench.start().tick().await;
    let open = AccountStanding::Open("https://ca0.example/account/0".into());
    assert_eq!(standing().await, open);
    bench.authority().forget_accounts();
    assert_eq!(standing().await, AccountStanding::Lost);
    assert_eq!(bench.authority().accounts(), 1);
}

#[tokio::test]
async fn refusals_of_an_authority_are_told_apart() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| b.refuses_name = true);
    assert_eq!(failure_of(&bench).await.1.cause, Cause::NameRefused);

    let bench = Bench::new(1);
    bench
        .authority()
        .behave(|b| b.refuses_finalize = Some("badCSR"));
    assert_eq!(failure_of(&bench).await.1.cause, Cause::RequestRefused);

    let bench = Bench::new(1);
    bench.authority().behave(|b| b.unreachable = true);
    assert_eq!(
        failure_of(&bench).await.1.cause,
        Cause::AuthorityUnreachable
    );
}

#[tokio::test]
async fn what_an_authority_refuses_at_the_end_another_is_asked_for_at_once() {
    for kind in ["badCSR", "rejectedIdentifier", "unauthorized", "caa"] {
        let bench = Bench::new(2);
        let first = bench.start().tick().await;
        bench.clock.set(first.next.0);
        bench
            .authority()
            .behave(|b| b.refuses_finalize = Some(kind));
        let status = bench.start().tick().await;
        assert!(status.renewed, "{kind}: {status:?}");
        let issued = bench.authorities.iter().map(|ca| ca.issued());
        assert_eq!(issued.collect::<Vec<_>>(), [1, 1], "{kind}");
    }
}

#[tokio::test]
async fn a_certificate_with_another_name_is_never_put_in_service() {
    let bench = Bench::new(1);
    bench
        .authority()
        .behave(|b| b.adds_name = Some("www.example".into()));
    let (status, failure) = failure_of(&bench).await;
    assert_eq!(failure.cause, Cause::WrongCertificate);
    assert_eq!((bench.served.count(), status.validity), (0, None));
}

#[tokio::test]
async fn a_failure_leaves_the_old_certificate_in_service_and_waits_longer_each_time() {
    let bench = Bench::new(1);
    let life = bench.start();
    let first = life.tick().await;
    bench.clock.set(first.next.0);
    bench
        .authority()
        .behave(|b| b.validation = Validation::Refused("connection"));
    let mut waits = Vec::new();
    for failures in 1..=6 {
        let now = bench.clock.now();
        let status = life.tick().await;
        assert_eq!(status.failures, failures);
        assert_eq!(status.validity, first.validity);
        waits.push(status.next.0.since(now).as_secs());
        // Before the time nothing is asked.
        let asked = bench.authority().books.lock().unwrap().requests;
        life.tick().await;
        assert_eq!(bench.authority().books.lock().unwrap().requests, asked);
        bench.clock.set(status.next.0);
    }
    assert!(waits.windows(2).all(|two| two[0] < two[1]), "{waits:?}");
    assert!((60..=75).contains(&waits[0]), "{waits:?}");
    assert_eq!(bench.served.count(), 1);

    bench
        .authority()
        .behave(|b| b.validation = Validation::Real);
    let status = life.tick().await;
    assert!(status.renewed);
    assert_eq!((status.failures, status.last_failure), (0, None));
}

#[tokio::test]
async fn what_a_clock_that_was_years_ahead_put_off_is_not_waited_for() {
    let bench = Bench::new(1);
    let life = bench.start();
    let first = life.tick().await;
    let validity = first.validity.unwrap();
    bench.clock.set(
        validity
            .not_after
            .plus(Duration::from_secs(10 * 365 * 86_400)),
    );
    bench.authority().behave(|b| b.unreachable = true);
    let status = life.tick().await;
    assert!(status.next.0 > validity.not_after);

    bench.authority().behave(|b| b.unreachable = false);
    bench.clock.set(first.next.0);
    let status = life.tick().await;
    assert!(status.renewed, "{status:?}");
}

#[tokio::test]
async fn nothing_is_asked_before_the_time_that_a_rate_limit_names() {
    let bench = Bench::new(1);
    let until = bench.clock.now().plus(Duration::from_secs(40_000));
    bench.authority().behave(|b| b.limited_until = Some(until));
    let (status, failure) = failure_of(&bench).await;
    assert_eq!(failure.cause, Cause::RateLimited);
    assert_eq!(failure.retry_at, Some(until));
    assert_eq!(status.next.0, until);
    let directory = "https://ca0.example/directory".to_owned();
    assert_eq!(status.blocked, [(directory, until)]);
    bench.clock.set(until);
    assert!(bench.start().tick().await.renewed);
}

#[tokio::test]
async fn an_order_refused_for_another_reason_than_replaces_is_not_sent_again_without_it() {
    let bench = Bench::new(1);
    bench.authority().behave(|b| b.window = Some((0.3, 0.4)));
    let first = bench.start().tick().await;
    bench.clock.set(first.next.0);
    let asked = || bench.authority().books.lock().unwrap().asked_orders;
    let fails = async |behave: &dyn Fn(&mut Behaviour)| {
        bench.authority().behave(|b| behave(b));
        let before = asked();
        let (status, failure) = failure_of(&bench).await;
        assert_eq!(asked() - before, 1, "one request for an order: {failure}");
        bench.clock.set(status.next.0);
        failure
    };
    let until = bench.clock.now().plus(Duration::from_secs(40_000));
    let limited = fails(&|b| b.limited_until = Some(until)).await;
    assert_eq!(
        (limited.cause, limited.retry_at),
        (Cause::RateLimited, Some(until))
    );
    let away = fails(&|b| b.answers_orders = Some(StatusCode::SERVICE_UNAVAILABLE)).await;
    assert_eq!(away.cause, Cause::AuthorityFault);
    let lost = fails(&|b| {
        b.answers_orders = None;
        b.loses_orders = true;
    });
    assert_eq!(lost.await.cause, Cause::AuthorityUnreachable);

    bench.authority().behave(|b| b.loses_orders = false);
    assert!(bench.start().tick().await.renewed);
    let books = bench.authority().books.lock().unwrap();
    assert!(books.certificates[1].replaces.is_some());
}

#[tokio::test]
async fn the_next_authority_is_asked_where_the_first_cannot_and_not_where_none_could() {
    let bench = Bench::new(2);
    let until = bench.clock.now().plus(Duration::from_secs(40_000));
    bench.authority().behave(|b| b.limited_until = Some(until));
    let status = bench.start().tick().await;
    assert!(status.renewed);
    assert_eq!(status.met[0].cause, Cause::RateLimited);
    assert_eq!(
        status.directory.as_deref(),
        Some("https://ca1.example/directory")
    );

    let bench = Bench::new(2);
    bench
        .authority()
        .behave(|b| b.validation = Validation::Refused("connection"));
    assert_eq!(failure_of(&bench).await.1.cause, Cause::PortBlocked);
    assert_eq!(bench.authorities[1].orders(), 0);
}

#[tokio::test]
async fn an_authority_that_may_still_issue_is_not_left_while_a_certificate_serves() {
    let bench = Bench::new(2);
    let life = bench.start();
    let first = life.tick().await;
    bench.clock.set(first.next.0);
    bench.authority().behave(|b| b.processing = usize::MAX);
    let slow = life.tick().await;
    assert_eq!(slow.last_failure.unwrap().cause, Cause::Slow);
    assert_eq!(bench.authorities[1].orders(), 0);

    bench.clock.set(first.validity.unwrap().not_after);
    let status = life.tick().await;
    assert!(status.renewed);
    assert_eq!(bench.authorities[1].issued(), 1);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_put_in_service_waits_without_a_second_order() {
    let bench = Bench::new(1);
    *bench.served.refuse.lock().unwrap() = Some("the handshake with itself failed".into());
    let (status, failure) = failure_of(&bench).await;
    assert_eq!(failure.cause, Cause::Install);
    bench.clock.set(status.next.0);
    *bench.served.refuse.lock().unwrap() = None;
    assert!(bench.start().tick().await.renewed);
    assert_eq!((bench.authority().orders(), bench.served.count()), (1, 1));
}

#[tokio::test]
async fn an_account_that_the_authority_does_not_know_any_more_is_made_again() {
    let bench = Bench::new(1);
    let first = bench.start().tick().await;
    bench.authority().forget_accounts();
    bench.clock.set(first.next.0);
    let (status, failure) = failure_of(&bench).await;
    assert_eq!(failure.cause, Cause::Account);
    bench.clock.set(status.next.0);
    assert!(bench.start().tick().await.renewed);
    assert_eq!(bench.authority().accounts(), 2);
}

fn accounts(bench: &Bench) -> Accounts {
    bench.accounts_with(bench.transport(), bench.store())
}

#[tokio::test]
async fn an_account_lives_on_with_another_key_and_ends_when_it_is_closed() {
    let bench = Bench::new(1);
    let first = bench.start().tick().await;
    let authority = &bench.configured()[0];
    accounts(&bench).roll_over(authority).await.unwrap();
    bench.clock.set(first.next.0);
    let second = bench.start().tick().await;
    assert!(second.renewed, "{second:?}");
    assert_eq!(bench.authority().accounts(), 1);

    accounts(&bench).deactivate(authority).await.unwrap();
    assert_eq!(bench.authority().open_accounts(), 0);
    bench.clock.set(second.next.0);
    assert!(bench.start().tick().await.renewed);
    assert_eq!(
        (
            bench.authority().accounts(),
            bench.authority().open_accounts()
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn a_commercial_authority_wants_the_key_it_gave() {
    let bench = Bench::new(1);
    bench
        .authority()
        .behave(|b| b.external_key = Some(b"shared secret of 32 bytes or so.".to_vec()));
    assert!(bench.start().tick().await.renewed);

    let bench = Bench::new(1);
    let without = bench.configured();
    bench
        .authority()
        .behave(|b| b.external_key = Some(b"shared".to_vec()));
    let life = bench.start_with(bench.transport(), bench.store(), without);
    let failure = life.tick().await.last_failure.unwrap();
    assert_eq!(failure.cause, Cause::ExternalAccount);

    let wrong = bench.configured();
    bench
        .authority()
        .behave(|b| b.external_key = Some(b"other".to_vec()));
    let life = bench.start_with(bench.transport(), bench.store(), wrong);
    bench.clock.advance(Duration::from_secs(600));
    let failure = life.tick().await.last_failure.unwrap();
    assert_eq!(failure.cause, Cause::ExternalAccount);
}

#[tokio::test]
async fn a_revocation_that_the_authority_did_not_hear_of_is_asked_for_again() {
    let bench = Bench::new(1);
    let life = bench.start();
    life.tick().await;
    bench.authority().behave(|b| b.unreachable = true);
    let failure = life.revoke(true).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AuthorityUnreachable);
    let status = bench.start().tick().await;
    assert!(status.revoking, "{status:?}");
    assert!(status.wake.since(bench.clock.now()) <= Duration::from_secs(300));

    // Also once another certificate serves: it is the one that was in service then.
    bench.authority().behave(|b| {
        b.unreachable = false;
        b.refuses_revocation = Some("serverInternal");
    });
    bench.clock.set(status.next.0);
    let status = bench.start().tick().await;
    assert!(status.renewed && status.revoking, "{status:?}");
    assert_eq!(status.met[0].cause, Cause::AuthorityFault);
    bench.authority().behave(|b| b.refuses_revocation = None);
    bench.clock.set(status.wake);
    let status = bench.start().tick().await;
    assert!(!status.revoking && !status.renewed, "{status:?}");
    let books = bench.authority().books.lock().unwrap();
    let revoked: Vec<_> = books.certificates.iter().map(|c| c.revoked).collect();
    assert_eq!(revoked, [Some(1), None]);
}

#[tokio::test]
async fn a_revocation_that_the_authority_refuses_or_has_done_is_not_asked_for_again() {
    for (kind, done) in [("alreadyRevoked", true), ("unauthorized", false)] {
        let bench = Bench::new(1);
        let life = bench.start();
        life.tick().await;
        bench
            .authority()
            .behave(|b| b.refuses_revocation = Some(kind));
        assert_eq!(life.revoke(false).await.is_ok(), done, "{kind}");
        let status = life.tick().await;
        assert!(status.renewed && !status.revoking, "{kind}: {status:?}");
        assert!(status.met.is_empty(), "{kind}: {status:?}");
    }
}
