//! The certificate at the token endpoint.

use conformance::testkit::pki::{Usage, Validity};
use conformance::testkit::psc::RADIOLOGIST;
use psc_auth::{ErrorCode, PscError, RelyingParty, TransportSettings};
use serde_json::json;

use crate::world::{CONSUMER, loaded, world};

fn is_invalid_client(error: &PscError) -> bool {
    let PscError::Refused { code, .. } = error else {
        return false;
    };
    *code == ErrorCode::InvalidClient
}

#[tokio::test]
async fn without_the_registered_certificate_there_are_no_tokens() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let expired = world
        .pki
        .issue(CONSUMER, &[], Usage::Client, Validity::Expired)
        .unwrap();
    for (what, identity) in [
        ("no certificate", None),
        ("another CN", Some(world.certificate("someone-else"))),
        (
            "another authority",
            Some(world.foreign_certificate(CONSUMER)),
        ),
        ("an expired one", Some(expired)),
    ] {
        let transport = world.transport(TransportSettings::default(), identity.as_ref());
        let party = RelyingParty::new(world.provider_over(CONSUMER, transport));
        let error = world.log_in(&party).await.expect_err(what);
        assert!(is_invalid_client(&error), "{what}: {error}");
        assert!(error.remedy().contains("ORG_AUTH_CLI"), "{what}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_serves_without_a_restart() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"user": RADIOLOGIST})).await.unwrap();
    let wrong = world.certificate("before");
    let transport = world.transport(TransportSettings::default(), Some(&wrong));
    let party = RelyingParty::new(world.provider_over(CONSUMER, transport.clone()));
    let error = world.log_in(&party).await.unwrap_err();
    assert!(is_invalid_client(&error), "{error}");
    let renewed = world.certificate(CONSUMER);
    transport.replace_identity(loaded(&renewed)).unwrap();
    world.log_in(&party).await.unwrap();
}
