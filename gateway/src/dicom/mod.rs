//! What every other module knows of DICOM data: identifiers, a bounded reader, character sets,
//! DICOM JSON.
//!
//! Pure functions over bytes: no I/O, no clock, no configuration. Everything that came from outside
//! is read here, under [limits](reader) that hold before anything is allocated.

pub mod uid;
