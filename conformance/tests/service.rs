//! The service around the images: start and stop, readiness, TLS, tokens, what the logs hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::pacs::{Asked, Rejection, StoreFault};
use conformance::testkit::pki::{Usage, Validity};
use conformance::testkit::{
    Client, Fault, FaultProxy, FaultyPacs, Gateway, GatewayConfig, Identity, Orthanc, PacsConfig,
    Pki, Protocol, free_port,
};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value as Json;
use support::compare::assert_study;
use support::{
    AS_STORED, JSON, ask, exam, exams, files, folder, instance_path, metric, retrieve, run,
    study_path, until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const STUDY: &str = "ct300";
const HOST: &str = "db1.service.example";
const OTHER_HOST: &str = "db2.service.example";

async fn ready(gateway: &Gateway) -> (u16, Json) {
    let url = gateway.admin_url() + "/health/ready";
    let answer = Client::plain().unwrap().get(&url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[test]
fn a_graceful_stop_lets_a_running_transfer_finish_and_takes_nothing_new() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&[STUDY]), &[])
            .await
            .unwrap();
        let config = GatewayConfig::new(&folder("stop")).unwrap();
        let config = config.pacs(PacsConfig::new("sim", "SIM", pacs.port()));
        let mut gateway = Gateway::start(config).await.unwrap();
        pacs.behave(|b| b.hold_before = Some(3));
        let exam = exam(STUDY);
        let url = gateway.local_url() + &study_path(exam);
        let running = ask(&Client::plain().unwrap(), &url).await;
        assert_eq!(running.status(), 200);

        gateway.process().signal(Signal::TERM);
        until("the service to say that it stops", async || {
            let (status, body) = ready(&gateway).await;
            status == 503 && body["status"] == "stopping"
        })
        .await;
        let late = Client::plain()
            .unwrap()
            .get(&url)
            .accept(AS_STORED)
            .send()
            .await;
        assert!(
            late.is_err() || late.unwrap().status() == 503,
            "a new request was taken"
        );

        pacs.recover();
        let into = folder("stop-parts");
        let body = running.multipart_to(&into).await.unwrap();
        assert_study(exam, &body, &into);
        let status = gateway
            .process()
            .wait(Duration::from_secs(60))
            .await
            .unwrap();
        assert!(status.success(), "{status}");
        assert_eq!(pacs.count(|asked| *asked == Asked::Cancel), 0);
        assert_eq!(
            pacs.count(|asked| *asked == Asked::Closed),
            0,
            "an association was dropped"
        );
    });
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&[STUDY]), &[])
            .await
            .unwrap();
        let config = GatewayConfig::new(&folder("grace")).unwrap();
        let config = config.set("limits.grace_period_seconds", 1);
        let config = config.pacs(PacsConfig::new("sim", "SIM", pacs.port()));
        let mut gateway = Gateway::start(config).await.unwrap();
        pacs.behave(|b| b.hold_before = Some(3));
        let url = gateway.local_url() + &study_path(exam(STUDY));
        let running = ask(&Client::plain().unwrap(), &url).await;
        gateway.stop(Duration::from_secs(60)).await.unwrap();
        let body = running.drain().await;
        assert!(body.broken.is_some(), "a part was given for the whole");
    });
}

