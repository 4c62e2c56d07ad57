//! Which certificates come in on a `db` name.

use std::process::Command;

use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use conformance::testkit::{Client, Identity, Protocol, binary};
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyUsagePurpose};
use serde_json::Value as Json;
use time::OffsetDateTime;

use crate::network::{
    ACCENTS, ACCENTS_STATE, Network, PEER, REVOKED, SOURCE, VIEWER, network, write_identity,
};
use crate::support::{metric, run, until};

/// A certificate that must not come in, does not, and is on record with this reason.
async fn kept_out(network: &Network, what: &str, identity: &Identity, reason: &str) {
    let failures = "drimbox_tls_handshake_failures_total";
    let labels = [("listener", "peer"), ("cause", "client_certificate")];
    let before = metric(&network.gateway, failures, &labels).await;
    let refusals = async || {
        let labels = [("reason", reason)];
        metric(&network.gateway, "drimbox_trust_refusals_total", &labels).await
    };
    let refused = refusals().await;
    let said = network.log().len();
    let asking = network.request().await;
    let mut call = network.client(Some(identity)).get(&asking.url);
    call = call.header("kos-sopinstanceuid", asking.kos.as_deref().unwrap());
    let token = asking.token.unwrap();
    call = call.header("authorization", &format!("Bearer {token}"));
    assert!(call.send().await.is_err(), "{what}: answered");
    until(what, async || {
        metric(&network.gateway, failures, &labels).await > before
    })
    .await;
    assert!(refusals().await > refused, "{reason} is not counted");
    let told =
        |line: &str| line.contains("TLS handshake failed") && line.contains("client_certificate");
    until(what, async || {
        network.log().split_off(said).lines().any(told)
    })
    .await;
    until(what, async || recorded(network, reason).is_some()).await;
    let record = recorded(network, reason).unwrap();
    assert_eq!(record["object"]["subject"], SOURCE);
    assert_eq!(record["outcome"]["ending"], "refused");
    let peer = &record["actor"]["peer"];
    assert_eq!(peer["fingerprint"].as_str().unwrap().len(), 64, "{peer}");
    if reason != "no_name" {
        let subject = peer["subject"].as_str().unwrap();
        assert!(
            subject.contains(&format!("CN={PEER}")) || subject.contains(REVOKED),
            "{subject}"
        );
    }
}

/// The first connection that was refused for this reason; others within a minute are only counted.
fn recorded(network: &Network, reason: &str) -> Option<Json> {
    let mut trail = network.trail().into_iter();
    trail
        .find(|event| event["kind"] == "connection-refused" && event["outcome"]["reason"] == reason)
}

/// Changes a good peer's certificate, and tries it.
fn story(name: &'static str, reason: &str, change: impl Fn(&mut LeafSpec)) {
    run(async {
        let network = network().await;
        let mut spec = LeafSpec::peer(PEER);
        change(&mut spec);
        let identity = network.identity(name, &spec);
        kept_out(&network, name, &identity, reason).await;
    });
}

#[test]
fn a_peer_with_everything_in_order_comes_in() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn what_others_present_is_in_the_inventory_with_who_and_when() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
        let url = network.gateway.admin_url() + "/api/certificates";
        let admin = Client::plain().unwrap();
        let presented = async || {
            let answer = admin
                .get(&url)
                .header("authorization", &network.admin_token());
            let body: Json = answer.send().await.unwrap().json().await.unwrap();
            body["presented"].as_array().unwrap().clone()
        };
        until(
            "the peer, Pro Santé Connect and the signer to be noted",
            async || {
                let presented = presented().await;
                let by = |by: &str| presented.iter().any(|one| one["presented_by"] == by);
                // Other stories come under the peer's name with other certificates.
                let is_peer = |one: &Json| {
                    one["name"] == PEER
                        && one["certificate"]["sha256"].as_str().unwrap().len() == 64
                        && one["last_seen"].as_str().unwrap().starts_with("20")
                };
                by("PEER_CALLER")
                    && by("PSC")
                    && by("WHITE_LIST_SIGNER")
                    && presented.iter().any(is_peer)
            },
        )
        .await;
        let mut command = Command::new(binary().unwrap());
        command.args(["certs", "show", PEER]);
        command.env("DRIMBOX_CONFIG", network.home.join("gateway/drimbox.toml"));
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        for expected in [&format!("CN={PEER}"), "Présenté par", "Vu "] {
            assert!(shown.contains(expected), "{expected}: {output:?}");
        }
        let folder = network.home.join("gateway/data/presented");
        assert!(
            std::fs::read_dir(folder).unwrap().count() >= 2,
            "it outlives a restart"
        );
    });
}

