//! What stands between another DRIMbox and images: handshakes, the white list, the token of a
//! professional, the KOS. A gateway with all of it, against a test IGC Santé and a provider with the
//! shape of Pro Santé Connect.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod exams;
mod handshakes;
mod listener;
mod network;
mod requests;
mod scan;
mod unchangeable;
