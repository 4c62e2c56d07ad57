//! `drimbox`: the gateway between a PACS and the DRIM-M network.
//!
//! The map of the modules and of the path of each kind of request is `docs/architecture.md`.

pub mod access;
pub mod admin;
pub mod app;
pub mod archive;
pub mod audit;
pub mod backup;
pub mod cache;
pub mod certs;
pub mod cli;
pub mod config;
#[cfg(test)]
mod conformance;
pub mod dicom;
pub mod dicomweb;
pub mod keys;
pub mod login;
pub mod net;
pub mod notify;
pub mod pixels;
pub mod proxy;
pub mod source;
pub mod store;
pub mod studies;
pub mod telemetry;
pub mod trust;
pub mod viewer;
