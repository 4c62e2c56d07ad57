//! The public port: names, the health check, renewed certificates.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conformance::testkit::igc::{Authority, Igc, LeafSpec};
use conformance::testkit::{Client, Gateway, GatewayConfig, PacsConfig, Pki};
use rustix::process::{Pid, Signal, kill_process};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use tokio_rustls::TlsConnector;

use crate::network::{Network, REVOKED_SERIAL, SOURCE, VIEWER, network, serving, write_identity};
use crate::support::{ask, folder, metric, run, trail, until};

#[test]
fn anybody_learns_whether_the_service_is_up_and_nothing_else() {
    run(async {
        let network = network().await;
        let port = network.gateway.address("peer").port();
        let client = network.client(None);
        for host in [SOURCE, VIEWER] {
            let url = format!("https://{host}:{port}/healthcheck");
            until("up", async || {
                client.get(&url).send().await.unwrap().status() == 200
            })
            .await;
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.text().await.unwrap(), "{\"status\":\"up\"}\n");
        }
    });
}

#[test]
fn a_client_without_certificate_gets_no_further_than_the_health_check() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.identity = None;
        network.refused(&asking, 403, "no_certificate").await;
        asking.url = network.gateway.peer_url(SOURCE) + "/nothing";
        network.refused(&asking, 403, "no_certificate").await;
    });
}

#[test]
fn a_vi_name_serves_no_images_to_a_peer() {
    run(async {
        let network = network().await;
        let mut asking = network.request().await;
        asking.url = asking.url.replace(SOURCE, VIEWER);
        // A browser with a session is what gets images there.
        assert_eq!(network.ask(&asking).await.status(), 401);
    });
}

#[test]
fn a_renewed_certificate_is_taken_up_at_a_signal_and_a_wrong_one_is_not() {
    run(async {
        const HOST: &str = "db1.renewal.example";
        let home = folder("renewal");
        let pki = Pki::new(&home.join("pki"), "Renewal CA").unwrap();
        let served = pki.server(&[HOST]).unwrap();
        let config = GatewayConfig::new(&home)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .pacs(PacsConfig::new("sim", "SIM", 1).db_host(HOST, &served));
        let gateway = Gateway::start(config).await.unwrap();
        let reloads = async |outcome| {
            metric(
                &gateway,
                "drimbox_tls_reloads_total",
                &[("outcome", outcome)],
            )
            .await
        };
        let hangup = || {
            let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap()).unwrap();
            kill_process(pid, Signal::HUP).unwrap();
        };
        let url = gateway.peer_url(HOST) + "/studies/1.2/series/1.3";
        let answers = async || {
            let peer = pki.client("peer").unwrap();
            let client = gateway.peer_client(&pki, &peer, &[HOST]).build().unwrap();
            client.get(&url).send().await.is_ok()
        };
        assert!(answers().await);

        // For another name: told, and the old one stays.
        let other = pki.server(&["db9.renewal.example"]).unwrap();
        let old = std::fs::read(&served.certificate_file).unwrap();
        let old_key = std::fs::read(&served.key_file).unwrap();
        std::fs::copy(&other.certificate_file, &served.certificate_file).unwrap();
        std::fs::copy(&other.key_file, &served.key_file).unwrap();
        hangup();
        until("the wrong one is told", async || {
            reloads("refused").await >= 1
        })
        .await;
        assert!(answers().await);

        // No file at all, then the right one again.
        std::fs::remove_file(&served.certificate_file).unwrap();
        let refused = reloads("refused").await;
        hangup();
        until("the missing one is told", async || {
            reloads("refused").await > refused
        })
        .await;
        assert!(answers().await);
        std::fs::write(&served.certificate_file, old).unwrap();
        std::fs::write(&served.key_file, old_key).unwrap();
        let loaded = reloads("loaded").await;
        hangup();
        until("the right one is taken up", async || {
            reloads("loaded").await > loaded
        })
        .await;
        assert!(answers().await);
    });
}

