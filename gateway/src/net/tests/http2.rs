//! What a client of HTTP/2 may ask for at once, and how often it may think again: raw frames
//! (RFC 9113).

use std::time::Duration;

use axum::Router;
use axum::routing::get as route;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::support::{DB_HOST, Pki, Server, limits};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 0x05;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Type, flags, stream and payload.
struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A connection whose settings were exchanged with nothing in them.
async fn open(pki: &Pki, server: &Server) -> TlsStream<TcpStream> {
    open_with(pki, server, &[]).await
}

/// A connection of a client with these settings.
async fn open_with(pki: &Pki, server: &Server, settings: &[u8]) -> TlsStream<TcpStream> {
    let client = pki.client(Some(pki));
    let mut stream = client.tls(server, DB_HOST, b"h2").await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = frame(SETTINGS, 0, 0, settings);
    stream
        .write_all(&[preface, settings].concat())
        .await
        .unwrap();
    stream
}

/// The next frame; `None` at the end of the connection.
async fn next(stream: &mut TlsStream<TcpStream>) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame {
        kind: head[3],
        payload,
    })
}

/// GET / with the indexed fields of HPACK, and the name.
fn get() -> Vec<u8> {
    let mut head = vec![0x82, 0x87, 0x84, 0x41, DB_HOST.len() as u8];
    head.extend_from_slice(DB_HOST.as_bytes());
    head
}

/// Reads on, as a client that answers every PING and opens no window, until a frame of this kind; its
/// payload.
async fn until(stream: &mut TlsStream<TcpStream>, kind: u8) -> Option<Vec<u8>> {
    while let Some(one) = next(stream).await {
        if one.kind == kind {
            return Some(one.payload);
        }
        if one.kind == PING {
            let answer = frame(PING, ACK, 0, &one.payload);
            stream.write_all(&answer).await.ok()?;
        }
    }
    None
}

async fn server(pki: &Pki) -> Server {
    let router = Router::new().route("/", route("fine"));
    Server::peer(pki, router, &limits()).await
}

#[tokio::test]
async fn a_client_is_told_how_much_it_may_ask_for_at_once() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let mut stream = open(&pki, &server).await;
    let settings = next(&mut stream).await.unwrap();
    assert_eq!(settings.kind, SETTINGS);
    let value = |wanted: u16| {
        let mut all = settings.payload.chunks(6);
        let found = all.find(|one| one[..2] == wanted.to_be_bytes()).unwrap();
        u32::from_be_bytes(found[2..].try_into().unwrap())
    };
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
    assert_eq!(value(3), 64);
    // More than is answered: what is too large is to be read, to be refused and told.
    assert_eq!(value(6) as usize, 2 * limits().max_header_bytes);
}

#[tokio::test]
async fn a_connection_without_requests_is_ended_though_its_client_is_alive() {
    let pki = Pki::new();
    let limits = crate::config::Limits {
        idle_timeout: Duration::from_millis(50),
        ..limits()
    };
    let router = Router::new().route("/", route(|| async { "fine" }));
    let server = Server::peer(&pki, router, &limits).await;
    let mut stream = open(&pki, &server).await;
    let asked = frame(HEADERS, WHOLE, 1, &get());
    stream.write_all(&asked).await.unwrap();
    assert!(until(&mut stream, HEADERS).await.is_some(), "no answer");
    let ended = until(&mut stream, GOAWAY).await.unwrap();
    assert_eq!(ended[4..8], [0; 4], "NO_ERROR");
    // The connection itself goes too, without waiting for its greatest age.
    while until(&mut stream, GOAWAY).await.is_some() {}
}

#[tokio::test]
async fn a_head_that_does_not_go_on_ends_its_connection() {
    const END_STREAM: u8 = 0x01;
    let pki = Pki::new();
    let limits = crate::config::Limits {
        header_timeout: Duration::from_millis(50),
        ..limits()
    };
    let router = Router::new().route("/", route(|| async { "fine" }));
    let server = Server::peer(&pki, router, &limits).await;
    let mut stream = open(&pki, &server).await;
    let begun = frame(HEADERS, END_STREAM, 1, &get()[..3]);
    stream.write_all(&begun).await.unwrap();
    while let Some(one) = next(&mut stream).await {
        // It would be asked whether it is alive, much later.
        assert!(one.kind != PING && one.kind != HEADERS, "it is kept");
    }
}

#[tokio::test]
async fn a_client_that_opens_no_window_for_its_answer_loses_it() {
    let pki = Pki::new();
    let limits = crate::config::Limits {
        idle_timeout: Duration::from_millis(50),
        ..limits()
    };
    let router = Router::new().route("/", route(|| async { "fine" }));
    let server = Server::peer(&pki, router, &limits).await;
    // SETTINGS_INITIAL_WINDOW_SIZE: nothing.
    let mut stream = open_with(&pki, &server, &[0, 4, 0, 0, 0, 0]).await;
    let asked = frame(HEADERS, WHOLE, 1, &get());
    stream.write_all(&asked).await.unwrap();
    assert!(until(&mut stream, HEADERS).await.is_some(), "no answer");
    assert!(until(&mut stream, RST_STREAM).await.is_some(), "it is kept");
}

#[tokio::test]
async fn a_client_that_takes_back_what_it_asks_for_loses_its_connection() {
    let pki = Pki::new();
    let server = server(&pki).await;
    let mut stream = open(&pki, &server).await;
    let head = get();
    let cancel = 8_u32.to_be_bytes();
    let flood: Vec<u8> = (0..200_u32)
        .map(|number| 2 * number + 1)
        .flat_map(|id| {
            let asked = frame(HEADERS, WHOLE, id, &head);
            [asked, frame(RST_STREAM, 0, id, &cancel)].concat()
        })
        .collect();
    // The listener may end it before all of it is taken.
    let _ = stream.write_all(&flood).await;
    let mut ended = None;
    while let Some(frame) = next(&mut stream).await {
        if frame.kind == GOAWAY {
            ended = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
    }
    assert_eq!(ended, Some(ENHANCE_YOUR_CALM));
    // Others are served.
    let mut other = pki.client(Some(&pki)).http2(&server, DB_HOST).await;
    let asked = super::support::get2(DB_HOST, "/");
    assert_eq!(other.send_request(asked).await.unwrap().status(), 200);
}
