//! A look at what instances say of themselves, without a use of their bundle: nothing is held in
//! memory longer for it, and no bundle is checked whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{Bundle, Cache, Entry, Key, index, read_range};
use crate::dicom::uid::StudyUid;

/// Bytes of an instance that are read to compare its checksum, once for each look.
const MAX_CHECKED: u64 = 4 * 1024 * 1024;

impl Cache {
    /// The bundles of these studies of a PACS, in a stable order, without reading anything.
    #[must_use]
    pub fn of_studies(
        &self,
        pacs: &str,
        studies: &HashSet<StudyUid>,
    ) -> HashMap<StudyUid, Vec<Key>> {
        let mut found: HashMap<StudyUid, Vec<Key>> = HashMap::new();
        if studies.is_empty() {
            return found;
        }
        {
            let state = self.state.lock();
            let keys = state.bundles.keys();
            for key in keys.filter(|key| studies.contains(&key.study) && key.pacs == pacs) {
                found
                    .entry(key.study.clone())
                    .or_default()
                    .push(key.clone());
            }
        }
        found.values_mut().for_each(|keys| keys.sort_unstable());
        found
    }

    /// A look into a bundle; `None` when there is none. Blocks.
    #[must_use]
    pub fn peek(self: &Arc<Self>, key: &Key) -> Option<Peek> {
        let (dir, checked, loaded) = {
            let state = self.state.lock();
            let known = state.bundles.get(key)?;
            (known.dir.clone(), known.checked, known.loaded.upgrade())
        };
        let bundle = match loaded {
            Some(bundle) => bundle,
            None => {
                let entries = index::read(&dir, key).ok()?;
                Arc::new(Bundle::new(self, key.clone(), dir, entries))
            }
        };
        Some(Peek { bundle, checked })
    }
}

/// A bundle that is looked into.
pub struct Peek {
    bundle: Arc<Bundle>,
    /// Its bytes are known to be sound.
    checked: bool,
}

impl Peek {
    /// What the bundle holds.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The data set of an instance up to its pixel data, `most` bytes at most; `None` when it is
    /// larger, cannot be read, or is not what was kept. Blocks.
    #[must_use]
    pub fn head(&self, entry: &Entry, most: u64) -> Option<Bytes> {
        if entry.head_length > most {
            return None;
        }
        let file = self.bundle.file(entry).ok()?;
        let head = usize::try_from(entry.head_length).ok()?;
        if self.checked {
            let from = entry.offset.checked_add(entry.meta_length)?;
            return read_range(&file, from, head).ok();
        }
        if entry.length > MAX_CHECKED {
            return None;
        }
        let whole = read_range(&file, entry.offset, usize::try_from(entry.length).ok()?).ok()?;
        let meta = usize::try_from(entry.meta_length).ok()?;
        let end = meta.checked_add(head)?;
        let sound = crc32fast::hash(&whole) == entry.crc32 && end <= whole.len();
        sound.then(|| whole.slice(meta..end))
    }
}
