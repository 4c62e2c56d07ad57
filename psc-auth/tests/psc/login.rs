//! Login with the code flow, and each way in which it must be refused.

use std::sync::Arc;

use psc_auth::{
    BindingMessage, Callback, CallbackFault, Channel, ErrorCode, LoginChoice, NationalId,
    PendingLogin, Provider, PscError, RelyingParty, Response, TokenFault, TokenKind,
};
use serde_json::json;

use crate::provider::{
    Answer, CLIENT, FakePsc, Knobs, Signer, USER, before, short_timeout, with, without,
};

/// The fault of an id_token under these knobs; `None` when the login succeeds.
async fn fault(change: impl FnOnce(&mut Knobs)) -> Option<TokenFault> {
    let psc = FakePsc::start().await;
    psc.set(change);
    match psc.log_in(&psc.party()).await {
        Ok(_) => None,
        Err(PscError::Token {
            token: TokenKind::Id,
            fault,
        }) => Some(fault),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_professional_logs_in() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    assert_eq!(session.user().national_id.as_ref().unwrap().as_str(), USER);
    assert_eq!(session.user().acr.as_deref(), Some("eidas1"));
    assert_eq!(session.ends_at().as_secs(), psc.now() + 4 * 3600);
    let info = party.user_info(&session).await.unwrap();
    assert_eq!(info.exercices[0].profession.as_deref(), Some("10"));
}

#[tokio::test]
async fn nothing_secret_shows_in_debug() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let (pending, back) = psc.start_login(&party).await;
    let mut shown = format!("{pending:?} {back:?}");
    let session = party.complete_login(pending, back).await.unwrap();
    let token = party.access_token(&session).await.unwrap();
    let info = party.user_info(&session).await.unwrap();
    shown.push_str(&format!(
        "{session:?} {token:?} {party:?} {info:?} {:?}",
        session.user()
    ));
    let user = NationalId::parse(USER).unwrap();
    let digits = BindingMessage::new(7).unwrap();
    let asked = party.begin_ciba(&user, digits, Channel::Card);
    let asked = asked.await.unwrap();
    shown.push_str(&format!("{asked:?}"));
    let progress = party.poll_ciba(asked).await.unwrap();
    let notice = party.receive_logout(&psc.logout_token(|_| {})).await;
    shown.push_str(&format!(
        "{progress:?} {:?} {:?}",
        notice.unwrap(),
        psc.certificate.identity()
    ));
    let answer = Response {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: zeroize::Zeroizing::new(b"eyJ".to_vec()),
    };
    shown.push_str(&format!("{answer:?}"));
    let secrets = ["eyJ", "refresh-", "code-", "request-1", USER, "KIT"];
    for secret in secrets.into_iter().chain(["code_challenge"]) {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[tokio::test]
async fn a_delegated_identity_provider_is_asked_for_by_its_hint() {
    let psc = FakePsc::start().await;
    let mut settings = psc.settings(CLIENT);
    settings.identity_provider_hint = Some("centre-idp".to_owned());
    let transport = psc.transport(short_timeout(), Some(&psc.certificate));
    let provider = Provider::new(settings, transport, psc.state.clock.clone());
    let party = RelyingParty::new(Arc::new(provider));
    let hint = async |party: &RelyingParty| {
        let pending = party.begin_login(LoginChoice::default()).await.unwrap();
        let mut query = pending.url().query_pairs();
        let found = query.find(|(name, _)| name == "kc_idp_hint");
        found.map(|(_, value)| value.into_owned())
    };
    assert_eq!(hint(&party).await.as_deref(), Some("centre-idp"));
    assert_eq!(hint(&psc.party()).await, None);
}

#[tokio::test]
async fn tokens_of_a_login_that_does_not_come_about_are_given_back() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    psc.set(|knobs| knobs.id_token = with("aud", json!("somebody-else")));
    let refused = psc.log_in(&party).await.unwrap_err();
    assert!(matches!(refused, PscError::Token { .. }), "{refused}");
    assert_eq!(psc.count("revoke"), 1);
    let form = psc.state.memory.lock().unwrap().last_form.clone();
    assert_eq!(form["token_type_hint"], "refresh_token");
}

#[tokio::test]
async fn a_login_under_way_survives_a_restart() {
    let psc = FakePsc::start().await;
    let (pending, back) = psc.start_login(&psc.party()).await;
    let kept = pending.export();
    assert!(PendingLogin::import(b"{}").is_none());
    let restored = PendingLogin::import(&kept).unwrap();
    psc.party().complete_login(restored, back).await.unwrap();
}

#[tokio::test]
async fn each_login_has_its_own_state_nonce_and_challenge() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let value = |pending: &PendingLogin, name: &str| {
        let found = pending.url().query_pairs().find(|(key, _)| key == name);
        found.unwrap().1.into_owned()
    };
    let first = party.begin_login(LoginChoice::default()).await.unwrap();
    let second = party
        .begin_login(LoginChoice { fresh: true })
        .await
        .unwrap();
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(value(&first, name), value(&second, name));
    }
    assert_eq!(value(&second, "prompt"), "login");
}

