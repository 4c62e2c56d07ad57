//! Requests over real connections: limits, hosts, broken bodies, the end of the service.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::get as route;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::support::{DB_HOST, OTHER_DB_HOST, Pki, Server, channel, get, get2, limits};
use crate::net::{Connection, Drained, RequestId, ResourceName};

type BodySender = tokio::sync::mpsc::Sender<io::Result<Bytes>>;

/// A router whose `/` answers, once each, with a body that the test feeds.
fn fed() -> (BodySender, Router) {
    let (sender, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let router = Router::new().route(
        "/",
        route(move || async move { body.lock().unwrap().take().unwrap() }),
    );
    (sender, router)
}

async fn problem<B>(answer: http::Response<B>) -> serde_json::Value
where
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_host_other_than_that_of_the_handshake_is_misdirected() {
    let pki = Pki::new();
    let router = Router::new().route("/", route(|| async { "secret" }));
    let server = Server::peer(&pki, router, &limits()).await;
    let client = pki.client(Some(&pki));

    let mut http1 = client.http1(&server, DB_HOST).await;
    let answer = http1.send_request(get(OTHER_DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(problem(answer).await["status"], 421);

    let mut http2 = client.http2(&server, DB_HOST).await;
    let answer = http2.send_request(get2(OTHER_DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn the_right_host_is_served_over_both_protocols() {
    let pki = Pki::new();
    let router = Router::new().route("/", route(|| async { "image" }));
    let server = Server::peer(&pki, router, &limits()).await;
    let client = pki.client(Some(&pki));

    let mut http1 = client.http1(&server, DB_HOST).await;
    for host in [DB_HOST, "DB1.example.org:8443", "db1.example.org."] {
        let answer = http1.send_request(get(host, "/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{host}");
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "image"
        );
    }
    let mut http2 = client.http2(&server, DB_HOST).await;
    let answer = http2.send_request(get2(DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "image"
    );
}

#[tokio::test]
async fn a_request_without_host_or_with_two_is_refused() {
    let server = Server::plain(Router::new(), &limits()).await;
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 400", "{head:?}");
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_refused() {
    let limits = crate::config::Limits {
        max_header_bytes: 8192,
        ..limits()
    };
    let server = Server::plain(Router::new(), &limits).await;
    let mut stream = server.connect().await;
    let head = format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(10_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 431");
}

#[tokio::test]
async fn every_answer_carries_an_id_that_the_client_cannot_choose() {
    let router = Router::new().route(
        "/",
        route(|Extension(id): Extension<RequestId>| async move { id.to_string() }),
    );
    let server = Server::plain(router, &limits()).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("x-request-id: {body}")), "{head}");
        ids.push(body.to_owned());
    }
    assert_ne!(ids[0], ids[1]);
    assert!(!ids.contains(&"mine".to_owned()));
}

#[tokio::test]
async fn a_panicking_handler_costs_its_own_request_only() {
    let pki = Pki::new();
    let router = Router::new()
        .route(
            "/panic",
            route(|| async { panic!("defect") as &'static str }),
        )
        .route("/", route(|| async { "fine" }));
    let server = Server::peer(&pki, router, &limits()).await;
    let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
    let answer = sender.send_request(get(DB_HOST, "/panic")).await.unwrap();
    let id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let problem = problem(answer).await;
    assert_eq!(problem["status"], 500);
    assert_eq!(problem["requestId"], id);
    assert!(!problem.to_string().contains("defect"));
    let answer = sender.send_request(get(DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_back() {
    let pki = Pki::new();
    let (feed, router) = fed();
    let limits = crate::config::Limits {
        max_requests: 1,
        ..limits()
    };
    let server = Server::peer(&pki, router.clone(), &limits).await;
    let mut sender = pki.client(Some(&pki)).http2(&server, DB_HOST).await;
    let running = sender.send_request(get2(DB_HOST, "/")).await.unwrap();

    // The body of the first is still on its way: its place is taken.
    let refused = sender.send_request(get2(DB_HOST, "/")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));

    drop(feed);
    running.into_body().collect().await.unwrap();
    let answer = sender
        .send_request(get2(DB_HOST, "/missing"))
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

/// Limits under which a body that does not come is given up soon, and one request fills the service.
fn impatient() -> crate::config::Limits {
    crate::config::Limits {
        max_requests: 1,
        idle_timeout: Duration::from_millis(50),
        ..limits()
    }
}

/// A router that reads the body of what is posted.
fn reading() -> Router {
    let read = |body: Bytes| async move { body.len().to_string() };
    Router::new().route("/", route(|| async { "fine" }).post(read))
}

#[tokio::test]
async fn a_body_that_stops_ends_its_request_and_gives_its_place_back() {
    let server = Server::plain(reading(), &impatient()).await;
    let mut stream = server.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16000\r\n\r\nx";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut other = server.connect().await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    other.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stops_ends_its_http2_stream_alone() {
    let pki = Pki::new();
    let server = Server::peer(&pki, reading(), &impatient()).await;
    let client = pki.client(Some(&pki));
    let stream = client.tls(&server, DB_HOST, b"h2").await.unwrap();
    let builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let url = format!("https://{DB_HOST}/");
    let (feed, body) = channel();
    let request = http::Request::post(&url).body(body).unwrap();
    feed.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    drop(answer);

    let whole = http::Request::post(&url).body(Body::from("whole")).unwrap();
    let answer = sender.send_request(whole).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "5");
}

#[tokio::test]
async fn a_body_that_fails_ends_http1_without_its_last_chunk() {
    let pki = Pki::new();
    let (feed, router) = fed();
    let server = Server::peer(&pki, router, &limits()).await;
    let client = pki.client(Some(&pki));
    let mut stream = client.tls(&server, DB_HOST, b"http/1.1").await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {DB_HOST}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    feed.send(Ok(Bytes::from_static(b"first part")))
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"first part\r\n") {
        assert_ne!(
            stream.read_buf(&mut answer).await.unwrap(),
            0,
            "closed before the failure"
        );
    }
    let text = String::from_utf8(answer).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("transfer-encoding: chunked"), "{text}");

    feed.send(Err(io::Error::other("the archive died")))
        .await
        .unwrap();
    // The end comes with or without TLS close_notify; HTTP must show the break by itself.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(
        rest, b"",
        "something follows the part that was sent, a last chunk perhaps"
    );
}

#[tokio::test]
async fn a_body_that_fails_is_an_error_to_an_http1_client() {
    let pki = Pki::new();
    let (feed, router) = fed();
    let server = Server::peer(&pki, router, &limits()).await;
    let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
    let answer = sender.send_request(get(DB_HOST, "/")).await.unwrap();
    feed.send(Ok(Bytes::from_static(b"first part")))
        .await
        .unwrap();
    feed.send(Err(io::Error::other("the archive died")))
        .await
        .unwrap();
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_body_that_fails_resets_its_http2_stream_only() {
    let pki = Pki::new();
    let (feed, router) = fed();
    let router = router.route("/fine", route(|| async { "fine" }));
    let server = Server::peer(&pki, router, &limits()).await;
    let mut sender = pki.client(Some(&pki)).http2(&server, DB_HOST).await;
    let mut answer = sender.send_request(get2(DB_HOST, "/")).await.unwrap();
    feed.send(Ok(Bytes::from_static(b"first part")))
        .await
        .unwrap();
    let first = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first part");
    feed.send(Err(io::Error::other("the archive died")))
        .await
        .unwrap();
    assert!(answer.into_body().collect().await.is_err());
    let other = sender.send_request(get2(DB_HOST, "/fine")).await.unwrap();
    assert_eq!(
        other.into_body().collect().await.unwrap().to_bytes(),
        "fine"
    );
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_body_it_alone_used() {
    let pki = Pki::new();
    for http2 in [false, true] {
        let (feed, router) = fed();
        let server = Server::peer(&pki, router, &limits()).await;
        let client = pki.client(Some(&pki));
        if http2 {
            let mut sender = client.http2(&server, DB_HOST).await;
            drop(sender.send_request(get2(DB_HOST, "/")).await.unwrap());
        } else {
            let mut sender = client.http1(&server, DB_HOST).await;
            drop(sender.send_request(get(DB_HOST, "/")).await.unwrap());
        }
        // Resolves when the receiving side, held by the body, is dropped.
        feed.closed().await;
    }
}

#[tokio::test]
async fn a_running_body_is_finished_when_the_service_stops() {
    let pki = Pki::new();
    for http2 in [false, true] {
        let (feed, router) = fed();
        let server = Server::peer(&pki, router, &limits()).await;
        let client = pki.client(Some(&pki));
        let answer = if http2 {
            let mut sender = client.http2(&server, DB_HOST).await;
            sender.send_request(get2(DB_HOST, "/")).await.unwrap()
        } else {
            let mut sender = client.http1(&server, DB_HOST).await;
            sender.send_request(get(DB_HOST, "/")).await.unwrap()
        };
        feed.send(Ok(Bytes::from_static(b"before, ")))
            .await
            .unwrap();
        server.stop.cancel();
        feed.send(Ok(Bytes::from_static(b"after"))).await.unwrap();
        drop(feed);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "before, after");
        assert_eq!(
            server.ended.await.unwrap(),
            Drained {
                finished: 1,
                aborted: 0
            }
        );
    }
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_period_is_cut() {
    let reached = Arc::new(Notify::new());
    let (feed, body) = channel();
    let body = Arc::new(Mutex::new(Some(body)));
    let router = {
        let reached = reached.clone();
        Router::new().route(
            "/",
            route(move || async move {
                reached.notify_one();
                body.lock().unwrap().take().unwrap()
            }),
        )
    };
    let server = Server::plain(router, &limits()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    reached.notified().await;
    tokio::time::pause();
    server.stop.cancel();
    assert_eq!(
        server.ended.await.unwrap(),
        Drained {
            finished: 0,
            aborted: 1
        }
    );
    feed.closed().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let served = Arc::new(Mutex::new(Vec::new()));
    let router = {
        let served = served.clone();
        let note = move |Extension(connection): Extension<Connection>| async move {
            served.lock().unwrap().push(connection.remote);
            "fine"
        };
        Router::new().route("/", route(note))
    };
    let limits = crate::config::Limits {
        max_connections: 1,
        ..limits()
    };
    let server = Server::plain(router, &limits).await;
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    second.write_all(ask).await.unwrap();
    let mut status = [0; 12];
    for _ in 0..3 {
        first.write_all(ask).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"fine") {
            assert_ne!(first.read_buf(&mut answer).await.unwrap(), 0, "closed");
        }
    }
    let of_first = first.local_addr().unwrap();
    assert_eq!(*served.lock().unwrap(), [of_first; 3]);
    drop(first);
    second.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[tokio::test]
async fn metrics_tell_complete_answers_from_broken_ones() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    // Of this thread: everything of this test runs on it.
    let _recording = metrics::set_default_local_recorder(&recorder);
    let pki = Pki::new();
    for (cause, last) in [
        ("complete", None),
        ("source_failed", Some("the archive died")),
    ] {
        let (feed, body) = channel();
        let body = Arc::new(Mutex::new(Some(body)));
        let handler = move || async move {
            let body = body.lock().unwrap().take().unwrap();
            (Extension(ResourceName(cause)), body)
        };
        let server = Server::peer(&pki, Router::new().route("/", route(handler)), &limits()).await;
        let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
        let answer = sender.send_request(get(DB_HOST, "/")).await.unwrap();
        feed.send(Ok(Bytes::from_static(b"twelve bytes")))
            .await
            .unwrap();
        if let Some(reason) = last {
            feed.send(Err(io::Error::other(reason))).await.unwrap();
            feed.closed().await;
        } else {
            drop(feed);
        }
        assert_eq!(answer.into_body().collect().await.is_err(), last.is_some());
    }
    let text = metrics.render();
    for line in [
        r#"drimbox_http_requests_total{listener="peer",resource="complete",status="200"} 1"#,
        r#"drimbox_http_response_bytes_total{listener="peer",resource="complete"} 12"#,
        r#"drimbox_http_aborted_responses_total{listener="peer",resource="source_failed",cause="source_failed"} 1"#,
        r#"drimbox_http_first_byte_seconds_count{listener="peer",resource="source_failed"} 1"#,
        r#"drimbox_http_requests_in_progress{listener="peer"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"resource="complete",cause="#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_nothing_is_closed() {
    let server = Server::plain(Router::new(), &limits()).await;
    let mut stream = server.connect().await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_ends_its_connection() {
    let ages = Duration::from_secs(100_000_000);
    let limits = crate::config::Limits {
        // Neither of these ends it: the time for a head does.
        idle_timeout: ages,
        max_connection_age: ages,
        ..limits()
    };
    let router = Router::new().route("/", route(|| async { "fine" }));
    let server = Server::plain(router, &limits).await;
    let mut stream = server.connect().await;
    // The time for the first request is over once it came.
    let first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(first).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"fine") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    let (mut read, mut write) = stream.into_split();
    let trickle = async {
        let mut piece: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX: ";
        while write.write_all(piece).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            piece = b"x";
        }
    };
    let said = async {
        let mut said = [0; 16];
        let length = read.read(&mut said).await.unwrap_or(0);
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    // Without that time there would be an answer: the head becomes too large.
    tokio::select! {
        said = said => assert_eq!(said, ""),
        () = trickle => {}
    }
}

#[tokio::test]
async fn an_http2_client_that_opens_no_window_loses_that_stream_only() {
    let pki = Pki::new();
    let (feed, router) = fed();
    let router = router.route("/fine", route(|| async { "fine" }));
    let limits = crate::config::Limits {
        idle_timeout: Duration::from_millis(50),
        ..limits()
    };
    let server = Server::peer(&pki, router, &limits).await;
    let mut sender = pki.client(Some(&pki)).http2(&server, DB_HOST).await;
    let answer = sender.send_request(get2(DB_HOST, "/")).await.unwrap();
    for _ in 0..2 {
        feed.send(Ok(Bytes::from(vec![0; 1024 * 1024])))
            .await
            .unwrap();
    }
    // The client reads nothing of it: the server lets go of the body by itself.
    feed.closed().await;
    let other = sender.send_request(get2(DB_HOST, "/fine")).await.unwrap();
    assert_eq!(
        other.into_body().collect().await.unwrap().to_bytes(),
        "fine"
    );
    assert!(answer.into_body().collect().await.is_err());
}
