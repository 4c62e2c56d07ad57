//! Files of a certificate that people replace while it is in use.

use std::fs;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::config::ServerIdentity;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// When the certificate and its key were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([Option<SystemTime>; 2]);

/// Looks at the files of a certificate every minute, and at a signal.
#[derive(Debug)]
pub struct Follow {
    identity: ServerIdentity,
    hangup: Signal,
    seen: Stamp,
}

impl Follow {
    /// What the files hold now is in use.
    #[must_use]
    pub fn new(identity: &ServerIdentity, hangup: Signal) -> Self {
        Self {
            identity: identity.clone(),
            hangup,
            seen: Stamp::of(identity),
        }
    }

    /// Waits until the files are others than those in use, or somebody asks for them to be read; `None` at the end.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Stamp> {
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return None,
                came = self.hangup.recv() => came.map(|()| true)?,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let now = Stamp::of(&self.identity);
            if asked || now != self.seen {
                return Some(now);
            }
        }
    }

    /// What the files held then is in use. Without this they are read again at the next look: perhaps only one of the two
    /// was there yet.
    pub fn in_use(&mut self, then: Stamp) {
        self.seen = then;
    }
}

impl Stamp {
    fn of(identity: &ServerIdentity) -> Self {
        Self(
            [&identity.certificate_file, &identity.key_file].map(|file| {
                let data = fs::metadata(file);
                data.and_then(|data| data.modified()).ok()
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_that_changed_are_noticed_within_a_minute_and_until_they_are_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let identity = ServerIdentity {
            certificate_file: dir.path().join("c.pem"),
            key_file: dir.path().join("k.pem"),
        };
        for file in [&identity.certificate_file, &identity.key_file] {
            fs::write(file, "").unwrap();
        }
        let stop = CancellationToken::new();
        let mut follow = Follow::new(&identity, signal(SignalKind::hangup()).unwrap());
        let hour = Duration::from_secs(3_600);
        let wait = tokio::time::timeout(hour, follow.next(&stop)).await;
        assert!(wait.is_err(), "nothing changed");

        let before = tokio::time::Instant::now();
        let key = fs::File::options().write(true).open(&identity.key_file);
        key.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let then = follow.next(&stop).await.unwrap();
        assert!(before.elapsed() <= LOOK_EVERY);
        assert_eq!(
            follow.next(&stop).await,
            Some(then),
            "it could not be used yet"
        );
        follow.in_use(then);
        let wait = tokio::time::timeout(hour, follow.next(&stop)).await;
        assert!(wait.is_err());
        stop.cancel();
        assert_eq!(follow.next(&stop).await, None);
    }
}