#[test]
fn readiness_is_told_for_each_pacs() {
    run(async {
        let pacs = FaultyPacs::start("SIM", &files(&[STUDY]), &[])
            .await
            .unwrap();
        let proxy = FaultProxy::start(pacs.address()).await.unwrap();
        proxy.set(Fault::Refuse);
        let config = GatewayConfig::new(&folder("ready")).unwrap();
        let config = config
            .pacs(PacsConfig::new("one", "SIM", pacs.port()))
            .pacs(PacsConfig::new("two", "SIM", proxy.address().port()));
        let gateway = Gateway::start(config).await.unwrap();
        until("one PACS up, one down", async || {
            let (status, body) = ready(&gateway).await;
            let pacs = body["pacs"].as_array().unwrap();
            status == 200
                && body["status"] == "partial"
                && pacs[0]["name"] == "one"
                && pacs[0]["up"] == true
                && pacs[1]["name"] == "two"
                && pacs[1]["up"] == false
                && pacs[1]["last_error_kind"].is_string()
        })
        .await;
        // Whatever the other does, this one serves.
        let into = folder("ready-parts");
        let url = gateway.local_pacs_url("one") + &study_path(exam(STUDY));
        let body = retrieve(&Client::plain().unwrap(), &url, &into).await;
        assert_study(exam(STUDY), &body, &into);
        proxy.set(Fault::None);
        until("both up", async || {
            ready(&gateway).await.1["status"] == "ready"
        })
        .await;
    });
}

/// A gateway for peers with two PACS, each under its own name.
struct Peers {
    gateway: Gateway,
    pki: Pki,
    peer: Identity,
    _pacs: [FaultyPacs; 2],
}

async fn peers(name: &str) -> Peers {
    let home = folder(name);
    let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
    let one = FaultyPacs::start("SIM1", &files(&[STUDY]), &[])
        .await
        .unwrap();
    let two = FaultyPacs::start("SIM2", &files(&["mr"]), &[])
        .await
        .unwrap();
    let entry = |name, title, port, host| {
        PacsConfig::new(name, title, port).db_host(host, &pki.server(&[host]).unwrap())
    };
    let config = GatewayConfig::new(&home).unwrap().peer(&pki).unwrap();
    let config = config
        .pacs(entry("one", "SIM1", one.port(), HOST))
        .pacs(entry("two", "SIM2", two.port(), OTHER_HOST));
    let gateway = Gateway::start(config).await.unwrap();
    let peer = pki.client("peer").unwrap();
    Peers {
        gateway,
        pki,
        peer,
        _pacs: [one, two],
    }
}

#[test]
fn the_host_name_selects_the_pacs() {
    run(async {
        let peers = peers("names").await;
        let gateway = &peers.gateway;
        let client = gateway.peer_client(&peers.pki, &peers.peer, &[HOST, OTHER_HOST]);
        let client = client.build().unwrap();
        for (host, has, has_not) in [(HOST, STUDY, "mr"), (OTHER_HOST, "mr", STUDY)] {
            let into = folder("names-parts");
            let url = gateway.peer_url(host) + &study_path(exam(has));
            let body = retrieve(&client, &url, &into).await;
            assert_study(exam(has), &body, &into);
            let url = gateway.peer_url(host) + &study_path(exam(has_not));
            assert_eq!(ask(&client, &url).await.status(), 404);
        }
    });
}

#[test]
fn only_peers_with_a_good_certificate_come_in_and_only_by_a_known_name() {
    run(async {
        let peers = peers("strangers").await;
        let gateway = &peers.gateway;
        let foreign = Pki::new(&folder("foreign"), "Foreign CA").unwrap();
        let issue = |usage, validity| peers.pki.issue("peer-x", &[], usage, validity).unwrap();
        let strangers = [
            ("no certificate", None),
            (
                "of a foreign authority",
                Some(foreign.client("peer").unwrap()),
            ),
            ("expired", Some(issue(Usage::Client, Validity::Expired))),
            (
                "not valid yet",
                Some(issue(Usage::Client, Validity::NotYet)),
            ),
            (
                "for servers only",
                Some(issue(Usage::Server, Validity::Now)),
            ),
        ];
        let failures = "drimbox_tls_handshake_failures_total";
        for (number, (which, identity)) in strangers.iter().enumerate() {
            let client = Client::builder().ca(peers.pki.ca_file());
            let client = client.resolve(HOST, gateway.address("peer"));
            let client = match identity {
                Some(identity) => client.identity(identity),
                None => client,
            };
            let client = client.build().unwrap();
            let url = gateway.peer_url(HOST) + &study_path(exam(STUDY));
            let answer = client.get(&url).accept(AS_STORED).send().await;
            assert!(answer.is_err(), "{which}: answered");
            until(which, async || {
                metric(gateway, failures, &[("listener", "peer")]).await == number as u64 + 1
            })
            .await;
        }
        let names = ["db3.service.example", "service.example"];
        let client = gateway
            .peer_client(&peers.pki, &peers.peer, &names)
            .build()
            .unwrap();
        for name in names {
            let url = gateway.peer_url(name) + &study_path(exam(STUDY));
            assert!(client.get(&url).send().await.is_err(), "{name}: answered");
        }
        assert_eq!(
            peers._pacs[0].count(|asked| matches!(asked, Asked::Find(_))),
            0
        );
    });
}

