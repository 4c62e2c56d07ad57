//! Alerts on certificates by mail: over TLS, through absences, from the gateway to the acknowledgement.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::smtp::SmtpServer;
use conformance::testkit::{Client, Gateway, GatewayConfig, PacsConfig, Pki, free_port};
use drimbox::certs::alerts::mail::MailChannel;
use drimbox::certs::alerts::{Alerts, Channel, Recipient, Settings};
use drimbox::config::{Smtp, SmtpSecurity};
use http::Method;
use support::{folder, run};
use time::OffsetDateTime;

const VI: &str = "vi1.alerts.example";
const ANNE: &str = "anne@alerts.example";
const PAUL: &str = "paul@alerts.example";

fn secret(folder: &Path, content: &str) -> PathBuf {
    let path = folder.join("mot-de-passe");
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut file.open(&path).unwrap(), content.as_bytes()).unwrap();
    path
}

/// Alerts by mail alone, kept in `folder`.
fn alerts(folder: &Path, pki: &Pki, server: &SmtpServer, security: SmtpSecurity) -> Alerts {
    let smtp = Smtp {
        host: "localhost".into(),
        port: server.port(),
        security,
        ca_file: pki.ca_file().to_owned(),
        account: Some(("drimbox".into(), secret(folder, "sésame\n"))),
        from: "drimbox@alerts.example".into(),
    };
    let mail: Arc<dyn Channel> = Arc::new(MailChannel::new(&smtp).unwrap());
    let to = |address: &str| (Recipient::Mail(address.into()), Arc::clone(&mail));
    let settings = Settings {
        recipients: vec![to(ANNE), to(PAUL)],
        roles: std::collections::HashMap::new(),
        centre: None,
        link_url: format!("https://{VI}"),
    };
    Alerts::open(settings, &folder.join("alerts")).unwrap()
}

#[test]
fn a_mail_server_that_is_away_delays_alerts_and_loses_none_even_over_a_restart() {
    run(async {
        for (security, start_tls) in [(SmtpSecurity::StartTls, true), (SmtpSecurity::Tls, false)] {
            let root = folder(&format!("alerts-away-{start_tls}"));
            let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
            let identity = pki.server(&["localhost"]).unwrap();
            let mut server = SmtpServer::start(&identity, start_tls).await.unwrap();
            server.require("drimbox", "sésame");
            server.go_away().await;

            let mut now = OffsetDateTime::now_utc();
            let away = alerts(&root, &pki, &server, security);
            away.note(&[], &[], now);
            away.deliver(now).await;
            drop(away);
            assert_eq!(server.mails(), []);

            server.come_back().await.unwrap();
            let back = alerts(&root, &pki, &server, security);
            for _ in 0..3 {
                now += Duration::from_secs(7_200);
                back.note(&[], &[], now);
                back.deliver(now).await;
            }
            let mails = server.mails();
            let to: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
            assert_eq!(to, [ANNE, PAUL], "each once");
            assert_eq!(mails[0].header("Auto-Submitted"), Some("auto-generated"));
            assert!(
                mails[0]
                    .header("Message-ID")
                    .unwrap()
                    .ends_with("@alerts.example>")
            );
            assert!(
                mails[0].text().contains("vérifie que les alertes"),
                "{}",
                mails[0].text()
            );
        }
    });
}

#[test]
fn nothing_is_said_to_a_mail_server_that_offers_no_tls() {
    run(async {
        let root = folder("alerts-clear");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let identity = pki.server(&["localhost"]).unwrap();
        let server = SmtpServer::start(&identity, true).await.unwrap();
        server.require("drimbox", "sésame");
        server.withhold_tls();
        let now = OffsetDateTime::now_utc();
        let alerts = alerts(&root, &pki, &server, SmtpSecurity::StartTls);
        alerts.note(&[], &[], now);
        alerts.deliver(now).await;
        assert_eq!(server.mails(), []);
        let said = server.said_in_clear();
        let greeting = |line: &String| line.starts_with("EHLO") || line == "QUIT";
        assert!(!said.is_empty() && said.iter().all(greeting), "{said:?}");
    });
}

