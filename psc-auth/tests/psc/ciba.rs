//! Login on another device.

use psc_auth::{
    BindingMessage, Channel, CibaProgress, ErrorCode, NationalId, PendingCiba, PscError,
    RelyingParty,
};
use serde_json::{Value, json};

use crate::provider::{Answer, Change, FakePsc, USER, user_info, with};

async fn begin(party: &RelyingParty) -> Result<PendingCiba, PscError> {
    let user = NationalId::parse(USER).unwrap();
    party
        .begin_ciba(&user, BindingMessage::new(7).unwrap(), Channel::Mobile)
        .await
}

#[tokio::test]
async fn a_user_who_confirms_is_logged_in() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| knobs.ciba_answers = vec!["authorization_pending"]);
    let party = psc.party();
    let pending = begin(&party).await.unwrap();
    let form = psc.state.memory.lock().unwrap().last_form.clone();
    assert_eq!(form["login_hint"], USER);
    assert_eq!(form["binding_message"], "07");
    assert_eq!(form["channel"], "MOBILE");
    assert_eq!(form["acr_values"], "eidas1");
    assert_eq!(form["scope"], "openid scope_all");

    let CibaProgress::Waiting(pending) = party.poll_ciba(pending).await.unwrap() else {
        panic!("not yet");
    };
    let CibaProgress::Done(session) = party.poll_ciba(pending).await.unwrap() else {
        panic!("confirmed");
    };
    party.access_token(&session).await.unwrap();
}

#[tokio::test]
async fn slow_down_lengthens_the_interval_and_a_fault_of_psc_does_not_end_the_wait() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| {
        knobs.ciba_answers = vec!["slow_down", "temporarily_unavailable", "access_denied"]
    });
    let party = psc.party();
    let pending = begin(&party).await.unwrap();
    let before = pending.interval();
    let CibaProgress::Waiting(pending) = party.poll_ciba(pending).await.unwrap() else {
        panic!("slow_down");
    };
    assert_eq!(
        pending.interval(),
        before + std::time::Duration::from_secs(5)
    );
    let CibaProgress::Waiting(pending) = party.poll_ciba(pending).await.unwrap() else {
        panic!("unavailable");
    };
    let refused = party.poll_ciba(pending).await.unwrap_err();
    assert!(matches!(
        refused,
        PscError::Refused {
            code: ErrorCode::AccessDenied,
            ..
        }
    ));
}

#[tokio::test]
async fn after_its_time_psc_is_not_asked_any_more() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let pending = begin(&party).await.unwrap();
    psc.advance(120);
    let late = party.poll_ciba(pending).await.unwrap_err();
    assert!(matches!(
        late,
        PscError::Refused {
            code: ErrorCode::ExpiredToken,
            ..
        }
    ));
    assert_eq!(psc.count("token"), 0);
}

#[tokio::test]
async fn an_unknown_user_and_an_answer_without_interval_are_handled() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    psc.answer_instead("ciba", |_| Answer::error("unknown_user_id"));
    let error = begin(&party).await.unwrap_err();
    assert!(matches!(
        error,
        PscError::Refused {
            code: ErrorCode::UnknownUserId,
            ..
        }
    ));
    psc.answer_instead("ciba", |_| {
        Answer::Json(
            http::StatusCode::OK,
            json!({"auth_req_id": "r", "expires_in": 120}),
        )
    });
    assert_eq!(begin(&party).await.unwrap().interval().as_secs(), 5);
}

#[tokio::test]
async fn a_fault_of_psc_does_not_end_the_wait_whatever_word_comes_with_it() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let mut pending = begin(&party).await.unwrap();
    for (status, word) in [
        (500, "unknown_error"),
        (502, "bad_gateway"),
        (429, "access_denied"),
    ] {
        psc.answer_instead("token", move |_| {
            let status = http::StatusCode::from_u16(status).unwrap();
            Answer::Json(status, json!({ "error": word }))
        });
        let CibaProgress::Waiting(again) = party.poll_ciba(pending).await.unwrap() else {
            panic!("{status}");
        };
        pending = again;
    }
    psc.set(|knobs| knobs.instead.clear());
    let done = party.poll_ciba(pending).await.unwrap();
    assert!(matches!(done, CibaProgress::Done(_)));
}

