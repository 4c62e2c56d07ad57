//! The TOML file read once into one typed, validated value.

mod model;

pub use model::*;
