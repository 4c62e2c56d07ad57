//! The gate: tokens that peers present.

use std::sync::Arc;

use psc_auth::{GateError, GateSettings, PscTokenGate, Thumbprint, TokenFault, TokenGate};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::provider::{Answer, FakePsc, OTHER_CLIENT, Signer, USER, sign, with, without};

/// The consumer's client, which is not the one that introspects.
const CONSUMER: &str = "drimbox-consumer";

struct Source {
    psc: FakePsc,
    gate: Arc<PscTokenGate>,
}

async fn source(settings: GateSettings) -> Source {
    let psc = FakePsc::start().await;
    let certificate = psc.pki.client(OTHER_CLIENT);
    psc.register(&certificate, OTHER_CLIENT);
    let provider = psc.provider_for(OTHER_CLIENT, Some(&certificate));
    Source {
        psc,
        gate: Arc::new(PscTokenGate::new(provider, settings)),
    }
}

impl Source {
    async fn check(&self, token: &str) -> Result<Arc<psc_auth::CheckedToken>, GateError> {
        self.gate.check(&SecretString::from(token), None).await
    }

    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        self.psc.access_token(CONSUMER, change)
    }
}

#[tokio::test]
async fn a_token_of_another_client_is_accepted_with_the_profession() {
    let source = source(GateSettings::default()).await;
    let checked = source.check(&source.token(|_| {})).await.unwrap();
    assert_eq!(checked.azp, CONSUMER);
    assert_eq!(checked.national_id.as_str(), USER);
    let user = checked.user.as_ref().unwrap();
    assert_eq!(user.exercices[0].profession.as_deref(), Some("10"));
    assert!(!format!("{checked:?}").contains(USER));
}

