//! Alerts to a webhook.

use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::igc::LeafSpec;
use conformance::testkit::{Identity, Pki};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value as Json;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::centre::{Centre, closed, code, good, said};
use super::support::run;

/// What a webhook got, each request's head and body.
pub(super) struct Receiver {
    pub(super) port: u16,
    pub(super) got: Arc<std::sync::Mutex<Vec<(String, Json)>>>,
    arrived: Arc<tokio::sync::Notify>,
}

impl Receiver {
    pub(super) async fn start(identity: &Identity, refuse_first: usize) -> Self {
        let chain = CertificateDer::pem_file_iter(&identity.certificate_file)
            .unwrap()
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            got: Arc::default(),
            arrived: Arc::default(),
        };
        let (got, arrived) = (Arc::clone(&receiver.got), Arc::clone(&receiver.arrived));
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let (head, body) = request(&mut stream).await;
                number += 1;
                let answer = if number <= refuse_first {
                    "503 Busy"
                } else {
                    "204 No Content"
                };
                if number > refuse_first {
                    got.lock().unwrap().push((head, body));
                }
                let text =
                    format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.shutdown().await;
                arrived.notify_one();
            }
        });
        receiver
    }
}

async fn request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> (String, Json) {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.to_lowercase(), body);
        }
        assert!(read > 0, "{text}");
    }
}

#[test]
fn a_webhook_gets_each_alert_once_with_its_token_after_it_was_away() {
    use drimbox::certs::alerts::webhook::WebhookChannel;
    use drimbox::certs::alerts::{Alerts, Channel, Recipient, Settings};
    use drimbox::certs::inventory::Inventory;
    run(async {
        let centre = Centre::new("certs-webhook");
        let soon = LeafSpec {
            days: (-700, 20),
            ..good()
        };
        let file = centre.answered("db:ct", "db.key", &soon);
        let done = centre.import("db:ct", &file);
        assert_eq!(code(&done), 0, "{}", said(&done));
        let pki = Pki::new(&centre.root.join("pki"), "Centre").unwrap();
        let receiver = Receiver::start(&pki.server(&["localhost"]).unwrap(), 1).await;
        let token = centre.root.join("jeton");
        closed(&token, b"jeton-de-supervision\n");
        let webhook = drimbox::config::Webhook {
            name: "supervision".into(),
            url: format!("https://localhost:{}/alertes", receiver.port),
            token_file: Some(token),
            ca_file: pki.ca_file().to_owned(),
            http_proxy: None,
        };
        let open = || {
            let channel: Arc<dyn Channel> = Arc::new(WebhookChannel::new(&webhook).unwrap());
            let settings = Settings {
                recipients: vec![(Recipient::Webhook("supervision".into()), channel)],
                roles: std::collections::HashMap::new(),
                centre: None,
                link_url: "https://vi1.certs.example".into(),
            };
            Alerts::open(settings, &centre.root.join("alerts")).unwrap()
        };
        let config = drimbox::config::load_awaiting_certificates(&centre.config).unwrap();
        let inventory = Inventory::of(&config, None);
        let mut now = OffsetDateTime::now_utc();
        let alerts = open();
        alerts.note(&inventory.examine(now), &[], now);
        alerts.deliver(now).await;
        receiver.arrived.notified().await;
        assert_eq!(receiver.got.lock().unwrap().len(), 0, "it was busy");
        drop(alerts);
        for _ in 0..3 {
            now += Duration::from_secs(7_200);
            let alerts = open();
            alerts.note(&inventory.examine(now), &[], now);
            alerts.deliver(now).await;
        }
        let got = receiver.got.lock().unwrap().clone();
        assert_eq!(got.len(), 1, "once, over three restarts: {got:?}");
        let (head, body) = &got[0];
        assert!(
            head.contains("authorization: bearer jeton-de-supervision"),
            "{head}"
        );
        assert_eq!(body["alert"]["kind"], "certificate_expiry");
        assert_eq!(body["alert"]["place"], "db:ct");
        assert!(
            body["text"]
                .as_str()
                .unwrap()
                .contains("jusqu'à expiration seulement")
        );
    });
}
