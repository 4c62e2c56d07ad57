//! An HTTP client for tests: HTTP/1.1 and HTTP/2, plain or TLS with a client certificate, host
//! names mapped to addresses by the test, and bodies read as a stream.
//!
//! It follows no redirect, retries nothing and hides nothing: a connection that breaks in the
//! middle of a body is a result that a test can look at.

mod client;
mod exchange;
mod parts;

pub use client::{Client, ClientBuilder, Protocol};
pub use exchange::{Call, Drained, Response};
pub use parts::{Multipart, Part, sha256};