#[tokio::test]
async fn another_state_or_issuer_or_a_late_return_is_refused_before_the_code_is_used() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let finish = async |pending: PendingLogin, query: String| {
        let back = Callback::parse(&query).unwrap();
        party.complete_login(pending, back).await.err()
    };

    let pending = party.begin_login(LoginChoice::default()).await.unwrap();
    let other = party.begin_login(LoginChoice::default()).await.unwrap();
    let of_other_login = psc.user_logs_in(other.url());
    assert_eq!(
        finish(pending, of_other_login).await,
        Some(CallbackFault::State.into())
    );

    let pending = party.begin_login(LoginChoice::default()).await.unwrap();
    let query = psc.user_logs_in(pending.url());
    let mixed_up = format!(
        "{}&iss=https%3A%2F%2Fattacker.example",
        query.split("&iss=").next().unwrap()
    );
    assert_eq!(
        finish(pending, mixed_up).await,
        Some(CallbackFault::Issuer.into())
    );

    psc.set(|knobs| knobs.no_iss = true);
    let pending = party.begin_login(LoginChoice::default()).await.unwrap();
    let query = psc.user_logs_in(pending.url());
    assert_eq!(
        finish(pending, query).await,
        Some(CallbackFault::Missing("iss").into())
    );

    psc.set(|knobs| knobs.no_iss = false);
    let pending = party.begin_login(LoginChoice::default()).await.unwrap();
    let query = psc.user_logs_in(pending.url());
    psc.advance(601);
    assert_eq!(
        finish(pending, query).await,
        Some(CallbackFault::Late.into())
    );

    assert_eq!(psc.count("token"), 0);
}

#[tokio::test]
async fn iss_is_not_asked_of_a_provider_that_does_not_announce_it() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| {
        knobs.no_iss = true;
        knobs.discovery = with(
            "authorization_response_iss_parameter_supported",
            json!(false),
        );
    });
    psc.log_in(&psc.party()).await.unwrap();
}

#[tokio::test]
async fn a_replayed_code_is_refused() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let pending = party.begin_login(LoginChoice::default()).await.unwrap();
    let kept = PendingLogin::import(&pending.export()).unwrap();
    let query = psc.user_logs_in(pending.url());
    party
        .complete_login(pending, Callback::parse(&query).unwrap())
        .await
        .unwrap();
    let again = party
        .complete_login(kept, Callback::parse(&query).unwrap())
        .await
        .unwrap_err();
    assert!(matches!(
        again,
        PscError::Refused {
            code: ErrorCode::InvalidGrant,
            ..
        }
    ));
    assert_eq!(again.remedy(), "log in again");
}

