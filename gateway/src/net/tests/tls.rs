//! Who gets through a handshake, and with what files a listener starts.

use std::io;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get as route;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Client, DB_HOST, OTHER_DB_HOST, Pki, Server, get, limits, set_mode};
use crate::net::Connection;
use crate::net::tls::{TlsError, server_config};

/// The handshake error, wherever the client notices it: in TLS 1.3 it may be at the first read.
pub(super) async fn refusal(
    client: &Client,
    server: &Server,
    host: &str,
) -> rustls::AlertDescription {
    let error = match client.tls(server, host, b"http/1.1").await {
        Err(error) => error,
        Ok(mut stream) => {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            stream
                .read_u8()
                .await
                .expect_err("the handshake was accepted")
        }
    };
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("closed without an alert: {error}"),
    }
}

#[tokio::test]
async fn the_request_knows_its_peer_and_its_host() {
    let pki = Pki::new();
    let router = Router::new().route(
        "/",
        route(|Extension(connection): Extension<Connection>| async move {
            let chain = connection.peer_certificates.unwrap();
            format!(
                "{} {} {}",
                connection.listener,
                connection.host.unwrap(),
                chain.len()
            )
        }),
    );
    let server = Server::peer(&pki, router, &limits()).await;
    let client = pki.client(Some(&pki));
    for host in [DB_HOST, OTHER_DB_HOST] {
        let mut sender = client.http1(&server, host).await;
        let answer = sender.send_request(get(host, "/")).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, format!("peer {host} 1"));
    }
}

#[tokio::test]
async fn an_unknown_name_is_refused_before_a_certificate_is_shown() {
    let pki = Pki::new();
    let server = Server::peer(&pki, Router::new(), &limits()).await;
    let client = pki.client(Some(&pki));
    let alert = refusal(&client, &server, "db3.example.org").await;
    assert_eq!(alert, rustls::AlertDescription::UnrecognisedName);
}

#[tokio::test]
async fn a_client_that_names_no_host_is_refused() {
    let pki = Pki::new();
    let server = Server::peer(&pki, Router::new(), &limits()).await;
    let client = pki.client(Some(&pki)).without_sni();
    let alert = refusal(&client, &server, DB_HOST).await;
    assert_eq!(alert, rustls::AlertDescription::UnrecognisedName);
}

#[tokio::test]
async fn a_peer_without_certificate_is_refused() {
    let pki = Pki::new();
    let server = Server::peer(&pki, Router::new(), &limits()).await;
    let alert = refusal(&pki.client(None), &server, DB_HOST).await;
    assert_eq!(alert, rustls::AlertDescription::CertificateRequired);
}

#[tokio::test]
async fn a_peer_of_a_foreign_authority_is_refused() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let server = Server::peer(&pki, Router::new(), &limits()).await;
    let alert = refusal(&pki.client(Some(&foreign)), &server, DB_HOST).await;
    // Both authorities have the same name, so the signature is what does not fit.
    let fitting = [
        rustls::AlertDescription::DecryptError,
        rustls::AlertDescription::UnknownCA,
    ];
    assert!(fitting.contains(&alert), "{alert:?}");
}

#[tokio::test]
async fn a_peer_is_verified_again_at_every_connection() {
    let pki = Pki::new();
    let router = Router::new().route("/", route(|| async { "fine" }));
    let server = Server::peer(&pki, router, &limits()).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = pki.client_of(Some(&pki), &[version]);
        for _ in 0..2 {
            let mut stream = client.tls(&server, DB_HOST, b"http/1.1").await.unwrap();
            let head = format!("GET / HTTP/1.1\r\nHost: {DB_HOST}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            // Reads to the end, so that a ticket would have arrived.
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("fine"), "{answer}");
            let (_, session) = stream.get_ref();
            assert_eq!(
                session.handshake_kind(),
                Some(rustls::HandshakeKind::Full),
                "{version:?}"
            );
        }
    }
}

#[tokio::test]
async fn tls_1_3_is_preferred() {
    let pki = Pki::new();
    let server = Server::local_tls(&pki, Router::new(), &limits()).await;
    let stream = pki
        .client(None)
        .tls(&server, "localhost", b"h2")
        .await
        .unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(
        session.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn tls_1_1_is_refused() {
    let pki = Pki::new();
    let server = Server::local_tls(&pki, Router::new(), &limits()).await;
    let mut stream = server.connect().await;
    stream.write_all(&client_hello(0x0302)).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // Record of type alert, fatal, protocol_version (RFC 8446 §6).
    assert_eq!(answer.first(), Some(&21));
    assert_eq!(answer[5..], [2, 70]);

    // The same hello with TLS 1.2 gets past the choice of the version.
    let mut stream = server.connect().await;
    stream.write_all(&client_hello(0x0303)).await.unwrap();
    assert_eq!(
        stream.read_u8().await.unwrap(),
        22,
        "a handshake record was due"
    );
}

/// A ClientHello (RFC 5246 §7.4.1.2) that offers `version` and below, and nothing newer.
fn client_hello(version: u16) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((body.len() as u16).to_be_bytes());
        extensions.extend(body);
    };
    extension(0, b"\0\x0c\0\0\x09localhost");
    extension(10, &[0, 2, 0, 23]); // supported_groups: secp256r1
    extension(11, &[1, 0]); // ec_point_formats: uncompressed
    extension(13, &[0, 4, 4, 3, 8, 4]); // signature_algorithms: ecdsa_secp256r1_sha256, rsa_pss
    extension(23, &[]); // extended_master_secret

    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);

    let mut hello = vec![22, 3, 1];
    hello.extend((body.len() as u16 + 4).to_be_bytes());
    hello.push(1);
    hello.extend(&(body.len() as u32).to_be_bytes()[1..]);
    hello.extend(body);
    hello
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_given_up() {
    let pki = Pki::new();
    let server = Server::local_tls(&pki, Router::new(), &limits()).await;
    let mut stream = server.connect().await;
    // The clock stands still while anything runs: it jumps to the deadline, and to no other.
    let answer = stream.read_u8().await;
    assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let pki = Pki::new();
    let identity = pki.server(DB_HOST);
    set_mode(&identity.key_file, 0o640);
    let error = server_config(&identity).unwrap_err();
    assert!(
        matches!(error, TlsError::KeyExposed { mode: 0o640, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let pki = Pki::new();
    let mut identity = pki.server(DB_HOST);
    identity.key_file = pki.server(OTHER_DB_HOST).key_file;
    assert!(matches!(
        server_config(&identity),
        Err(TlsError::Identity { .. })
    ));
}

#[test]
fn swapped_files_are_told_apart() {
    let pki = Pki::new();
    let identity = pki.server(DB_HOST);
    let mut key_twice = identity.clone();
    key_twice.certificate_file = identity.key_file.clone();
    assert!(matches!(
        server_config(&key_twice),
        Err(TlsError::NoCertificate { .. })
    ));
    let mut certificate_twice = identity.clone();
    set_mode(&identity.certificate_file, 0o600);
    certificate_twice.key_file = identity.certificate_file.clone();
    assert!(matches!(
        server_config(&certificate_twice),
        Err(TlsError::NoKey { .. })
    ));
}
