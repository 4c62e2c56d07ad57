//! The gate: tokens that peers present.

use std::sync::Arc;
use std::time::Duration;

use conformance::testkit::psc::{NURSE, RADIOLOGIST};
use psc_auth::{
    CheckedToken, GateError, GateSettings, PscTokenGate, RelyingParty, Thumbprint, TokenFault,
    TokenGate, TransportSettings,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use secrecy::SecretString;
use serde_json::json;

use crate::world::{CONSUMER, SOURCE, World, world};

fn gate(world: &World) -> Arc<PscTokenGate> {
    Arc::new(PscTokenGate::new(
        world.provider(SOURCE),
        GateSettings::default(),
    ))
}

async fn token(world: &World) -> SecretString {
    let (token, _) = world.psc.issue(RADIOLOGIST, CONSUMER).await.unwrap();
    token.into()
}

async fn check(gate: &PscTokenGate, token: &SecretString) -> Result<Arc<CheckedToken>, GateError> {
    gate.check(token, None).await
}

#[tokio::test]
async fn a_token_of_the_consumer_is_accepted_with_the_profession() {
    let Some(world) = world().await else { return };
    let gate = gate(&world);
    let checked = check(&gate, &token(&world).await).await.unwrap();
    assert_eq!(checked.azp, CONSUMER);
    assert_eq!(checked.national_id.as_str(), RADIOLOGIST);
    let (nurse, _) = world.psc.issue(NURSE, CONSUMER).await.unwrap();
    let checked = check(&gate, &nurse.into()).await.unwrap();
    let user = checked.user.as_ref().unwrap();
    assert_eq!(user.exercices[0].profession.as_deref(), Some("60"));
    let report = world.psc.report().await.unwrap();
    let asked = report.seen.iter();
    let certificates: Vec<_> = asked
        .filter(|one| one.endpoint == "introspection")
        .map(|one| one.certificate.as_deref())
        .collect();
    assert_eq!(certificates, [Some(SOURCE), Some(SOURCE)]);
}

#[tokio::test]
async fn a_token_of_an_ended_session_is_not_active() {
    let Some(world) = world().await else { return };
    let (token, sid) = world.psc.issue(RADIOLOGIST, CONSUMER).await.unwrap();
    world.psc.end_session(&sid).await.unwrap();
    let refused = check(&gate(&world), &token.into()).await.unwrap_err();
    assert_eq!(refused, GateError::Inactive);
}

#[tokio::test]
async fn ten_thousand_requests_with_one_token_are_one_introspection_per_period() {
    let Some(world) = world().await else { return };
    let long = json!({"accessTokenSeconds": 600});
    world.psc.set(long).await.unwrap();
    let gate = gate(&world);
    let token = Arc::new(token(&world).await);
    check(&gate, &token).await.unwrap();
    for period in 1..=3 {
        let requests: Vec<_> = (0..10_000)
            .map(|_| {
                let (gate, token) = (Arc::clone(&gate), Arc::clone(&token));
                tokio::spawn(async move { check(&gate, &token).await.map(drop) })
            })
            .collect();
        for request in requests {
            request.await.unwrap().unwrap();
        }
        let report = world.psc.report().await.unwrap();
        assert_eq!(report.count("introspection"), period);
        assert_eq!(report.count("userinfo"), 1);
        world.clock.advance(61);
    }
}

#[tokio::test]
async fn an_introspection_that_describes_another_token_is_a_refusal() {
    let Some(world) = world().await else { return };
    let gate = gate(&world);
    for (member, value) in [
        ("jti", json!("another")),
        ("sub", json!("f:x:899700366240")),
        ("azp", json!("another-client")),
        ("exp", json!(4_102_444_800_u64)),
    ] {
        world
            .psc
            .set(json!({"introspection": {member: value}}))
            .await
            .unwrap();
        let refused = check(&gate, &token(&world).await).await.unwrap_err();
        assert_eq!(
            refused,
            GateError::Refused(TokenFault::Mismatch(member)),
            "{member}"
        );
    }
    world
        .psc
        .set(json!({"introspection": {"active": false}}))
        .await
        .unwrap();
    let refused = check(&gate, &token(&world).await).await.unwrap_err();
    assert_eq!(refused, GateError::Inactive);
}

#[tokio::test]
async fn nothing_is_accepted_while_psc_cannot_say() {
    let Some(world) = world().await else { return };
    let settings = TransportSettings {
        timeout: Duration::from_millis(700),
        ..TransportSettings::default()
    };
    let certificate = world.certificate(SOURCE);
    let transport = world.transport(settings, Some(&certificate));
    let provider = world.provider_over(SOURCE, transport);
    let gate = PscTokenGate::new(provider, GateSettings::default());
    check(&gate, &token(&world).await).await.unwrap();
    let token = token(&world).await;
    for fault in [
        json!({"introspection": {"status": 503}}),
        json!({"introspection": {"status": 401, "body": {"error": "invalid_client"}}}),
        json!({"introspection": {"status": 302, "headers": {"location": "https://evil.test/"}}}),
        json!({"introspection": {"cut": true}}),
        json!({"introspection": {"hang": true}}),
        json!({"introspection": {"body": "<html>maintenance</html>", "type": "text/html"}}),
        json!({"introspection": {"body": {}}}),
        json!({"introspection": {"body": {"active": "true"}}}),
        json!({"introspection": {"body": {"active": true, "x": "y".repeat(300_000)}}}),
        json!({"userinfo": {"status": 503}}),
        json!({"userinfo": {"body": {"sub": "f:x:someone-else"}}}),
    ] {
        let knobs = json!({"faults": fault, "introspection": {}});
        world.psc.set(knobs).await.unwrap();
        // A session of its own, so that UserInfo is not remembered.
        let (fresh, _) = world.psc.issue(RADIOLOGIST, CONSUMER).await.unwrap();
        let refused = check(&gate, &fresh.into()).await.unwrap_err();
        assert!(
            matches!(refused, GateError::Unavailable { .. }),
            "{}: {refused}",
            fault.to_string().chars().take(80).collect::<String>()
        );
    }
    let faults = json!({"faults": {"introspection": {"status": 503}}});
    world.psc.set(faults).await.unwrap();
    let before = world.psc.report().await.unwrap().count("introspection");
    for _ in 0..3 {
        check(&gate, &token).await.unwrap_err();
    }
    let after = world.psc.report().await.unwrap().count("introspection");
    assert_eq!(after, before + 1, "PSC is left in peace for some seconds");
    // As soon as PSC says again, and the last failure is some seconds old, the same token is good.
    world.psc.set(json!({"faults": {}})).await.unwrap();
    world.clock.advance(6);
    check(&gate, &token).await.unwrap();
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_is_accepted_from_it_alone() {
    let Some(world) = world().await else { return };
    let identity = world.certificate(CONSUMER);
    let der = CertificateDer::from_pem_file(&identity.certificate_file).unwrap();
    let presented = Thumbprint::of(&der);
    let transport = world.transport(TransportSettings::default(), Some(&identity));
    let party = RelyingParty::new(world.provider_over(CONSUMER, transport));
    for form in ["rfc", "ans"] {
        world
            .psc
            .set(json!({"cnf": form, "user": RADIOLOGIST}))
            .await
            .unwrap();
        let session = world.log_in(&party).await.unwrap();
        let token = party.access_token(&session).await.unwrap();
        let gate = gate(&world);
        let other = Thumbprint::of(b"another certificate");
        for peer in [None, Some(&other)] {
            let refused = gate.check(&token, peer).await.unwrap_err();
            assert_eq!(
                refused,
                GateError::Refused(TokenFault::OtherCertificate),
                "{form}"
            );
        }
        gate.check(&token, Some(&presented)).await.expect(form);
    }
}

#[tokio::test]
async fn half_a_minute_between_the_clocks_keeps_nobody_out() {
    let Some(world) = world().await else { return };
    let gate = gate(&world);
    for ahead in [25, -25] {
        let knobs = json!({"clockOffsetSeconds": ahead});
        world.psc.set(knobs).await.unwrap();
        let checked = check(&gate, &token(&world).await).await;
        assert!(checked.is_ok(), "{ahead}: {checked:?}");
    }
    let beyond = json!({"clockOffsetSeconds": 60});
    world.psc.set(beyond).await.unwrap();
    let refused = check(&gate, &token(&world).await).await.unwrap_err();
    let future = matches!(
        refused,
        GateError::Refused(TokenFault::Future { claim: "iat", .. })
    );
    assert!(future, "{refused}");
}