#[tokio::test]
async fn a_code_stolen_from_another_login_does_not_fit_the_verifier() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let victim = party.begin_login(LoginChoice::default()).await.unwrap();
    let stolen = psc.user_logs_in(victim.url());
    let stolen = stolen
        .split('&')
        .find(|pair| pair.starts_with("code="))
        .unwrap();
    let attacker = party.begin_login(LoginChoice::default()).await.unwrap();
    let own = psc.user_logs_in(attacker.url());
    let own_code = own
        .split('&')
        .find(|pair| pair.starts_with("code="))
        .unwrap();
    let back = Callback::parse(&own.replace(own_code, stolen)).unwrap();
    let refused = party.complete_login(attacker, back).await.unwrap_err();
    assert!(matches!(
        refused,
        PscError::Refused {
            code: ErrorCode::InvalidGrant,
            ..
        }
    ));
}

#[tokio::test]
async fn a_refusal_of_the_user_says_so() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let pending = party.begin_login(LoginChoice::default()).await.unwrap();
    let state = secrecy::ExposeSecret::expose_secret(pending.state()).to_owned();
    let iss = url::form_urlencoded::byte_serialize(psc.state.issuer.as_bytes()).collect::<String>();
    let back = Callback::parse(&format!("state={state}&iss={iss}&error=access_denied")).unwrap();
    let refused = party.complete_login(pending, back).await.unwrap_err();
    assert!(matches!(
        refused,
        PscError::Refused {
            code: ErrorCode::AccessDenied,
            ..
        }
    ));
}

#[tokio::test]
async fn forged_signatures_are_refused() {
    let signed = async |signer| fault(|knobs| knobs.id_signer = signer).await;
    assert!(matches!(
        signed(Signer::Unsigned).await,
        Some(TokenFault::Algorithm(_))
    ));
    assert!(matches!(
        signed(Signer::HmacWithPublicKey).await,
        Some(TokenFault::Algorithm(_))
    ));
    assert_eq!(signed(Signer::OtherKey).await, Some(TokenFault::Signature));
    assert_eq!(
        signed(Signer::UnknownKid).await,
        Some(TokenFault::UnknownKey)
    );
    assert!(signed(Signer::AccessTokenType).await.is_some());
    assert_eq!(signed(Signer::Good).await, None);
}

#[tokio::test]
async fn claims_that_are_wrong_are_refused() {
    let now = 1_800_000_000_u64;
    for (name, value, expected) in [
        (
            "iss",
            json!("https://other.example"),
            TokenFault::Mismatch("iss"),
        ),
        ("aud", json!("another-client"), TokenFault::Mismatch("aud")),
        (
            "aud",
            json!([CLIENT, "another-client"]),
            TokenFault::Mismatch("aud"),
        ),
        ("azp", json!("another-client"), TokenFault::Mismatch("azp")),
        ("nonce", json!("another"), TokenFault::Mismatch("nonce")),
        ("typ", json!("Bearer"), TokenFault::Mismatch("typ")),
        (
            "at_hash",
            json!("AAAAAAAAAAAAAAAAAAAAAA"),
            TokenFault::Mismatch("at_hash"),
        ),
        ("exp", json!(now - 30), TokenFault::Expired { seconds: 30 }),
        (
            "iat",
            json!(now + 31),
            TokenFault::Future {
                claim: "iat",
                seconds: 31,
            },
        ),
        ("iat", json!(now - 631), TokenFault::Age("iat")),
        (
            "auth_time",
            json!(now + 31),
            TokenFault::Future {
                claim: "auth_time",
                seconds: 31,
            },
        ),
        (
            "auth_time",
            json!(now - 4 * 3600 - 31),
            TokenFault::Age("auth_time"),
        ),
    ] {
        let found = fault(|knobs| knobs.id_token = with(name, value)).await;
        assert_eq!(found, Some(expected), "{name}");
    }
}

#[tokio::test]
async fn claims_that_are_missing_are_refused_unless_psc_may_leave_them_out() {
    for name in ["iss", "aud", "exp", "iat", "sub", "nonce"] {
        assert!(
            fault(|knobs| knobs.id_token = without(name))
                .await
                .is_some(),
            "{name}"
        );
    }
    for name in [
        "acr",
        "auth_time",
        "at_hash",
        "azp",
        "typ",
        "sid",
        "SubjectNameID",
    ] {
        assert_eq!(
            fault(|knobs| knobs.id_token = without(name)).await,
            None,
            "{name}"
        );
    }
}

