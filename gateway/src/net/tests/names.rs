//! Which certificate a name has, who must show one, and how both are replaced.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Extension;
use axum::routing::get as route;
use http::StatusCode;
use http_body_util::BodyExt;
use rustls::AlertDescription;

use super::support::{
    Client, DB_HOST, NEW_VI_HOST, OTHER_DB_HOST, Pki, Server, VI_HOST, channel, get, get2, limits,
    names,
};
use super::tls::refusal;
use crate::net::tls::{TlsError, certified_key, verifier_of};
use crate::net::{Clients, Connection, NamedConfigs, NamedHost, Routers, usable};

fn routers() -> Routers {
    let say = async |Extension(connection): Extension<Connection>| {
        let shown = connection.peer_certificates.is_some();
        format!("{} {shown}", connection.listener)
    };
    let main = Router::new().route("/", route(say));
    let viewer = Router::new()
        .route("/", route(say))
        .route("/only", route("viewer"));
    Routers::new(main).viewer(viewer)
}

async fn text_of(client: &Client, server: &Server, host: &str, path: &str) -> (StatusCode, String) {
    let mut sender = client.http1(server, host).await;
    let answer = sender.send_request(get(host, path)).await.unwrap();
    let status = answer.status();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

/// The leaf that a handshake shows.
async fn shown(client: &Client, server: &Server, host: &str) -> Vec<u8> {
    let stream = client.tls(server, host, b"http/1.1").await.unwrap();
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_vi_name_asks_no_certificate_and_has_its_own_router() {
    let pki = Pki::new();
    let server = Server::named(names(&pki, true), routers(), &limits()).await;
    let browser = pki.client(None);
    let (_, text) = text_of(&browser, &server, VI_HOST, "/").await;
    assert_eq!(text, "viewer false");
    let (status, _) = text_of(&browser, &server, VI_HOST, "/only").await;
    assert_eq!(status, StatusCode::OK);
    // A certificate that a browser would have is not asked for either.
    let (_, text) = text_of(&pki.client(Some(&pki)), &server, VI_HOST, "/").await;
    assert_eq!(text, "viewer false");
}

#[tokio::test]
async fn a_db_name_does_not_reach_the_router_of_vi_names() {
    let pki = Pki::new();
    let server = Server::named(names(&pki, true), routers(), &limits()).await;
    let peer = pki.client(Some(&pki));
    let (_, text) = text_of(&peer, &server, DB_HOST, "/").await;
    assert_eq!(text, "peer true");
    let (status, _) = text_of(&peer, &server, DB_HOST, "/only").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_connection_to_a_vi_name_cannot_ask_for_a_db_name() {
    let pki = Pki::new();
    let server = Server::named(names(&pki, false), routers(), &limits()).await;
    let browser = pki.client(None);
    let mut sender = browser.http1(&server, VI_HOST).await;
    let answer = sender.send_request(get(DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let mut sender = browser.http2(&server, VI_HOST).await;
    let answer = sender.send_request(get2(DB_HOST, "/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_db_name_that_lets_clients_ask_for_its_state_knows_they_showed_nothing() {
    let pki = Pki::new();
    let server = Server::named(names(&pki, false), routers(), &limits()).await;
    let (_, text) = text_of(&pki.client(None), &server, DB_HOST, "/").await;
    assert_eq!(text, "peer false");
    // A certificate that is shown is verified all the same.
    let foreign = Pki::new();
    refusal(&pki.client(Some(&foreign)), &server, DB_HOST).await;
}

#[tokio::test]
async fn a_name_without_certificate_is_refused_until_it_gets_one() {
    let pki = Pki::new();
    let configs = names(&pki, true);
    let server = Server::named(Arc::clone(&configs), routers(), &limits()).await;
    let browser = pki.client(None);
    let alert = refusal(&browser, &server, NEW_VI_HOST).await;
    assert_eq!(alert, AlertDescription::UnrecognisedName);

    let certificate = certified_key(&pki.server(NEW_VI_HOST)).unwrap();
    configs.replace(NEW_VI_HOST, certificate).unwrap();
    let (_, text) = text_of(&browser, &server, NEW_VI_HOST, "/").await;
    assert_eq!(text, "viewer false");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_cuts_no_transfer() {
    let pki = Pki::new();
    let configs = names(&pki, true);
    let (feed, body) = channel();
    let body = Arc::new(parking_lot::Mutex::new(Some(body)));
    let router = Router::new().route("/", route(async move || body.lock().take().unwrap()));
    let server = Server::named(Arc::clone(&configs), router, &limits()).await;
    let peer = pki.client(Some(&pki));

    let before = shown(&peer, &server, DB_HOST).await;
    let mut sender = peer.http1(&server, DB_HOST).await;
    let mut answer = sender.send_request(get(DB_HOST, "/")).await.unwrap();
    feed.send(Ok("half".into())).await.unwrap();
    assert_eq!(
        answer.frame().await.unwrap().unwrap().into_data().unwrap(),
        "half"
    );

    let renewed = certified_key(&pki.server(DB_HOST)).unwrap();
    let renewed_leaf = renewed.cert[0].to_vec();
    configs.replace(DB_HOST, renewed).unwrap();
    let after = shown(&peer, &server, DB_HOST).await;
    assert_ne!(after, before);
    assert_eq!(after, renewed_leaf);

    feed.send(Ok("rest".into())).await.unwrap();
    drop(feed);
    let rest = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(rest, "rest");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused_and_the_old_one_stays() {
    let pki = Pki::new();
    let configs = names(&pki, true);
    let server = Server::named(Arc::clone(&configs), routers(), &limits()).await;
    let peer = pki.client(Some(&pki));
    let before = shown(&peer, &server, DB_HOST).await;
    let other = certified_key(&pki.server(OTHER_DB_HOST)).unwrap();
    let error = configs.replace(DB_HOST, other.clone()).unwrap_err();
    assert!(
        error.to_string().contains("issued for another name"),
        "{error}"
    );
    let unserved = "db9.example.org";
    let certificate = certified_key(&pki.server(unserved)).unwrap();
    let error = configs.replace(unserved, certificate).unwrap_err();
    assert!(matches!(error, TlsError::UnknownHost(_)), "{error}");
    assert_eq!(shown(&peer, &server, DB_HOST).await, before);
}

#[test]
fn a_certificate_is_not_usable_before_nor_after_its_dates() {
    let pki = Pki::new();
    let certificate = certified_key(&pki.server(DB_HOST)).unwrap();
    assert!(usable(&certificate, DB_HOST, SystemTime::now()).is_ok());
    let early = SystemTime::UNIX_EPOCH;
    let late = early + Duration::from_secs(5_000 * 365 * 86_400);
    for (at, reason) in [(early, "not valid yet"), (late, "out of date")] {
        let error = usable(&certificate, DB_HOST, at).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_common_name_stands_for_a_certificate_without_alternative_names() {
    let pki = Pki::new();
    let by_common_name = certified_key(&pki.server_without_san(DB_HOST)).unwrap();
    let now = SystemTime::now();
    assert!(usable(&by_common_name, "DB1.example.org.", now).is_ok());
    assert!(usable(&by_common_name, OTHER_DB_HOST, now).is_err());
}

#[tokio::test]
async fn a_replaced_verifier_holds_for_the_next_connection() {
    let (pki, other) = (Pki::new(), Pki::new());
    let configs = names(&pki, true);
    let server = Server::named(Arc::clone(&configs), routers(), &limits()).await;
    let peer = pki.client(Some(&pki));
    text_of(&peer, &server, DB_HOST, "/").await;
    configs.replace_verifier(&verifier_of(&other.ca_file()).unwrap());
    refusal(&peer, &server, DB_HOST).await;
    let (_, text) = text_of(&pki.client(Some(&other)), &server, DB_HOST, "/").await;
    assert_eq!(text, "peer true");
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_gets_a_place_again() {
    let pki = Pki::new();
    let mut limits = limits();
    limits.max_connections_per_address = 1;
    let server = Server::named(names(&pki, true), routers(), &limits).await;
    let peer = pki.client(Some(&pki));
    let first = peer.tls(&server, DB_HOST, b"http/1.1").await.unwrap();
    assert!(peer.tls(&server, DB_HOST, b"http/1.1").await.is_err());
    drop(first);
    // The place is free when the listener has seen the end.
    while peer.tls(&server, DB_HOST, b"http/1.1").await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_never_lets_go_ends_at_its_greatest_age_between_two_requests() {
    let pki = Pki::new();
    let mut limits = limits();
    limits.max_connection_age = Duration::from_millis(50);
    let server = Server::named(names(&pki, true), routers(), &limits).await;
    let mut sender = pki.client(Some(&pki)).http1(&server, DB_HOST).await;
    // Without an age this would never end.
    while let Ok(answer) = sender.send_request(get(DB_HOST, "/")).await {
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "peer true");
    }
    assert!(sender.is_closed());
}

#[tokio::test]
async fn an_http2_connection_that_never_lets_go_ends_at_its_greatest_age_too() {
    let pki = Pki::new();
    let mut limits = limits();
    limits.max_connection_age = Duration::from_millis(50);
    let server = Server::named(names(&pki, true), routers(), &limits).await;
    let mut sender = pki.client(Some(&pki)).http2(&server, DB_HOST).await;
    // Without an age this would never end.
    while let Ok(answer) = sender.send_request(get2(DB_HOST, "/")).await {
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "peer true");
    }
    // The end is told, not a cut: the next request of the client goes by a new connection.
    let refused = sender.ready().await.unwrap_err();
    assert!(refused.is_closed() || refused.is_canceled(), "{refused:?}");
}

#[tokio::test]
async fn every_answer_of_a_public_name_says_never_to_ask_in_clear() {
    let pki = Pki::new();
    let server = Server::named(names(&pki, true), routers(), &limits()).await;
    let mut sender = pki.client(None).http1(&server, VI_HOST).await;
    let answer = sender.send_request(get(VI_HOST, "/")).await.unwrap();
    assert_eq!(
        answer.headers()["strict-transport-security"],
        "max-age=63072000"
    );
}

#[test]
fn one_name_comes_once() {
    let pki = Pki::new();
    let host = |host: &str| NamedHost {
        host: host.to_owned(),
        clients: Clients::Anybody,
        certificate: Some(Arc::new(certified_key(&pki.server(DB_HOST)).unwrap())),
    };
    let error = NamedConfigs::new([host(DB_HOST), host("DB1.example.org")]).unwrap_err();
    assert!(matches!(error, TlsError::DuplicateHost(_)), "{error}");
}
