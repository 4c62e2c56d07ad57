//! Listeners: TCP, TLS, host name → certificate, limits, graceful drain.
//!
//! A listener hands requests to a router together with what the connection knows
//! ([`Connection`]) and counts what goes out. It knows neither DICOM nor who may see what.

mod body;
mod connection;
mod idle;
mod listener;
mod requests;
mod stall;
pub mod tls;

#[cfg(test)]
mod tests;

pub use connection::{Connection, ListenerKind};
pub use listener::{Drained, ListenError, Listener, Security};
pub use requests::{Capacity, RequestId, ResourceName};