#[test]
fn an_expired_certificate_is_kept_out() {
    story("expired", "expired", |spec| spec.days = (-20, -1));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_kept_out() {
    story("not-yet", "not_yet_valid", |spec| spec.days = (1, 20));
}

#[test]
fn a_certificate_for_another_use_is_kept_out() {
    story("mail", "usage", |spec| {
        spec.usages = vec![Usage::EmailProtection]
    });
}

#[test]
fn a_certificate_of_the_authority_of_people_is_kept_out() {
    story("person", "unknown_issuer", |spec| {
        spec.by = Authority::Persons
    });
}

#[test]
fn a_certificate_without_a_name_is_kept_out() {
    story("nameless", "no_name", |spec| {
        spec.common_name = String::new()
    });
}

#[test]
fn a_revoked_certificate_is_kept_out() {
    run(async {
        let network = network().await;
        let revoked = network.revoked();
        kept_out(&network, "revoked", &revoked, "revoked").await;
    });
}

#[test]
fn who_was_issued_by_a_revoked_authority_is_kept_out() {
    run(async {
        let network = Network::start("revoked-authority").await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200);
        let list = CrlSpec {
            number: 11,
            revoked: vec![Igc::serial_of(Authority::Organisations)],
            ..CrlSpec::default()
        };
        network.revoke(Authority::Root, &list).await;
        let again = network.identity("issued-before", &LeafSpec::peer(PEER));
        kept_out(&network, "revoked authority", &again, "revoked").await;
    });
}

/// A peer that comes in is no peer any more after `change`: the connections that it has open, of
/// either version of HTTP, are of no use to it from the next request on.
async fn comes_too_late(network: &Network, change: impl AsyncFnOnce(&Network), reason: &str) {
    let asking = network.request().await;
    let clients = [Protocol::Http1, Protocol::Http2]
        .map(|protocol| network.client_of(protocol, asking.identity.as_ref()));
    for client in &clients {
        let answer = network.ask_by(client, &asking).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.multipart().await.unwrap().is_complete());
    }
    change(network).await;
    for client in &clients {
        until("the connection to be free", async || {
            client.connections_free() == 1
        })
        .await;
        network.refused_by(client, &asking, 403, reason).await;
        assert_eq!(client.connections_opened(), 1, "it had to connect again");
        let record = network.trail().pop().unwrap();
        names_the_peer(&record);
    }
}

/// A record says whose certificate it was.
fn names_the_peer(record: &Json) {
    let peer = &record["actor"]["peer"];
    let subject = peer["subject"].as_str().unwrap_or_default();
    assert!(subject.contains(&format!("CN={PEER}")), "{record}");
    assert_eq!(peer["fingerprint"].as_str().unwrap().len(), 64, "{record}");
}

#[test]
fn a_revocation_reaches_a_connection_that_is_open() {
    run(async {
        let network = Network::start("revoked-meanwhile").await;
        let revocation = CrlSpec {
            number: 11,
            revoked: vec![LeafSpec::peer(PEER).serial],
            ..CrlSpec::default()
        };
        let revoke = async |network: &Network| {
            network.revoke(Authority::Organisations, &revocation).await;
        };
        comes_too_late(&network, revoke, "revoked").await;
    });
}

