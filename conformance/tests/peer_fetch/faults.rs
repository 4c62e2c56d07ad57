//! A peer that does not do as it should.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conformance::testkit::PeerFault;
use drimbox::archive::ArchiveError;
use drimbox::archive::peer::{PeerError, PeerSettings, UNCOMPRESSED};

use crate::consumer::{Kept, Tokens, World, fetch_all, instances, peer_error};
use crate::support::{exam, run};

/// The file of the first image of another exam.
fn foreign() -> Bytes {
    instances(exam("ct300"))[0].file.clone()
}

#[test]
fn what_the_kos_does_not_name_ends_the_transfer() {
    run(async {
        let world = World::new("foreign-instance").await;
        let all = instances(world.exam);
        // Of the second series, in an answer for the first.
        let sibling = all[8].file.clone();
        for fault in [
            PeerFault::Instead(3, foreign()),
            PeerFault::Extra(foreign()),
            PeerFault::Instead(3, sibling),
            // One of the series, twice.
            PeerFault::Instead(3, all[0].file.clone()),
            PeerFault::Extra(all[0].file.clone()),
        ] {
            let before = world.peer.requests().len();
            world.peer.behave(|b| b.always = Some(fault.clone()));
            let kept = Arc::<Kept>::default();
            let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
            assert!(
                matches!(refused, PeerError::Untrustworthy { .. }),
                "{refused}"
            );
            assert!(kept.len() <= 8);
            let asked = world.peer.requests().len() - before;
            assert_eq!(asked, 1, "it is not asked again");
        }
    });
}

#[test]
fn an_instance_that_claims_another_identity_inside_is_refused() {
    run(async {
        let world = World::new("identity").await;
        let all = instances(world.exam);
        // The file meta information of the fourth image over the data set of a foreign one.
        let own = &all[3].file;
        let head = own.len() - crate::consumer::data_set(own).len();
        let other = foreign();
        let forged = [&own[..head], crate::consumer::data_set(&other)].concat();
        world
            .peer
            .behave(|b| b.always = Some(PeerFault::Instead(3, forged.into())));
        let kept = Arc::<Kept>::default();
        let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
        assert!(
            matches!(refused, PeerError::Untrustworthy { .. }),
            "{refused}"
        );
        kept.assert_holds(&all[..3]);
    });
}

#[test]
fn an_answer_without_end_is_ended() {
    run(async {
        let world = World::new("endless").await;
        let settings = PeerSettings {
            max_instance_bytes: 1 << 20,
            ..world.settings()
        };
        for fault in [
            PeerFault::EndlessPart,
            PeerFault::EndlessParts,
            PeerFault::EndlessHeaders,
            PeerFault::MediaType("text/html"),
            PeerFault::MediaType("multipart/related"),
        ] {
            world.peer.behave(|b| b.always = Some(fault.clone()));
            let kept = Arc::<Kept>::default();
            let refused = peer_error(world.fetch_first(settings.clone(), &kept).await);
            assert!(
                matches!(refused, PeerError::Untrustworthy { .. }),
                "{fault:?}: {refused}"
            );
        }
        let settings = PeerSettings {
            max_series_bytes: 300_000,
            ..world.settings()
        };
        world.peer.behave(|b| b.always = None);
        let kept = Arc::<Kept>::default();
        let refused = peer_error(world.fetch_first(settings, &kept).await);
        assert!(
            matches!(refused, PeerError::Untrustworthy { .. }),
            "{refused}"
        );
    });
}

#[test]
fn a_series_that_breaks_off_near_its_end_goes_on_by_instance() {
    run(async {
        // Without a boundary after it, nobody knows that the last part was whole.
        for (fault, missing) in [(PeerFault::CutAfter(5), 3), (PeerFault::WithoutClosing, 1)] {
            let world = World::new(&format!("resumed-{missing}")).await;
            world.peer.behave(|b| b.next.push_back(Some(fault)));
            let kept = Arc::<Kept>::default();
            let report = world.fetch_first(world.settings(), &kept).await.unwrap();
            assert_eq!(report.delivered, 8);
            kept.assert_holds(&instances(world.exam)[..8]);
            assert_eq!(
                (world.asked().len(), world.asked_singly()),
                (1 + missing, missing)
            );
        }
    });
}

