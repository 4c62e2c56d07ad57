//! Market certificates: the whole gateway against Pebble, the ACME authority of Let's Encrypt for tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod causes;
mod command;
mod durable;
mod first;
mod load;
mod names;
mod site;