#[test]
fn a_peer_that_left_the_white_list_is_refused_on_a_connection_that_is_open() {
    run(async {
        let network = Network::start("delisted-meanwhile").await;
        let delist = async |network: &Network| network.delist(&[PEER]).await;
        comes_too_late(&network, delist, "not_listed").await;
    });
}

#[test]
fn a_subject_with_accents_that_is_listed_in_another_order_comes_in() {
    run(async {
        let network = network().await;
        for (name, printable) in [("accents", false), ("accents-printable", true)] {
            let spec = LeafSpec {
                state: ACCENTS_STATE.to_owned(),
                printable,
                ..LeafSpec::peer(ACCENTS)
            };
            let mut asking = network.request().await;
            asking.identity = Some(network.identity(name, &spec));
            assert_eq!(network.ask(&asking).await.status(), 200, "{name}");
            // Another state is another subject.
            let spec = LeafSpec::peer(ACCENTS);
            asking.identity = Some(network.identity("no-accents", &spec));
            network.refused(&asking, 403, "not_listed").await;
        }
    });
}

#[test]
fn a_certificate_of_the_other_environment_is_kept_out() {
    run(async {
        let network = network().await;
        let production = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
        let leaf = production.leaf(&LeafSpec::peer(PEER)).unwrap();
        let above = production.certificate(Authority::Organisations).pem();
        let identity = write_identity(&network.home, "production", &leaf, &above);
        kept_out(&network, "production", &identity, "other_environment").await;
    });
}

#[test]
fn an_authority_with_the_same_names_and_other_keys_is_kept_out() {
    run(async {
        let network = network().await;
        let forged = Igc::new(true, OffsetDateTime::now_utc()).unwrap();
        let leaf = forged.leaf(&LeafSpec::peer(PEER)).unwrap();
        let above = forged.certificate(Authority::Organisations).pem();
        let identity = write_identity(&network.home, "forged", &leaf, &above);
        kept_out(&network, "forged", &identity, "bad_signature").await;
    });
}

#[test]
fn a_key_that_may_not_sign_is_kept_out() {
    story("no-signature", "usage", |spec| {
        spec.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
}

#[test]
fn an_authority_that_the_peer_brings_along_is_not_believed() {
    run(async {
        let network = network().await;
        let (above, leaf) = network.igc.forbidden_below(&LeafSpec::peer(PEER)).unwrap();
        let identity = write_identity(&network.home, "below", &leaf, &above.pem());
        kept_out(&network, "below", &identity, "unknown_issuer").await;
    });
}

#[test]
fn a_name_that_is_unknown_or_missing_is_on_record() {
    run(async {
        let network = network().await;
        let client = Client::builder()
            .ca(&network.ca_file)
            .resolve("db9.source.example", network.gateway.address("peer"))
            .build()
            .unwrap();
        let port = network.gateway.address("peer").port();
        let url = format!("https://db9.source.example:{port}/");
        assert!(client.get(&url).send().await.is_err());
        let unknown = "unknown_name";
        until(unknown, async || recorded(&network, unknown).is_some()).await;
        let record = recorded(&network, unknown).unwrap();
        assert_eq!(record["object"]["subject"], "db9.source.example");
        assert_eq!(record["actor"]["address"], "127.0.0.1");
    });
}

#[test]
fn a_request_that_names_two_hosts_is_on_record() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        let call = network.client(Some(&network.peer)).get(&asking.url);
        let answer = call.header("host", VIEWER).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        let reason = "host_field";
        until(reason, async || recorded(&network, reason).is_some()).await;
        let record = recorded(&network, reason).unwrap();
        assert_eq!(record["object"]["subject"], SOURCE);
        assert_eq!(record["outcome"]["status"], 400);
        names_the_peer(&record);
    });
}

