//! Simulators, sample exams, scenario tests and benchmarks: everything that stands for an outside
//! system, and nothing of the product.

pub mod bench;
pub mod samples;
pub mod testkit;