#[test]
fn another_host_than_that_of_the_handshake_is_misdirected() {
    run(async {
        let peers = peers("misdirected").await;
        let address = peers.gateway.address("peer");
        let path = format!("/dicom-web{}", study_path(exam(STUDY)));
        let line = async |host: &str| {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}:{}\r\nAccept: {AS_STORED}\r\n\
                 Connection: close\r\n\r\n",
                address.port()
            );
            let answer = over_tls(&peers, address, HOST, &request).await;
            String::from_utf8_lossy(&answer)
                .lines()
                .next()
                .unwrap()
                .to_owned()
        };
        assert!(line(HOST).await.starts_with("HTTP/1.1 200"));
        assert!(line(OTHER_HOST).await.starts_with("HTTP/1.1 421"));
        assert!(line("localhost").await.starts_with("HTTP/1.1 421"));
    });
}

/// Sends bytes over TLS with this server name and returns what comes back.
async fn over_tls(peers: &Peers, address: SocketAddr, name: &str, request: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(peers.pki.ca_file()).unwrap())
        .unwrap();
    let chain = vec![CertificateDer::from_pem_file(&peers.peer.certificate_file).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&peers.peer.key_file).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

const TOKEN: &str = "5c8f1f0e7d3b4a6980c2d1e4f6a7b8c9";

fn write_tokens(home: &Path) -> String {
    let file = home.join("tokens");
    let mut options = std::fs::File::options();
    let mut out = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)
        .unwrap();
    std::io::Write::write_all(&mut out, format!("viewer {TOKEN}\n").as_bytes()).unwrap();
    file.display().to_string()
}

#[test]
fn the_centre_s_own_systems_show_a_token_over_tls() {
    run(async {
        let home = folder("tokens");
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let name = "images.service.example";
        let server = pki.server(&[name]).unwrap();
        let pacs = FaultyPacs::start("SIM", &files(&[STUDY]), &[])
            .await
            .unwrap();
        let config = GatewayConfig::new(&home)
            .unwrap()
            .set(
                "local.tls.certificate_file",
                server.certificate_file.display().to_string(),
            )
            .set("local.tls.key_file", server.key_file.display().to_string())
            .set("local.tokens_file", write_tokens(&home))
            .pacs(PacsConfig::new("sim", "SIM", pacs.port()));
        let gateway = Gateway::start(config).await.unwrap();
        let address = gateway.address("local");
        let root = format!("https://{name}:{}/dicom-web", address.port());
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::builder().protocol(protocol).ca(pki.ca_file());
            let client = client.resolve(name, address).build().unwrap();
            let url = root.clone() + &study_path(exam(STUDY));
            for token in [
                "",
                "Bearer wrong",
                "Basic dXNlcjpwYXNz",
                &format!("Bearer {TOKEN}x"),
            ] {
                for path in [&url, &(root.clone() + "/studies")] {
                    let call = client.get(path).accept(AS_STORED);
                    let call = if token.is_empty() {
                        call
                    } else {
                        call.header("authorization", token)
                    };
                    let answer = call.send().await.unwrap();
                    assert_eq!(answer.status(), 401, "{token:?}");
                    assert!(answer.header("www-authenticate").starts_with("Bearer"));
                    answer.bytes().await.unwrap();
                }
            }
            let into = folder("tokens-parts");
            let call = client.get(&url).accept(AS_STORED);
            let call = call.header("authorization", &format!("Bearer {TOKEN}"));
            let body = call
                .send()
                .await
                .unwrap()
                .multipart_to(&into)
                .await
                .unwrap();
            assert_study(exam(STUDY), &body, &into);
            let call = client.get(&format!("{root}/studies"));
            let call = call.header("authorization", &format!("Bearer {TOKEN}"));
            let found = call.send().await.unwrap().json().await.unwrap();
            let retrieve_url = found[0]["00081190"]["Value"][0].as_str().unwrap();
            assert!(retrieve_url.starts_with(&root), "{retrieve_url}");
        }
        let plain = format!("http://{address}/dicom-web/studies");
        let answer = Client::plain().unwrap().get(&plain).send().await;
        assert!(
            answer.is_err() || !answer.unwrap().status().is_success(),
            "answered in clear"
        );
    });
}

