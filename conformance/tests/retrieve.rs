//! Retrieval of studies, series and instances over real PACS: what arrives is what was stored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use conformance::samples::Exam;
use conformance::testkit::{
    Client, Dcmqrscp, Gateway, GatewayConfig, Orthanc, PacsConfig, Pki, Protocol, free_port,
};
use support::compare::{assert_parts, assert_same, assert_study};
use support::{
    AS_STORED, SINGLE, digests, exam, exams, files, folder, instance_path, metric, retrieve, run,
    series_path, study_path,
};
use tokio::sync::OnceCell;

/// Destinations of C-MOVE that a PACS knows: one gateway each.
const DESTINATIONS: usize = 8;

/// A PACS that the stories of this file share.
struct Archive {
    _process: Peer,
    ae_title: String,
    port: u16,
    /// Root of its DICOMweb service.
    web: Option<String>,
    /// AE titles and ports left for gateways that are sent images by C-MOVE.
    destinations: std::sync::Mutex<Vec<(String, u16)>>,
}

/// What keeps a PACS running.
#[allow(dead_code)]
enum Peer {
    Orthanc(Orthanc),
    Dcmqrscp(Dcmqrscp),
}

/// How the gateway gets images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Get,
    Move,
    Web,
}

async fn orthanc() -> &'static Archive {
    static ORTHANC: OnceCell<Archive> = OnceCell::const_new();
    ORTHANC
        .get_or_init(async || {
            let destinations = destinations();
            let folder = folder("orthanc");
            let builder = destinations
                .iter()
                .fold(Orthanc::builder(&folder), |builder, (title, port)| {
                    builder.modality(title, *port)
                });
            let orthanc = builder.start().await.unwrap();
            orthanc.upload(exams().files().collect()).await.unwrap();
            Archive {
                ae_title: orthanc.ae_title().to_owned(),
                port: orthanc.dicom_port(),
                web: Some(orthanc.dicomweb_url()),
                _process: Peer::Orthanc(orthanc),
                destinations: destinations.into(),
            }
        })
        .await
}

/// dcmqrscp with exams that are not compressed: it sends no other without being told which.
async fn dcmqrscp() -> &'static Archive {
    static DCMQRSCP: OnceCell<Archive> = OnceCell::const_new();
    DCMQRSCP
        .get_or_init(async || start_dcmqrscp("plain", &[], &NOT_COMPRESSED).await)
        .await
}

async fn start_dcmqrscp(name: &str, arguments: &[&str], exams: &[&str]) -> Archive {
    let destinations = destinations();
    let folder = folder(&format!("dcmqrscp-{name}"));
    let builder = Dcmqrscp::builder(&folder).ae_title(&format!("DCMQR-{name}"));
    let builder = arguments
        .iter()
        .fold(builder, |builder, argument| builder.argument(argument));
    let builder = destinations.iter().fold(builder, |builder, (title, port)| {
        builder.application(title, *port)
    });
    let pacs = builder.start(&files(exams)).await.unwrap();
    Archive {
        ae_title: pacs.ae_title().to_owned(),
        port: pacs.port(),
        web: None,
        _process: Peer::Dcmqrscp(pacs),
        destinations: destinations.into(),
    }
}

fn destinations() -> Vec<(String, u16)> {
    (0..DESTINATIONS)
        .map(|number| (format!("DRIMBOX{number}"), free_port().unwrap()))
        .collect()
}

impl Archive {
    /// A gateway of its own for a story, with an empty cache.
    async fn gateway(&self, way: Way, story: &str) -> Gateway {
        let (config, pacs) = self.configuration(way, story);
        Gateway::start(config.pacs(pacs)).await.unwrap()
    }

    fn configuration(&self, way: Way, story: &str) -> (GatewayConfig, PacsConfig) {
        let folder = folder(&format!("{}-{way:?}-{story}", self.ae_title));
        let config = GatewayConfig::new(&folder).unwrap();
        let pacs = PacsConfig::new("pacs", &self.ae_title, self.port);
        match way {
            Way::Get => (config, pacs),
            Way::Web => {
                let url = self.web.as_deref().unwrap();
                (config, PacsConfig::dicomweb("pacs", url))
            }
            Way::Move => {
                let (title, port) = self.destinations.lock().unwrap().pop().unwrap();
                let listen = format!("127.0.0.1:{port}");
                let config = config
                    .set("dimse.ae_title", title)
                    .set("dimse.listen", listen);
                (config, pacs.by_move())
            }
        }
    }
}

