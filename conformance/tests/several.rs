//! All bulk data and all pixels of a study, a series or an instance: each value and each frame once,
//! under the URL that leads to it alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeMap;

use conformance::samples::Exam;
use conformance::testkit::http::sha256;
use conformance::testkit::{Client, FaultyPacs, Gateway, GatewayConfig, PacsConfig, Response};
use serde_json::Value as Json;
use support::pair::{Pair, path_of};
use support::{
    JSON, exam, files, folder, instance_path, metric, run, series_path, study_path, until,
};

/// What is stored, in whatever form.
const STORED: &str = "multipart/related; type=\"*/*\"; transfer-syntax=*";
const OCTETS: &str = "multipart/related; type=\"application/octet-stream\"";

async fn get(client: &Client, url: &str, accept: &str) -> Response {
    client.get(url).accept(accept).send().await.unwrap()
}

/// SHA-256 of the parts of an answer, by the URL that each has.
async fn parts(client: &Client, url: &str, accept: &str) -> BTreeMap<String, String> {
    let answer = get(client, url, accept).await;
    assert_eq!(answer.status(), 200, "{url}");
    let kind = answer.header("content-type").to_owned();
    let body = answer.multipart().await.unwrap();
    assert!(body.is_complete(), "{url}");
    let root = body.parts[0].content_type().split(';').next().unwrap();
    assert!(kind.contains(&format!("type=\"{root}\"")), "{kind}: {root}");
    let count = body.parts.len();
    let parts = body.parts.into_iter().map(|part| {
        let mut fields = part.headers.into_iter();
        let location = fields.find(|(name, _)| name == "content-location");
        (location.unwrap().1, part.sha256)
    });
    let parts: BTreeMap<_, _> = parts.collect();
    assert_eq!(parts.len(), count, "{url}: a URL comes twice");
    parts
}

/// The URLs that metadata name, at any depth.
fn named(model: &Json, found: &mut Vec<String>) {
    match model {
        Json::Object(fields) => {
            let uri = fields.get("BulkDataURI").and_then(Json::as_str);
            found.extend(uri.map(str::to_owned));
            fields.values().for_each(|value| named(value, found));
        }
        Json::Array(items) => items.iter().for_each(|item| named(item, found)),
        _ => {}
    }
}

#[test]
fn all_bulk_data_are_what_their_urls_lead_to_one_by_one() {
    run(async {
        let names = [
            "ct",
            "enhanced-mr",
            "us",
            "documents",
            "elements",
            "syntaxes",
        ];
        let pair = Pair::over("several", files(&names)).await;
        let root = pair.gateway.local_url();
        for name in names {
            let exam = exam(name);
            let study = root.clone() + &study_path(exam);
            let answer = get(&pair.client, &format!("{study}/metadata"), JSON).await;
            let mut expected = Vec::new();
            named(&answer.json().await.unwrap(), &mut expected);
            if expected.is_empty() {
                let answer = get(&pair.client, &format!("{study}/bulkdata"), STORED).await;
                assert_eq!(answer.status(), 404, "{name}");
                continue;
            }
            let all = parts(&pair.client, &format!("{study}/bulkdata"), STORED).await;
            for url in &expected {
                let instance = url.split("/bulkdata/").next().unwrap();
                let frames = format!("{instance}/frames/1");
                assert!(
                    all.contains_key(url) || all.contains_key(&frames),
                    "{url} is not among what came of {name}"
                );
            }
            for (url, digest) in &all {
                let alone = get(&pair.client, url, STORED).await;
                assert_eq!(alone.status(), 200, "{url}");
                let alone = alone.multipart().await.unwrap();
                assert!(alone.is_complete() && alone.parts.len() == 1, "{url}");
                assert_eq!(alone.parts[0].sha256, *digest, "{url}");
            }
            // What a study has is what its series and their instances have.
            let mut together = BTreeMap::new();
            for series in &exam.series {
                let of_series = format!("{root}{}/bulkdata", series_path(exam, series));
                if get(&pair.client, &of_series, STORED).await.status() == 200 {
                    together.extend(parts(&pair.client, &of_series, STORED).await);
                }
            }
            assert_eq!(together, all, "{name}");
            let instance = exam.instances().find(|one| one.frames > 0);
            if let Some(instance) = instance {
                let url = format!("{root}{}", path_of(instance));
                let own = parts(&pair.client, &format!("{url}/bulkdata"), STORED).await;
                assert!(own.keys().all(|part| part.starts_with(&url)));
                assert!(
                    own.iter()
                        .all(|(part, digest)| all.get(part) == Some(digest))
                );
            }
        }
    });
}

