//! What every other module knows of DICOM data: identifiers, a bounded reader, character sets,
//! DICOM JSON.
//!
//! Pure functions over bytes: no I/O, no clock, no configuration. Everything that came from outside
//! is read here, under [limits](reader) that hold before anything is allocated.

pub mod charset;
pub mod compose;
pub mod convert;
pub mod edit;
mod error;
mod inflate;
pub mod json;
pub mod kos;
pub mod part10;
pub mod path;
pub mod reader;
pub mod report;
pub mod scan;
pub mod syntax;
#[cfg(test)]
pub(crate) mod testdata;
pub mod uid;
mod walk;
pub mod write;
pub mod xml;

pub use walk::{has_short_length, implicit_vr, is_pixel_data, word_size};
