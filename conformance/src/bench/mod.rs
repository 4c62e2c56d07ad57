//! The benchmark: what the gateway takes for its main jobs, beside what other programs take for the
//! same jobs on the same machine in the same run.
//!
//! Every measure is a median of runs that alternate between the gateway and its peers. Durations are
//! printed and judged, never asserted: a run fails only when something did not work.

mod cold;
pub mod dcmtk;
pub mod fetch;
pub mod gates;
mod http1;
mod images;
pub mod link;
pub mod load;
pub mod machine;
pub mod psc;
pub mod report;
pub mod rows;
mod search;
pub mod stage;
mod strain;
pub mod verify;
pub mod viewer;
mod warm;