#[test]
fn a_series_that_breaks_off_early_is_asked_for_again_and_nothing_is_kept_twice() {
    run(async {
        let world = World::new("again").await;
        for fault in [PeerFault::CutAfter(1), PeerFault::CutAfter(2)] {
            let before = world.asked().len();
            world.peer.behave(|b| b.next.push_back(Some(fault.clone())));
            let kept = Arc::<Kept>::default();
            let report = world.fetch_first(world.settings(), &kept).await.unwrap();
            assert_eq!(report.delivered, 8);
            kept.assert_holds(&instances(world.exam)[..8]);
            assert!(world.asked().len() - before <= 2);
            assert_eq!(world.asked_singly(), 0);
        }
    });
}

#[test]
fn a_peer_that_knows_no_instances_is_asked_for_series_only() {
    run(async {
        for status in [400, 403, 404, 405, 501] {
            let world = World::new(&format!("series-only-{status}")).await;
            world.peer.behave(|b| {
                b.instance = Some(PeerFault::Status(status, Vec::new()));
                b.next.push_back(Some(PeerFault::CutAfter(6)));
            });
            let kept = Arc::<Kept>::default();
            let report = world.fetch_first(world.settings(), &kept).await.unwrap();
            assert_eq!(report.delivered, 8);
            kept.assert_holds(&instances(world.exam)[..8]);
            assert_eq!(
                (world.asked().len(), world.asked_singly()),
                (3, 1),
                "{status}"
            );
        }
    });
}

#[test]
fn a_transfer_that_stops_or_trickles_is_given_up_and_resumed() {
    run(async {
        let world = World::new("slow").await;
        let settings = PeerSettings {
            response_timeout: Duration::from_millis(400),
            ..world.settings()
        };
        for fault in [PeerFault::StallAfter(6), PeerFault::TrickleAfter(6)] {
            world.peer.behave(|b| b.next.push_back(Some(fault.clone())));
            let kept = Arc::<Kept>::default();
            let report = world.fetch_first(settings.clone(), &kept).await.unwrap();
            assert_eq!(report.delivered, 8, "{fault:?}");
            kept.assert_holds(&instances(world.exam)[..8]);
        }
    });
}

#[test]
fn a_transfer_that_always_breaks_off_at_the_same_place_ends_with_an_error() {
    run(async {
        let world = World::new("broken").await;
        let settings = PeerSettings {
            ask_for_instances: false,
            attempts: 3,
            ..world.settings()
        };
        world
            .peer
            .behave(|b| b.always = Some(PeerFault::CutAfter(2)));
        let kept = Arc::<Kept>::default();
        let failed = peer_error(world.fetch_first(settings, &kept).await);
        assert!(matches!(failed, PeerError::Interrupted { .. }), "{failed}");
        // Each failure counts but the one that brought something.
        assert_eq!((world.asked().len(), kept.len()), (3, 2));
    });
}

#[test]
fn a_missing_instance_is_asked_for_and_then_reported() {
    run(async {
        let world = World::new("missing").await;
        world
            .peer
            .behave(|b| b.always = Some(PeerFault::Without(2)));
        let kept = Arc::<Kept>::default();
        world.fetch_first(world.settings(), &kept).await.unwrap();
        kept.assert_holds(&instances(world.exam)[..8]);

        world
            .peer
            .behave(|b| b.instance = Some(PeerFault::Status(404, Vec::new())));
        let kept = Arc::<Kept>::default();
        let short = world.fetch_first(world.settings(), &kept).await;
        assert_eq!(
            short,
            Err(ArchiveError::Incomplete {
                missing: 1,
                expected: 8
            })
        );
        assert_eq!(kept.len(), 7);
    });
}

#[test]
fn a_damaged_instance_is_missed_and_the_others_come() {
    run(async {
        let world = World::new("damaged").await;
        let all = instances(world.exam);
        let cut = all[2].file.slice(..all[2].file.len() - 1_000);
        world.peer.behave(|b| {
            b.always = Some(PeerFault::Instead(2, cut.clone()));
            b.instance = Some(PeerFault::Instead(0, cut));
        });
        let kept = Arc::<Kept>::default();
        let short = world.fetch_first(world.settings(), &kept).await;
        let incomplete = ArchiveError::Incomplete {
            missing: 1,
            expected: 8,
        };
        assert_eq!(short, Err(incomplete));
        assert_eq!(kept.len(), 7);
    });
}

