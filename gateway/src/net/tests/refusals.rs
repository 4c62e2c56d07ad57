//! Who is told of what is refused before any handler sees it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get as route;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{DB_HOST, OTHER_DB_HOST, Pki, Server, VI_HOST, get, get2, limits, names};
use super::tls::refusal;
use crate::config::Limits;
use crate::net::{Clients, ListenerKind, NamedConfigs, NamedHost, Refusals, Refused};

/// Remembers what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<Refused>>);

impl Refusals for Told {
    fn refused(&self, refused: Refused) {
        self.0.lock().push(refused);
    }
}

impl Told {
    /// The next refusal, once it is told.
    async fn next(&self) -> Refused {
        let told = async {
            loop {
                if let Some(refused) = self.0.lock().pop() {
                    return refused;
                }
                tokio::task::yield_now().await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(30), told).await;
        told.expect("nobody is told")
    }
}

async fn server(pki: &Pki, limits: &Limits) -> (Server, Arc<Told>) {
    let told = Arc::new(Told::default());
    let router = Router::new().route("/", route("fine"));
    let server = Server::telling(names(pki, true), router, limits, told.clone()).await;
    (server, told)
}

fn reason(refused: &Refused) -> (&'static str, Option<u16>, Option<&str>) {
    assert!(refused.remote.is_loopback());
    (refused.reason, refused.status, refused.host.as_deref())
}

#[tokio::test]
async fn a_name_that_is_unknown_or_missing_is_told() {
    let pki = Pki::new();
    let (server, told) = server(&pki, &limits()).await;
    refusal(&pki.client(Some(&pki)), &server, "db9.example.org").await;
    let unknown = told.next().await;
    assert_eq!(
        reason(&unknown),
        ("unknown_name", None, Some("db9.example.org"))
    );
    let nameless = pki.client(Some(&pki)).without_sni();
    refusal(&nameless, &server, DB_HOST).await;
    assert_eq!(reason(&told.next().await), ("unknown_name", None, None));
}

#[tokio::test]
async fn a_peer_without_certificate_or_with_a_foreign_one_is_told() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let (server, told) = server(&pki, &limits()).await;
    refusal(&pki.client(None), &server, DB_HOST).await;
    let none = told.next().await;
    assert_eq!(
        reason(&none),
        ("no_client_certificate", None, Some(DB_HOST))
    );
    assert!(none.certificate.is_none());
    refusal(&pki.client(Some(&foreign)), &server, DB_HOST).await;
    assert_eq!(
        reason(&told.next().await),
        ("client_certificate", None, Some(DB_HOST))
    );
}

#[tokio::test]
async fn the_reason_of_a_verifier_and_the_certificate_it_refused_are_told() {
    let pki = Pki::new();
    let told = Arc::new(Told::default());
    let verifier = Arc::new(super::support::Refusing);
    let peers = Clients::Peers {
        verifier,
        mandatory: false,
    };
    let host = NamedHost {
        host: DB_HOST.to_owned(),
        clients: peers,
        certificate: Some(Arc::new(
            crate::net::tls::certified_key(&pki.server(DB_HOST)).unwrap(),
        )),
    };
    let configs = Arc::new(NamedConfigs::new([host]).unwrap());
    let server = Server::telling(configs, Router::new(), &limits(), told.clone()).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = pki.client_of(Some(&pki), &[version]);
        refusal(&client, &server, DB_HOST).await;
        let refused = told.next().await;
        assert_eq!(reason(&refused), ("revoked", None, Some(DB_HOST)));
        let certificate = refused.certificate.unwrap();
        assert_eq!(certificate.subject.as_deref(), Some("CN=somebody"));
    }
}

#[tokio::test]
async fn what_is_no_tls_is_told_and_a_connection_that_says_nothing_is_not() {
    let pki = Pki::new();
    let (server, told) = server(&pki, &limits()).await;
    drop(server.connect().await);
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let _ = stream.read(&mut [0; 64]).await;
    assert_eq!(reason(&told.next().await), ("protocol", None, None));
    assert!(told.0.lock().is_empty());
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_is_told_with_the_name_that_it_asked_for() {
    let pki = Pki::new();
    let hurried = Limits {
        handshake_timeout: Duration::from_millis(50),
        ..limits()
    };
    let (server, told) = server(&pki, &hurried).await;
    let mut silent = server.connect().await;
    assert_eq!(reason(&told.next().await), ("timeout", None, None));
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0, "and cut");

    let mut stream = server.connect().await;
    let hello = pki.client(Some(&pki)).hello(DB_HOST);
    stream.write_all(&hello).await.unwrap();
    let refused = told.next().await;
    assert_eq!(reason(&refused), ("timeout", None, Some(DB_HOST)));
    assert!(refused.certificate.is_none());
}

