//! The link of a report, from the click to the first image, and what others may try with it: the gateway as it ships,
//! Orthanc, the provider of the test kit, Debian's Chromium.
//!
//! Needs Node, Chromium and the built page (`make viewer`); `DRIMBOX_SKIP_NODE=1` leaves everything out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod extras;
mod images;
mod nodes;
mod patient;
mod property;
mod routes;
mod site;
mod visitor;
mod weasis;

use conformance::testkit::psc::left_out;
use serde_json::json;

use site::{EXAM, Site, story, story_of_two_series, tell};
use support::{metric, run, until};
use visitor::{SESSION, Visitor};

#[test]
fn a_link_leads_a_professional_to_the_images_and_out_again() {
    story_of_two_series("whole_way");
}

#[test]
fn a_link_leads_to_the_images_on_a_phone() {
    story_of_two_series("on_a_phone");
}

#[test]
fn a_page_left_open_after_the_logout_shows_nothing() {
    story("after_logout");
}

#[test]
fn a_link_that_opens_nothing_says_so_in_plain_words() {
    story("nothing_to_see");
}

/// Plays how the page is left on a shared computer; `more` is what the story is told.
async fn leave_a_shared_computer(site: &Site, cookie: &str, more: serde_json::Value) {
    let status = async |value: &str| {
        let thief = Visitor::new(site);
        thief.bring(cookie, value);
        thief.status("/viewer/api/exam").await
    };
    let logouts = || {
        let events = site.events();
        let logouts = events.iter().filter(|event| event["kind"] == "logout");
        logouts.count()
    };
    let before = logouts();
    tell(site, "shared_computer", more, async |order| {
        let value = order["cookie"].as_str().unwrap();
        match order["order"].as_str().unwrap() {
            "open" => assert_eq!(status(value).await, 200),
            "left" => {
                let over = async || status(value).await == 401;
                until("the session is over", over).await;
            }
            other => panic!("no order {other}"),
        }
        json!({})
    })
    .await;
    let recorded = async || logouts() == before + 1;
    until("the logout is on record", recorded).await;
    let forged = metric(&site.gateway, "drimbox_forged_requests_total", &[]).await;
    assert_eq!(forged, 0);
}

#[test]
fn on_a_shared_computer_the_session_is_over_when_the_page_is_left() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-shared-computer", patient::gate("report-code")).await;
        let code = json!({ "code": patient::CODE });
        site.facts(EXAM, &code).await;
        let professional = json!({ "cookie": SESSION });
        leave_a_shared_computer(&site, SESSION, professional).await;
        let told = json!({ "cookie": patient::PATIENT, "fields": code, "closes": true });
        leave_a_shared_computer(&site, patient::PATIENT, told).await;
    });
}
