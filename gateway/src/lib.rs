//! `drimbox`: the gateway between a PACS and the DRIM-M network.
//!
//! The map of the modules and of the path of each kind of request is `docs/architecture.md`.

pub mod archive;
pub mod config;
pub mod dicom;
pub mod dicomweb;
pub mod net;
