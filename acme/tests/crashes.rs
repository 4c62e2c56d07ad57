//! `kill -9` at every step: the next start finishes, and one certificate is issued, not two.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::sync::Arc;

use acme::{AccountStanding, Clock as _};
use support::{Bench, Moment, Stop};

/// What ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Write,
    Request,
}

/// What the process was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Tick,
    RollOver,
    Deactivate,
    Revoke,
}

/// Lets the process end at one step; `false` when there was no such step.
async fn end_at(bench: &Bench, work: Work, what: At, step: usize, moment: Moment) -> bool {
    let stop = Stop::new(step, moment);
    let (mut transport, mut store) = (bench.transport(), bench.store());
    match what {
        At::Write => store = stop.store(store),
        At::Request => transport = stop.transport(transport),
    }
    let configured = bench.configured();
    let accounts = bench.accounts_with(Arc::clone(&transport), Arc::clone(&store));
    let life = bench.start_with(transport, store, configured.clone());
    let finished = stop
        .run(async {
            match work {
                Work::Tick => drop(life.tick().await),
                Work::RollOver => accounts.roll_over(&configured[0]).await.unwrap(),
                Work::Deactivate => accounts.deactivate(&configured[0]).await.unwrap(),
                Work::Revoke => assert!(life.revoke(true).await.unwrap()),
            }
        })
        .await;
    !finished
}

/// Ends a process at every step of its work, each time in another box, and looks at what the next one makes of it.
async fn each_end(
    work: Work,
    before: impl AsyncFn() -> Bench,
    after: impl AsyncFn(&Bench, &str, bool),
) {
    for what in [At::Write, At::Request] {
        for moment in [Moment::Before, Moment::After] {
            let mut step = 0;
            loop {
                let bench = before().await;
                if !end_at(&bench, work, what, step, moment).await {
                    break;
                }
                let case = format!("{work:?} {what:?} {step} {moment:?}");
                let began = (what, step, moment) != (At::Write, 0, Moment::Before);
                after(&bench, &case, began).await;
                step += 1;
            }
            assert!(step >= 1, "{work:?} {what:?} {moment:?}: never ended");
        }
    }
}

/// A box with one authority that ties an account to a customer once, and a certificate of it.
async fn with_a_certificate() -> Bench {
    let bench = bound();
    assert!(bench.start().tick().await.renewed);
    bench
}

fn bound() -> Bench {
    let bench = Bench::in_memory(1);
    bench.authority().behave(|b| {
        b.external_key = Some(b"shared secret of 32 bytes or so.".to_vec());
        b.external_key_once = true;
    });
    bench
}

/// Asks for another certificate, which the account must be good for.
async fn renews(bench: &Bench, case: &str) {
    let life = bench.start();
    life.renew_now().await.unwrap();
    let status = life.tick().await;
    assert!(status.renewed, "{case}: {status:?}");
}

#[tokio::test]
async fn a_process_that_ends_while_an_account_is_bound_finds_it_and_makes_no_second() {
    let after = async |bench: &Bench, case: &str, _| {
        let status = bench.start().tick().await;
        assert_eq!(status.last_failure, None, "{case}");
        assert!(bench.served.last().is_some(), "{case}: {status:?}");
        let ca = bench.authority();
        assert_eq!((ca.accounts(), ca.issued()), (1, 1), "{case}");
        assert_eq!(ca.contact(0)[0], "mailto:it@centre.example", "{case}");
    };
    each_end(Work::Tick, async || bound(), after).await;
}

#[tokio::test]
async fn a_process_that_ends_while_an_account_changes_its_key_keeps_the_account() {
    let after = async |bench: &Bench, case: &str, _| {
        renews(bench, case).await;
        // The key that is left is the one that counts, and it can be changed again.
        let accounts = bench.accounts_with(bench.transport(), bench.store());
        accounts.roll_over(&bench.configured()[0]).await.unwrap();
        renews(bench, case).await;
        assert_eq!(bench.authority().accounts(), 1, "{case}");
    };
    each_end(Work::RollOver, with_a_certificate, after).await;
}

#[tokio::test]
async fn an_account_that_is_known_by_either_key_is_open() {
    let after = async |bench: &Bench, case: &str, _| {
        let accounts = bench.accounts_with(bench.transport(), bench.store());
        let standing = accounts.standing(&bench.configured()[0]).await.unwrap();
        let open = AccountStanding::Open("https://ca0.example/account/0".into());
        assert_eq!(standing, open, "{case}");
    };
    each_end(Work::RollOver, with_a_certificate, after).await;
}

