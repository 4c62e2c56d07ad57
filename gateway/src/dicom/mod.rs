//! What every other module knows of DICOM data: identifiers, a bounded reader, character sets,
//! DICOM JSON.
//!
//! Pure functions over bytes: no I/O, no clock, no configuration. Everything that came from outside
//! is read here, under [limits](reader) that hold before anything is allocated.

pub mod charset;
pub mod convert;
pub mod part10;
mod error;
mod inflate;
pub mod reader;
pub mod scan;
pub mod syntax;
#[cfg(test)]
mod testdata;
pub mod uid;
mod walk;

pub use walk::{has_short_length, implicit_vr, is_pixel_data, word_size};