#[test]
fn a_token_that_ends_between_two_series_is_renewed() {
    run(async {
        let world = World::new("renewed").await;
        world
            .peer
            .behave(|b| b.tokens = vec![("first".into(), 1), ("second".into(), 100)]);
        let exam = world.open(world.settings(), Arc::new(Tokens::of(&["first", "second"])));
        let kept = Arc::<Kept>::default();
        fetch_all(&exam, &kept).await.unwrap();
        kept.assert_holds(&instances(world.exam));
        let tokens = world.peer.requests().into_iter().map(|request| {
            let value = &request.fields["authorization"];
            value.to_str().unwrap().to_owned()
        });
        let expected = ["first", "first", "second", "second"];
        assert_eq!(
            tokens.collect::<Vec<_>>(),
            expected.map(|token| format!("Bearer {token}"))
        );
    });
}

#[test]
fn a_source_that_refuses_the_new_token_too_is_not_asked_a_third_time() {
    run(async {
        let world = World::new("unauthorized").await;
        world
            .peer
            .behave(|b| b.tokens = vec![("another".into(), 100)]);
        let exam = world.open(
            world.settings(),
            Arc::new(Tokens::of(&["one", "two", "three"])),
        );
        let kept = Arc::<Kept>::default();
        let series = exam.kos().series[0].series.clone();
        let scope = drimbox::archive::Scope::Series(exam.kos().study.clone(), series);
        let refused = peer_error(crate::consumer::retrieve(&exam, scope, &kept).await);
        assert!(
            matches!(refused, PeerError::NotAuthenticated { .. }),
            "{refused}"
        );
        assert_eq!(world.peer.requests().len(), 2);

        let exam = world.open(world.settings(), Arc::new(Tokens::of(&["one"])));
        let refused = peer_error(fetch_all(&exam, &kept).await);
        assert!(matches!(refused, PeerError::NoToken { .. }), "{refused}");
        assert!(refused.advice().remedy.contains("reconnecter"));
    });
}

#[test]
fn a_source_that_cannot_serve_now_is_asked_again() {
    run(async {
        let world = World::new("busy").await;
        world.peer.behave(|b| {
            let later = vec![("retry-after", "1".to_owned())];
            b.next
                .push_back(Some(PeerFault::Status(503, later.clone())));
            b.next.push_back(Some(PeerFault::Status(429, later)));
            b.next.push_back(Some(PeerFault::Status(502, Vec::new())));
        });
        let kept = Arc::<Kept>::default();
        world.fetch_first(world.settings(), &kept).await.unwrap();
        kept.assert_holds(&instances(world.exam)[..8]);
        assert_eq!(world.asked().len(), 4);
    });
}

#[test]
fn a_source_that_can_send_nothing_of_the_list_is_asked_for_what_every_source_has() {
    run(async {
        let world = World::new("syntax").await;
        let refuse = || Some(PeerFault::Status(406, Vec::new()));
        world.peer.behave(|b| b.next.push_back(refuse()));
        let kept = Arc::<Kept>::default();
        world.fetch_first(world.settings(), &kept).await.unwrap();
        let requests = world.peer.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].fields["accept"], UNCOMPRESSED);

        world.peer.behave(|b| b.always = refuse());
        let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
        assert!(
            matches!(refused, PeerError::NotAcceptable { .. }),
            "{refused}"
        );
        assert_eq!(world.peer.requests().len(), 4);
    });
}

#[test]
fn a_refusal_is_not_asked_again_and_says_what_to_do() {
    run(async {
        let world = World::new("refusals").await;
        for (status, cause) in [
            (400, "bad_request"),
            (403, "forbidden"),
            (404, "not_published"),
            (410, "not_published"),
            (421, "misdirected"),
        ] {
            let before = world.peer.requests().len();
            world
                .peer
                .behave(|b| b.always = Some(PeerFault::Status(status, Vec::new())));
            let kept = Arc::<Kept>::default();
            let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
            assert_eq!(refused.cause(), cause);
            assert_eq!(world.peer.requests().len(), before + 1, "{status}");
            assert!(!refused.advice().remedy.is_empty());
        }
    });
}
