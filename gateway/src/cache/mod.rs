//! Instances on disk, bounded in bytes, safe against a crash.
//!
//! The unit is the *bundle*: a whole series, or one instance that was asked for alone. Its folder,
//! named at random, holds `pack`, the Part 10 files one after the other in the order they came, and
//! for instances too large to be held in memory a file each. `index` is written last, after the
//! data reached the disk: a folder without a valid index is removed when the service starts, so a
//! part of a series is never taken for the whole. Everything here can be fetched again, so nothing
//! here is precious; but nothing wrong is ever served from it.
//!
//! All functions that touch files block: callers run them off the async threads.

mod index;
mod peek;
mod staging;
#[cfg(test)]
mod tests;

pub use index::Entry;
pub use peek::Peek;
pub use staging::{LargeObject, Object, Staging};

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Semaphore;

use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// Age after which the time of last use is written to disk again.
const TOUCH_EVERY: Duration = Duration::from_secs(15 * 60);

/// Entries of indexes kept in memory for the next request, some 300 bytes each.
const ENTRIES_IN_MEMORY: usize = 20_000;
/// Bytes in memory on their way to the disk.
pub const WRITING: usize = 16 * 1024 * 1024;
/// Bytes read at a time to compare them with their checksum.
const CHECKED_AT_ONCE: u64 = 1024 * 1024;

/// What a bundle holds.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Key {
    /// Name of the PACS in the configuration.
    pub pacs: String,
    /// Study.
    pub study: StudyUid,
    /// Series.
    pub series: SeriesUid,
    /// `None`: the whole series.
    pub instance: Option<InstanceUid>,
}

/// How much the cache may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of all bundles.
    pub max_bytes: u64,
    /// Bytes left free on the file system.
    pub min_free_bytes: u64,
}

/// The bundles of one folder.
pub struct Cache {
    dir: PathBuf,
    bounds: Bounds,
    state: Mutex<State>,
    degraded: AtomicBool,
    writing: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    bundles: HashMap<Key, Known>,
    /// Bytes of the bundles and of what is being written.
    bytes: u64,
    adoptions: u64,
    /// Bundles used last, held so that their indexes stay in memory.
    recent: VecDeque<(Key, Arc<Bundle>)>,
}

struct Known {
    dir: PathBuf,
    bytes: u64,
    last_used: SystemTime,
    last_touched: SystemTime,
    loaded: Weak<Bundle>,
    /// Its bytes were written by this process, or checked by it.
    checked: bool,
    /// Its place among the bundles taken in since the start; 0 for those of before.
    adoption: u64,
}

/// A complete bundle. Its folder is removed when it was evicted and nobody reads it any more.
pub struct Bundle {
    cache: Weak<Cache>,
    key: Key,
    dir: PathBuf,
    entries: Vec<Arc<Entry>>,
    by_instance: HashMap<InstanceUid, usize>,
    /// Length and time of change of its files when it was read.
    stamp: Option<Vec<(u64, SystemTime)>>,
    files: Mutex<HashMap<u32, Arc<File>>>,
    evicted: AtomicBool,
}

impl Cache {
    /// Opens the folder: takes in what is whole, removes what is not.
    ///
    /// # Errors
    /// The system's, when the folder cannot be made or read.
    pub fn open(dir: &Path, bounds: Bounds) -> io::Result<Arc<Self>> {
        fs::create_dir_all(dir)?;
        let mut state = State::default();
        for folder in fs::read_dir(dir)? {
            let path = folder?.path();
            if !path.is_dir() {
                continue;
            }
            match index::read_header(&path) {
                Ok(header) if !state.bundles.contains_key(&header.key) => {
                    let used = index::last_used(&path);
                    state.bytes += header.bytes;
                    state.bundles.insert(
                        header.key,
                        Known {
                            dir: path,
                            bytes: header.bytes,
                            last_used: used,
                            last_touched: used,
                            loaded: Weak::new(),
                            checked: false,
                            adoption: 0,
                        },
                    );
                }
                // Unfinished when the service ended, damaged, or a second copy.
                _ => remove(&path),
            }
        }
        let cache = Arc::new(Self {
            dir: dir.to_owned(),
            bounds,
            state: Mutex::new(state),
            degraded: AtomicBool::new(false),
            writing: Arc::new(Semaphore::new(WRITING)),
        });
        cache.make_room(0, 0);
        Ok(cache)
    }