#[test]
fn only_listed_addresses_are_told_whether_the_service_is_up() {
    run(async {
        const HOST: &str = "db1.listed.example";
        let home = folder("listed");
        let pki = Pki::new(&home.join("pki"), "Listed CA").unwrap();
        let served = pki.server(&[HOST]).unwrap();
        let list = home.join("addresses");
        std::fs::write(&list, "192.0.2.1\n").unwrap();
        let config = GatewayConfig::new(&home)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("peer.healthcheck_without_certificate", true)
            .set("peer.healthcheck_paths", vec!["/etat", "/api/health"])
            .set(
                "peer.healthcheck_addresses_file",
                list.display().to_string(),
            )
            .pacs(PacsConfig::new("sim", "SIM", 1).db_host(HOST, &served));
        let gateway = Gateway::start(config).await.unwrap();
        let client = Client::builder()
            .ca(pki.ca_file())
            .resolve(HOST, gateway.address("peer"))
            .build()
            .unwrap();
        let port = gateway.address("peer").port();
        let url = |path: &str| format!("https://{HOST}:{port}{path}");
        let paths = ["/etat", "/api/health"];
        for path in paths {
            assert_eq!(ask(&client, &url(path)).await.status(), 404, "{path}");
        }
        std::fs::write(&list, "192.0.2.1\n127.0.0.0/8\n").unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(60);
        std::fs::File::open(&list)
            .unwrap()
            .set_modified(later)
            .unwrap();
        // The PACS does not answer: down, and told.
        until("the list is read again", async || {
            ask(&client, &url(paths[0])).await.status() == 503
        })
        .await;
        for path in paths {
            let answer = ask(&client, &url(path)).await;
            assert_eq!(answer.status(), 503, "{path}");
            assert_eq!(answer.text().await.unwrap(), "{\"status\":\"down\"}\n");
        }
        // The path of others is one like any other here: closed without a certificate.
        assert_eq!(ask(&client, &url("/healthcheck")).await.status(), 403);
    });
}

#[test]
fn handshakes_that_never_end_are_on_record_by_address_and_counted_by_the_minute() {
    run(async {
        const HOST: &str = "db1.silence.example";
        let home = folder("silence");
        let pki = Pki::new(&home.join("pki"), "Silence CA").unwrap();
        let served = pki.server(&[HOST]).unwrap();
        let config = GatewayConfig::new(&home)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("limits.handshake_timeout_seconds", 0.2)
            .pacs(PacsConfig::new("sim", "SIM", 1).db_host(HOST, &served));
        let mut gateway = Gateway::start(config).await.unwrap();
        let address = gateway.address("peer");
        // Says nothing until the gateway has enough of it.
        let silence = || {
            let mut stream = TcpStream::connect(address).unwrap();
            assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        };
        let refused = || {
            let events = trail::events(&home.join("data/audit")).into_iter();
            let refused = events.filter(|event| event["kind"] == "connection-refused");
            refused.collect::<Vec<_>>()
        };
        silence();
        until("the first is on record", async || !refused().is_empty()).await;
        let first = &refused()[0];
        assert_eq!(first["outcome"]["reason"], "timeout");
        assert_eq!(first["outcome"]["ending"], "refused");
        assert_eq!(first["actor"]["address"], "127.0.0.1");

        (0..4).for_each(|_| silence());
        assert!(
            gateway
                .stop(Duration::from_secs(60))
                .await
                .unwrap()
                .success()
        );
        let times: u64 = refused()
            .iter()
            .map(|event| event["outcome"]["times"].as_u64().unwrap_or(1))
            .sum();
        assert_eq!(times, 5, "{:?}", refused());
        // The first of a minute and the rest of it; a second minute may have begun.
        assert!(refused().len() <= 4);
    });
}

fn hangup(gateway: &Gateway) {
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
}

