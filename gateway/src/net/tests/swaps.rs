//! A certificate is replaced while requests are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use acme::{DnsName, Installer, Issued, Occasion, SystemClock};
use axum::Router;
use axum::routing::get as route;
use http::StatusCode;
use http_body_util::BodyExt;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::support::{Pki, Server, VI_HOST, get, limits, names};
use crate::certs::market::installer::MarketInstaller;
use crate::net::Routers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_across_ten_renewals() {
    let pki = Arc::new(Pki::new());
    let names = names(&pki, true);
    let routers = Routers::new(Router::new()).viewer(Router::new().route("/", route("here")));
    let server = Arc::new(Server::named(Arc::clone(&names), routers, &limits()).await);
    let installer = MarketInstaller::new(Arc::clone(&names), Arc::new(SystemClock));
    let renewed = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));

    let mut clients = tokio::task::JoinSet::new();
    for reuses in [true, true, false] {
        let (server, renewed, answered) = (server.clone(), renewed.clone(), answered.clone());
        let browser = pki.client(None);
        clients.spawn(async move {
            let mut sender = browser.http1(&server, VI_HOST).await;
            while !renewed.load(Ordering::Relaxed) {
                if !reuses {
                    sender = browser.http1(&server, VI_HOST).await;
                }
                let answer = sender.send_request(get(VI_HOST, "/")).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(&body[..], b"here");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let name = DnsName::parse(VI_HOST).unwrap();
    let mut shown = Vec::new();
    for swap in 0..10 {
        let identity = pki.server(VI_HOST);
        let read = |path| std::fs::read_to_string(path).unwrap();
        let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
        let issued = Issued {
            directory: String::new(),
            order: String::new(),
            chain_pem: read(&identity.certificate_file) + &read(&pki.ca_file()),
            key: acme::PrivateKey::from_pkcs8(key.secret_der()),
        };
        let occasion = Occasion::New(None);
        installer.install(&name, &issued, occasion).await.unwrap();
        let stream = pki
            .client(None)
            .tls(&server, VI_HOST, b"http/1.1")
            .await
            .unwrap();
        let (_, session) = stream.get_ref();
        shown.push(session.peer_certificates().unwrap()[0].to_vec());
        // Every certificate serves requests before the next one comes.
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + 20 {
            let ended = clients.try_join_next();
            assert!(
                ended.is_none(),
                "a client failed after swap {swap}: {ended:?}"
            );
            tokio::task::yield_now().await;
        }
    }
    renewed.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 10, "each swap is seen by the next handshake");
}
