//! Two DRIMboxes, each in front of an Orthanc, fetch exams from each other: through the white list, with
//! the token of a professional and a KOS. What is refused, what goes on, and what both trails say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../support/mod.rs"]
mod support;

mod bypass;
mod interrupted;
mod pair;
mod transfers;