#[test]
fn a_listener_beyond_loopback_without_tls_and_tokens_does_not_start() {
    run(async {
        let config = GatewayConfig::new(&folder("open")).unwrap();
        let config = config
            .set("local.listen", format!("0.0.0.0:{}", free_port().unwrap()))
            .pacs(PacsConfig::new("sim", "SIM", 104));
        let error = Gateway::start(config).await.unwrap_err().to_string();
        assert!(
            error.contains("tokens_file") && error.contains("tls"),
            "{error}"
        );
    });
}

#[test]
fn a_pacs_is_spoken_to_over_tls_with_a_client_certificate() {
    run(async {
        let home = folder("dimse-tls");
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let foreign = Pki::new(&home.join("foreign"), "Foreign CA").unwrap();
        let name = "pacs.service.example";
        let server = pki.server(&[name]).unwrap();
        let identity = pki.client("drimbox").unwrap();
        let orthanc = Orthanc::builder(&home)
            .tls(&server, pki.ca_file())
            .start()
            .await
            .unwrap();
        orthanc.upload(files(&[STUDY])).await.unwrap();
        let stranger = foreign.client("drimbox").unwrap();
        let cases = [
            ("good", pki.ca_file(), name, &identity, true),
            (
                "another-name",
                pki.ca_file(),
                "other.service.example",
                &identity,
                false,
            ),
            ("foreign-ca", foreign.ca_file(), name, &identity, false),
            ("stranger", pki.ca_file(), name, &stranger, false),
        ];
        for (which, ca, name, identity, good) in cases {
            let config = GatewayConfig::new(&home.join(which)).unwrap();
            let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
            let gateway = Gateway::start(config.pacs(pacs.tls(ca, name, identity)))
                .await
                .unwrap();
            let url = gateway.local_url() + &study_path(exam(STUDY));
            let client = Client::plain().unwrap();
            if good {
                let into = folder("dimse-tls-parts");
                let body = retrieve(&client, &url, &into).await;
                assert_study(exam(STUDY), &body, &into);
            } else {
                assert_eq!(ask(&client, &url).await.status(), 502, "{which}");
                let errors = "drimbox_dimse_errors_total";
                assert!(metric(&gateway, errors, &[]).await > 0, "{which}");
            }
        }
    });
}