    /// Bytes that may still be in memory on their way to the disk, of all retrievals together. What waits
    /// for nothing but the disk holds a share of them.
    #[must_use]
    pub fn writing(&self) -> &Arc<Semaphore> {
        &self.writing
    }

    /// The bundle of a key, if it is whole. Reads its index when it is not in memory, and all of it
    /// the first time after a start: what a disk has damaged is removed, not served. Blocks.
    #[must_use]
    pub fn get(self: &Arc<Self>, key: &Key) -> Option<Arc<Bundle>> {
        let (dir, touch, mut checked, loaded) = {
            let mut state = self.state.lock();
            let known = state.bundles.get_mut(key)?;
            let now = SystemTime::now();
            known.last_used = now;
            let age = now.duration_since(known.last_touched).unwrap_or_default();
            let touch = age > TOUCH_EVERY;
            if touch {
                known.last_touched = now;
            }
            let loaded = known.loaded.upgrade().filter(|_| !touch);
            (known.dir.clone(), touch, known.checked, loaded)
        };
        if let Some(bundle) = loaded {
            if bundle.is_untouched() {
                self.state.lock().used(key, &bundle);
                return Some(bundle);
            }
            // Somebody else wrote there: nothing is believed any more.
            checked = false;
        }
        if touch {
            index::touch(&dir);
        }
        let loaded = index::read(&dir, key)
            .map(|entries| Arc::new(Bundle::new(self, key.clone(), dir.clone(), entries)));
        let sound = loaded.and_then(|bundle| {
            if !checked {
                bundle.check()?;
            }
            Ok(bundle)
        });
        match sound {
            Ok(bundle) => {
                let mut state = self.state.lock();
                let known = state.bundles.get_mut(key)?;
                known.checked = true;
                // Another reader may have been faster.
                if let Some(loaded) = known.loaded.upgrade()
                    && loaded.stamp == bundle.stamp
                {
                    return Some(loaded);
                }
                known.loaded = Arc::downgrade(&bundle);
                state.used(key, &bundle);
                Some(bundle)
            }
            Err(error) => {
                self.damaged(key, &dir, &error);
                None
            }
        }
    }