#[tokio::test]
async fn while_psc_is_away_until_the_end_it_is_not_said_that_nobody_confirmed() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let away = |psc: &FakePsc| {
        psc.answer_instead("token", |_| {
            Answer::Json(http::StatusCode::SERVICE_UNAVAILABLE, json!({}))
        });
    };
    let waits = async |pending| match party.poll_ciba(pending).await.unwrap() {
        CibaProgress::Waiting(pending) => pending,
        CibaProgress::Done(_) => panic!("nobody confirmed"),
    };
    let pending = begin(&party).await.unwrap();
    away(&psc);
    let pending = waits(pending).await;
    psc.advance(120);
    let unknown = party.poll_ciba(pending).await.unwrap_err();
    assert!(unknown.is_temporary(), "{unknown}");
    assert!(matches!(unknown, PscError::Status { status: 503, .. }));

    // It came back in time, and said that the user had not confirmed.
    let pending = begin(&party).await.unwrap();
    let pending = waits(pending).await;
    psc.set(|knobs| {
        knobs.instead.clear();
        knobs.ciba_answers = vec!["authorization_pending"];
    });
    let pending = waits(pending).await;
    psc.advance(120);
    let late = party.poll_ciba(pending).await.unwrap_err();
    assert!(is_refusal(&late, &ErrorCode::ExpiredToken), "{late}");
}

#[tokio::test]
async fn that_the_time_is_over_may_also_be_said_by_psc() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| knobs.ciba_answers = vec!["expired_token"]);
    let party = psc.party();
    let pending = begin(&party).await.unwrap();
    let late = party.poll_ciba(pending).await.unwrap_err();
    assert!(is_refusal(&late, &ErrorCode::ExpiredToken), "{late}");
    assert_eq!(psc.count("token"), 1);
}

fn is_refusal(error: &PscError, wanted: &ErrorCode) -> bool {
    matches!(error, PscError::Refused { code, .. } if code == wanted)
}

#[tokio::test]
async fn both_means_of_confirming_are_named_as_psc_calls_them() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let user = NationalId::parse(USER).unwrap();
    for (channel, expected) in [(Channel::Card, "CARD"), (Channel::Mobile, "MOBILE")] {
        let digits = BindingMessage::new(7).unwrap();
        party.begin_ciba(&user, digits, channel).await.unwrap();
        let form = psc.state.memory.lock().unwrap().last_form.clone();
        assert_eq!(form["channel"], expected);
    }
}

#[tokio::test]
async fn tokens_whose_id_token_is_refused_are_given_back() {
    let psc = FakePsc::start().await;
    psc.set(|knobs| knobs.id_token = with("aud", json!("somebody-else")));
    let party = psc.party();
    let pending = begin(&party).await.unwrap();
    let refused = party.poll_ciba(pending).await.unwrap_err();
    assert!(matches!(refused, PscError::Token { .. }), "{refused}");
    assert_eq!(psc.count("revoke"), 1);
}

/// An id_token that names this professional, or nobody.
fn naming(id: Option<&'static str>) -> Option<Change> {
    Some(Box::new(move |text| {
        let mut claims: Value = serde_json::from_str(&text).unwrap();
        let claims = claims.as_object_mut().unwrap();
        for name in ["SubjectNameID", "preferred_username"] {
            claims.remove(name);
            claims.extend(id.map(|id| (name.to_owned(), json!(id))));
        }
        json!(claims).to_string()
    }))
}

#[tokio::test]
async fn somebody_else_than_the_one_who_was_asked_does_not_come_in() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    let other = "899700000099";
    let outcome = async |id, info: Value| {
        psc.set(|knobs| knobs.id_token = naming(id));
        psc.answer_instead("userinfo", move |_| {
            Answer::Json(http::StatusCode::OK, info.clone())
        });
        let pending = begin(&party).await.unwrap();
        party.poll_ciba(pending).await
    };
    let refused = outcome(Some(other), user_info()).await.unwrap_err();
    assert_eq!(refused, PscError::OtherConfirmed);
    assert_eq!(psc.count("revoke"), 1);
    // UserInfo says it where the id_token does not.
    outcome(None, user_info()).await.unwrap();
    for id in [json!(other), Value::Null] {
        let mut info = user_info();
        info["SubjectNameID"] = id.clone();
        info["preferred_username"] = id;
        let refused = outcome(None, info).await.unwrap_err();
        assert_eq!(refused, PscError::OtherConfirmed);
    }
}

#[tokio::test]
async fn the_session_state_is_that_of_the_answer_with_the_tokens() {
    let psc = FakePsc::start().await;
    let party = psc.party();
    psc.set(|knobs| knobs.id_token = with("session_state", json!("of-the-id-token")));
    let logged_in = async || {
        let pending = begin(&party).await.unwrap();
        match party.poll_ciba(pending).await.unwrap() {
            CibaProgress::Done(session) => session,
            CibaProgress::Waiting(_) => panic!("confirmed"),
        }
    };
    let session = logged_in().await;
    // As the provider answers it beside the tokens.
    assert_eq!(session.user().session_state.as_deref(), Some("a-session"));
}
