//! Durable state behind typed traits, one implementation a backend.
//!
//! What is here can be rebuilt: losing it costs questions to an archive, never data. Every backend
//! passes the same contract tests. Calls block: callers run them off the async threads.

mod attempts;
mod sessions;
mod shared;
mod sled;

pub use self::attempts::{AttemptStore, Attempts, SledAttempts};
pub use self::sessions::{Removals, SealedSession, SessionStore, SledSessions};
pub use self::shared::SharedAttempts;
pub use self::sled::SledStore;

use serde::{Deserialize, Serialize};

/// Failure of a backend.
#[derive(Debug, thiserror::Error)]
#[error("the local store failed: {0}. Its content is rebuilt by itself; check the disk")]
pub struct StoreError(pub String);

/// Runs work of a store off the async threads. A failure is told, with `what` could not be written.
///
/// # Errors
/// Those of the work.
pub async fn written(
    what: &'static str,
    work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
) -> Result<(), StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(StoreError(error.to_string())));
    done.inspect_err(|error| tracing::warn!(%error, "{what} could not be written to disk"))
}

/// What an archive last said that a study holds; survives a restart, so that cached exams can be
/// served while the archive is away.
pub trait ListingStore: Send + Sync + 'static {
    /// Keeps a listing in place of an older one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put(&self, pacs: &str, study: &str, listing: &StoredListing) -> Result<(), StoreError>;

    /// The listing kept last.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, pacs: &str, study: &str) -> Result<Option<StoredListing>, StoreError>;
}

/// The series of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredListing {
    /// In the archive's order.
    pub series: Vec<StoredSeries>,
}

/// One series of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSeries {
    /// Series Instance UID (0020,000E).
    pub uid: String,
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// Number of Series Related Instances (0020,1209).
    pub instances: Option<u64>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    /// What every backend keeps to; `reopen` stands for a restart of the service.
    fn contract<S: ListingStore>(dir: &Path, open: impl Fn(&Path) -> S) {
        let store = open(dir);
        assert_eq!(store.get("a", "1.2").unwrap(), None);
        store.put("a", "1.2", &listing(1)).unwrap();
        store.put("a", "1.2", &listing(2)).unwrap();
        store.put("a", "1.23", &listing(3)).unwrap();
        assert_eq!(store.get("a", "1.2").unwrap(), Some(listing(2)));
        assert_eq!(
            store.get("b", "1.2").unwrap(),
            None,
            "a PACS sees another's listing"
        );
        drop(store);
        let store = open(dir);
        assert_eq!(store.get("a", "1.2").unwrap(), Some(listing(2)));
        assert_eq!(store.get("a", "1.23").unwrap(), Some(listing(3)));
    }

    #[test]
    fn sled_keeps_the_contract() {
        let dir = TempDir::new().unwrap();
        contract(dir.path(), |dir| SledStore::open(dir).unwrap());
    }

    #[test]
    fn a_damaged_sled_is_moved_aside_and_made_anew() {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("store");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("conf"), b"this is no database").unwrap();
        fs::write(folder.join("db"), vec![0xA5; 4096]).unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.put("a", "1.2", &listing(1)).unwrap();
        assert_eq!(store.get("a", "1.2").unwrap(), Some(listing(1)));
        assert!(dir.path().join("store.damaged").exists());
    }

    #[test]
    fn a_database_that_is_in_use_is_neither_shared_nor_moved_aside() {
        let dir = TempDir::new().unwrap();
        let first = SledStore::open(dir.path()).unwrap();
        let second = SledStore::open_within(dir.path(), Duration::ZERO);
        assert!(second.is_err_and(|error| error.to_string().contains("another drimbox")));
        assert!(!dir.path().join("store.damaged").exists());
        first.sessions().unwrap().put(b"name", b"kept").unwrap();
        drop(first);
        let again = SledStore::open(dir.path()).unwrap();
        assert_eq!(again.sessions().unwrap().all(9).unwrap().len(), 1);
    }

    #[test]
    fn a_session_that_was_kept_is_on_disk_at_once() {
        let dir = TempDir::new().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.sessions().unwrap().put(b"name", b"kept").unwrap();
        // As a process that is killed leaves it.
        let left = TempDir::new().unwrap();
        let folder = left.path().join("store");
        fs::create_dir(&folder).unwrap();
        for name in ["conf", "db"] {
            fs::copy(dir.path().join("store").join(name), folder.join(name)).unwrap();
        }
        let found = SledStore::open(left.path()).unwrap();
        assert_eq!(found.sessions().unwrap().all(9).unwrap().len(), 1);
        drop(store);
    }

    #[test]
    fn what_another_version_wrote_is_dropped() {
        let dir = TempDir::new().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        store.put("a", "1.2", &listing(1)).unwrap();
        store.set_schema(b"0");
        drop(store);
        let store = SledStore::open(dir.path()).unwrap();
        assert_eq!(store.get("a", "1.2").unwrap(), None);
    }

    fn listing(instances: u64) -> StoredListing {
        let series = StoredSeries {
            uid: "1.2.3".into(),
            modality: Some("CT".into()),
            instances: Some(instances),
        };
        StoredListing {
            series: vec![series],
        }
    }
}
