//! Every certificate that can stop the gateway: what there is, until when, and what to do about it.
//!
//! A [`Place`](place::Place) is where a certificate is used; the [`inventory`] examines each, and
//! [`follow_up`] compares it with the list that IGC Santé exports. [`market`] obtains and renews those
//! of the `vi` names.

pub mod alerts;
pub mod authorities;
pub mod container;
pub mod facts;
pub mod finding;
pub mod follow;
pub mod follow_up;
pub mod install;
pub mod inventory;
pub mod issuer;
pub mod market;
pub mod place;
pub mod presented;
pub mod replaced;
pub mod report;
pub mod request;
pub mod structure;
#[cfg(test)]
pub(crate) mod testdata;
pub mod watch;
