//! The exam page that a report's link opens.

pub mod assets;