#[tokio::test]
async fn a_request_for_another_host_or_with_a_head_too_large_is_told() {
    let pki = Pki::new();
    let (server, told) = server(&pki, &limits()).await;
    let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
    let answer = sender.send_request(get(OTHER_DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let misdirected = told.next().await;
    assert_eq!(
        reason(&misdirected),
        ("misdirected", Some(421), Some(DB_HOST))
    );
    assert_eq!(misdirected.listener, ListenerKind::Peer);
    assert!(misdirected.peer.is_some() && misdirected.certificate.is_none());

    let mut sender = pki.client(None).http1(&server, VI_HOST).await;
    let path = format!("/?{}", "x".repeat(limits().max_header_bytes));
    let answer = sender.send_request(get(VI_HOST, &path)).await.unwrap();
    assert_eq!(answer.status().as_u16(), 431);
    let large = told.next().await;
    assert_eq!(
        reason(&large),
        ("header_too_large", Some(431), Some(VI_HOST))
    );
    assert_eq!(large.listener, ListenerKind::Viewer);
    assert!(large.peer.is_none());
}

/// What the server says to this head of HTTP/1.1 on a `db` name, until it closes.
async fn said(pki: &Pki, server: &Server, head: &[u8]) -> String {
    let client = pki.client(Some(pki));
    let mut stream = client.tls(server, DB_HOST, b"http/1.1").await.unwrap();
    stream.write_all(head).await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_told_with_whose_it_is() {
    let pki = Pki::new();
    let (server, told) = server(&pki, &limits()).await;
    for head in [
        &b"G(T / HTTP/1.1\r\nhost: db1.example.org\r\n\r\n"[..],
        b"GET /\x01 HTTP/1.1\r\nhost: db1.example.org\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: db1.example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\nho st: db1.example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: db1.example.org\r\ncontent-length: x\r\n\r\n",
    ] {
        let said = said(&pki, &server, head).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{head:?}: {said}");
        let malformed = told.next().await;
        assert_eq!(
            reason(&malformed),
            ("request_malformed", Some(400), Some(DB_HOST))
        );
        assert!(malformed.peer.is_some());
    }
    let path = "x".repeat(limits().max_header_bytes);
    let head = format!("GET /{path} HTTP/1.1\r\nhost: {DB_HOST}\r\n\r\n");
    let said = said(&pki, &server, head.as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    let large = told.next().await;
    assert_eq!(
        reason(&large),
        ("header_too_large", Some(431), Some(DB_HOST))
    );
    assert!(large.peer.is_some());
    assert!(told.0.lock().is_empty());
}

#[tokio::test]
async fn a_head_too_large_is_told_over_http2_too() {
    let pki = Pki::new();
    let (server, told) = server(&pki, &limits()).await;
    let mut sender = pki.client(Some(&pki)).http2(&server, DB_HOST).await;
    let most = limits().max_header_bytes;
    for (fields, length) in [(1, most), (1, most + most / 2), (most / 40, 4)] {
        let mut asked = get2(DB_HOST, "/");
        for field in 0..fields {
            let name = http::HeaderName::try_from(format!("x-{field:03}")).unwrap();
            let value = http::HeaderValue::try_from("x".repeat(length)).unwrap();
            asked.headers_mut().insert(name, value);
        }
        let answer = sender.send_request(asked).await.unwrap();
        assert_eq!(answer.status().as_u16(), 431, "{fields} of {length}");
        let large = told.next().await;
        assert_eq!(
            reason(&large),
            ("header_too_large", Some(431), Some(DB_HOST))
        );
        assert!(large.peer.is_some());
    }
    let answer = sender.send_request(get2(DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "the connection goes on");
    assert!(told.0.lock().is_empty());
}

#[tokio::test]
async fn connections_and_requests_beyond_the_limits_are_told() {
    let pki = Pki::new();
    let few = Limits {
        max_connections_per_address: 1,
        max_requests: 0,
        ..limits()
    };
    let (server, told) = server(&pki, &few).await;
    let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
    let answer = sender.send_request(get(DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        reason(&told.next().await),
        ("too_many_requests", Some(503), Some(DB_HOST))
    );
    let mut second = server.connect().await;
    let _ = second.read(&mut [0; 8]).await;
    assert_eq!(
        reason(&told.next().await),
        ("too_many_connections", None, None)
    );
}

#[tokio::test]
async fn what_is_answered_is_not_told() {
    let pki = Pki::new();
    let (server, told) = server(&pki, &limits()).await;
    let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
    for path in ["/", "/nothing"] {
        sender.send_request(get(DB_HOST, path)).await.unwrap();
    }
    drop(sender);
    server.stop.cancel();
    server.ended.await.unwrap();
    assert!(told.0.lock().is_empty());
}
