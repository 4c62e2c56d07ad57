//! Outside systems for tests, the demo and the benchmarks: real servers as child processes on
//! loopback, simulators with faults, a test PKI, and an HTTP client that watches what it receives.
//!
//! Everything that is started here writes only below the folder it is given, listens on loopback
//! only, and stops with the value that started it, or with the test process however that ends.

pub mod connect;
pub mod dcmqrscp;
pub mod error;
pub mod gateway;
pub mod http;
pub mod igc;
pub mod metrics;
pub mod multipart;
pub mod network;
pub mod nginx;
pub mod orthanc;
pub mod pacs;
pub mod pebble;
pub mod peer;
pub mod pki;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod psc;
pub mod rsyslog;
pub mod smtp;
pub mod syscalls;
pub mod web;
pub mod whitelist;

pub use connect::ConnectProxy;
pub use dcmqrscp::Dcmqrscp;
pub use error::KitError;
pub use gateway::{Gateway, GatewayConfig, PacsConfig, binary};
pub use http::{Client, ClientBuilder, Protocol, Response};
pub use network::Network;
pub use nginx::Nginx;
pub use orthanc::Orthanc;
pub use pacs::FaultyPacs;
pub use pebble::{Pebble, PebbleSettings};
pub use peer::{FaultyPeer, PeerFault, PeerInstance};
pub use pki::{Identity, Pki};
pub use ports::free_port;
pub use process::{Process, Program};
pub use proxy::{Fault, FaultProxy};
pub use psc::{PscClient, PscProvider};
pub use rsyslog::Rsyslog;
pub use web::{FaultyWeb, WebFault};
