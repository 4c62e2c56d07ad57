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

use site::{story, story_of_two_series};

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
