//! The origin server of DICOM PS3.18: paths, negotiation, multipart, statuses.
//!
//! A handler parses, asks [`access`](crate::access), calls [`studies`](crate::studies), writes the
//! answer. Which status an error becomes is decided in [`problem`] and [`service`] alone.

pub mod accept;
pub mod body;
pub mod frames;
pub mod multipart;
pub mod negotiate;
pub mod path;
pub mod problem;
pub mod query;
pub mod rendered;
pub mod search;
pub mod service;
