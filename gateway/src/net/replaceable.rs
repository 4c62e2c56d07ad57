//! A certificate with its key that can be replaced while connections are open: of a listener that has one, whatever
//! name is asked for, or of a client.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Handshakes use what it holds at that moment.
#[derive(Debug)]
pub struct ReplaceableKey(ArcSwap<CertifiedKey>);

impl ReplaceableKey {
    /// Holds this one.
    #[must_use]
    pub fn new(certificate: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(certificate)))
    }

    /// Holds another from the next handshake on.
    pub fn replace(&self, certificate: CertifiedKey) {
        self.0.store(Arc::new(certificate));
    }

    /// What it holds.
    #[must_use]
    pub fn in_use(&self) -> Arc<CertifiedKey> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for ReplaceableKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use())
    }
}

impl ResolvesClientCert for ReplaceableKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