    /// Whether a whole bundle of the key is known, without reading anything.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.state.lock().bundles.contains_key(key)
    }

    /// How many bundles were taken in since the start.
    #[must_use]
    pub fn adoptions(&self) -> u64 {
        self.state.lock().adoptions
    }

    /// Whether the bundle of a key was taken in after [`Self::adoptions`] had this value.
    #[must_use]
    pub fn was_adopted_after(&self, key: &Key, adoptions: u64) -> bool {
        let state = self.state.lock();
        state
            .bundles
            .get(key)
            .is_some_and(|known| known.adoption > adoptions)
    }

    /// Bundles kept, and bytes of all of them and of what is being written.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.bundles.len() as u64, state.bytes)
    }

    /// Starts a bundle.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::StorageFull`] when the bounds leave no room.
    pub fn stage(self: &Arc<Self>, key: Key) -> io::Result<Staging> {
        Staging::begin(Arc::clone(self), key)
    }

    /// Removes a bundle; readers under way still finish.
    pub fn remove(&self, key: &Key) {
        self.remove_if(key, |_| true);
    }

    /// Removes the bundle in `dir`, which could not be read, unless another has taken its place.
    fn damaged(&self, key: &Key, dir: &Path, error: &io::Error) {
        // A shortage of this process says nothing of the files.
        let shortage = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR];
        if Errno::from_io_error(error).is_some_and(|errno| shortage.contains(&errno)) {
            tracing::error!("a cached bundle cannot be read now: {error}");
        } else if self.remove_if(key, |known| known.dir == dir) {
            tracing::warn!("a cached bundle is damaged and removed: {error}");
            metrics::counter!("drimbox_cache_damaged_total").increment(1);
        }
    }

    fn remove_if(&self, key: &Key, condition: impl Fn(&Known) -> bool) -> bool {
        let removed = {
            let mut state = self.state.lock();
            if !state.bundles.get(key).is_some_and(condition) {
                return false;
            }
            let removed = state.bundles.remove(key);
            state.recent.retain(|(recent, _)| recent != key);
            if let Some(known) = &removed {
                state.bytes = state.bytes.saturating_sub(known.bytes);
            }
            removed
        };
        let was_there = removed.is_some();
        if let Some(known) = removed {
            known.discard();
        }
        self.publish();
        was_there
    }

    /// Whether images pass through unkept because there is no room.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Says that images pass through unkept, or are kept again.
    pub fn set_degraded(&self, degraded: bool, why: &str) {
        if self.degraded.swap(degraded, Ordering::Relaxed) != degraded {
            if degraded {
                tracing::error!(
                    "the image cache cannot keep images ({why}); they pass through unkept. \
                     Free space on its file system or lower `cache.max_bytes`"
                );
            } else {
                tracing::info!("the image cache keeps images again");
            }
        }
        metrics::gauge!("drimbox_cache_degraded").set(if degraded { 1.0 } else { 0.0 });
    }

    /// Takes room for `more` bytes of a bundle that has `own` bytes already; evicts what was used
    /// least recently.
    fn reserve(&self, own: u64, more: u64) -> io::Result<()> {
        if own.saturating_add(more) > self.bounds.max_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the bundle alone is larger than the cache",
            ));
        }
        self.make_room(own, more);
        if self.bounds.min_free_bytes > 0 && free_bytes(&self.dir)? < self.bounds.min_free_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "less is free on the file system than `cache.min_free_bytes`",
            ));
        }
        self.state.lock().bytes += more;
        self.publish();
        Ok(())
    }

    /// Gives back room that was reserved.
    fn release(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    fn make_room(&self, _own: u64, more: u64) {
        loop {
            let victim = {
                let mut state = self.state.lock();
                if state.bytes.saturating_add(more) <= self.bounds.max_bytes {
                    return;
                }
                let oldest = state
                    .bundles
                    .iter()
                    .min_by_key(|(_, known)| known.last_used);
                let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                    return;
                };
                let known = state.bundles.remove(&key);
                state.recent.retain(|(recent, _)| *recent != key);
                if let Some(known) = &known {
                    state.bytes = state.bytes.saturating_sub(known.bytes);
                }
                known
            };
            if let Some(known) = victim {
                known.discard();
                metrics::counter!("drimbox_cache_evictions_total").increment(1);
            }
        }
    }

    /// Takes in a bundle whose index is on disk.
    fn adopt(&self, key: Key, dir: PathBuf, bytes: u64, bundle: &Arc<Bundle>) {
        let now = SystemTime::now();
        let replaced = {
            let mut state = self.state.lock();
            state.adoptions += 1;
            let known = Known {
                dir,
                bytes,
                last_used: now,
                last_touched: now,
                loaded: Arc::downgrade(bundle),
                checked: true,
                adoption: state.adoptions,
            };
            state.recent.retain(|(recent, _)| *recent != key);
            state.used(&key, bundle);
            let replaced = state.bundles.insert(key, known);
            if let Some(old) = &replaced {
                state.bytes = state.bytes.saturating_sub(old.bytes);
            }
            replaced
        };
        if let Some(old) = replaced {
            old.discard();
        }
        self.publish();
    }

    fn publish(&self) {
        let state = self.state.lock();
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("drimbox_cache_bytes").set(state.bytes as f64);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("drimbox_cache_series").set(state.bundles.len() as f64);
    }
}

impl State {
    /// Notes the use of a bundle; the ones used longest ago are let go.
    fn used(&mut self, key: &Key, bundle: &Arc<Bundle>) {
        self.recent.retain(|(recent, _)| recent != key);
        self.recent.push_front((key.clone(), Arc::clone(bundle)));
        let mut entries = 0;
        let kept = self.recent.iter().take_while(|(_, bundle)| {
            entries += bundle.entries.len() + 16;
            entries <= ENTRIES_IN_MEMORY
        });
        let kept = kept.count().max(1);
        self.recent.truncate(kept);
    }
}

impl Known {
    fn discard(self) {
        match self.loaded.upgrade() {
            // The last reader removes the folder.
            Some(bundle) => bundle.evicted.store(true, Ordering::Release),
            None => remove(&self.dir),
        }
    }
}

