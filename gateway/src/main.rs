//! The `drimbox` command.

fn main() {}
