//! The associations with a PACS: never more than it takes, used again, ended in good order, and a
//! queue that has an end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::PathBuf;

use conformance::testkit::pacs::{Asked, StoreFault};
use conformance::testkit::{Client, FaultyPacs, Gateway, GatewayConfig, PacsConfig, Response};
use futures_util::future::{join_all, select};
use support::{JSON, Seen, exam, files, folder, look, metric, run, until};

/// Exams of one series and of several, of one kind of image and of many.
const STUDIES: [&str; 8] = [
    "ct",
    "ct300",
    "mr",
    "dx",
    "documents",
    "us",
    "multiframe",
    "charsets/ir100",
];

/// A PACS and the gateway in front of it, which has found that it answers.
struct Pair {
    pacs: FaultyPacs,
    gateway: Gateway,
    client: Client,
    folder: PathBuf,
}

async fn pair(name: &str, change: impl FnOnce(PacsConfig) -> PacsConfig) -> Pair {
    let folder = folder(name);
    let pacs = FaultyPacs::start("SIM", &files(&STUDIES), &[])
        .await
        .unwrap();
    let entry = change(PacsConfig::new("sim", "SIM", pacs.port()));
    let config = GatewayConfig::new(&folder).unwrap().pacs(entry);
    let gateway = Gateway::start(config).await.unwrap();
    until("the PACS to be up", async || {
        metric(&gateway, "drimbox_pacs_up", &[]).await == 1
    })
    .await;
    Pair {
        pacs,
        gateway,
        client: Client::plain().unwrap(),
        folder,
    }
}

impl Pair {
    async fn look(&self, study: &str) -> Seen {
        let into = self.folder.join("parts").join(study);
        std::fs::create_dir_all(&into).unwrap();
        look(&self.client, &self.gateway, exam(study), &into).await
    }

    async fn search(&self, query: &str) -> Response {
        let url = format!("{}/studies?{query}", self.gateway.local_url());
        self.client.get(&url).accept(JSON).send().await.unwrap()
    }

    fn associations(&self) -> usize {
        self.pacs
            .count(|asked| matches!(asked, Asked::Association { .. }))
    }
}

fn is_get(asked: &Asked) -> bool {
    matches!(asked, Asked::Get(_))
}

#[test]
fn eight_clients_of_a_pacs_that_takes_two_associations_get_their_studies_over_two() {
    run(async {
        let pair = pair("two", |pacs| pacs.set("dimse.max_associations", 2)).await;
        pair.pacs.behave(|b| {
            b.max_associations = Some(2);
            b.hold_before = Some(1);
        });
        let clients = join_all(STUDIES.map(|study| pair.look(study)));
        let both_are_taken = async {
            until("two retrievals at once", async || {
                pair.pacs.count(is_get) >= 2
            })
            .await;
            pair.pacs.behave(|b| b.hold_before = None);
        };
        let (seen, ()) = tokio::join!(clients, both_are_taken);
        assert_eq!(seen, [Seen::Whole; 8]);
        assert_eq!(pair.pacs.most_associations(), 2);
    });
}

#[test]
fn an_image_that_failed_is_asked_for_again_of_a_pacs_that_takes_one_association() {
    run(async {
        let pair = pair("one", |pacs| pacs.set("dimse.max_associations", 1)).await;
        pair.pacs.behave(|b| {
            b.max_associations = Some(1);
            b.store.insert(4, StoreFault::Failed);
        });
        assert_eq!(pair.look("ct300").await, Seen::Whole);
        assert!(pair.pacs.count(is_get) > 1);
        assert_eq!(pair.pacs.most_associations(), 1);
        let dropped = |asked: &Asked| matches!(asked, Asked::Aborted | Asked::Closed);
        assert_eq!(pair.pacs.count(dropped), 0);
    });
}

#[test]
fn two_searches_in_a_row_use_one_association() {
    run(async {
        let pair = pair("reuse", |pacs| pacs.set("dimse.idle_timeout_seconds", 60)).await;
        let finds = |asked: &Asked| matches!(asked, Asked::Find(_));
        let mut opened = Vec::new();
        for query in ["ModalitiesInStudy=CT", "ModalitiesInStudy=MR"] {
            pair.pacs.forget();
            let found = pair.search(query).await.json().await.unwrap();
            assert!(!found.as_array().unwrap().is_empty(), "{query}");
            assert!(pair.pacs.count(finds) > 0, "{query}: nobody was asked");
            opened.push(pair.associations());
        }
        // The first may use that of the first look at the PACS.
        assert!(opened[0] <= 1, "{opened:?}");
        assert_eq!(opened[1], 0);
    });
}

#[test]
fn an_association_that_nobody_uses_is_released_and_the_next_search_opens_another() {
    run(async {
        let pair = pair("idle", |pacs| pacs.set("dimse.idle_timeout_seconds", 1)).await;
        pair.pacs
            .wait_for(|asked| *asked == Asked::Released)
            .await
            .unwrap();
        let before = pair.associations();
        assert_eq!(pair.search("ModalitiesInStudy=CT").await.status(), 200);
        assert_eq!(pair.associations(), before + 1);
        let dropped = |asked: &Asked| matches!(asked, Asked::Aborted | Asked::Closed);
        assert_eq!(pair.pacs.count(dropped), 0);
    });
}

#[test]
fn who_finds_the_queue_full_is_told_to_come_back_and_nobody_else_suffers() {
    run(async {
        let pair = pair("queue", |pacs| {
            pacs.set("dimse.max_associations", 1)
                .set("dimse.max_waiting", 1)
        })
        .await;
        pair.pacs.behave(|b| b.hold_before = Some(1));
        let searches = async {
            pair.pacs.wait_for(is_get).await.unwrap();
            let one = Box::pin(pair.search("ModalitiesInStudy=CT"));
            let other = Box::pin(pair.search("ModalitiesInStudy=MR"));
            // While one waits, the other is answered.
            let (refused, waiting) = select(one, other).await.factor_first();
            assert_eq!(refused.status(), 503);
            assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
            assert_eq!(refused.json().await.unwrap()["status"], 503);
            pair.pacs.recover();
            assert_eq!(waiting.await.status(), 200);
        };
        // What the study holds is asked once its first image is here, when the queue is full.
        let (study, ()) = tokio::join!(pair.look("ct300"), searches);
        assert_eq!(study, Seen::Whole);
    });
}
