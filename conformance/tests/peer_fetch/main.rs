//! Exams fetched from other DRIMboxes: from one that misbehaves, in this process, and with `drimbox fetch`
//! from a real one in front of an Orthanc.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod cached;
mod command;
mod consumer;
mod faults;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod trust;
