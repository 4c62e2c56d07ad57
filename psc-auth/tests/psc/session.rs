//! Renewal of tokens, and the end of sessions.

use std::sync::Arc;

use psc_auth::{PscError, Session, SessionEnd, TokenFault};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::provider::{Answer, FakePsc, Signer, sign, with};

#[tokio::test]
async fn a_token_with_life_left_is_used_again_and_one_that_is_due_is_renewed() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    let first = party.access_token(&session).await.unwrap();
    psc.advance(90);
    assert_eq!(
        party.access_token(&session).await.unwrap().expose_secret(),
        first.expose_secret()
    );
    assert_eq!(psc.count("token"), 1);
    psc.advance(1);
    assert_ne!(
        party.access_token(&session).await.unwrap().expose_secret(),
        first.expose_secret()
    );
    assert_eq!(psc.count("token"), 2);
}

#[tokio::test]
async fn the_refresh_token_rotates() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    // The provider refuses a refresh token that was used.
    for _ in 0..4 {
        psc.advance(120);
        party.access_token(&session).await.unwrap();
    }
    assert_eq!(psc.count("token"), 5);
}

#[tokio::test]
async fn concurrent_uses_share_one_renewal() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.advance(120);
    let uses = (0..100).map(|_| {
        let (party, session) = (party.clone(), session.clone());
        tokio::spawn(async move {
            party
                .access_token(&session)
                .await
                .unwrap()
                .expose_secret()
                .to_owned()
        })
    });
    let mut tokens = Vec::new();
    for one in uses.collect::<Vec<_>>() {
        tokens.push(one.await.unwrap());
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    assert_eq!(psc.count("token"), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_lose_the_rotated_token() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.advance(120);
    let arrived = Arc::new(tokio::sync::Notify::new());
    psc.set(|knobs| knobs.arrived = Some(Arc::clone(&arrived)));
    tokio::select! {
        biased;
        () = arrived.notified() => {}
        _ = party.access_token(&session) => panic!("answered before the provider was asked"),
    }
    party.access_token(&session).await.unwrap();
    assert_eq!(psc.count("token"), 2);
}

#[tokio::test]
async fn invalid_grant_ends_the_session() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.answer_instead("token", |_| Answer::error("invalid_grant"));
    psc.advance(100);
    let ended = PscError::SessionEnded(SessionEnd::NotRenewed);
    assert_eq!(party.access_token(&session).await.unwrap_err(), ended);
    assert_eq!(party.access_token(&session).await.unwrap_err(), ended);
    assert_eq!(psc.count("token"), 2);
    assert_eq!(session.ended().await, Some(SessionEnd::NotRenewed));
    assert!(session.export().await.is_none());
}

#[tokio::test]
async fn while_psc_is_away_the_token_at_hand_is_used_up_and_the_session_goes_on() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.advance(100);
    for (status, body) in [
        (502, json!({})),
        (502, json!({"error": "bad_gateway"})),
        (500, json!({"error": "unknown_error"})),
        (429, json!({"error": "invalid_grant"})),
    ] {
        let said = body.clone();
        psc.answer_instead("token", move |_| {
            Answer::Json(http::StatusCode::from_u16(status).unwrap(), said.clone())
        });
        party.access_token(&session).await.unwrap();
        psc.advance(20);
        let error = party.access_token(&session).await.unwrap_err();
        assert!(error.is_temporary(), "{status} {body}: {error}");
        psc.set(|knobs| knobs.instead.clear());
        party.access_token(&session).await.unwrap();
        psc.advance(100);
    }
}

#[tokio::test]
async fn a_new_refresh_token_is_not_lost_while_the_key_of_its_id_token_cannot_be_read() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    let first = party.access_token(&session).await.unwrap();
    psc.set(|knobs| knobs.kid = Some("key-2".to_owned()));
    psc.answer_instead("certs", |_| {
        Answer::Json(http::StatusCode::SERVICE_UNAVAILABLE, json!({}))
    });
    psc.advance(100);
    // What could not be checked is not used while there is another.
    let same = party.access_token(&session).await.unwrap();
    assert_eq!(same.expose_secret(), first.expose_secret());
    psc.advance(20);
    let error = party.access_token(&session).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(session.ended().await, None);
    let session = Session::import(&session.export().await.unwrap()).unwrap();
    assert!(party.access_token(&session).await.is_err());
    psc.set(|knobs| knobs.instead.clear());
    psc.advance(60);
    party.access_token(&session).await.unwrap();
}

