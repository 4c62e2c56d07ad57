//! The embedded store: sled, in the folder `store` of the data folder.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{ListingStore, SledAttempts, SledSessions, StoreError, StoredListing};

const FOLDER: &str = "store";
/// Where a database that cannot be opened is kept, for who wants to look at it.
const DAMAGED: &str = "store.damaged";
/// Raised with every change of what is written: a store of another version is emptied.
const SCHEMA: &[u8] = b"1";
const SCHEMA_KEY: &[u8] = b"schema";
const LISTINGS: &str = "listings/1";
const SESSIONS: &str = "sessions/1";
/// Sessions of patients.
const PATIENTS: &str = "patients/1";
/// What was opened in Weasis.
const WEASIS: &str = "weasis/1";
const ATTEMPTS: &str = "attempts/1";
/// Longest time that a store is waited for which another has: threads of one that was closed let go of it
/// a moment later.
const LOCKED: Duration = Duration::from_secs(5);
/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(10);
const IN_USE: &str = "another drimbox has it open; stop the one that runs on this data folder";
/// Bytes of memory for pages.
const PAGES: u64 = 8 * 1024 * 1024;
/// Bytes on disk beyond which the listings start over.
const MAX_DISK: u64 = 256 * 1024 * 1024;
/// Writes between two looks at the size.
const LOOK_EVERY: u32 = 1000;

/// State in an embedded database, for a gateway of one node.
pub struct SledStore {
    db: sled::Db,
    listings: sled::Tree,
    writes: AtomicU32,
}

impl SledStore {
    /// Opens the database below `data_dir`; one that is damaged is moved aside and made anew. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when another process has it, or the disk does not take a new one either.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_within(data_dir, LOCKED)
    }

    pub(super) fn open_within(data_dir: &Path, wait: Duration) -> Result<Self, StoreError> {
        let folder = data_dir.join(FOLDER);
        let until = Instant::now() + wait;
        let opened = loop {
            match Self::open_folder(&folder) {
                Err(error) if is_locked(&error) && Instant::now() < until => {
                    std::thread::sleep(AGAIN);
                }
                opened => break opened,
            }
        };
        let store = match opened {
            Ok(store) => store,
            // Another process has it: that one's data are fine.
            Err(error) if is_locked(&error) => return Err(StoreError(IN_USE.into())),
            Err(error) => {
                tracing::error!(
                    "the local store cannot be opened ({error}); it is moved to {DAMAGED} and made anew"
                );
                set_aside(&folder, &data_dir.join(DAMAGED))
                    .map_err(|error| StoreError(error.to_string()))?;
                Self::open_folder(&folder).map_err(failed)?
            }
        };
        store.check_schema()?;
        Ok(store)
    }

    /// The sessions kept in it.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    pub fn sessions(&self) -> Result<SledSessions, StoreError> {
        self.db
            .open_tree(SESSIONS)
            .map(SledSessions)
            .map_err(failed)
    }

    /// The sessions of patients kept in it.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    pub fn patients(&self) -> Result<SledSessions, StoreError> {
        self.db
            .open_tree(PATIENTS)
            .map(SledSessions)
            .map_err(failed)
    }

    /// What was opened in Weasis, as it is kept in it.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    pub fn weasis(&self) -> Result<SledSessions, StoreError> {
        self.db.open_tree(WEASIS).map(SledSessions).map_err(failed)
    }

    /// The counters of refused attempts kept in it.
    ///
    /// # Errors
    /// [`StoreError`] when the disk fails.
    pub fn attempts(&self) -> Result<SledAttempts, StoreError> {
        self.db
            .open_tree(ATTEMPTS)
            .map(SledAttempts)
            .map_err(failed)
    }

    fn open_folder(folder: &Path) -> Result<Self, sled::Error> {
        let db = sled::Config::default()
            .path(folder)
            .cache_capacity(PAGES)
            .open()?;
        let listings = db.open_tree(LISTINGS)?;
        Ok(Self {
            db,
            listings,
            writes: AtomicU32::new(0),
        })
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let known = self.db.get(SCHEMA_KEY).map_err(failed)?;
        if known.as_deref() != Some(SCHEMA) {
            self.listings.clear().map_err(failed)?;
            self.db.insert(SCHEMA_KEY, SCHEMA).map_err(failed)?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn set_schema(&self, schema: &[u8]) {
        let _ = self.db.insert(SCHEMA_KEY, schema);
    }
}

impl ListingStore for SledStore {
    fn put(&self, pacs: &str, study: &str, listing: &StoredListing) -> Result<(), StoreError> {
        if self.writes.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1
            && self.db.size_on_disk().map_err(failed)? > MAX_DISK
        {
            self.listings.clear().map_err(failed)?;
        }
        let value = serde_json::to_vec(listing).map_err(|error| StoreError(error.to_string()))?;
        self.listings
            .insert(key(pacs, study), value)
            .map_err(failed)?;
        Ok(())
    }

    fn get(&self, pacs: &str, study: &str) -> Result<Option<StoredListing>, StoreError> {
        let found = self.listings.get(key(pacs, study)).map_err(failed)?;
        // What cannot be read any more is as good as absent.
        Ok(found.and_then(|value| serde_json::from_slice(&value).ok()))
    }
}

fn key(pacs: &str, study: &str) -> Vec<u8> {
    [pacs.as_bytes(), b"\0", study.as_bytes()].concat()
}

pub(super) fn failed(error: sled::Error) -> StoreError {
    StoreError(error.to_string())
}

/// Whether somebody else has the store. sled says it in words alone.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if io.to_string().starts_with("could not acquire lock"))
}

fn set_aside(folder: &Path, aside: &Path) -> io::Result<()> {
    if aside.exists() {
        fs::remove_dir_all(aside)?;
    }
    fs::rename(folder, aside)
}
