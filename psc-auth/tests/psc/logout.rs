//! Logout, from here and from PSC.

use psc_auth::{PscError, SessionEnd, TokenFault};
use secrecy::ExposeSecret;
use serde_json::json;
use url::Url;

use crate::provider::{Answer, CLIENT, FakePsc, SUB};

#[tokio::test]
async fn logout_ends_the_session_here_and_at_psc_and_revokes_its_token() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    party.logout(&session).await.unwrap();
    assert_eq!((psc.count("logout"), psc.count("revoke")), (1, 1));
    assert!(psc.state.memory.lock().unwrap().last_form["token"].starts_with("refresh-"));
    let error = party.access_token(&session).await.unwrap_err();
    assert_eq!(error, PscError::SessionEnded(SessionEnd::Closed));
    party.logout(&session).await.unwrap();
    assert_eq!(psc.count("logout"), 1);
}

#[tokio::test]
async fn the_session_is_over_here_even_when_psc_cannot_be_asked() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    psc.answer_instead("logout", |_| Answer::error("server_error"));
    psc.answer_instead("revoke", |_| Answer::error("server_error"));
    assert!(party.logout(&session).await.is_err());
    assert!(session.ended().await.is_some());
}

#[tokio::test]
async fn the_browser_s_logout_address_carries_the_hint_and_the_return() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    let back: Url = "https://box.example/".parse().unwrap();
    let url = party.logout_url(&session, &back, Some("s")).await.unwrap();
    assert!(!format!("{url:?}").contains("eyJ"));
    let url: Url = url.expose_secret().parse().unwrap();
    let value = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    assert!(value("id_token_hint").unwrap().starts_with("eyJ"));
    assert_eq!(
        value("post_logout_redirect_uri").as_deref(),
        Some("https://box.example/")
    );
    assert_eq!(value("state").as_deref(), Some("s"));
    assert!(session.ended().await.is_some());
}

#[tokio::test]
async fn a_back_channel_logout_names_the_session_once() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let session = psc.log_in(&party).await.unwrap();
    let token = psc.logout_token(|_| {});
    let notice = party.receive_logout(&token).await.unwrap();
    assert!(notice.means(&session));
    let again = party.receive_logout(&token).await.unwrap_err();
    assert!(matches!(
        again,
        PscError::Token {
            fault: TokenFault::Replayed,
            ..
        }
    ));

    let other = party
        .receive_logout(&psc.logout_token(|claims| claims["sid"] = json!("other")))
        .await
        .unwrap();
    assert!(!other.means(&session));
    let everywhere = psc.logout_token(|claims| {
        claims.as_object_mut().unwrap().remove("sid");
    });
    assert!(
        party
            .receive_logout(&everywhere)
            .await
            .unwrap()
            .means(&session)
    );
}

#[tokio::test]
async fn logout_tokens_that_are_not_for_us_or_no_logout_tokens_are_refused() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let now = psc.now();
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("aud", json!("another-client")),
        ("iat", json!(now + 31)),
        ("iat", json!(now - 331)),
        ("exp", json!(now - 31)),
        ("events", json!({})),
        (
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": 1}),
        ),
        ("nonce", json!("n")),
        ("jti", json!(null)),
    ] {
        let token = psc.logout_token(|claims| claims[name] = value.clone());
        assert!(
            party.receive_logout(&token).await.is_err(),
            "{name} {value}"
        );
    }
    let nobody = psc.logout_token(|claims| {
        claims
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name != "sub" && name != "sid");
    });
    assert!(party.receive_logout(&nobody).await.is_err());
    let id_token = crate::provider::signed(&json!({
        "iss": psc.state.issuer, "aud": CLIENT, "iat": now, "exp": now + 120, "jti": "x", "sub": SUB, "nonce": "n",
    }));
    assert!(party.receive_logout(&id_token).await.is_err());
}
