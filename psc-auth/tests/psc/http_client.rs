//! The HTTP client: certificate, caps, no redirect, proxy.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use psc_auth::{Transport, TransportError, TransportSettings, TransportSetupError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::provider::{Answer, CLIENT, FakePsc, short_timeout};

fn get(url: &str) -> psc_auth::Request {
    http::Request::get(url).body(Bytes::new()).unwrap()
}

fn certs(psc: &FakePsc) -> psc_auth::Request {
    get(&format!(
        "{}/protocol/openid-connect/certs",
        psc.state.issuer
    ))
}

fn introspect(psc: &FakePsc) -> psc_auth::Request {
    http::Request::post(format!(
        "{}/protocol/openid-connect/introspect",
        psc.state.issuer
    ))
    .body(Bytes::from(format!("client_id={CLIENT}&token=a.e30.c")))
    .unwrap()
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let psc = FakePsc::start().await;
    let elsewhere = format!("{}/protocol/openid-connect/userinfo", psc.state.issuer);
    psc.answer_instead("certs", move |_| Answer::Redirect(elsewhere.clone()));
    let error = psc
        .transport(short_timeout(), None)
        .send(certs(&psc))
        .await
        .unwrap_err();
    assert_eq!(error, TransportError::Redirected { status: 302 });
    assert_eq!(psc.count("userinfo"), 0);
}

#[tokio::test]
async fn a_body_above_the_cap_is_refused_and_one_at_the_cap_is_read() {
    let psc = FakePsc::start().await;
    let settings = TransportSettings {
        body_limit: 1000,
        ..short_timeout()
    };
    let transport = psc.transport(settings, None);
    psc.answer_instead("certs", |_| {
        Answer::Text(StatusCode::OK, "text/plain", "x".repeat(1001))
    });
    let error = transport.send(certs(&psc)).await.unwrap_err();
    assert_eq!(error, TransportError::TooLarge { limit: 1000 });
    psc.answer_instead("certs", |_| {
        Answer::Text(StatusCode::OK, "text/plain", "x".repeat(1000))
    });
    assert_eq!(transport.send(certs(&psc)).await.unwrap().body.len(), 1000);
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_in_a_timeout() {
    let psc = FakePsc::start().await;
    psc.answer_instead("certs", |_| Answer::Never);
    let timeout = Duration::from_millis(300);
    let settings = TransportSettings {
        timeout,
        ..short_timeout()
    };
    let error = psc
        .transport(settings, None)
        .send(certs(&psc))
        .await
        .unwrap_err();
    assert_eq!(error, TransportError::Timeout(timeout));
}

#[tokio::test]
async fn a_body_that_stops_half_way_ends_in_a_timeout() {
    let psc = FakePsc::start().await;
    // The provider's own TLS in front of a peer that never ends its body.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (certificate, _) = psc.pki.server();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate.der.clone()], certificate.key())
    .unwrap();
    let drip = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(tcp)
            .await
            .unwrap();
        let mut request = [0; 4096];
        assert!(tls.read(&mut request).await.unwrap() > 0);
        let start = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{";
        tls.write_all(start.as_bytes()).await.unwrap();
        // Until the client hangs up.
        while matches!(tls.read(&mut request).await, Ok(1..)) {}
    });
    let timeout = Duration::from_millis(500);
    let settings = TransportSettings {
        timeout,
        ..short_timeout()
    };
    let transport = psc.transport(settings, None);
    let error = transport
        .send(get(&format!("https://localhost:{port}/")))
        .await
        .unwrap_err();
    assert_eq!(error, TransportError::Timeout(timeout));
    drip.await.unwrap();
}

#[tokio::test]
async fn clear_text_is_refused_without_a_connection() {
    let psc = FakePsc::start().await;
    let transport = psc.transport(short_timeout(), None);
    let error = transport
        .send(get("http://localhost:1/"))
        .await
        .unwrap_err();
    assert_eq!(error, TransportError::NotHttps);
}

