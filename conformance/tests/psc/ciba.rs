//! Login on another device.

use conformance::testkit::psc::PHYSICIAN;
use psc_auth::{
    BindingMessage, Channel, CibaProgress, ErrorCode, NationalId, PendingCiba, PscError,
    RelyingParty, Session,
};
use serde_json::json;

use crate::world::{CONSUMER, World, world};

async fn begin(party: &RelyingParty, user: &str) -> Result<PendingCiba, PscError> {
    let user = NationalId::parse(user).unwrap();
    let digits = BindingMessage::new(7).unwrap();
    party.begin_ciba(&user, digits, Channel::Mobile).await
}

fn code(error: PscError) -> ErrorCode {
    match error {
        PscError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

/// Asks without waiting for the interval, which is for a client that shares PSC with others.
async fn ask_until_done(party: &RelyingParty, mut pending: PendingCiba) -> (Session, u32) {
    for asked in 1..10 {
        match party.poll_ciba(pending).await.unwrap() {
            CibaProgress::Done(session) => return (session, asked),
            CibaProgress::Waiting(again) => pending = again,
        }
    }
    panic!("never done");
}

#[tokio::test]
async fn a_professional_confirms_after_a_while() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"cibaPending": 2})).await.unwrap();
    let party = world.consumer();
    let pending = begin(&party, PHYSICIAN).await.unwrap();
    let (session, asked) = ask_until_done(&party, pending).await;
    assert_eq!(asked, 3);
    let info = party.user_info(&session).await.unwrap();
    assert_eq!(info.situations().len(), 1);
    let report = world.psc.report().await.unwrap();
    let ciba = report.seen.iter().find(|one| one.endpoint == "ciba");
    assert_eq!(ciba.unwrap().certificate.as_deref(), Some(CONSUMER));
    party.logout(&session).await.unwrap();
    assert_eq!(world.psc.report().await.unwrap().count("logout"), 1);
}

#[tokio::test]
async fn a_slow_down_makes_the_interval_longer() {
    let Some(world) = world().await else { return };
    world.psc.set(json!({"cibaSlowDown": 1})).await.unwrap();
    let party = world.consumer();
    let pending = begin(&party, PHYSICIAN).await.unwrap();
    let before = pending.interval();
    let CibaProgress::Waiting(pending) = party.poll_ciba(pending).await.unwrap() else {
        panic!("done at once");
    };
    assert_eq!(
        pending.interval(),
        before + std::time::Duration::from_secs(5)
    );
    ask_until_done(&party, pending).await;
}

/// A request to a user who does this with it, answered without `interval`.
async fn asked(world: &World, party: &RelyingParty, ciba: &str) -> PendingCiba {
    let knobs = json!({"ciba": ciba, "cibaInterval": null});
    world.psc.set(knobs).await.unwrap();
    begin(party, PHYSICIAN).await.unwrap()
}

#[tokio::test]
async fn refusals_and_silence_are_told_apart() {
    let Some(world) = world().await else { return };
    let party = world.consumer();
    let unknown = begin(&party, "899700000000").await.unwrap_err();
    assert_eq!(code(unknown), ErrorCode::UnknownUserId);
    let pending = asked(&world, &party, "refuse").await;
    let refused = party.poll_ciba(pending).await.unwrap_err();
    assert_eq!(code(refused), ErrorCode::AccessDenied);
    let pending = asked(&world, &party, "ignore").await;
    assert_eq!(pending.interval().as_secs(), 5, "the default of CIBA");
    let CibaProgress::Waiting(pending) = party.poll_ciba(pending).await.unwrap() else {
        panic!("nobody confirmed");
    };
    world.clock.advance(121);
    let late = party.poll_ciba(pending).await.unwrap_err();
    assert_eq!(code(late), ErrorCode::ExpiredToken);
}
