//! The origin server of DICOM PS3.18: paths, negotiation, multipart, statuses.
//!
//! A handler parses, asks [`access`](crate::access), calls [`studies`](crate::studies), writes the
//! answer. Which status an error becomes is decided in [`problem`] and [`status`] alone.

pub mod accept;
mod answer;
pub mod body;
mod bulk;
mod capabilities;
mod conditional;
mod documents;
pub mod frames;
mod gzip;
pub mod images;
pub mod ins;
mod metadata;
pub mod multipart;
pub mod negotiate;
pub mod object;
pub mod path;
pub mod pictures;
pub mod problem;
pub mod query;
pub mod rendered;
mod retrieve;
mod rewritten;
pub mod roots;
pub mod search;
pub mod service;
mod several;
pub mod spool;
mod status;
pub mod trail;
pub mod transcoded;
