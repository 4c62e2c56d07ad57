//! A PACS that misbehaves: every fault ends in a status before the first byte, or in a connection
//! that is cut without closing boundary, or is made good; a counter moves; and the gateway then
//! serves the same study whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use conformance::testkit::pacs::{Asked, Behaviour, FindFault, Rejection, StoreFault};
use conformance::testkit::{
    Client, Fault, FaultProxy, FaultyPacs, Gateway, GatewayConfig, PacsConfig,
};
use support::compare::assert_study;
use support::{Seen, exam, files, folder, look, metric, retrieve, run, study_path, until};

/// The study that is asked for, and one that is not.
const STUDY: &str = "ct300";
const OTHER: &str = "ct";

/// Seconds that a gateway waits for a PACS that is to be found silent.
const PATIENCE: f64 = 1.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Get,
    Move,
}

/// A counter and one of its labels.
type Counter = (&'static str, &'static [(&'static str, &'static str)]);

const fn errors(labels: &'static [(&'static str, &'static str)]) -> Counter {
    ("drimbox_dimse_errors_total", labels)
}

const fn refused(labels: &'static [(&'static str, &'static str)]) -> Counter {
    ("drimbox_dimse_instances_refused_total", labels)
}

const INCOMPLETE: Counter = errors(&[("cause", "incomplete")]);
const FAILED: Counter = ("drimbox_retrievals_failed_total", &[]);
const RECEIVED: Counter = ("drimbox_dimse_instances_received_total", &[]);

/// A PACS and the gateway in front of it.
struct Pair {
    pacs: FaultyPacs,
    gateway: Gateway,
    client: Client,
}

async fn pair(way: Way, name: &str, change: impl FnOnce(PacsConfig) -> PacsConfig) -> Pair {
    let folder = folder(name);
    let config = GatewayConfig::new(&folder).unwrap().storage_scp().unwrap();
    let here: SocketAddr = config.address("dimse").unwrap();
    let pacs = FaultyPacs::start("SIM", &files(&[STUDY, OTHER]), &[("DRIMBOX", here)]).await;
    let pacs = pacs.unwrap();
    let entry = PacsConfig::new("sim", "SIM", pacs.port());
    let entry = change(if way == Way::Move {
        entry.by_move()
    } else {
        entry
    });
    let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
    Pair {
        pacs,
        gateway,
        client: Client::plain().unwrap(),
    }
}

impl Pair {
    /// Asks for the study and compares what comes, if something comes.
    async fn look(&self, study: &str, into: &Path) -> Seen {
        look(&self.client, &self.gateway, exam(study), into).await
    }
}

/// The story of every fault.
async fn story(
    name: &str,
    way: Way,
    patience: Option<f64>,
    fault: impl FnOnce(&mut Behaviour),
    expected: Seen,
    counter: Counter,
) {
    let into = folder(&format!("{name}-parts"));
    let pair = pair(way, name, |pacs| match patience {
        Some(seconds) => pacs
            .set("dimse.response_timeout_seconds", seconds)
            .set("dimse.connect_timeout_seconds", seconds),
        None => pacs,
    })
    .await;
    pair.pacs.behave(fault);
    assert_eq!(pair.look(STUDY, &into).await, expected);
    let (metric_name, labels) = counter;
    until("the counter of this fault", async || {
        metric(&pair.gateway, metric_name, labels).await > 0
    })
    .await;
    if expected == Seen::Cut {
        until("the counter of cut answers", async || {
            metric(&pair.gateway, "drimbox_http_aborted_responses_total", &[]).await == 1
        })
        .await;
    }
    pair.pacs.recover();
    assert_eq!(
        pair.look(STUDY, &into).await,
        Seen::Whole,
        "once the PACS is well again"
    );
    assert_eq!(pair.look(OTHER, &into).await, Seen::Whole, "another study");
}

macro_rules! stories {
    ($($name:ident: $way:ident, $patience:expr, $fault:expr => $seen:expr, $counter:expr;)*) => {$(
        #[test]
        fn $name() {
            run(story(stringify!($name), Way::$way, $patience, $fault, $seen, $counter));
        }
    )*};
}

fn store(behaviour: &mut Behaviour, number: usize, fault: StoreFault) {
    behaviour.store.insert(number, fault);
}

