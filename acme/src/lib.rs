//! The life of one public certificate over ACME (RFC 8555): account, order, HTTP-01, renewal (RFC 9773), revocation.
//!
//! A [`Lifecycle`] owns one name. It decides when a certificate is needed, gets it from the first of several
//! authorities that gives one, hands it to an [`Installer`], and says at any time how things stand ([`Status`]) and
//! what is in the way ([`Failure`]). Every step is kept in a [`Store`] before the next one: after `kill -9` anywhere,
//! the same call goes on where it was, with the same order and the same key.
//!
//! What it needs comes as arguments ([`Parts`]): the way to the authorities ([`Transport`]), time ([`Clock`]), chance
//! ([`Random`]), the store, the installer, and a [`Probe`] that tells failures of validation apart. It reads no
//! configuration and opens no port: whoever listens on port 80 answers from [`Tokens`].
//!
//! A certificate has one name, no wildcard, and a key of its own that is made for it and never used again.

use std::future::Future;
use std::pin::Pin;

mod account;
mod attempt;
mod certificate;
mod clock;
mod dns;
mod failure;
mod key;
mod lease;
mod lifecycle;
mod name;
mod order;
mod probe;
mod record;
mod schedule;
mod signed;
mod store;
mod transport;

pub use account::{AccountStanding, Accounts, Authority, ExternalAccount};
pub use certificate::{Issued, NotUsable};
pub use clock::{Clock, Random, SystemClock, SystemRandom, UnixTime};
pub use dns::{Caa, CaaRecord, DnsResolver, Resolver, SystemResolver};
pub use failure::{Cause, Failure};
pub use key::{KeyType, PrivateKey};
pub use lease::Lease;
pub use lifecycle::{
    InstallError, Installer, Lifecycle, Occasion, Parts, Reason, Settings, Status,
};
pub use name::{DnsName, NotAName};
pub use probe::{Port80, Probe, Seen, SystemProbe};
pub use record::current_record;
pub use schedule::{Age, Validity};
pub use store::{FileStore, Store, StoreError, Tokens};
pub use transport::{
    HttpsTransport, Request, Response, Transport, TransportError, TransportSettings,
    TransportSetupError, caa_identities,
};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The path under which port 80 answers challenges (RFC 8555 §8.3), before the token.
pub const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";