impl Bundle {
    fn new(cache: &Arc<Cache>, key: Key, dir: PathBuf, entries: Vec<Arc<Entry>>) -> Self {
        let by_instance = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (entry.instance.clone(), at))
            .collect();
        let stamp = stamp(&dir, &entries).ok();
        Self {
            cache: Arc::downgrade(cache),
            key,
            stamp,
            dir,
            entries,
            by_instance,
            files: Mutex::default(),
            evicted: AtomicBool::new(false),
        }
    }

    /// The instances in the order they came.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// One instance.
    #[must_use]
    pub fn find(&self, instance: &InstanceUid) -> Option<&Arc<Entry>> {
        self.entries.get(*self.by_instance.get(instance)?)
    }

    /// Whether its files are as they were when it was read.
    fn is_untouched(&self) -> bool {
        self.stamp.is_some() && stamp(&self.dir, &self.entries).ok() == self.stamp
    }

    /// Reads everything and compares it with its checksums.
    fn check(&self) -> io::Result<()> {
        for entry in &self.entries {
            let file = self.file(entry)?;
            let mut checksum = crc32fast::Hasher::new();
            let mut at = 0;
            while at < entry.length {
                let piece = CHECKED_AT_ONCE.min(entry.length - at);
                let length = usize::try_from(piece).map_err(io::Error::other)?;
                checksum.update(&read_range(&file, entry.offset + at, length)?);
                at += piece;
            }
            if checksum.finalize() != entry.crc32 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "an instance is not what was written",
                ));
            }
        }
        Ok(())
    }

    /// Opens the files that some entries lie in, so that nothing that happens to their names later
    /// matters to who reads them. Blocks.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::UnexpectedEof`] when one is shorter than its entries say.
    pub fn open<'a>(&self, entries: impl IntoIterator<Item = &'a Arc<Entry>>) -> io::Result<()> {
        let mut ends: HashMap<u32, (&Entry, u64)> = HashMap::new();
        for entry in entries {
            let end = entry.offset.saturating_add(entry.length);
            let (_, last) = ends.entry(entry.file).or_insert((entry, end));
            *last = end.max(*last);
        }
        for (entry, end) in ends.into_values() {
            if self.file(entry)?.metadata()?.len() < end {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Says that its files could not be opened or read: it leaves the cache, and the next request
    /// asks the archive.
    pub fn is_unreadable(&self, error: &io::Error) {
        if let Some(cache) = self.cache.upgrade() {
            cache.damaged(&self.key, &self.dir, error);
        }
    }

    /// The open file that an entry lies in.
    ///
    /// # Errors
    /// The system's.
    pub fn file(&self, entry: &Entry) -> io::Result<Arc<File>> {
        let mut files = self.files.lock();
        if let Some(file) = files.get(&entry.file) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(staging::file_path(&self.dir, entry.file))?);
        files.insert(entry.file, Arc::clone(&file));
        Ok(file)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.evicted.load(Ordering::Acquire) {
            remove(&self.dir);
        }
    }
}

/// Reads a range of a file.
///
/// # Errors
/// The system's; a file that ends early.
pub fn read_range(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(length);
    append_range(file, offset, length, &mut buffer)?;
    Ok(buffer.into())
}

/// Appends a range of a file to a buffer that was made with room for it: more room would be read into, for nothing.
///
/// # Errors
/// The system's; a file that ends early.
pub fn append_range(
    file: &File,
    offset: u64,
    length: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let start = buffer.len();
    buffer.reserve_exact(length);
    while buffer.len() < start + length {
        let at = offset + (buffer.len() - start) as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more than was asked for.
    buffer.truncate(start + length);
    Ok(())
}

/// Reads a range of a file if the system has all of it in memory: never waits for a disk, so that an
/// async thread may call it.
#[must_use]
pub fn read_from_memory(file: &File, offset: u64, length: usize) -> Option<Bytes> {
    let mut buffer = vec![0; length];
    let mut whole = [IoSliceMut::new(&mut buffer)];
    let read = rustix::io::preadv2(file, &mut whole, offset, ReadWriteFlags::NOWAIT).ok()?;
    (read == length).then(|| buffer.into())
}

fn stamp(dir: &Path, entries: &[Arc<Entry>]) -> io::Result<Vec<(u64, SystemTime)>> {
    let of = |path: PathBuf| {
        let metadata = fs::metadata(path)?;
        Ok((metadata.len(), metadata.modified()?))
    };
    let mut numbers: Vec<u32> = entries.iter().map(|entry| entry.file).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let files = numbers
        .iter()
        .map(|number| staging::file_path(dir, *number));
    std::iter::once(dir.join(index::FILE))
        .chain(files)
        .map(of)
        .collect()
}

/// Removes a folder of the cache; what cannot be removed now goes at the next start.
fn remove(dir: &Path) {
    // Without its index the folder means nothing, whatever happens to the rest.
    let _ = fs::remove_file(dir.join(index::FILE));
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("a folder of the image cache cannot be removed: {error}");
    }
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
