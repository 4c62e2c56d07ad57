#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

struct Told {
    up: Vec<bool>,
    stopping: bool,
}

impl Readiness for Told {
    fn pacs(&self) -> BoxFuture<'_, Vec<PacsHealth>> {
        let pacs = self.up.iter().enumerate().map(|(rank, &up)| PacsHealth {
            name: format!("pacs-{rank}"),
            up,
            since: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
            last_error_kind: (!up).then_some("timeout"),
        });
        let pacs = pacs.collect();
        Box::pin(async move { pacs })
    }

    fn cache(&self) -> CacheHealth {
        CacheHealth {
            degraded: true,
            series: 3,
            bytes: 10,
            max_bytes: 20,
        }
    }

    fn stopping(&self) -> bool {
        self.stopping
    }
}

async fn ask(up: &[bool], stopping: bool, path: &str) -> (StatusCode, String) {
    let readiness = Arc::new(Told {
        up: up.to_vec(),
        stopping,
    });
    let (metrics, _recorder) = Metrics::detached();
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = router(readiness, metrics).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn live_answers_whatever_the_state_of_the_pacs() {
    let (status, _) = ask(&[false], true, "/health/live").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn ready_needs_one_pacs_up_and_says_which_are() {
    let (status, body) = ask(&[true, false], false, "/health/ready").await;
    assert_eq!(status, StatusCode::OK);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["status"], "partial");
    assert_eq!(body["pacs"][1]["name"], "pacs-1");
    assert_eq!(body["pacs"][1]["up"], false);
    assert_eq!(body["pacs"][1]["last_error_kind"], "timeout");
    assert_eq!(body["pacs"][0]["since"], "2001-09-09T01:46:40Z");
    assert_eq!(body["cache"]["degraded"], true);

    let (status, _) = ask(&[false, false], false, "/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_stopping_service_is_not_ready() {
    let (status, body) = ask(&[true], true, "/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("\"stopping\""), "{body}");
}

#[tokio::test]
async fn the_version_is_that_of_the_package() {
    let (_, body) = ask(&[true], false, "/version").await;
    assert!(body.contains(env!("CARGO_PKG_VERSION")), "{body}");
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let (status, _) = ask(&[true], false, "/").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
