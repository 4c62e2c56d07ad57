//! People log in on the `vi` names with a real browser (Debian's Chromium), the gateway as it ships and the provider of
//! the test kit. The stories are in `js/stories.mjs`; here is what they stand on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod certificate;
mod clock;
mod professions;
mod site;
mod thousand;

use site::story;

/// One test for each story of the browser.
macro_rules! stories {
    ($($test:ident: $story:literal,)*) => {
        $(#[test]
        fn $test() {
            story($story);
        })*
    };
}

stories! {
    a_professional_comes_in_chooses_a_situation_and_leaves: "whole_way",
    a_situation_is_chosen_before_anything_is_shown_and_can_be_changed: "situation_can_be_changed",
    the_back_button_neither_breaks_a_session_nor_brings_one_back: "back_button",
    what_is_sent_twice_counts_once: "double_submit",
    two_tabs_log_in_and_out_together: "two_tabs",
    a_login_that_is_over_is_started_again_by_one_click: "expired_state",
    a_code_that_was_used_lets_nobody_else_in: "replayed_code",
    a_cookie_is_worth_nothing_on_another_host: "cookie_theft",
    a_login_of_someone_else_is_not_finished_in_this_browser: "login_csrf",
    forms_of_other_pages_change_nothing: "forged_forms",
    a_login_leads_to_pages_of_the_gateway_only: "open_redirect",
    a_session_survives_a_restart_and_a_logout_does_too: "restart",
    who_may_not_come_in_reads_why_and_whom_to_call: "refused",
    logging_out_everywhere_ends_every_session_of_the_person: "everywhere",
    a_session_ended_at_the_provider_is_over_here: "ended_at_provider",
    every_page_is_accessible: "accessible",
}
