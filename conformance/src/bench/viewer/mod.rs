//! The exam page in a real browser, beside OHIF in front of the PACS's own DICOMweb.

mod browser;
mod line;
mod ohif;
mod rows;
mod stage;

pub use rows::{KEYS, ViewerBench};
