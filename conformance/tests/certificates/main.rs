//! The gateway's own certificates and keys, as an administrator handles them: asked for, imported, refused,
//! revoked, encrypted, backed up and moved.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod centre;
mod lifecycle;
mod revoked;
mod service;
mod storage;
mod told;
mod webhook;
