//! Certificates of the proxy that are replaced while it runs.

use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::certs::follow::Follow;
use crate::config::ServerIdentity;
use crate::net::{ReplaceableKey, tls};

/// A certificate in use, and the files it came from.
pub(super) trait Followed: Send + Sync + 'static {
    /// What the log calls it.
    fn name(&self) -> &str;

    fn identity(&self) -> &ServerIdentity;

    /// Uses what the files hold now. An error changes nothing. Reads files and may open an encrypted key: blocks.
    fn reload(&self) -> anyhow::Result<()>;
}

/// Looks at the files every minute and at `hangup` until `stop`, and uses what they hold when they changed.
pub(super) async fn follow(followed: Arc<dyn Followed>, hangup: Signal, stop: CancellationToken) {
    let mut files = Follow::new(followed.identity(), hangup);
    while let Some(then) = files.next(&stop).await {
        let reloading = Arc::clone(&followed);
        let reloaded = tokio::task::spawn_blocking(move || reloading.reload()).await;
        match reloaded {
            Ok(Ok(())) => {
                tracing::info!(certificate = followed.name(), "the certificate was renewed");
                files.in_use(then);
            }
            // Perhaps only one of the two files is there yet: looked at again.
            Ok(Err(error)) => tracing::warn!(
                certificate = followed.name(),
                "the new certificate is not used: {error:#}"
            ),
            Err(_) => tracing::error!(
                certificate = followed.name(),
                "reading the certificate failed: it is read again"
            ),
        }
    }
}

/// The certificate of the listener.
pub(super) struct OfListener {
    identity: ServerIdentity,
    key: Arc<ReplaceableKey>,
}

impl OfListener {
    /// # Errors
    /// When a file cannot be used.
    pub(super) fn new(identity: &ServerIdentity) -> anyhow::Result<Self> {
        Ok(Self {
            identity: identity.clone(),
            key: ReplaceableKey::new(tls::certified_key(identity)?),
        })
    }

    /// What handshakes take the certificate from.
    pub(super) fn key(&self) -> Arc<ReplaceableKey> {
        Arc::clone(&self.key)
    }
}

impl Followed for OfListener {
    fn name(&self) -> &str {
        "[listen]"
    }

    fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    fn reload(&self) -> anyhow::Result<()> {
        self.key.replace(tls::certified_key(&self.identity)?);
        Ok(())
    }
}