#[test]
fn all_pixels_are_the_frames_of_every_instance_decoded_for_who_names_no_syntax() {
    run(async {
        let names = ["ct", "multiframe", "us", "documents"];
        let pair = Pair::over("several-pixels", files(&names)).await;
        let root = pair.gateway.local_url();
        for name in names {
            let exam = exam(name);
            let frames: u32 = exam.instances().map(|instance| instance.frames).sum();
            let url = format!("{root}{}/pixeldata", study_path(exam));
            if frames == 0 {
                assert_eq!(
                    get(&pair.client, &url, OCTETS).await.status(),
                    404,
                    "{name}"
                );
                continue;
            }
            let all = parts(&pair.client, &url, OCTETS).await;
            assert_eq!(all.len(), frames as usize, "{name}");
            for instance in exam.instances().filter(|instance| instance.frames > 0) {
                let last = format!("{root}{}/frames/{}", path_of(instance), instance.frames);
                let alone = get(&pair.client, &last, OCTETS).await;
                let alone = alone.multipart().await.unwrap();
                assert_eq!(all[&last], alone.parts[0].sha256, "{last}");
            }
        }
    });
}

#[test]
fn what_cannot_be_had_of_several_instances_is_told_before_the_first_byte() {
    run(async {
        let names = ["ct", "syntaxes"];
        let pair = Pair::over("several-refused", files(&names)).await;
        let root = pair.gateway.local_url();
        let ct = format!("{root}{}", study_path(exam("ct")));
        let mixed = format!("{root}{}", study_path(exam("syntaxes")));
        // In the cache: what is stored is known.
        support::retrieve(&pair.client, &mixed, &folder("several-parts")).await;
        let series = exam("syntaxes").series.len() as u64;
        until("the study in the cache", async || {
            metric(&pair.gateway, "drimbox_cache_series", &[]).await == series
        })
        .await;
        for (url, accept, status) in [
            (format!("{ct}/bulkdata"), "image/png", 406),
            // Several values are parts.
            (format!("{ct}/bulkdata"), "application/octet-stream", 406),
            // The videos among them.
            (format!("{mixed}/pixeldata"), OCTETS, 406),
            (format!("{root}/studies/1.2.3/bulkdata"), STORED, 404),
            (format!("{root}/studies/1.2.3/pixeldata"), STORED, 404),
            (format!("{ct}/bulkdata/7FE00010"), STORED, 404),
            (format!("{ct}/frames/1"), STORED, 404),
        ] {
            let answer = get(&pair.client, &url, accept).await;
            assert_eq!(answer.status(), status, "{url} {accept}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        let url = format!("{mixed}/pixeldata");
        let tag = get(&pair.client, &url, STORED).await;
        let tag = tag.header("etag").to_owned();
        let call = pair.client.get(&url).accept(STORED);
        let again = call.header("if-none-match", &tag).send().await.unwrap();
        assert_eq!(again.status(), 304);
    });
}

async fn steered(name: &str, exam: &Exam) -> (FaultyPacs, Gateway, Client) {
    let files = files(&[exam.name.as_str()]);
    let pacs = FaultyPacs::start("SIM", &files, &[]).await.unwrap();
    let entry = PacsConfig::new("sim", "SIM", pacs.port());
    let config = GatewayConfig::new(&folder(name)).unwrap();
    let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
    (pacs, gateway, Client::plain().unwrap())
}

#[test]
fn the_first_values_come_while_the_pacs_still_sends_and_a_pacs_that_loses_some_cuts_the_answer() {
    run(async {
        let exam = exam("ct300");
        let (pacs, gateway, client) = steered("several-stream", exam).await;
        let url = format!("{}{}/pixeldata", gateway.local_url(), study_path(exam));
        pacs.behave(|b| b.hold_before = Some(4));
        let mut answer = get(&client, &url, STORED).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.next().await.unwrap().is_some());
        pacs.behave(|b| {
            b.hold_before = None;
            b.loses = 1;
        });
        let drained = answer.drain().await;
        if drained.broken.is_none() {
            panic!("an answer without its last image ends as if it were whole");
        }
        until("the counter of cut answers", async || {
            metric(&gateway, "drimbox_http_aborted_responses_total", &[]).await == 1
        })
        .await;
        pacs.recover();
        let whole = parts(&client, &url, STORED).await;
        let frames: u32 = exam.instances().map(|instance| instance.frames).sum();
        assert_eq!(whole.len(), frames as usize);
        // And what came is what is stored.
        let instance = instance_path(exam, &exam.series[0], 0);
        let frame = format!("{}{instance}/frames/1", gateway.local_url());
        let alone = get(&client, &frame, STORED).await;
        let into = folder("several-frame");
        let alone = alone.multipart_to(&into).await.unwrap();
        let bytes = std::fs::read(into.join("0.part")).unwrap();
        assert_eq!(alone.parts.len(), 1);
        assert_eq!(whole[&frame], sha256(&bytes));
    });
}
