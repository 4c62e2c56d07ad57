//! What the whole service tells of certificates near their end: by mail, to a webhook, in its log, in its metrics.

use std::fs;
use std::time::Duration;

use conformance::testkit::igc::{Igc, LeafSpec};
use conformance::testkit::smtp::SmtpServer;
use conformance::testkit::{Gateway, GatewayConfig, Identity, PacsConfig, Pki, free_port};
use drimbox::certs::presented::{By, Recorder, folder as presented};
use time::OffsetDateTime;
use toml::{Table, Value};

use super::centre::{HOST, closed, good};
use super::support::{folder, metric, run, until};
use super::webhook::Receiver;

const ANNE: &str = "anne@certs.example";
const PAUL: &str = "paul@certs.example";
const VI: &str = "vi1.certs.example";

#[test]
fn the_service_tells_everybody_once_of_certificates_near_their_end() {
    run(async {
        let root = folder("certs-told");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let local = pki.server(&["localhost"]).unwrap();
        let mails = SmtpServer::start(&local, true).await.unwrap();
        let hook = Receiver::start(&local, 0).await;
        let now = OffsetDateTime::now_utc();
        let igc = Igc::new(true, now).unwrap();
        let soon = LeafSpec {
            days: (-700, 20),
            dns_names: vec![HOST.into()],
            ..good()
        };
        let leaf = igc.leaf(&soon).unwrap();
        let identity = Identity {
            certificate_file: root.join("db.pem"),
            key_file: root.join("db.key"),
        };
        fs::write(&identity.certificate_file, leaf.certificate.pem()).unwrap();
        closed(&identity.key_file, leaf.key.serialize_pem().as_bytes());
        // As after a call to them.
        let presents = |by, name: &str| {
            let spec = LeafSpec {
                days: (-80, 10),
                ..LeafSpec::peer(name)
            };
            let shown = igc.leaf(&spec).unwrap().certificate;
            let recorder = Recorder::new(&presented(&root.join("data"))).unwrap();
            recorder.note(by, shown.der(), now);
        };
        presents(By::Psc, "auth.psc.example");

        let mut webhook = Table::new();
        webhook.insert("name".into(), "supervision".into());
        let url = format!("https://localhost:{}/alertes", hook.port);
        webhook.insert("url".into(), url.into());
        let authorities = pki.ca_file().display().to_string();
        webhook.insert("ca_file".into(), authorities.clone().into());
        let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
            .db_host(HOST, &identity)
            .vi_host(VI, &pki.server(&[VI]).unwrap());
        let config = GatewayConfig::new(&root)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("alerts.recipients", vec![ANNE, PAUL])
            .set("alerts.smtp.host", "localhost")
            .set("alerts.smtp.port", i64::from(mails.port()))
            .set("alerts.smtp.ca_file", authorities)
            .set("alerts.smtp.from", "drimbox@certs.example")
            .set("alerts.webhook", vec![Value::Table(webhook)])
            .pacs(pacs);
        let mut gateway = Gateway::start(config).await.unwrap();
        let log = gateway.process().log_file().to_owned();
        let logged = |part: &str| fs::read_to_string(&log).unwrap().matches(part).count();
        let db = format!("SERV_SSL de {HOST} expire dans");
        let psc = "Le certificat de auth.psc.example (Pro Santé Connect) expire le";
        // The log is told last.
        until("the alerts in the log", async || {
            logged(&db) == 1 && logged(psc) == 1
        })
        .await;
        let of = |to: &str, part: &str| {
            let all = mails.mails();
            all.iter()
                .filter(|mail| mail.to == to && mail.text().contains(part))
                .count()
        };
        let dmp = "Le certificat que présente dmp.example (DMP)";
        let own = "emplacement db:ct";
        let others = "Le certificat que présente auth.psc.example (Pro Santé Connect)";
        for to in [ANNE, PAUL] {
            assert_eq!(
                (of(to, own), of(to, others), of(to, dmp)),
                (1, 1, 0),
                "{to}"
            );
            assert_eq!(of(to, "jusqu'à expiration seulement"), 1);
        }
        let steps = || {
            let got = hook.got.lock().unwrap();
            let all: Vec<String> = got
                .iter()
                .map(|(_, body)| body["alert"]["step"].as_str().unwrap().to_owned())
                .collect();
            all
        };
        assert_eq!(steps(), ["J-30", "J-15"]);
        assert_eq!(logged("certificat présenté : expire dans"), 1);

        // In the metrics too.
        let end =
            |days| u64::try_from((now + time::Duration::days(days)).unix_timestamp()).unwrap();
        let place = [("place", "db:ct")];
        let warned = [("place", "db:ct"), ("severity", "warning")];
        let critical = [("place", "db:ct"), ("severity", "critical")];
        until("the inventory in the metrics", async || {
            metric(&gateway, "drimbox_certificate_not_after_seconds", &place).await == end(20)
        })
        .await;
        assert_eq!(
            metric(&gateway, "drimbox_certificate_findings", &warned).await,
            1
        );
        assert_eq!(
            metric(&gateway, "drimbox_certificate_findings", &critical).await,
            0
        );
        let by = [("by", "PSC"), ("name", "auth.psc.example")];
        until("what others present in the metrics", async || {
            let name = "drimbox_presented_certificate_not_after_seconds";
            metric(&gateway, name, &by).await == end(10)
        })
        .await;

        // After a restart what is new is told, and nothing again.
        gateway.stop(Duration::from_secs(60)).await.unwrap();
        presents(By::Dmp, "dmp.example");
        gateway.restart().await.unwrap();
        until("the new alert in the log", async || {
            logged("Le certificat de dmp.example (DMP) expire le") == 1
        })
        .await;
        assert_eq!((logged(&db), logged(psc)), (1, 1));
        for to in [ANNE, PAUL] {
            assert_eq!(
                (of(to, own), of(to, others), of(to, dmp)),
                (1, 1, 1),
                "{to}"
            );
        }
        assert_eq!(mails.mails().len(), 8, "three alerts and a test each");
        assert_eq!(steps(), ["J-30", "J-15", "J-15"]);
    });
}