#[tokio::test]
async fn who_makes_up_a_kid_ends_nobody_s_session() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.advance(120);
    // Anybody can post one: the keys are not read again for a minute.
    let forged = sign("{}", Signer::UnknownKid, "key-1");
    assert!(party.receive_logout(&forged).await.is_err());
    psc.set(|knobs| knobs.kid = Some("key-2".to_owned()));
    let error = party.access_token(&session).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(session.ended().await, None);
    psc.advance(60);
    party.access_token(&session).await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_refused_is_renewed_once_for_all_who_hold_it() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    let refused = party.access_token(&session).await.unwrap();
    let first = party.other_access_token(&session, &refused).await.unwrap();
    let second = party.other_access_token(&session, &refused).await.unwrap();
    assert_ne!(first.expose_secret(), refused.expose_secret());
    assert_eq!(first.expose_secret(), second.expose_secret());
    assert_eq!(psc.count("token"), 2);
}

#[tokio::test]
async fn four_hours_after_the_proof_of_identity_the_session_is_over() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    // The session at PSC is an hour old at login.
    let an_hour_ago = psc.now() - 3600;
    psc.set(|knobs| knobs.id_token = with("auth_time", json!(an_hour_ago)));
    let session = psc.log_in(&party).await.unwrap();
    psc.set(|knobs| knobs.id_token = None);
    psc.advance(3 * 3600 - 1);
    party.access_token(&session).await.unwrap();
    psc.advance(1);
    let error = party.access_token(&session).await.unwrap_err();
    assert_eq!(error, PscError::SessionEnded(SessionEnd::TooOld));
}

#[tokio::test]
async fn a_renewal_for_another_user_ends_the_session() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.set(|knobs| knobs.id_token = with("sub", json!("someone-else")));
    psc.advance(120);
    let error = party.access_token(&session).await.unwrap_err();
    assert!(matches!(
        error,
        PscError::Token {
            fault: TokenFault::Mismatch("sub"),
            ..
        }
    ));
    assert!(session.ended().await.is_some());
}

#[tokio::test]
async fn a_session_survives_a_restart() {
    let psc = FakePsc::start().await;
    let session = psc.log_in(&psc.party()).await.unwrap();
    let kept = session.export().await.unwrap();
    assert!(Session::import(b"{}").is_none());
    let restored = Session::import(&kept).unwrap();
    assert_eq!(restored.user(), session.user());
    psc.advance(120);
    psc.party().access_token(&restored).await.unwrap();
}

#[tokio::test]
async fn user_info_of_another_user_is_refused() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.answer_instead("userinfo", |_| {
        Answer::Json(http::StatusCode::OK, json!({"sub": "someone-else"}))
    });
    assert_eq!(
        party.user_info(&session).await.unwrap_err(),
        PscError::OtherUser
    );
}

#[tokio::test]
async fn signed_user_info_is_verified_and_encrypted_user_info_is_named() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    let answer = |issuer: &str, audience: &str| {
        let mut claims = crate::provider::user_info();
        claims["iss"] = json!(issuer);
        claims["aud"] = json!(audience);
        let token = crate::provider::signed(&claims);
        psc.answer_instead("userinfo", move |_| {
            Answer::Text(
                http::StatusCode::OK,
                "application/jwt;charset=UTF-8",
                token.clone(),
            )
        });
    };
    answer(&psc.state.issuer, crate::provider::CLIENT);
    assert_eq!(party.user_info(&session).await.unwrap().exercices.len(), 1);
    answer(&psc.state.issuer, "another-client");
    assert!(party.user_info(&session).await.is_err());
    answer("https://other.example", crate::provider::CLIENT);
    assert!(party.user_info(&session).await.is_err());
    psc.answer_instead("userinfo", |_| {
        Answer::Text(
            http::StatusCode::OK,
            "application/jwt",
            "a.b.c.d.e".to_owned(),
        )
    });
    assert_eq!(
        party.user_info(&session).await.unwrap_err(),
        PscError::EncryptedUserInfo
    );
    psc.answer_instead("userinfo", |_| {
        Answer::Text(http::StatusCode::OK, "text/html", "<html>".to_owned())
    });
    assert!(matches!(
        party.user_info(&session).await.unwrap_err(),
        PscError::Malformed { .. }
    ));
}
