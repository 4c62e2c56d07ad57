//! One retrieval however many ask; a reader slows only itself; who leaves frees what it alone used.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use conformance::samples::Exam;
use conformance::testkit::pacs::Asked;
use conformance::testkit::{Client, Gateway, GatewayConfig, Orthanc, PacsConfig, Response};
use support::compare::{Part10, assert_same, assert_study};
use support::pair::is_web;
use support::steered::Steered;
use support::{
    SINGLE, ask, exam, exams, files, folder, instance_path, metric, objects, retrieve, run,
    series_path, study_path, until,
};
use tokio::task::JoinSet;

const STUDY: &str = "ct300";

struct Pair {
    pacs: Steered,
    gateway: Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// C-GET, or HTTP.
    Own,
    Move,
}

/// The ways of the upstream that the stories are told over.
fn ways() -> &'static [Way] {
    if is_web() {
        &[Way::Own]
    } else {
        &[Way::Own, Way::Move]
    }
}

async fn pair(way: Way, name: &str, files: &[std::path::PathBuf]) -> Pair {
    let config = GatewayConfig::new(&folder(name))
        .unwrap()
        .storage_scp()
        .unwrap();
    let here = config.address("dimse").unwrap();
    let pacs = Steered::start(name, files, &[("DRIMBOX", here)]).await;
    let entry = match way {
        Way::Move => pacs.entry().by_move(),
        Way::Own => pacs.entry(),
    };
    let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
    Pair { pacs, gateway }
}

impl Pair {
    fn url(&self, exam: &Exam) -> String {
        self.gateway.local_url() + &study_path(exam)
    }

    fn retrievals(&self) -> usize {
        self.pacs.retrievals()
    }

    /// A client of its own that has the first bytes of the study, and the rest to come.
    async fn begin(&self, exam: &Exam) -> Response {
        let mut answer = ask(&Client::plain().unwrap(), &self.url(exam)).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.next().await.unwrap().is_some());
        answer
    }

    async fn assert_served(&self, exam: &Exam) {
        let into = folder(&format!("served-{}", self.gateway.pid()));
        let body = retrieve(&Client::plain().unwrap(), &self.url(exam), &into).await;
        assert_study(exam, &body, &into);
    }
}

/// Reads the rest of a body; its length when it ends well.
async fn rest(mut answer: Response) -> u64 {
    let mut length = 0;
    while let Some(bytes) = answer.next().await.unwrap() {
        length += bytes.len() as u64;
    }
    length
}