/// Instances that the PACS sent, whatever the way.
async fn received(gateway: &Gateway) -> u64 {
    metric(gateway, "drimbox_dimse_instances_received_total", &[]).await
        + metric(gateway, "drimbox_upstream_instances_received_total", &[]).await
}

/// Retrieves a study and compares it with its source.
async fn assert_whole(gateway: &Gateway, exam: &Exam) -> Vec<String> {
    let client = Client::plain().unwrap();
    let into = folder(&format!(
        "parts-{}-{}",
        gateway.pid(),
        exam.name.replace('/', "-")
    ));
    let url = gateway.local_url() + &study_path(exam);
    let body = retrieve(&client, &url, &into).await;
    assert_study(exam, &body, &into);
    digests(&body)
}

async fn a_study_comes_whole_from_the_pacs_and_again_from_the_cache(
    archive: &Archive,
    way: Way,
    names: &[&str],
) {
    let gateway = archive.gateway(way, "whole").await;
    let mut instances = 0;
    for name in names {
        let exam = exam(name);
        let cold = assert_whole(&gateway, exam).await;
        instances += exam.instances().count() as u64;
        assert_eq!(
            received(&gateway).await,
            instances,
            "instances received once {name} is here"
        );
        let warm = assert_whole(&gateway, exam).await;
        assert_eq!(cold, warm, "the cache gives other bytes of {name}");
        assert_eq!(
            received(&gateway).await,
            instances,
            "{name} came a second time from the PACS"
        );
    }
    assert!(metric(&gateway, "drimbox_cache_hits_total", &[]).await > 0);
}

async fn a_series_and_an_instance_are_retrieved_at_their_own_level(
    archive: &Archive,
    way: Way,
    name: &str,
) {
    let gateway = archive.gateway(way, "level").await;
    let client = Client::plain().unwrap();
    let exam = exam(name);
    let series = &exam.series[0];
    let url = gateway.local_url() + &instance_path(exam, series, 1);
    let answer = client.get(&url).accept(SINGLE).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.header("content-type").replace(' ', "");
    let length: usize = answer.header("content-length").parse().unwrap();
    let single = answer.bytes().await.unwrap();
    assert_eq!(single.len(), length);
    assert_same(&series.instances[1], &single);
    let syntax = support::compare::sent_syntax(&series.instances[1].transfer_syntax_uid);
    assert_eq!(kind, format!("application/dicom;transfer-syntax={syntax}"));

    let into = folder(&format!("level-{}", gateway.pid()));
    let body = retrieve(&client, &url, &into).await;
    assert_parts([&series.instances[1]], &body, &into);
    assert_eq!(received(&gateway).await, 1, "retrieved more than once");

    let url = gateway.local_url() + &series_path(exam, series);
    let body = retrieve(&client, &url, &into).await;
    assert_parts(&series.instances, &body, &into);
    let so_far = received(&gateway).await;
    assert!(
        so_far <= 1 + series.count as u64,
        "{so_far} instances for a series"
    );
    assert!(
        exam.instances().count() > series.count,
        "the exam proves nothing"
    );
}

async fn what_is_not_there_is_not_found_and_what_is_no_uid_is_refused(
    archive: &Archive,
    way: Way,
    name: &str,
) {
    let gateway = archive.gateway(way, "absent").await;
    let client = Client::plain().unwrap();
    let exam = exam(name);
    let (study, series) = (study_path(exam), series_path(exam, &exam.series[0]));
    let status = async |path: &str| {
        let url = gateway.local_url() + path;
        let answer = client.get(&url).accept(AS_STORED).send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.header("content-type").to_owned();
        assert_eq!(kind, "application/problem+json", "{path}");
        status
    };
    assert_eq!(status("/studies/1.2.3.4.5").await, 404);
    assert_eq!(status(&format!("{study}/series/1.2.3.4.5")).await, 404);
    assert_eq!(status(&format!("{series}/instances/1.2.3.4.5")).await, 404);
    let elsewhere = exam.series[0].instances[0].sop_instance_uid.as_str();
    let other = series_path(exam, &exam.series[1]);
    assert_eq!(status(&format!("{other}/instances/{elsewhere}")).await, 404);
    for bad in [
        "1..2",
        "1.2.a",
        "*",
        "1.2%5C1.3",
        "%2e%2e",
        "1.2.",
        &"1".repeat(65),
    ] {
        assert_eq!(status(&format!("/studies/{bad}")).await, 400, "{bad}");
        assert_eq!(status(&format!("{study}/series/{bad}")).await, 400, "{bad}");
        assert_eq!(
            status(&format!("{series}/instances/{bad}")).await,
            400,
            "{bad}"
        );
    }
    let failed = metric(&gateway, "drimbox_http_aborted_responses_total", &[]).await;
    assert_eq!(failed, 0);
}

