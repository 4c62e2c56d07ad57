//! Certificates of the proxy that are replaced while it runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::config::ServerIdentity;
use crate::net::{ReplaceableKey, tls};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A certificate in use, and the files it came from.
pub(super) trait Followed: Send + Sync + 'static {
    /// What the log calls it.
    fn name(&self) -> &str;

    fn identity(&self) -> &ServerIdentity;

    /// Uses what the files hold now. An error changes nothing. Reads files and may open an encrypted key: blocks.
    fn reload(&self) -> anyhow::Result<()>;
}

/// Looks at the files every minute and at `hangup` until `stop`, and uses what they hold when they changed.
pub(super) async fn follow(
    followed: Arc<dyn Followed>,
    mut hangup: Signal,
    stop: CancellationToken,
) {
    let mut seen = changed_at(followed.identity());
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            came = hangup.recv() => match came {
                Some(()) => true,
                None => return,
            },
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let now = changed_at(followed.identity());
        if now == seen && !asked {
            continue;
        }
        let reloading = Arc::clone(&followed);
        let reloaded = tokio::task::spawn_blocking(move || reloading.reload()).await;
        match reloaded {
            Ok(Ok(())) => {
                tracing::info!(certificate = followed.name(), "the certificate was renewed");
                seen = now;
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

fn changed_at(identity: &ServerIdentity) -> [Option<SystemTime>; 2] {
    [&identity.certificate_file, &identity.key_file].map(|file| {
        let data = std::fs::metadata(file);
        data.and_then(|data| data.modified()).ok()
    })
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
