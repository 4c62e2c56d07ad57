//! Listeners: TCP, TLS, host name → certificate, limits, graceful drain.
//!
//! A listener hands requests to a router together with what the connection knows
//! ([`Connection`]) and counts what goes out. It knows neither DICOM nor who may see what.

mod activity;
mod arrival;
mod body;
mod connection;
mod idle;
mod listener;
mod names;
mod places;
mod refusals;
mod replaceable;
mod requests;
mod routers;
mod stall;
pub mod tls;

#[cfg(test)]
mod tests;

pub use connection::{Connection, ListenerKind};
pub use listener::{Drained, ListenError, Listener, Security};
pub use names::{Clients, NamedConfigs, NamedHost, usable};
pub use refusals::{Refusals, Refused, RefusedCertificate, certificate_refused};
pub use replaceable::ReplaceableKey;
pub use requests::{Capacity, RequestId, ResourceName};
pub use routers::Routers;