#[test]
fn the_log_of_a_busy_day_names_no_patient_and_no_token() {
    run(async {
        for (level, uids_allowed) in [("info", false), ("debug", true)] {
            let home = folder(&format!("log-{level}"));
            let all = files(&[
                STUDY,
                "mr",
                "documents",
                "charsets/ir100",
                "charsets/ir192-latin",
            ]);
            let pacs = FaultyPacs::start("SIM", &all, &[]).await.unwrap();
            let config = GatewayConfig::new(&home)
                .unwrap()
                .set("log.filter", level)
                .set("local.tokens_file", write_tokens(&home))
                .pacs(PacsConfig::new("sim", "SIM", pacs.port()));
            let mut gateway = Gateway::start(config).await.unwrap();
            busy_day(&gateway, &pacs).await;
            gateway.stop(Duration::from_secs(60)).await.unwrap();

            let log = std::fs::read_to_string(gateway.process().log_file()).unwrap();
            assert!(log.lines().count() > 10, "hardly a log:\n{log}");
            let mut secrets = vec![TOKEN.to_owned(), "SECRETWORD".to_owned()];
            for exam in &exams().exams {
                secrets.push(exam.patient_id.clone());
                secrets.push(exam.accession_number.clone());
                let parts = exam.patient_name.split(['^', '=']);
                secrets.extend(
                    parts
                        .filter(|part| part.chars().count() > 3)
                        .map(str::to_owned),
                );
                if !uids_allowed {
                    secrets.push(exam.study_instance_uid.clone());
                    secrets.extend(exam.instances().map(|i| i.sop_instance_uid.clone()));
                }
            }
            for secret in secrets {
                let line = log.lines().find(|line| line.contains(&secret));
                assert_eq!(line, None, "{level}: {secret}");
            }
        }
    });
}

/// Every kind of request, good and bad, and every kind of trouble with the PACS.
async fn busy_day(gateway: &Gateway, pacs: &FaultyPacs) {
    let client = Client::plain().unwrap();
    let get = async |path: &str, accept: &str, token: &str| {
        let url = gateway.local_url() + path;
        let call = client.get(&url).accept(accept);
        let call = call.header("authorization", &format!("Bearer {token}"));
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        answer.drain().await;
        status
    };
    let study = study_path(exam(STUDY));
    let mr = exam("mr");
    let patient = &mr.patient_id;
    let accession = &mr.accession_number;
    for path in [
        study.clone(),
        format!("{study}/metadata"),
        instance_path(mr, &mr.series[0], 0),
        format!("{}/metadata", study_path(exam("charsets/ir100"))),
        format!("/studies?PatientID={patient}&AccessionNumber={accession}"),
        "/studies?PatientName=SPECIMEN%5EHUGO&includefield=all".to_owned(),
        "/studies?PatientName=SECRETWORD%FF".to_owned(),
        "/studies?StudyDate=SECRETWORD".to_owned(),
        "/studies?SECRETWORD=SECRETWORD".to_owned(),
        "/studies/SECRETWORD".to_owned(),
        "/SECRETWORD?SECRETWORD".to_owned(),
        format!("/studies/1.2.3?accept=SECRETWORD&patient={patient}"),
    ] {
        get(&path, "*/*", TOKEN).await;
        get(&path, JSON, TOKEN).await;
        get(&path, "text/SECRETWORD", TOKEN).await;
        let unknown = "SECRETWORD-that-is-no-token-of-this-gateway";
        assert_ne!(get(&path, "*/*", unknown).await, 200);
    }
    assert_eq!(get(&study, AS_STORED, TOKEN).await, 200);
    let documents = study_path(exam("documents"));
    for fault in [
        StoreFault::Die,
        StoreFault::HugeElement,
        StoreFault::OtherUidInside,
    ] {
        pacs.behave(|b| b.store = [(1, fault)].into());
        get(&documents, AS_STORED, TOKEN).await;
        pacs.recover();
    }
    pacs.behave(|b| b.unasked = 2);
    get(&documents, AS_STORED, TOKEN).await;
    pacs.behave(|b| b.reject = Some(Rejection::CallingAeTitle));
    for _ in 0..4 {
        get("/studies?PatientID=SECRETWORD", JSON, TOKEN).await;
    }
}