#[tokio::test]
async fn what_the_prefilter_refuses_is_never_sent_to_psc() {
    let source = source(GateSettings::default()).await;
    let now = source.psc.now();
    let mut tokens = vec!["".to_owned(), "a.b".to_owned(), "x".repeat(9000)];
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("typ", json!("ID")),
        ("exp", json!(now - 5)),
        ("exp", json!(now + 601)),
        ("iat", json!(now + 31)),
        ("scope", json!("openid")),
        ("azp", json!(null)),
        ("preferred_username", json!("x")),
    ] {
        tokens.push(source.token(|claims| claims[name] = value));
    }
    let good = source.psc.access_token(CONSUMER, |_| {});
    for signer in [
        Signer::Unsigned,
        Signer::HmacWithPublicKey,
        Signer::OtherKey,
        Signer::UnknownKid,
    ] {
        tokens.push(sign(r#"{"sub":"x"}"#, signer, "key-1"));
    }
    let mut tampered = good.clone();
    tampered.truncate(good.len() - 4);
    tokens.push(tampered);
    for token in tokens {
        let refused = source.check(&token).await;
        assert!(matches!(refused, Err(GateError::Refused(_))), "{refused:?}");
    }
    assert_eq!(source.psc.count("introspect"), 0);
    source.check(&good).await.unwrap();
}

#[tokio::test]
async fn an_audience_is_not_asked_for_and_two_acr_are_tolerated() {
    let source = source(GateSettings::default()).await;
    let mut claims = String::new();
    source.token(|value| claims = value.to_string());
    assert!(!claims.contains("aud"));
    let doubled = sign(
        &format!("{{\"acr\":\"1\",{}", &claims[1..]),
        Signer::Good,
        "key-1",
    );
    let checked = source.check(&doubled).await.unwrap();
    assert_eq!(checked.acr.as_deref(), Some("eidas3"));
}

#[tokio::test]
async fn many_requests_with_one_token_cause_one_introspection_per_period() {
    let source = source(GateSettings::default()).await;
    let token = source.token(|_| {});
    let asks = (0..10_000).map(|_| {
        let (gate, token) = (Arc::clone(&source.gate), SecretString::from(token.as_str()));
        tokio::spawn(async move { gate.check(&token, None).await.is_ok() })
    });
    // The first makes the answer known; thousands of signature checks in a debug build would take minutes.
    source.check(&token).await.unwrap();
    for ask in asks.collect::<Vec<_>>() {
        assert!(ask.await.unwrap());
    }
    assert_eq!(
        (source.psc.count("introspect"), source.psc.count("userinfo")),
        (1, 1)
    );

    source.psc.advance(59);
    source.check(&token).await.unwrap();
    assert_eq!(source.psc.count("introspect"), 1);
    source.psc.advance(1);
    source.check(&token).await.unwrap();
    assert_eq!(
        (source.psc.count("introspect"), source.psc.count("userinfo")),
        (2, 1)
    );
}

#[tokio::test]
async fn concurrent_first_requests_share_one_introspection() {
    let source = source(GateSettings::default()).await;
    let token = source.token(|_| {});
    let asks = (0..20).map(|_| {
        let (gate, token) = (Arc::clone(&source.gate), SecretString::from(token.as_str()));
        tokio::spawn(async move { gate.check(&token, None).await.is_ok() })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert!(ask.await.unwrap());
    }
    assert_eq!(source.psc.count("introspect"), 1);
}

#[tokio::test]
async fn a_remembered_token_is_refused_once_it_is_over() {
    let source = source(GateSettings::default()).await;
    let now = source.psc.now();
    let token = source.token(|claims| claims["exp"] = json!(now + 20));
    source.check(&token).await.unwrap();
    source.psc.advance(24);
    source.check(&token).await.unwrap();
    source.psc.advance(1);
    let refused = source.check(&token).await;
    assert!(matches!(
        refused,
        Err(GateError::Refused(TokenFault::Expired { .. }))
    ));
    assert_eq!(source.psc.count("introspect"), 1);
}

#[tokio::test]
async fn a_logout_is_noticed_at_the_next_introspection_and_remembered_for_a_while() {
    let source = source(GateSettings::default()).await;
    let token = source.token(|_| {});
    source.psc.set(|knobs| knobs.inactive = true);
    for _ in 0..3 {
        assert_eq!(source.check(&token).await, Err(GateError::Inactive));
    }
    assert_eq!(source.psc.count("introspect"), 1);
    source.psc.advance(10);
    assert_eq!(source.check(&token).await, Err(GateError::Inactive));
    assert_eq!(source.psc.count("introspect"), 2);
}

#[tokio::test]
async fn an_introspection_that_is_about_something_else_is_refused() {
    for (name, value) in [
        ("jti", json!("other")),
        ("sub", json!("other")),
        ("azp", json!("other")),
        ("exp", json!(1)),
    ] {
        let source = source(GateSettings::default()).await;
        source
            .psc
            .set(|knobs| knobs.introspection = with(name, value));
        let refused = source.check(&source.token(|_| {})).await;
        assert_eq!(refused, Err(GateError::Refused(TokenFault::Mismatch(name))));
    }
    for value in [json!("true"), json!(1), json!(null)] {
        let source = source(GateSettings::default()).await;
        source
            .psc
            .set(|knobs| knobs.introspection = with("active", value));
        assert!(source.check(&source.token(|_| {})).await.is_err());
    }
    let source = source(GateSettings::default()).await;
    source
        .psc
        .set(|knobs| knobs.introspection = without("active"));
    assert!(matches!(
        source.check(&source.token(|_| {})).await,
        Err(GateError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn when_psc_cannot_be_asked_nobody_gets_in_and_psc_is_left_alone_for_a_moment() {
    let source = source(GateSettings::default()).await;
    let token = source.token(|_| {});
    source.psc.answer_instead("introspect", |_| {
        Answer::Json(http::StatusCode::BAD_GATEWAY, json!({}))
    });
    for _ in 0..3 {
        let error = source.check(&token).await.unwrap_err();
        assert!(
            matches!(error, GateError::Unavailable { retry_after, .. } if retry_after.as_secs() == 5)
        );
    }
    assert_eq!(source.psc.count("introspect"), 1);
    source.psc.set(|knobs| knobs.instead.clear());
    source.psc.advance(5);
    source.check(&token).await.unwrap();
}

#[tokio::test]
async fn a_gate_whose_certificate_is_refused_lets_nobody_in() {
    let psc = FakePsc::start().await;
    let gate = PscTokenGate::new(
        psc.provider_for(OTHER_CLIENT, None),
        GateSettings::default(),
    );
    let token = SecretString::from(psc.access_token(CONSUMER, |_| {}));
    let error = gate.check(&token, None).await.unwrap_err();
    assert!(matches!(error, GateError::Unavailable { .. }));
    assert!(error.explained().1.contains("ORG_AUTH_CLI"));
}

#[tokio::test]
async fn without_user_info_nobody_gets_in_unless_it_is_not_asked() {
    let refuse = |source: &Source| {
        source
            .psc
            .answer_instead("userinfo", |_| Answer::error("server_error"));
    };
    let asking = source(GateSettings::default()).await;
    refuse(&asking);
    assert!(matches!(
        asking.check(&asking.token(|_| {})).await,
        Err(GateError::Unavailable { .. })
    ));
    let mut settings = GateSettings::default();
    settings.ask_user_info = false;
    let not_asking = source(settings).await;
    refuse(&not_asking);
    assert_eq!(
        not_asking
            .check(&not_asking.token(|_| {}))
            .await
            .unwrap()
            .user,
        None
    );
}

#[tokio::test]
async fn a_bound_token_is_good_for_its_own_certificate_also_from_memory() {
    let source = source(GateSettings::default()).await;
    let (own, other) = (Thumbprint::of(b"own"), Thumbprint::of(b"other"));
    let digest = <sha2::Sha256 as sha2::Digest>::digest(b"own");
    let bound = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest);
    let token =
        SecretString::from(source.token(|claims| claims["cnf"] = json!({"x5t#S256": bound})));
    let refused = Err(GateError::Refused(TokenFault::OtherCertificate));
    source.gate.check(&token, Some(&own)).await.unwrap();
    assert_eq!(source.gate.check(&token, Some(&other)).await, refused);
    assert_eq!(source.gate.check(&token, None).await, refused);
    assert_eq!(source.psc.count("introspect"), 1);
}

#[tokio::test]
async fn a_binding_that_only_the_introspection_names_is_enforced_too() {
    let source = source(GateSettings::default()).await;
    source
        .psc
        .set(|knobs| knobs.introspection = with("cnf", json!({"x5t#S256": "AAAA"})));
    let refused = source.check(&source.token(|_| {})).await;
    assert_eq!(
        refused,
        Err(GateError::Refused(TokenFault::OtherCertificate))
    );
}

#[tokio::test]
async fn the_list_of_clients_refuses_only_when_it_is_told_to() {
    let mut settings = GateSettings::default();
    settings.clients = ["somebody-else".to_owned()].into();
    let logging = source(settings.clone()).await;
    logging.check(&logging.token(|_| {})).await.unwrap();
    settings.refuse_other_clients = true;
    let refusing = source(settings).await;
    let refused = refusing.check(&refusing.token(|_| {})).await;
    assert_eq!(refused, Err(GateError::Client(CONSUMER.to_owned())));
    assert_eq!(refusing.psc.count("introspect"), 0);
}

#[tokio::test]
async fn user_info_is_asked_once_for_a_session_and_again_after_a_quarter_of_an_hour() {
    let source = source(GateSettings::default()).await;
    let of = |sid: &'static str| {
        move |claims: &mut Value| {
            claims["sid"] = json!(sid);
            claims["session_state"] = json!(sid);
        }
    };
    let check = async |sid| {
        source.check(&source.token(of(sid))).await.unwrap();
        (source.psc.count("introspect"), source.psc.count("userinfo"))
    };
    // Every token is looked at, the person behind them once.
    assert_eq!(check("one").await, (1, 1));
    assert_eq!(check("one").await, (2, 1));
    assert_eq!(check("another").await, (3, 2));
    source.psc.advance(15 * 60 - 1);
    assert_eq!(check("one").await, (4, 2));
    source.psc.advance(1);
    assert_eq!(check("one").await, (5, 3));
    // A session at PSC is of one person: the same name of another person is another session.
    let other = format!("{}-2", crate::provider::SUB);
    let token = source.token(|claims| {
        of("one")(claims);
        claims["sub"] = json!(other);
    });
    // The provider knows one person only, which shows that it was asked.
    assert!(source.check(&token).await.is_err());
    assert_eq!(source.psc.count("userinfo"), 4);
}

#[tokio::test]
async fn beyond_so_many_checks_at_once_a_token_has_to_come_back_later() {
    let mut settings = GateSettings::default();
    settings.at_once = 1;
    let source = source(settings).await;
    let known = source.token(|_| {});
    source.check(&known).await.unwrap();
    let held = source.token(|_| {});
    source.psc.answer_instead("introspect", |_| Answer::Never);
    let waiting = tokio::spawn({
        let (gate, token) = (Arc::clone(&source.gate), SecretString::from(held.as_str()));
        async move { gate.check(&token, None).await }
    });
    let asked = async {
        while source.psc.count("introspect") < 2 {
            tokio::task::yield_now().await;
        }
    };
    let asked = tokio::time::timeout(std::time::Duration::from_secs(60), asked);
    asked.await.expect("PSC is asked about the token");
    let refused = source.check(&source.token(|_| {})).await;
    assert_eq!(refused, Err(GateError::Busy));
    // What is remembered needs no place.
    source.check(&known).await.unwrap();
    // Nothing is remembered of who was sent away, and who gives up gives the place back.
    source.psc.set(|knobs| knobs.instead.clear());
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    source.check(&held).await.unwrap();
}

#[tokio::test]
async fn half_a_minute_between_the_clocks_keeps_nobody_out() {
    let source = source(GateSettings::default()).await;
    let now = source.psc.now();
    // Consumers renew a token that has less than thirty seconds left: none comes later than that.
    for ahead in [-30, 30] {
        source.psc.set(|knobs| knobs.ahead = ahead);
        for age in [0, 90] {
            let issued = now.saturating_add_signed(ahead) - age;
            let token = source.token(|claims| {
                claims["iat"] = json!(issued);
                claims["auth_time"] = json!(issued);
                claims["exp"] = json!(issued + 120);
            });
            let checked = source.check(&token).await;
            assert!(checked.is_ok(), "{ahead} {age}: {checked:?}");
        }
    }
    let beyond = source.token(|claims| {
        claims["iat"] = json!(now - 36 - 90);
        claims["exp"] = json!(now - 6);
    });
    let refused = source.check(&beyond).await;
    assert_eq!(
        refused,
        Err(GateError::Refused(TokenFault::Expired { seconds: 6 }))
    );
}

#[tokio::test]
async fn a_token_that_psc_s_faster_clock_has_just_issued_is_accepted() {
    let source = source(GateSettings::default()).await;
    let now = source.psc.now();
    let token = source.token(|claims| {
        claims["iat"] = json!(now + 20);
        claims["exp"] = json!(now + 140);
    });
    source.check(&token).await.unwrap();
}