/// The stories that hold whatever the PACS and the way.
macro_rules! over {
    ($module:ident, $archive:path, $way:expr, $studies:expr, $study:expr) => {
        mod $module {
            use super::*;

            #[test]
            fn a_study_comes_whole_from_the_pacs_and_again_from_the_cache() {
                run(async {
                    let archive = $archive().await;
                    super::a_study_comes_whole_from_the_pacs_and_again_from_the_cache(
                        archive, $way, &$studies,
                    )
                    .await;
                });
            }

            #[test]
            fn a_series_and_an_instance_are_retrieved_at_their_own_level() {
                run(async {
                    let archive = $archive().await;
                    super::a_series_and_an_instance_are_retrieved_at_their_own_level(
                        archive, $way, $study,
                    )
                    .await;
                });
            }

            #[test]
            fn what_is_not_there_is_not_found_and_what_is_no_uid_is_refused() {
                run(async {
                    let archive = $archive().await;
                    super::what_is_not_there_is_not_found_and_what_is_no_uid_is_refused(
                        archive, $way, $study,
                    )
                    .await;
                });
            }
        }
    };
}

const EVERY_KIND: [&str; 17] = [
    "ct",
    "ct300",
    "enhanced-ct",
    "multiframe",
    "fragments",
    "mr",
    "enhanced-mr",
    "dx",
    "us",
    "documents",
    "rtstruct",
    "syntaxes",
    "elements",
    "pixels",
    "charsets/ir87",
    "charsets/ir192-groups",
    "charsets/undeclared-latin1",
];

over!(orthanc_get, orthanc, Way::Get, EVERY_KIND, "ct");
over!(orthanc_move, orthanc, Way::Move, EVERY_KIND, "ct");
over!(orthanc_web, orthanc, Way::Web, EVERY_KIND, "ct");

const NOT_COMPRESSED: [&str; 7] = [
    "multiframe",
    "mr",
    "enhanced-mr",
    "documents",
    "rtstruct",
    "charsets/ir87",
    "charsets/undeclared-latin1",
];

over!(dcmqrscp_get, dcmqrscp, Way::Get, NOT_COMPRESSED, "mr");
over!(dcmqrscp_move, dcmqrscp, Way::Move, NOT_COMPRESSED, "mr");

#[test]
fn compressed_images_come_as_stored_from_a_pacs_that_proposes_them_first() {
    run(async {
        let archive = start_dcmqrscp("jls", &["-xt"], &["ct", "ct300"]).await;
        let gateway = archive.gateway(Way::Move, "jls").await;
        assert_whole(&gateway, exam("ct")).await;
    });
}

#[test]
fn a_study_of_more_classes_and_syntaxes_than_an_association_holds_comes_whole() {
    run(async {
        for way in [Way::Get, Way::Move, Way::Web] {
            let gateway = orthanc().await.gateway(way, "classes").await;
            assert_whole(&gateway, exam("many-classes")).await;
            let contexts: std::collections::HashSet<_> = exam("many-classes")
                .instances()
                .map(|instance| (&instance.sop_class_uid, &instance.transfer_syntax_uid))
                .collect();
            assert!(contexts.len() > 128, "the exam proves nothing");
        }
    });
}