#[tokio::test]
async fn a_server_of_another_authority_is_a_tls_error_and_a_closed_port_is_not() {
    let psc = FakePsc::start().await;
    let other = FakePsc::start().await;
    let transport = other.transport(short_timeout(), None);
    let error = transport.send(certs(&psc)).await.unwrap_err();
    assert!(matches!(error, TransportError::Tls(_)), "{error}");
    let closed = TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = transport
        .send(get(&format!("https://localhost:{closed}/")))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_renewed_certificate_is_presented_at_the_next_request() {
    let psc = FakePsc::start().await;
    let transport = psc.transport(short_timeout(), None);
    let before = transport.send(introspect(&psc)).await.unwrap();
    assert_eq!(before.status, StatusCode::UNAUTHORIZED);

    let renewed = psc.pki.client(CLIENT);
    psc.register(&renewed, CLIENT);
    transport.replace_identity(renewed.identity()).unwrap();
    let after = transport.send(introspect(&psc)).await.unwrap();
    assert_eq!(after.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_and_the_old_one_stays() {
    let psc = FakePsc::start().await;
    let transport = psc.transport(short_timeout(), Some(&psc.certificate));
    let other = psc.pki.client(CLIENT);
    let mixed = psc_auth::ClientIdentity::new(vec![psc.certificate.der.clone()], other.key());
    let refused = transport.replace_identity(mixed);
    assert!(matches!(refused, Err(TransportSetupError::Identity(_))));
    assert_eq!(
        transport.send(introspect(&psc)).await.unwrap().status,
        StatusCode::OK
    );
}

/// A proxy that opens one tunnel: its address with this user in it, and the head that it was asked with.
async fn one_tunnel(user: &str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tunnel = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let target = head
            .strip_prefix("CONNECT ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await
            .unwrap();
        let mut server = TcpStream::connect(&target).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        head
    });
    (format!("http://{user}127.0.0.1:{port}"), tunnel)
}

#[tokio::test]
async fn an_outgoing_proxy_is_asked_with_connect_and_sees_no_clear_text() {
    let psc = FakePsc::start().await;
    let (proxy, tunnel) = one_tunnel("").await;
    let settings = TransportSettings {
        proxy: Some(proxy.parse().unwrap()),
        ..short_timeout()
    };
    let transport = psc.transport(settings, Some(&psc.certificate));
    assert_eq!(
        transport.send(introspect(&psc)).await.unwrap().status,
        StatusCode::OK
    );
    drop(transport);
    let head = tunnel.await.unwrap();
    assert!(head.starts_with("CONNECT localhost:") && !head.contains("introspect"));
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
}

#[tokio::test]
async fn an_outgoing_proxy_is_told_user_and_password_and_nobody_else_is() {
    let psc = FakePsc::start().await;
    let (proxy, tunnel) = one_tunnel("Aladdin:open%20sesame@").await;
    let settings = TransportSettings {
        proxy: Some(proxy.parse().unwrap()),
        ..short_timeout()
    };
    assert!(!format!("{settings:?}").contains("sesame"));
    let transport = psc.transport(settings, Some(&psc.certificate));
    assert!(!format!("{transport:?}").contains("sesame"));
    assert_eq!(
        transport.send(certs(&psc)).await.unwrap().status,
        StatusCode::OK
    );
    drop(transport);
    let head = tunnel.await.unwrap();
    // RFC 7617 §2, of `Aladdin:open sesame`.
    let expected = "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    assert!(head.contains(expected), "{head}");
    let wrong: url::Url = "https://Aladdin:sesame@127.0.0.1:1".parse().unwrap();
    let settings = TransportSettings {
        proxy: Some(wrong),
        ..short_timeout()
    };
    let refused = psc_auth::HttpsTransport::new(settings, psc.pki.roots(), None).unwrap_err();
    assert!(!refused.to_string().contains("sesame") && refused.to_string().contains("127.0.0.1"));
}
