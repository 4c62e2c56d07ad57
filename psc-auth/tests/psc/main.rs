//! The library against a provider in this process: mutual TLS on loopback, tokens shaped like those of PSC.
//!
//! It stands for Pro Santé Connect alone. What it does is what is known of PSC; passing here is no evidence about PSC.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod ciba;
mod discovery;
mod gate;
mod http_client;
mod login;
mod logout;
mod provider;
mod session;