stories! {
    // Associations.
    a_refused_calling_title_is_502: Get, None,
        |b| b.reject = Some(Rejection::CallingAeTitle)
        => Seen::Status(502), errors(&[("cause", "rejected")]);
    a_congested_pacs_is_503: Get, None,
        |b| b.reject = Some(Rejection::LocalLimit)
        => Seen::Status(503), errors(&[("cause", "rejected")]);
    garbage_in_place_of_an_association_is_502: Get, None,
        |b| b.garbage = true
        => Seen::Status(502), errors(&[]);
    a_pacs_without_c_get_is_502: Get, None,
        |b| b.without_get = true
        => Seen::Status(502), errors(&[("cause", "not_offered")]);
    a_pacs_that_takes_no_storage_context_is_502: Get, None,
        |b| b.without_storage = true
        => Seen::Status(502), errors(&[("cause", "failed")]);
    a_pacs_that_hangs_up_after_each_service_is_served_from: Get, None,
        |b| b.closes_after_service = true
        => Seen::Whole, RECEIVED;

    // The query before the images.
    a_query_that_fails_is_502: Get, None,
        |b| b.find = Some(FindFault::Status(0xC001))
        => Seen::Status(502), errors(&[("cause", "failed")]);
    a_query_without_answer_is_504: Get, Some(PATIENCE),
        |b| b.find = Some(FindFault::Stall)
        => Seen::Status(504), errors(&[("cause", "timeout")]);
    a_pacs_that_dies_in_a_query_is_502: Get, None,
        |b| b.find = Some(FindFault::DieAfter(0))
        => Seen::Status(502), errors(&[("cause", "closed")]);
    a_pacs_that_aborts_a_query_is_502: Get, None,
        |b| b.find = Some(FindFault::AbortAfter(0))
        => Seen::Status(502), errors(&[("cause", "aborted")]);
    garbage_in_a_query_is_502: Get, None,
        |b| b.find = Some(FindFault::GarbageAfter(0))
        => Seen::Status(502), errors(&[("cause", "protocol")]);
    a_query_without_end_is_stopped_at_the_limit: Get, None,
        |b| b.find = Some(FindFault::Endless)
        => Seen::Whole, RECEIVED;

    // C-GET, before anything could be sent.
    a_refused_retrieval_is_502: Get, None,
        |b| b.retrieve_status = Some(0xA702)
        => Seen::Status(502), errors(&[("cause", "failed")]);
    death_in_the_first_image_is_502: Get, None,
        |b| store(b, 1, StoreFault::Die)
        => Seen::Status(502), errors(&[("cause", "closed")]);
    an_abort_in_the_first_image_is_502: Get, None,
        |b| store(b, 1, StoreFault::Abort)
        => Seen::Status(502), errors(&[("cause", "aborted")]);
    garbage_in_the_first_image_is_502: Get, None,
        |b| store(b, 1, StoreFault::Garbage)
        => Seen::Status(502), errors(&[("cause", "protocol")]);
    a_pdu_of_four_gigabytes_at_first_is_502: Get, None,
        |b| store(b, 1, StoreFault::OversizedPdu)
        => Seen::Status(502), errors(&[("cause", "protocol")]);
    a_stall_in_the_first_image_is_504: Get, Some(PATIENCE),
        |b| store(b, 1, StoreFault::Stall)
        => Seen::Status(504), errors(&[("cause", "timeout")]);

    // C-GET, once images are on their way.
    death_in_the_middle_cuts_the_answer: Get, None,
        |b| store(b, 4, StoreFault::Die)
        => Seen::Cut, errors(&[("cause", "closed")]);
    an_abort_in_the_middle_cuts_the_answer: Get, None,
        |b| store(b, 4, StoreFault::Abort)
        => Seen::Cut, errors(&[("cause", "aborted")]);
    garbage_in_the_middle_cuts_the_answer: Get, None,
        |b| store(b, 4, StoreFault::Garbage)
        => Seen::Cut, errors(&[("cause", "protocol")]);
    a_pdu_of_four_gigabytes_in_the_middle_cuts_the_answer: Get, None,
        |b| store(b, 4, StoreFault::OversizedPdu)
        => Seen::Cut, errors(&[("cause", "protocol")]);
    a_stall_in_the_middle_cuts_the_answer: Get, Some(PATIENCE),
        |b| store(b, 4, StoreFault::Stall)
        => Seen::Cut, errors(&[("cause", "timeout")]);
    an_element_of_four_gigabytes_every_time_cuts_the_answer: Get, None,
        |b| store(b, 1, StoreFault::HugeElement)
        => Seen::Cut, refused(&[("cause", "malformed")]);
    a_truncated_image_every_time_cuts_the_answer: Get, None,
        |b| store(b, 1, StoreFault::Truncated)
        => Seen::Cut, refused(&[("cause", "malformed")]);
    an_image_with_another_uid_inside_every_time_cuts_the_answer: Get, None,
        |b| store(b, 1, StoreFault::OtherUidInside)
        => Seen::Cut, refused(&[("cause", "malformed")]);
    an_image_in_a_refused_context_every_time_cuts_the_answer: Get, None,
        |b| store(b, 1, StoreFault::RefusedContext)
        => Seen::Cut, refused(&[("cause", "malformed")]);
    an_image_that_fails_every_time_cuts_the_answer: Get, None,
        |b| store(b, 1, StoreFault::Failed)
        => Seen::Cut, INCOMPLETE;
    an_image_lost_in_silence_every_time_cuts_the_answer: Get, None,
        |b| b.loses = 1
        => Seen::Cut, INCOMPLETE;
    a_final_response_before_the_last_image_cuts_the_answer: Get, None,
        |b| b.final_response_early = true
        => Seen::Cut, FAILED;

    // Made good.
    an_image_that_failed_once_is_asked_for_again: Get, None,
        |b| store(b, 4, StoreFault::Failed)
        => Seen::Whole, RECEIVED;
    an_element_of_four_gigabytes_once_is_asked_for_again: Get, None,
        |b| store(b, 4, StoreFault::HugeElement)
        => Seen::Whole, refused(&[("cause", "malformed")]);
    an_image_in_a_refused_context_once_is_asked_for_again: Get, None,
        |b| store(b, 4, StoreFault::RefusedContext)
        => Seen::Whole, refused(&[("cause", "malformed")]);
    an_image_stored_with_a_warning_is_an_image: Get, None,
        |b| store(b, 4, StoreFault::Warning)
        => Seen::Whole, RECEIVED;
    an_image_sent_twice_is_one_part: Get, None,
        |b| store(b, 4, StoreFault::Twice)
        => Seen::Whole, RECEIVED;
    an_image_nobody_asked_for_is_not_sent_on: Get, None,
        |b| b.unasked = 1
        => Seen::Whole, refused(&[("cause", "not_asked_for")]);
    a_retrieval_without_pending_responses_is_whole: Get, None,
        |b| b.without_pending = true
        => Seen::Whole, RECEIVED;
    small_pdus_with_nagles_algorithm_are_taken: Get, None,
        |b| { b.pdu_length = 4096; b.nodelay = false; }
        => Seen::Whole, RECEIVED;

    // C-MOVE.
    a_refused_move_is_502: Move, None,
        |b| b.retrieve_status = Some(0xA801)
        => Seen::Status(502), errors(&[("cause", "failed")]);
    death_in_the_first_image_of_a_move_is_502: Move, Some(PATIENCE),
        |b| store(b, 1, StoreFault::Die)
        => Seen::Status(502), errors(&[]);
    death_in_the_middle_of_a_move_cuts_the_answer: Move, Some(PATIENCE),
        |b| store(b, 4, StoreFault::Die)
        => Seen::Cut, FAILED;
    a_stall_in_the_middle_of_a_move_cuts_the_answer: Move, Some(PATIENCE),
        |b| store(b, 4, StoreFault::Stall)
        // Which of the two associations runs out of patience first is open.
        => Seen::Cut, FAILED;
    an_image_lost_in_silence_by_a_move_every_time_cuts_the_answer: Move, Some(PATIENCE),
        |b| b.loses = 1
        => Seen::Cut, INCOMPLETE;
    an_image_that_a_move_fails_every_time_cuts_the_answer: Move, Some(PATIENCE),
        |b| store(b, 1, StoreFault::Failed)
        => Seen::Cut, INCOMPLETE;
    an_element_of_four_gigabytes_in_a_move_every_time_cuts_the_answer: Move, Some(PATIENCE),
        |b| store(b, 1, StoreFault::HugeElement)
        => Seen::Cut, refused(&[("cause", "malformed")]);
    an_image_that_a_move_failed_once_is_asked_for_again: Move, None,
        |b| store(b, 4, StoreFault::Failed)
        => Seen::Whole, RECEIVED;
    a_final_response_before_the_last_image_of_a_move_is_waited_out: Move, None,
        |b| b.final_response_early = true
        => Seen::Whole, RECEIVED;
    a_move_over_several_associations_is_one_study: Move, None,
        |b| b.move_associations = 3
        => Seen::Whole, RECEIVED;
    a_move_without_originator_is_known_by_its_content: Move, None,
        |b| b.without_move_originator = true
        => Seen::Whole, RECEIVED;
    an_image_that_a_move_was_not_asked_for_is_not_sent_on: Move, None,
        |b| b.unasked = 1
        => Seen::Whole, refused(&[("cause", "not_asked_for")]);
}

