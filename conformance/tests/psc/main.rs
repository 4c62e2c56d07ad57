//! `psc-auth` against a provider with the shape of Pro Santé Connect, over mutual TLS.
//!
//! What is shown here is shown of that provider; nothing here is evidence about Pro Santé Connect.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod certificates;
mod ciba;
mod gate;
mod login;
mod world;
