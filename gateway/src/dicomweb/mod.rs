//! The origin server of DICOM PS3.18: paths, `Accept`, queries, multipart, statuses.
//!
//! What stands here parses and writes. Who may see a study is decided in `access`, images come
//! from `studies`; no business rule lives in a handler.

pub mod accept;
pub mod multipart;
pub mod negotiate;
pub mod problem;
pub mod query;