#[test]
fn images_lost_by_a_pacs_that_counts_nothing_cut_the_answer() {
    run(async {
        let pair = pair(Way::Get, "no-counters", |pacs| {
            pacs.set("quirks.related_counts", false)
        })
        .await;
        let into = folder("no-counters-parts");
        pair.pacs.behave(|b| {
            b.without_counters = true;
            b.loses = 1;
        });
        assert_eq!(pair.look(STUDY, &into).await, Seen::Cut);
        pair.pacs.behave(|b| b.loses = 0);
        assert_eq!(pair.look(STUDY, &into).await, Seen::Whole);
    });
}

#[test]
fn two_moves_at_once_without_originator_do_not_mix() {
    run(async {
        let pair = pair(Way::Move, "two-moves", |pacs| pacs).await;
        pair.pacs.behave(|b| {
            b.without_move_originator = true;
            b.move_associations = 2;
            b.hold_before = Some(2);
        });
        let (one, two) = (folder("two-moves-one"), folder("two-moves-two"));
        let both_are_under_way = async {
            until("two moves at the PACS", async || {
                pair.pacs.count(|asked| matches!(asked, Asked::Move { .. })) >= 2
            })
            .await;
            pair.pacs.behave(|b| b.hold_before = None);
        };
        let (first, second, ()) = tokio::join!(
            pair.look(STUDY, &one),
            pair.look(OTHER, &two),
            both_are_under_way
        );
        assert_eq!((first, second), (Seen::Whole, Seen::Whole));
    });
}

