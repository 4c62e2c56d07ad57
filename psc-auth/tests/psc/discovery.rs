//! Discovery and keys: read once, kept, renewed with care.

use psc_auth::{Endpoint, LoginChoice, PscError};
use serde_json::json;

use crate::provider::{Answer, FakePsc, Signer, with};

#[tokio::test]
async fn discovery_and_keys_are_read_once_a_day() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    for _ in 0..3 {
        psc.log_in(&party).await.unwrap();
    }
    assert_eq!(
        (psc.count("wallet-openid-configuration"), psc.count("certs")),
        (1, 1)
    );
    psc.advance(24 * 3600);
    psc.log_in(&party).await.unwrap();
    assert_eq!(
        (psc.count("wallet-openid-configuration"), psc.count("certs")),
        (2, 2)
    );
}

#[tokio::test]
async fn many_at_once_read_it_once() {
    let psc = FakePsc::start().await;
    let provider = psc.provider();
    let asks = (0..50).map(|_| {
        let provider = provider.clone();
        tokio::spawn(async move { provider.prepare().await })
    });
    for ask in asks.collect::<Vec<_>>() {
        ask.await.unwrap().unwrap();
    }
    assert_eq!(psc.count("wallet-openid-configuration"), 1);
}

#[tokio::test]
async fn the_document_of_another_issuer_is_refused() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| knobs.discovery = with("issuer", json!("https://other.example")));
    let error = psc.provider().prepare().await.unwrap_err();
    assert!(matches!(error, PscError::WrongIssuer { .. }));
}

#[tokio::test]
async fn after_a_failure_the_wait_doubles_and_psc_is_left_alone_meanwhile() {
    let psc = FakePsc::start().await;
    psc.answer_instead("wallet-openid-configuration", |_| {
        Answer::error("server_error")
    });
    let provider = psc.provider();
    let asked = || psc.count("wallet-openid-configuration");
    for (wait, expected) in [(0, 1), (0, 1), (1, 2), (1, 2), (1, 3), (3, 3), (1, 4)] {
        psc.advance(wait);
        assert!(provider.prepare().await.is_err());
        assert_eq!(asked(), expected);
    }
    let error = provider.prepare().await.unwrap_err();
    assert!(matches!(error, PscError::BackingOff { seconds: 8, .. }) && error.is_temporary());

    psc.set(|knobs| knobs.instead.clear());
    psc.advance(8);
    provider.prepare().await.unwrap();
}

#[tokio::test]
async fn what_is_known_serves_while_psc_is_away_but_not_for_ever() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    psc.log_in(&party).await.unwrap();
    psc.answer_instead("wallet-openid-configuration", |_| {
        Answer::error("server_error")
    });
    psc.advance(2 * 24 * 3600);
    psc.log_in(&party).await.unwrap();
    psc.advance(5 * 24 * 3600);
    assert!(party.begin_login(LoginChoice::default()).await.is_err());
}

#[tokio::test]
async fn a_new_key_is_found_and_a_flood_of_unknown_ones_asks_once_a_minute() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    psc.log_in(&party).await.unwrap();
    assert_eq!(psc.count("certs"), 1);

    psc.advance(60);
    psc.set(|knobs| knobs.kid = Some("key-2".to_owned()));
    psc.log_in(&party).await.unwrap();
    assert_eq!(psc.count("certs"), 2);

    psc.set(|knobs| knobs.id_signer = Signer::UnknownKid);
    for _ in 0..5 {
        assert!(psc.log_in(&party).await.is_err());
    }
    assert_eq!(psc.count("certs"), 2);
    psc.advance(60);
    for _ in 0..5 {
        assert!(psc.log_in(&party).await.is_err());
    }
    assert_eq!(psc.count("certs"), 3);
}

#[tokio::test]
async fn an_address_that_is_missing_is_named_when_it_is_needed() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| knobs.discovery = crate::provider::without("jwks_uri"));
    let error = psc.provider().prepare().await.unwrap_err();
    assert_eq!(error, PscError::NoEndpoint(Endpoint::Keys));
}

#[tokio::test]
async fn the_difference_of_the_clocks_is_that_of_the_last_answer() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let provider = psc.provider();
    assert_eq!(provider.clock_skew(), None);
    provider.prepare().await.unwrap();
    assert_eq!(provider.clock_skew(), Some(0));

    let told = provider.watch_clock_skew();
    psc.set(|knobs| knobs.inactive = true);
    for ahead in [25, -25, 90] {
        psc.set(|knobs| knobs.ahead = ahead);
        // Any answer tells, not only discovery, which is read once a day.
        psc.advance(1);
        provider.try_introspection().await.unwrap();
        assert_eq!(provider.clock_skew(), Some(ahead));
        assert_eq!(*told.borrow(), Some(ahead));
    }
    // That clocks differ refuses nobody.
    psc.log_in(&party).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_long_on_its_way_makes_no_difference_of_clocks() {
    let psc = FakePsc::start().await;
    let provider = psc.provider();
    provider.prepare().await.unwrap();
    // Time passes while PSC answers, and the date is of the moment when it was asked.
    let clock = psc.state.clock.clone();
    psc.set(|knobs| knobs.ahead = -8);
    psc.answer_instead("introspect", move |_| {
        clock.advance(8);
        Answer::Json(http::StatusCode::OK, json!({"active": false}))
    });
    provider.try_introspection().await.unwrap();
    assert_eq!(provider.clock_skew(), Some(0));
}
