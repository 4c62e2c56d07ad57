//! Which certificates come in on a `db` name.

use conformance::testkit::igc::{Authority, Igc, LeafSpec};
use conformance::testkit::{Client, Identity};
use rcgen::ExtendedKeyUsagePurpose as Usage;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value as Json;
use time::OffsetDateTime;

use crate::network::{Network, PEER, network, write_identity};
use crate::support::{metric, run, until};

/// A certificate that must not come in, and does not.
async fn kept_out(network: &Network, what: &str, identity: &Identity) {
    let failures = "drimbox_tls_handshake_failures_total";
    let labels = [("listener", "peer")];
    let before = metric(&network.gateway, failures, &labels).await;
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
}

/// Changes a good peer's certificate, and tries it.
fn story(name: &'static str, change: impl Fn(&mut LeafSpec)) {
    run(async {
        let network = network().await;
        let mut spec = LeafSpec::peer(PEER);
        change(&mut spec);
        let identity = network.identity(name, &spec);
        kept_out(&network, name, &identity).await;
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
                by("PEER_CALLER") && by("PSC") && by("WHITE_LIST_SIGNER")
            },
        )
        .await;
        let presented = presented().await;
        let peer = presented.iter().find(|one| one["name"] == PEER).unwrap();
        let seen = peer["last_seen"].as_str().unwrap();
        assert!(seen.starts_with("20"), "{seen}");
        let file = network.peer.certificate_file.clone();
        let leaf = CertificateDer::from_pem_file(file).unwrap();
        let facts = drimbox::certs::facts::Facts::of(&leaf).unwrap();
        assert_eq!(peer["certificate"]["sha256"], facts.fingerprint);
        let folder = network.home.join("gateway/data/presented");
        assert!(
            std::fs::read_dir(folder).unwrap().count() >= 2,
            "it outlives a restart"
        );
    });
}

#[test]
fn an_expired_certificate_is_kept_out() {
    story("expired", |spec| spec.days = (-20, -1));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_kept_out() {
    story("not-yet", |spec| spec.days = (1, 20));
}

#[test]
fn a_certificate_for_another_use_is_kept_out() {
    story("mail", |spec| spec.usages = vec![Usage::EmailProtection]);
}

#[test]
fn a_certificate_of_the_authority_of_people_is_kept_out() {
    story("person", |spec| spec.by = Authority::Persons);
}

#[test]
fn a_certificate_without_a_name_is_kept_out() {
    story("nameless", |spec| spec.common_name = String::new());
}

#[test]
fn a_revoked_certificate_is_kept_out() {
    run(async {
        let network = network().await;
        let revoked = network.revoked();
        kept_out(&network, "revoked", &revoked).await;
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
        kept_out(&network, "production", &identity).await;
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
        kept_out(&network, "forged", &identity).await;
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
            let answer = network.ask(&asking).await;
            assert_eq!(answer.status(), 403, "{name}");
            let body = answer.text().await.unwrap();
            assert!(!body.contains("list") && !body.contains("peer"), "{body}");
            let last = network.trail().pop().unwrap();
            assert_eq!(last["kind"], "request-refused");
        }
    });
}