#[test]
fn a_pacs_that_keeps_refusing_is_left_alone_for_a_while() {
    run(async {
        let pair = pair(Way::Get, "breaker", |pacs| pacs).await;
        let into = folder("breaker-parts");
        pair.pacs.behave(|b| b.reject = Some(Rejection::NoReason));
        let asked = |asked: &Asked| matches!(asked, Asked::Association { .. });
        while pair.look(STUDY, &into).await != Seen::Status(503) {
            assert!(
                pair.pacs.count(asked) < 10,
                "the PACS is asked again and again"
            );
        }
        assert_eq!(
            metric(&pair.gateway, "drimbox_dimse_breaker_open", &[]).await,
            1
        );
        pair.pacs.recover();
        until("the next try", async || {
            pair.look(STUDY, &into).await == Seen::Whole
        })
        .await;
        assert_eq!(
            metric(&pair.gateway, "drimbox_dimse_breaker_open", &[]).await,
            0
        );
    });
}

#[test]
fn a_line_that_is_cut_stalled_or_slow_never_gives_a_part_for_the_whole() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&[STUDY, OTHER]), &[])
            .await
            .unwrap();
        let proxy = FaultProxy::start(pacs.address()).await.unwrap();
        let config = GatewayConfig::new(&folder("line")).unwrap();
        let entry = PacsConfig::new("sim", "SIM", proxy.address().port())
            .set("dimse.connect_timeout_seconds", PATIENCE)
            .set("dimse.response_timeout_seconds", PATIENCE);
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let pair = Pair {
            pacs,
            gateway,
            client: Client::plain().unwrap(),
        };
        let into = folder("line-parts");

        // The query association is kept for the next query: the images have one of their own.
        assert_eq!(pair.look(OTHER, &into).await, Seen::Whole);
        proxy.set(Fault::CutAfter(500_000));
        assert_eq!(pair.look(STUDY, &into).await, Seen::Cut);
        proxy.set(Fault::StallAfter(500_000));
        assert_eq!(pair.look(STUDY, &into).await, Seen::Cut);
        proxy.set(Fault::StallAfter(0));
        assert_eq!(pair.look(STUDY, &into).await, Seen::Status(504));
        proxy.set(Fault::Refuse);
        assert_eq!(pair.look(STUDY, &into).await, Seen::Status(502));
        proxy.set(Fault::None);
        assert_eq!(pair.look(STUDY, &into).await, Seen::Whole);
    });
}

#[test]
fn pdus_that_arrive_byte_by_byte_are_the_same_pdus() {
    run(async {
        let name = "charsets/ir87";
        let pacs = FaultyPacs::start("SIM", &files(&[name]), &[])
            .await
            .unwrap();
        let proxy = FaultProxy::start(pacs.address()).await.unwrap();
        proxy.set(Fault::ByteByByte);
        let config = GatewayConfig::new(&folder("bytes")).unwrap();
        let entry = PacsConfig::new("sim", "SIM", proxy.address().port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let into = folder("bytes-parts");
        let url = gateway.local_url() + &study_path(exam(name));
        let body = retrieve(&Client::plain().unwrap(), &url, &into).await;
        assert_study(exam(name), &body, &into);
    });
}
