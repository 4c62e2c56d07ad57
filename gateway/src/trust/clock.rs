//! The time of day as an argument.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::UnixTime;

/// Where the time of day comes from: the system, or whatever a test holds.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub fn system() -> Self {
        Self::new(SystemTime::now)
    }

    /// A clock that reads the time from `now`.
    #[must_use]
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since 1970-01-01 00:00:00 UTC; 0 before.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        let elapsed = (self.0)().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime::since_unix_epoch(elapsed.unwrap_or_default())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().as_secs())
    }
}
