//! Login on another device.

use psc_auth::{
    BindingMessage, Channel, CibaProgress, ErrorCode, NationalId, PendingCiba, PscError,
    RelyingParty,
};
use serde_json::json;

use crate::provider::{Answer, FakePsc, USER};

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
