//! Login by code, renewal, logout.

use std::sync::Arc;

use conformance::testkit::psc::{RADIOLOGIST, SECRETARY};
use conformance::testkit::{ConnectProxy, Pki, PscClient};
use psc_auth::{
    ErrorCode, GateError, GateSettings, LoginChoice, PscError, PscTokenGate, RelyingParty,
    SessionEnd, TokenGate, TransportError, TransportSettings,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::{CONSUMER, RETURN, SOURCE, world};

#[tokio::test]
async fn a_professional_logs_in_with_the_certificate_and_has_situations() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let party = world.consumer();
    let session = world.log_in(&party).await.unwrap();
    assert_eq!(session.user().sub.rsplit(':').next(), Some(RADIOLOGIST));
    let info = party.user_info(&session).await.unwrap();
    assert_eq!(info.situations().len(), 2);
    // The browser shows no certificate; what asks for tokens does.
    let report = world.psc.report().await.unwrap();
    for request in &report.seen {
        let expected = match request.endpoint.as_str() {
            "token" | "userinfo" => Some(CONSUMER.to_owned()),
            _ => None,
        };
        assert_eq!(request.certificate, expected, "{}", request.endpoint);
    }
    assert_eq!(report.count("wallet"), 1);
}

#[tokio::test]
async fn the_oddities_of_psc_do_not_stop_a_login() {
    let Some(world) = world().await else { return };
    // Two `acr`, UserInfo as a signed token, an answer without acr, and a user without exercise.
    for (user, knobs) in [
        (RADIOLOGIST, json!({"repeatedAcr": true, "acr": "eidas3"})),
        (RADIOLOGIST, json!({"userInfo": "jwt"})),
        (RADIOLOGIST, json!({"acr": null})),
        (SECRETARY, json!({})),
    ] {
        world.psc.reset().await.unwrap();
        world.psc.set(knobs.clone()).await.unwrap();
        world.psc.set(json!({"user": user})).await.unwrap();
        let party = world.consumer();
        let case = knobs.to_string();
        let session = world.log_in(&party).await.expect(&case);
        let info = party.user_info(&session).await.expect(&case);
        assert_eq!(info.situations().is_empty(), user == SECRETARY);
    }
}

#[tokio::test]
async fn a_refusal_of_the_user_and_a_weak_level_are_no_login() {
    let Some(world) = world().await else { return };
    let party = world.consumer();
    world.psc.set(json!({"user": "refuse"})).await.unwrap();
    let refused = world.log_in(&party).await.unwrap_err();
    let PscError::Refused { code, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(code, ErrorCode::AccessDenied);
    let weak = json!({"user": RADIOLOGIST, "acr": "1"});
    world.psc.set(weak).await.unwrap();
    let refused = world.log_in(&party).await.unwrap_err();
    assert!(matches!(refused, PscError::Token { .. }), "{refused}");
}

#[tokio::test]
async fn a_code_is_worth_one_login() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let party = world.consumer();
    let first = party.begin_login(LoginChoice::default()).await.unwrap();
    let second = party.begin_login(LoginChoice::default()).await.unwrap();
    let back = world
        .psc
        .log_in(&world.pki, first.url().as_str(), RETURN)
        .await
        .unwrap();
    let query = back.split_once('?').unwrap().1;
    let again = || psc_auth::Callback::parse(query).unwrap();
    // Another login of the same browser does not take it: `state` differs.
    let mixed = party.complete_login(second, again()).await.unwrap_err();
    assert!(matches!(mixed, PscError::Callback(_)), "{mixed}");
    let copy = psc_auth::PendingLogin::import(&first.export()).unwrap();
    party.complete_login(first, again()).await.unwrap();
    let replayed = party.complete_login(copy, again()).await.unwrap_err();
    let PscError::Refused { code, .. } = replayed else {
        panic!("{replayed}");
    };
    assert_eq!(code, ErrorCode::InvalidGrant);
}

#[tokio::test]
async fn a_session_is_renewed_until_psc_ends_it() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let party = world.consumer();
    let session = world.log_in(&party).await.unwrap();
    let first = party.access_token(&session).await.unwrap();
    world.clock.advance(100);
    let (one, other) = tokio::join!(party.access_token(&session), party.access_token(&session));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.expose_secret(), other.expose_secret());
    assert_ne!(one.expose_secret(), first.expose_secret());
    let report = world.psc.report().await.unwrap();
    assert_eq!(report.count("token"), 2, "one renewal for both");
    let sid = session.user().sid.clone().unwrap();
    assert!(world.psc.end_session(&sid).await.unwrap());
    world.clock.advance(100);
    let ended = party.access_token(&session).await.unwrap_err();
    assert_eq!(ended, PscError::SessionEnded(SessionEnd::NotRenewed));
}