#[test]
fn clients_that_ask_at_once_share_one_c_get_of_a_real_pacs() {
    run(async {
        let orthanc = Orthanc::builder(&folder("orthanc")).start().await.unwrap();
        orthanc.upload(files(&["ct"])).await.unwrap();
        let config = GatewayConfig::new(&folder("share-orthanc")).unwrap();
        let entry = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let exam = exam("ct");
        let mut clients = JoinSet::new();
        for number in 0..8 {
            let url = gateway.local_url() + &study_path(exam);
            clients.spawn(async move {
                let into = folder(&format!("share-{number}"));
                let body = retrieve(&Client::plain().unwrap(), &url, &into).await;
                assert_study(exam, &body, &into);
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        assert_eq!(orthanc.requests().unwrap().get, 1);
    });
}

#[test]
fn a_series_asked_for_while_its_study_arrives_is_not_asked_for_again() {
    run(async {
        let pair = pair(Way::Own, "join", &files(&["ct"])).await;
        let exam = exam("ct");
        pair.pacs.hold_before(3);
        let first = pair.begin(exam).await;
        let series = pair.gateway.local_url() + &series_path(exam, &exam.series[1]);
        let late = tokio::spawn(async move {
            let into = folder("join-late");
            let body = retrieve(&Client::plain().unwrap(), &series, &into).await;
            support::compare::assert_parts(&exam.series[1].instances, &body, &into);
        });
        until("the second client to join", async || {
            metric(&pair.gateway, "drimbox_cache_joined_total", &[]).await == 1
        })
        .await;
        pair.pacs.recover();
        rest(first).await;
        late.await.unwrap();
        assert_eq!(pair.retrievals(), 1);
    });
}

#[test]
fn a_client_that_comes_in_the_middle_gets_everything_from_the_start() {
    run(async {
        let way = *ways().last().unwrap();
        let pair = pair(way, "middle", &files(&[STUDY])).await;
        let exam = exam(STUDY);
        pair.pacs.hold_before(4);
        let first = pair.begin(exam).await;
        pair.pacs.until_held(3, &pair.gateway).await;
        let second = pair.begin(exam).await;
        pair.pacs.recover();
        let (first, second) = tokio::join!(rest(first), rest(second));
        assert!(first > 0 && second > 0);
        assert_eq!(pair.retrievals(), 1);
        pair.assert_served(exam).await;
        assert_eq!(pair.retrievals(), 1);
    });
}

#[test]
fn images_go_out_in_the_order_in_which_they_came_whatever_their_series() {
    if is_web() {
        return;
    }
    run(async {
        let exam = exam("ct");
        let mut turns: Vec<_> = exam.series.iter().map(|one| one.instances.iter()).collect();
        let mut sent = Vec::new();
        while sent.len() < exam.instances().count() {
            sent.extend(turns.iter_mut().filter_map(Iterator::next));
        }
        let files: Vec<_> = sent.iter().map(|one| exams().path(one)).collect();
        for way in ways().iter().copied() {
            let pair = pair(way, &format!("order-{way:?}"), &files).await;
            // One client follows, the other comes when most has arrived.
            pair.pacs.hold_before(files.len());
            let follows = ask(&Client::plain().unwrap(), &pair.url(exam)).await;
            pair.pacs.until_held(files.len() - 1, &pair.gateway).await;
            let late = ask(&Client::plain().unwrap(), &pair.url(exam)).await;
            let received = async |which: &str, answer: Response| {
                let into = folder(&format!("order-{way:?}-{which}"));
                let body = answer.multipart_to(&into).await.unwrap();
                assert!(body.is_complete(), "{way:?} {which}: {:?}", body.broken);
                let part = |at: usize| std::fs::read(into.join(format!("{at}.part"))).unwrap();
                let parts = (0..body.parts.len()).map(|at| Part10::read(&part(at)).instance());
                parts.collect::<Vec<_>>()
            };
            pair.pacs.recover();
            let (follows, late) = tokio::join!(received("first", follows), received("late", late));
            let sent: Vec<_> = sent
                .iter()
                .map(|one| one.sop_instance_uid.as_str())
                .collect();
            assert_eq!(follows, sent, "{way:?}");
            assert_eq!(late, sent, "{way:?}");
            assert_eq!(pair.retrievals(), 1, "{way:?}");
        }
    });
}

#[test]
fn a_reader_that_stops_reading_does_not_slow_another() {
    run(async {
        let folder = folder("slow-files");
        // Much more than the buffers of both sockets hold.
        let made = objects::make(&folder, "2.25.7001", 40, 1 << 20);
        let pair = pair(Way::Own, "slow", &made.files).await;
        let url = pair.gateway.local_url() + &made.path();
        let slow = Client::builder().receive_buffer(8192).build().unwrap();
        let mut slow = ask(&slow, &url).await;
        assert_eq!(slow.status(), 200);
        let begun = slow.next().await.unwrap().unwrap().len() as u64;

        let into = support::folder("slow-parts");
        let body = retrieve(&Client::plain().unwrap(), &url, &into).await;
        assert!(body.is_complete());
        made.assert_pixels(&into, body.parts.len());

        let in_progress = "drimbox_http_requests_in_progress";
        assert_eq!(
            metric(&pair.gateway, in_progress, &[("listener", "local")]).await,
            1,
            "the slow reader had everything: the story proves nothing"
        );
        // Boundaries are as long for one as for the other.
        assert_eq!(begun + rest(slow).await, body.bytes);
        assert_eq!(pair.retrievals(), 1);
    });
}

#[test]
fn a_client_that_leaves_early_stops_the_retrieval_at_the_pacs() {
    run(async {
        for way in ways().iter().copied() {
            let pair = pair(way, &format!("leave-{way:?}"), &files(&[STUDY])).await;
            pair.pacs.hold_before(3);
            drop(pair.begin(exam(STUDY)).await);
            until("the end of the retrieval", async || {
                pair.pacs.cancelled() == 1
            })
            .await;
            pair.pacs.recover();
            pair.assert_served(exam(STUDY)).await;
        }
    });
}

#[test]
fn a_pacs_that_ignores_c_cancel_is_hung_up_on() {
    if is_web() {
        return;
    }
    run(async {
        let pair = pair(Way::Own, "ignores", &files(&[STUDY])).await;
        pair.pacs.dimse().behave(|b| {
            b.hold_before = Some(3);
            b.ignores_cancel = true;
        });
        drop(pair.begin(exam(STUDY)).await);
        pair.pacs
            .dimse()
            .wait_for(|asked| *asked == Asked::Cancel)
            .await
            .unwrap();
        let hung_up = |asked: &Asked| matches!(asked, Asked::Aborted | Asked::Closed);
        pair.pacs.dimse().wait_for(hung_up).await.unwrap();
        pair.pacs.recover();
        pair.assert_served(exam(STUDY)).await;
    });
}

#[test]
fn a_client_that_leaves_near_the_end_leaves_the_rest_to_the_cache() {
    run(async {
        for way in ways().iter().copied() {
            let pair = pair(way, &format!("end-{way:?}"), &files(&[STUDY])).await;
            pair.pacs.hold_before(6);
            let client = pair.begin(exam(STUDY)).await;
            pair.pacs.until_held(5, &pair.gateway).await;
            if !is_web() {
                // For its series, then for their number: before, nobody knows how near the end is.
                let finds = [("service", "find"), ("outcome", "ok")];
                until("the number of instances", async || {
                    metric(&pair.gateway, "drimbox_dimse_operations_total", &finds).await >= 2
                })
                .await;
            }
            drop(client);
            let in_progress = "drimbox_http_requests_in_progress";
            until("the end of the request", async || {
                metric(&pair.gateway, in_progress, &[("listener", "local")]).await == 0
            })
            .await;
            pair.pacs.recover();
            until("the series in the cache", async || {
                metric(&pair.gateway, "drimbox_cache_series", &[]).await == 1
            })
            .await;
            assert_eq!(pair.pacs.cancelled(), 0, "{way:?}");
            pair.assert_served(exam(STUDY)).await;
            assert_eq!(pair.retrievals(), 1, "{way:?}");
        }
    });
}

#[test]
fn a_client_that_leaves_does_not_disturb_the_other() {
    run(async {
        let pair = pair(Way::Own, "other", &files(&[STUDY])).await;
        pair.pacs.hold_before(2);
        let leaves = pair.begin(exam(STUDY)).await;
        let stays = pair.begin(exam(STUDY)).await;
        drop(leaves);
        let in_progress = "drimbox_http_requests_in_progress";
        until("the end of one request", async || {
            metric(&pair.gateway, in_progress, &[("listener", "local")]).await == 1
        })
        .await;
        pair.pacs.recover();
        assert!(rest(stays).await > 0);
        assert_eq!(pair.pacs.cancelled(), 0);
        assert_eq!(pair.retrievals(), 1);
    });
}

#[test]
fn an_instance_read_to_its_end_is_kept_and_nothing_is_cancelled() {
    run(async {
        for way in ways().iter().copied() {
            let pair = pair(way, &format!("instance-{way:?}"), &files(&[STUDY])).await;
            let exam = exam(STUDY);
            let series = &exam.series[0];
            let client = Client::plain().unwrap();
            for number in [0, 2, 4] {
                let url = pair.gateway.local_url() + &instance_path(exam, series, number);
                for _ in 0..2 {
                    let answer = client.get(&url).accept(SINGLE).send().await.unwrap();
                    assert_same(&series.instances[number], &answer.bytes().await.unwrap());
                }
            }
            assert_eq!(pair.pacs.cancelled(), 0, "{way:?}");
            assert_eq!(pair.retrievals(), 3, "{way:?}");
            assert_eq!(pair.pacs.single_retrievals(), 3, "{way:?}");
        }
    });
}