#[test]
fn a_request_that_cannot_be_read_is_on_record_with_whose_it_is_and_counted() {
    run(async {
        let network = network().await;
        let asking = network.request().await;
        let answered = "drimbox_http_requests_total";
        let labels = [("listener", "peer"), ("status", "400")];
        let before = metric(&network.gateway, answered, &labels).await;
        let call = network.client(Some(&network.peer)).get(&asking.url);
        let answer = call.header("content-length", "x").send().await.unwrap();
        assert_eq!(answer.status(), 400);
        let reason = "request_malformed";
        until(reason, async || recorded(&network, reason).is_some()).await;
        assert!(metric(&network.gateway, answered, &labels).await > before);
        let record = recorded(&network, reason).unwrap();
        assert_eq!(record["object"]["subject"], SOURCE);
        assert_eq!(record["outcome"]["status"], 400);
        names_the_peer(&record);
    });
}

#[test]
fn what_is_no_tls_is_on_record() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    run(async {
        let network = network().await;
        let address = network.gateway.address("peer");
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(!said.starts_with(b"HTTP"));
        until("protocol", async || {
            recorded(&network, "protocol").is_some()
        })
        .await;
    });
}

#[test]
fn a_certificate_without_its_intermediate_comes_in() {
    run(async {
        let network = network().await;
        let leaf = network.igc.leaf(&LeafSpec::peer(PEER)).unwrap();
        let identity = write_identity(&network.home, "alone", &leaf, "");
        let mut asking = network.request().await;
        asking.identity = Some(identity);
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn what_a_peer_sends_with_its_certificate_counts_for_nothing_and_has_a_limit() {
    run(async {
        let network = network().await;
        let leaf = network.igc.leaf(&LeafSpec::peer(PEER)).unwrap();
        let other = network.igc.certificate(Authority::Persons).pem();
        let long = write_identity(&network.home, "long", &leaf, &other.repeat(20));
        let mut asking = network.request().await;
        asking.identity = Some(long);
        assert_eq!(network.ask(&asking).await.status(), 200);

        // Beyond 64 KiB nothing is read on.
        let endless = write_identity(&network.home, "endless", &leaf, &other.repeat(300));
        let failures = "drimbox_tls_handshake_failures_total";
        let labels = [("listener", "peer"), ("cause", "protocol")];
        let before = metric(&network.gateway, failures, &labels).await;
        let call = network.client(Some(&endless)).get(&asking.url);
        assert!(call.send().await.is_err());
        until("the refusal", async || {
            metric(&network.gateway, failures, &labels).await > before
        })
        .await;
        let asking = network.request().await;
        assert_eq!(network.ask(&asking).await.status(), 200, "others come in");
    });
}

#[test]
fn usages_of_either_side_come_in() {
    run(async {
        let network = network().await;
        for (name, usages) in [
            ("server-only", vec![Usage::ServerAuth]),
            ("client-only", vec![Usage::ClientAuth]),
            ("no-usage", Vec::new()),
        ] {
            let spec = LeafSpec {
                usages,
                ..LeafSpec::peer(PEER)
            };
            let mut asking = network.request().await;
            asking.identity = Some(network.identity(name, &spec));
            assert_eq!(network.ask(&asking).await.status(), 200, "{name}");
        }
    });
}

#[test]
fn names_written_as_printable_strings_come_in() {
    run(async {
        let network = network().await;
        let spec = LeafSpec {
            printable: true,
            ..LeafSpec::peer(PEER)
        };
        let mut asking = network.request().await;
        asking.identity = Some(network.identity("printable", &spec));
        assert_eq!(network.ask(&asking).await.status(), 200);
    });
}

#[test]
fn a_certificate_that_is_not_in_the_white_list_is_refused_without_a_reason() {
    run(async {
        let network = network().await;
        for (name, spec) in [
            ("unlisted", LeafSpec::peer("db9.peer.example")),
            (
                "other-unit",
                LeafSpec {
                    unit: "318751275100021".to_owned(),
                    ..LeafSpec::peer(PEER)
                },
            ),
        ] {
            let mut asking = network.request().await;
            asking.identity = Some(network.identity(name, &spec));
            let answer = network.refused(&asking, 403, "not_listed").await;
            let body = answer.text().await.unwrap();
            assert!(
                !body.contains("list") && !body.contains("peer"),
                "{name}: {body}"
            );
        }
    });
}