#[tokio::test]
async fn new_signing_keys_are_taken_up() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let party = world.consumer();
    world.log_in(&party).await.unwrap();
    world.psc.rotate_keys(true).await.unwrap();
    // Anybody can make up a `kid`: the keys are not read again at once.
    world.clock.advance(61);
    world.log_in(&party).await.unwrap();
    assert_eq!(world.psc.report().await.unwrap().count("keys"), 2);
}

#[tokio::test]
async fn a_logout_ends_what_the_tokens_were_worth() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let party = world.consumer();
    let session = world.log_in(&party).await.unwrap();
    let token = party.access_token(&session).await.unwrap();
    let gate = PscTokenGate::new(world.provider(SOURCE), GateSettings::default());
    gate.check(&token, None).await.unwrap();
    party.logout(&session).await.unwrap();
    let report = world.psc.report().await.unwrap();
    assert_eq!((report.count("logout"), report.count("revocation")), (1, 1));
    // What the gate remembers is over after a minute.
    world.clock.advance(61);
    let after = gate.check(&token, None).await.unwrap_err();
    assert_eq!(after, GateError::Inactive);
}

#[tokio::test]
async fn psc_tells_of_the_end_of_a_session() {
    let Some(world) = world().await else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = PscClient::new(CONSUMER)
        .redirect(RETURN)
        .backchannel_logout(&format!("https://127.0.0.1:{port}/psc/logout"));
    world.psc.register(&[client]).await.unwrap();
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let party = world.consumer();
    let ours = world.log_in(&party).await.unwrap();
    world
        .psc
        .set(json!({"user": conformance::testkit::psc::PHYSICIAN}))
        .await
        .unwrap();
    let other = world.log_in(&party).await.unwrap();

    let told = tokio::spawn(one_post(listener, acceptor(&world.pki)));
    let sid = ours.user().sid.clone().unwrap();
    world.psc.end_session(&sid).await.unwrap();
    let body = told.await.unwrap();
    let token = body.strip_prefix("logout_token=").unwrap();
    let notice = party.receive_logout(token).await.unwrap();
    assert!(notice.means(&ours));
    assert!(!notice.means(&other));
    assert!(party.receive_logout(token).await.is_err(), "used twice");
}

#[tokio::test]
async fn psc_is_reached_through_the_proxy_of_a_hospital() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let way_out = ConnectProxy::start().await.unwrap();
    let settings = TransportSettings {
        proxy: Some(way_out.url().parse().unwrap()),
        ..TransportSettings::default()
    };
    let certificate = world.certificate(CONSUMER);
    let transport = world.transport(settings, Some(&certificate));
    let party = RelyingParty::new(world.provider_over(CONSUMER, transport));
    let session = world.log_in(&party).await.unwrap();
    party.user_info(&session).await.unwrap();
    // Both hosts, and the certificate arrived at the second: the proxy opened nothing.
    let tunnels = way_out.tunnels();
    for origin in [world.psc.issuer(), world.psc.mtls()] {
        let host = origin.split('/').nth(2).unwrap();
        assert!(tunnels.iter().any(|tunnel| tunnel == host), "{tunnels:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_as_a_network_that_does() {
    let Some(world) = world().await else { return };
    let way_out = ConnectProxy::start().await.unwrap();
    way_out.refuse(true);
    let settings = TransportSettings {
        proxy: Some(way_out.url().parse().unwrap()),
        ..TransportSettings::default()
    };
    let provider = world.provider_over(CONSUMER, world.transport(settings, None));
    let refused = provider.prepare().await.unwrap_err();
    let PscError::Transport { failure, .. } = refused else {
        panic!("{refused}");
    };
    assert!(
        matches!(failure, TransportError::Unreachable(_)),
        "{failure}"
    );
    assert!(way_out.tunnels().is_empty());
}

fn acceptor(pki: &Pki) -> TlsAcceptor {
    let identity = pki.server(&["127.0.0.1"]).unwrap();
    let certificate = CertificateDer::from_pem_file(&identity.certificate_file).unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Takes one POST and returns its body.
async fn one_post(listener: TcpListener, acceptor: TlsAcceptor) -> String {
    let (tcp, _) = listener.accept().await.unwrap();
    let mut tls = acceptor.accept(tcp).await.unwrap();
    let mut text = String::new();
    let body = loop {
        let mut piece = [0; 4096];
        let count = tls.read(&mut piece).await.unwrap();
        assert!(count > 0, "the request broke off");
        text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().unwrap())
        });
        if body.len() == length.unwrap() {
            break body.to_owned();
        }
    };
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    tls.write_all(answer).await.unwrap();
    tls.shutdown().await.unwrap();
    body
}
