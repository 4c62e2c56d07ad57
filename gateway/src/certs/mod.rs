//! The certificates that the gateway depends on.

pub mod market;