#[test]
fn a_mail_server_that_the_authorities_do_not_vouch_for_gets_nothing() {
    run(async {
        let root = folder("alerts-stranger");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let stranger = Pki::new(&root.join("stranger"), "Stranger").unwrap();
        let identity = stranger.server(&["localhost"]).unwrap();
        let server = SmtpServer::start(&identity, true).await.unwrap();
        let now = OffsetDateTime::now_utc();
        let alerts = alerts(&root, &pki, &server, SmtpSecurity::StartTls);
        alerts.note(&[], &[], now);
        alerts.deliver(now).await;
        assert_eq!(server.mails(), []);
    });
}

#[test]
fn a_refused_address_does_not_keep_the_others_from_their_mail() {
    run(async {
        let root = folder("alerts-refused");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let identity = pki.server(&["localhost"]).unwrap();
        let server = SmtpServer::start(&identity, true).await.unwrap();
        server.refuse(ANNE);
        let now = OffsetDateTime::now_utc();
        let alerts = alerts(&root, &pki, &server, SmtpSecurity::StartTls);
        alerts.note(&[], &[], now);
        alerts.deliver(now).await;
        let mails = server.mails();
        assert!(mails.iter().all(|mail| mail.to == PAUL), "{mails:?}");
        // The test of Paul, and that Anne's address is refused.
        assert_eq!(mails.len(), 2);
        assert!(mails.iter().any(|mail| mail.text().contains(ANNE)));
    });
}

#[test]
fn the_gateway_sends_its_test_and_a_recipient_acknowledges_it_on_the_vi_name() {
    run(async {
        let root = folder("alerts-gateway");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let identity = pki.server(&["localhost"]).unwrap();
        let server = SmtpServer::start(&identity, true).await.unwrap();
        let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
            .db_host(
                "db1.alerts.example",
                &pki.server(&["db1.alerts.example"]).unwrap(),
            )
            .vi_host(VI, &pki.server(&[VI]).unwrap());
        let config = GatewayConfig::new(&root)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("alerts.recipients", vec![ANNE, PAUL])
            .set("alerts.smtp.host", "localhost")
            .set("alerts.smtp.port", i64::from(server.port()))
            .set("alerts.smtp.ca_file", pki.ca_file().display().to_string())
            .set("alerts.smtp.from", "drimbox@alerts.example")
            .pacs(pacs);
        let gateway = Gateway::start(config).await.unwrap();
        let mails = server.wait_for(2).await;
        let text = mails[0].text();
        let link = text
            .lines()
            .find(|line| line.starts_with("https://"))
            .unwrap();
        assert!(link.starts_with(&format!("https://{VI}:{}/", gateway.address("peer").port())));

        let browser = Client::builder()
            .ca(pki.ca_file())
            .resolve(VI, gateway.address("peer"))
            .build()
            .unwrap();
        let page = browser.get(link).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.text().await.unwrap().contains("Je confirme"));
        let done = browser.request(Method::POST, link).send().await.unwrap();
        assert!(done.text().await.unwrap().contains("merci"));
        let (before, _) = link.rsplit_once('/').unwrap();
        let wrong = format!("{before}/{}", "0".repeat(64));
        assert_eq!(browser.get(&wrong).send().await.unwrap().status(), 404);

        // On the admin listener too, and the inventory behind its token.
        let path = link.split_once("/alertes").unwrap().1;
        let admin = Client::plain().unwrap();
        let url = format!("{}/alertes{path}", gateway.admin_url());
        assert_eq!(admin.get(&url).send().await.unwrap().status(), 200);
        let url = format!("{}/api/certificates", gateway.admin_url());
        assert_eq!(admin.get(&url).send().await.unwrap().status(), 401);
        let token = std::fs::read_to_string(root.join("data/admin.token")).unwrap();
        let field = format!("Bearer {}", token.trim());
        let list = admin
            .get(&url)
            .header("authorization", &field)
            .send()
            .await
            .unwrap();
        assert!(list.text().await.unwrap().contains("db:ct"));
    });
}