#[tokio::test]
async fn a_process_that_ends_while_it_closes_an_account_closes_it_when_it_is_asked_again() {
    let after = async |bench: &Bench, case: &str, _| {
        let accounts = bench.accounts_with(bench.transport(), bench.store());
        let closed = accounts.deactivate(&bench.configured()[0]).await;
        assert_eq!(closed, Ok(()), "{case}");
        let ca = bench.authority();
        assert_eq!((ca.accounts(), ca.open_accounts()), (1, 0), "{case}");
        ca.behave(|b| b.external_key_once = false);
        renews(bench, case).await;
        assert_eq!((ca.accounts(), ca.open_accounts()), (2, 1), "{case}");
    };
    each_end(Work::Deactivate, with_a_certificate, after).await;
}

#[tokio::test]
async fn a_revocation_that_was_asked_for_is_done_by_the_next_process() {
    let after = async |bench: &Bench, case: &str, began: bool| {
        let status = bench.start().tick().await;
        assert_eq!(status.renewed, began, "{case}: {status:?}");
        assert!(!status.revoking && status.met.is_empty(), "{case}");
        assert!(!bench.start().tick().await.renewed, "{case}");
        let books = bench.authority().books.lock().unwrap();
        let revoked: Vec<_> = books.certificates.iter().map(|c| c.revoked).collect();
        let expected: &[_] = if began { &[Some(1), None] } else { &[None] };
        assert_eq!(revoked, expected, "{case}");
    };
    each_end(Work::Revoke, with_a_certificate, after).await;
}

#[tokio::test]
async fn a_process_that_ends_between_two_authorities_is_finished_with_one_certificate() {
    let before = async || {
        let bench = Bench::in_memory(2);
        bench
            .authority()
            .behave(|b| b.refuses_finalize = Some("badCSR"));
        bench
    };
    let after = async |bench: &Bench, case: &str, _| {
        let status = bench.start().tick().await;
        assert_eq!(status.last_failure, None, "{case}");
        let served = bench.served.last().unwrap_or_else(|| panic!("{case}"));
        assert_eq!(served.directory, "https://ca1.example/directory", "{case}");
        for (ca, issued) in bench.authorities.iter().zip([0, 1]) {
            assert_eq!(ca.issued(), issued, "{case}");
            assert!(ca.accounts() <= 1, "{case}");
            // One whose answer was lost, and one.
            assert!(ca.orders() <= 2, "{case}");
        }
        assert!(!bench.start().tick().await.renewed, "{case}");
    };
    each_end(Work::Tick, before, after).await;
}

async fn every_step(what: At, moment: Moment, renewal: bool) {
    let mut step = 0;
    loop {
        let bench = Bench::new(1);
        let mut issued = 0;
        if renewal {
            bench.authority().behave(|b| b.window = Some((0.3, 0.4)));
            let first = bench.start().tick().await;
            bench.clock.set(first.next.0);
            issued = 1;
        }
        if !end_at(&bench, Work::Tick, what, step, moment).await {
            break;
        }
        let status = bench.start().tick().await;
        let case = format!("{what:?} {step} {moment:?}: {status:?}");
        assert_eq!(status.last_failure, None, "{case}");
        let served = bench.served.last().unwrap_or_else(|| panic!("{case}"));
        let name = acme::DnsName::parse(support::NAME).unwrap();
        served.check(&name, bench.clock.now()).unwrap();
        let told = bench.served.was_told_new(&served, renewal);
        assert!(told, "{case}: put in service without being told as new");
        assert_eq!(bench.authority().issued(), issued + 1, "{case}");
        assert_eq!(bench.authority().accounts(), 1, "{case}");
        // An order that the authority took and whose address was lost on the way is the only one that is left alone.
        assert!(bench.authority().orders() <= issued + 2, "{case}");
        assert!(bench.files("challenges").is_empty(), "{case}");
        let files = bench.files(&format!("names/{}", support::NAME));
        assert!(!files.contains(&"staged".to_owned()), "{case}: {files:?}");

        // And nothing is due any more.
        let again = bench.start().tick().await;
        assert!(!again.renewed, "{case}");
        step += 1;
    }
    assert!(step >= 8, "{what:?} {moment:?}: only {step} steps");
}

#[tokio::test]
async fn a_process_that_ends_before_any_write_of_a_first_order_is_finished_by_the_next() {
    every_step(At::Write, Moment::Before, false).await;
}

#[tokio::test]
async fn a_process_that_ends_after_any_write_of_a_first_order_is_finished_by_the_next() {
    every_step(At::Write, Moment::After, false).await;
}

#[tokio::test]
async fn a_process_that_ends_before_any_request_of_a_first_order_is_finished_by_the_next() {
    every_step(At::Request, Moment::Before, false).await;
}

#[tokio::test]
async fn a_process_that_ends_after_any_request_of_a_first_order_is_finished_by_the_next() {
    every_step(At::Request, Moment::After, false).await;
}

#[tokio::test]
async fn a_process_that_ends_in_any_step_of_a_renewal_is_finished_by_the_next() {
    for what in [At::Write, At::Request] {
        for moment in [Moment::Before, Moment::After] {
            every_step(what, moment, true).await;
        }
    }
}