#[test]
fn a_peer_retrieves_over_mutual_tls_with_both_versions_of_http() {
    run(async {
        let (config, pacs) = orthanc().await.configuration(Way::Get, "peer");
        let pki = Pki::new(&folder("pki"), "Scenario CA").unwrap();
        let host = "db.scenario.example";
        let server = pki.server(&[host]).unwrap();
        let peer = pki.client("peer").unwrap();
        let config = config.peer(&pki).unwrap().pacs(pacs.db_host(host, &server));
        let gateway = Gateway::start(config).await.unwrap();
        let exam = exam("ct");
        let mut seen = Vec::new();
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = gateway.peer_client(&pki, &peer, &[host]).protocol(protocol);
            let client = client.build().unwrap();
            let into = folder("peer-parts");
            let url = gateway.peer_url(host) + &study_path(exam);
            let body = retrieve(&client, &url, &into).await;
            assert_study(exam, &body, &into);
            seen.push(digests(&body));
        }
        assert_eq!(seen[0], seen[1]);
    });
}

#[test]
fn a_pacs_is_reached_by_its_name_and_as_the_default_on_the_local_listener() {
    run(async {
        let gateway = orthanc().await.gateway(Way::Get, "local").await;
        let exam = exam("mr");
        let client = Client::plain().unwrap();
        for root in [gateway.local_url(), gateway.local_pacs_url("pacs")] {
            let into = folder("local-parts");
            let body = retrieve(&client, &(root + &study_path(exam)), &into).await;
            assert_study(exam, &body, &into);
        }
        let other = gateway.local_pacs_url("other") + &study_path(exam);
        let answer = client.get(&other).accept(AS_STORED).send().await.unwrap();
        assert_eq!(answer.status(), 404);
    });
}

#[test]
fn a_syntax_that_was_not_asked_for_is_not_sent() {
    run(async {
        let gateway = orthanc().await.gateway(Way::Get, "syntax").await;
        let client = Client::plain().unwrap();
        let url = gateway.local_url() + &study_path(exam("ct300"));
        let jls = "multipart/related; type=application/dicom; \
                   transfer-syntax=1.2.840.10008.1.2.4.80";
        let jpeg = "multipart/related; type=application/dicom; \
                    transfer-syntax=1.2.840.10008.1.2.4.70";
        let status = async |accept: &str| {
            let answer = client.get(&url).accept(accept).send().await.unwrap();
            let status = answer.status().as_u16();
            answer.bytes().await.unwrap();
            status
        };
        // Cold, then from the cache.
        for _ in 0..2 {
            assert_eq!(status(jpeg).await, 406);
            assert_eq!(status(&format!("{jpeg}, {jls}")).await, 200);
            assert_eq!(status("image/jpeg").await, 406);
            assert_eq!(status("text/html").await, 406);
        }
    });
}

#[test]
fn a_study_that_was_deleted_at_the_pacs_is_410_and_one_that_never_was_there_404() {
    run(async {
        let exam = exam("ct");
        let orthanc = Orthanc::builder(&folder("gone-orthanc"))
            .start()
            .await
            .unwrap();
        orthanc.upload(support::files(&["ct", "mr"])).await.unwrap();
        let config = GatewayConfig::new(&folder("gone")).unwrap();
        let config = config.pacs(support::pair::entry(&orthanc));
        let gateway = Gateway::start(config).await.unwrap();
        let client = Client::plain().unwrap();
        let url = gateway.local_url() + &study_path(exam);
        let there = support::ask(&client, &url).await;
        assert_eq!(there.status(), 200);
        assert!(there.multipart().await.unwrap().is_complete());
        orthanc
            .delete_study(&exam.study_instance_uid)
            .await
            .unwrap();
        // What it said of the study a moment ago counts for a while.
        support::until("the study is gone", async || {
            let answer = support::ask(&client, &url).await;
            let status = answer.status();
            answer.drain().await;
            status == 410
        })
        .await;
        let series = format!("{}/series/{}", url, exam.series[0].series_instance_uid);
        let never = gateway.local_url() + "/studies/1.2.3.404";
        for (url, status) in [(url.clone(), 410), (series, 410), (never, 404)] {
            let answer = support::ask(&client, &url).await;
            assert_eq!(answer.status(), status, "{url}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let problem = answer.json().await.unwrap();
            assert_eq!(problem["status"], status);
            let detail = problem["detail"].as_str().unwrap();
            assert_eq!(detail.contains("no more"), status == 410, "{detail}");
        }
    });
}
