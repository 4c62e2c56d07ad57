//! `drimbox proxy` between software, the provider with the shape of Pro Santé Connect, and an API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod operation;
mod sessions;
mod world;