#[test]
fn a_certificate_that_other_drimboxes_would_refuse_does_not_take_the_place_of_one_that_serves() {
    run(async {
        let network = network().await;
        let reloads = async |outcome| {
            let labels = [("outcome", outcome)];
            metric(&network.gateway, "drimbox_tls_reloads_total", &labels).await
        };
        let production = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
        let revoked = LeafSpec {
            serial: REVOKED_SERIAL,
            ..serving(SOURCE)
        };
        let of = |igc: &Igc, spec: &LeafSpec| {
            let above = igc.certificate(Authority::Organisations).pem();
            (igc.leaf(spec).unwrap(), above)
        };
        for (what, (leaf, above)) in [
            ("of production", of(&production, &serving(SOURCE))),
            ("revoked", of(&network.igc, &revoked)),
        ] {
            let before = reloads("refused").await;
            write_identity(&network.home, "source", &leaf, &above);
            hangup(&network.gateway);
            until(what, async || reloads("refused").await > before).await;
            let asking = network.request().await;
            assert_eq!(network.ask(&asking).await.status(), 200, "{what}");
        }
        let (leaf, above) = of(&network.igc, &serving(SOURCE));
        write_identity(&network.home, "source", &leaf, &above);
        let loaded = reloads("loaded").await;
        hangup(&network.gateway);
        until("a good one", async || reloads("loaded").await >= loaded + 2).await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

/// A file of the trust store that becomes unusable: the log says why, and what was there goes on.
fn spoiled(file: &str, content: &str, told: &[&str]) {
    run(async {
        let network = network().await;
        let path = network.home.join(file);
        let before = std::fs::read(&path).unwrap();
        let said = network.log().len();
        std::fs::write(&path, content).unwrap();
        hangup(&network.gateway);
        let is_told = |line: &str| told.iter().all(|word| line.contains(word));
        until(file, async || {
            network.log().split_off(said).lines().any(is_told)
        })
        .await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200, "{file}");
        std::fs::write(&path, before).unwrap();
        hangup(&network.gateway);
        let again = "authorities of peers read again";
        until("the good one is read", async || {
            let log = network.log().split_off(said);
            let (_, after) = log.rsplit_once(told[0]).unwrap();
            after.contains(again)
        })
        .await;
        assert_eq!(network.ask(&asking).await.status(), 200, "{file}");
    });
}

#[test]
fn a_revocation_list_that_cannot_be_read_is_told_and_the_one_before_stays() {
    let told = ["revocation list not refreshed", "organisations.crl"];
    spoiled("organisations.crl", "nothing", &told);
}

#[test]
fn an_unsigned_white_list_is_told_and_the_one_before_stays() {
    let told = [
        "white list refused; the one in use stays",
        "whitelist.xml",
        "unsigned",
    ];
    let list = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListeBlanche/>";
    spoiled("whitelist.xml", list, &told);
}

#[test]
fn authorities_that_cannot_be_read_are_told_and_those_before_stay() {
    let told = ["What was there before stays in use", "authorities of peers"];
    spoiled("igc/Organisations.cer", "nothing", &told);
}

#[test]
fn authorities_that_are_added_are_named_to_peers_without_a_restart() {
    run(async {
        let network = network().await;
        let file = network.home.join("igc/Root.cer");
        let before = std::fs::read(&file).unwrap();
        assert_eq!(named(&network).await, 2);
        let more = [Authority::Root, Authority::Persons];
        let more = more.map(|one| network.igc.certificate(one).pem()).concat();
        std::fs::write(&file, more).unwrap();
        hangup(&network.gateway);
        until("the third is named", async || named(&network).await == 3).await;
        std::fs::write(&file, before).unwrap();
        hangup(&network.gateway);
        until("it is no longer", async || named(&network).await == 2).await;
    });
}

/// How many authorities a handshake on the `db` name says it believes.
async fn named(network: &Network) -> usize {
    #[derive(Debug, Default)]
    struct Noted(Mutex<usize>);

    impl ResolvesClientCert for Noted {
        fn resolve(&self, named: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            *self.0.lock().unwrap() = named.len();
            None
        }

        fn has_certs(&self) -> bool {
            true
        }
    }

    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(&network.ca_file).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let noted = Arc::<Noted>::default();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::clone(&noted) as Arc<dyn ResolvesClientCert>);
    let stream = tokio::net::TcpStream::connect(network.gateway.address("peer"));
    let host = ServerName::try_from(SOURCE).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(host, stream.await.unwrap())
        .await
        .unwrap();
    let named = noted.0.lock().unwrap();
    *named
}
