//! `kill -9` at every step: the next start finishes, and one certificate is issued, not two.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use acme::Clock as _;
use support::{Bench, Moment, Stop};

/// What ends the process.
#[derive(Debug, Clone, Copy)]
enum At {
    Write,
    Request,
}

/// Lets the process end at one step; `false` when there was no such step.
async fn end_at(bench: &Bench, what: At, step: usize, moment: Moment) -> bool {
    let stop = Stop::new(step, moment);
    let life = match what {
        At::Write => bench.start_with(
            bench.transport(),
            stop.store(bench.store()),
            bench.configured(),
        ),
        At::Request => bench.start_with(
            stop.transport(bench.transport()),
            bench.store(),
            bench.configured(),
        ),
    };
    let finished = stop
        .run(async {
            life.tick().await;
        })
        .await;
    !finished
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
        if !end_at(&bench, what, step, moment).await {
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