#[tokio::test]
async fn clocks_may_differ_by_half_a_minute() {
    let now = 1_800_000_000_u64;
    assert_eq!(
        fault(|knobs| knobs.id_token = with("iat", json!(now + 30))).await,
        None
    );
    assert_eq!(
        fault(|knobs| knobs.id_token = with("exp", json!(now - 29))).await,
        None
    );
}

#[tokio::test]
async fn a_level_that_is_too_low_is_refused() {
    for acr in ["0", "1", "eidas0"] {
        let found = fault(|knobs| knobs.id_token = with("acr", json!(acr))).await;
        assert!(matches!(found, Some(TokenFault::Acr(_))), "{acr}");
    }
    assert!(
        fault(|knobs| knobs.id_token = with("acr", json!(1)))
            .await
            .is_some()
    );
}

#[tokio::test]
async fn of_two_acr_the_last_counts() {
    // The provider writes its own `acr`, eidas1, after this one.
    assert_eq!(
        fault(|knobs| knobs.id_token = before(r#""acr":"1""#)).await,
        None
    );
    let low_last = |text: String| format!("{},\"acr\":\"1\"}}", &text[..text.len() - 1]);
    let found = fault(|knobs| knobs.id_token = Some(Box::new(low_last))).await;
    assert!(matches!(found, Some(TokenFault::Acr(_))));
}

#[tokio::test]
async fn a_token_with_two_acr_is_still_checked_in_full() {
    let two = |text: String, rest: &str| format!("{{\"acr\":\"1\",{rest}{}", &text[1..]);
    let forged = fault(|knobs| {
        knobs.id_signer = Signer::OtherKey;
        knobs.id_token = before(r#""acr":"1""#);
    })
    .await;
    assert_eq!(forged, Some(TokenFault::Signature));
    let nonce = fault(|knobs| {
        knobs.id_token = Some(Box::new(move |text| {
            let mut claims: serde_json::Value = serde_json::from_str(&text).unwrap();
            claims["nonce"] = json!("another");
            two(claims.to_string(), "")
        }));
    })
    .await;
    assert_eq!(nonce, Some(TokenFault::Mismatch("nonce")));
}

#[tokio::test]
async fn two_subjects_in_one_token_are_refused() {
    let found = fault(|knobs| knobs.id_token = before(r#""sub":"someone-else""#)).await;
    assert!(matches!(found, Some(TokenFault::Repeated(_))));
}

#[tokio::test]
async fn the_code_is_exchanged_without_a_secret_and_with_the_exact_return_address() {
    let psc = FakePsc::start().await;
    psc.log_in(&psc.party()).await.unwrap();
    let form = psc.state.memory.lock().unwrap().last_form.clone();
    assert_eq!(form["redirect_uri"], crate::provider::REDIRECT);
    assert_eq!(form["client_id"], CLIENT);
    assert!(!form.contains_key("client_secret"));
}

#[tokio::test]
async fn a_missing_or_unregistered_certificate_is_explained() {
    let psc = FakePsc::start().await;
    let stranger = psc.pki.client("stranger");
    for certificate in [None, Some(&stranger)] {
        let party = RelyingParty::new(psc.provider_for(CLIENT, certificate));
        let error = psc.log_in(&party).await.unwrap_err();
        assert!(matches!(
            error,
            PscError::Refused {
                code: ErrorCode::InvalidClient,
                ..
            }
        ));
        assert!(error.remedy().contains("ORG_AUTH_CLI"));
    }
}

#[tokio::test]
async fn a_token_answer_without_id_token_is_refused() {
    let psc = FakePsc::start().await;
    psc.answer_instead("token", |_| {
        Answer::Json(
            http::StatusCode::OK,
            json!({"access_token": "a", "token_type": "Bearer", "expires_in": 120}),
        )
    });
    let error = psc.log_in(&psc.party()).await.unwrap_err();
    assert!(matches!(
        error,
        PscError::Token {
            fault: TokenFault::Missing("id_token"),
            ..
        }
    ));
}
