//! Every certificate that can stop the gateway: what there is, until when, and what to do about it.
//!
//! A [`Place`](place::Place) is where a certificate is used; the [`inventory`] examines each, and
//! [`follow_up`] compares it with the list that IGC Santé exports.

pub mod facts;
pub mod follow_up;
pub mod inventory;
pub mod place;
pub mod report;
pub mod structure;
#[cfg(test)]
pub(crate) mod testdata;
pub mod watch;
