#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod http;
mod http2;
mod names;
mod refusals;
pub(in crate::net) mod support;
mod swaps;
mod tls;
