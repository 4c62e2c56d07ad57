//! Images that were looked into a moment ago: a viewer that scrolls asks for one frame after the other
//! of the same object, whose head and index need not be read each time.

use std::time::Duration;

use moka::future::Cache;

use super::frames::{Image, failed, open_in, passes_by};
use super::problem::Problem;
use crate::dicom::uid::InstanceUid;
use crate::pixels::pool::Pool;
use crate::studies::Item;

/// Bytes of heads and indexes that are kept together.
const KEPT_BYTES: u64 = 32 << 20;
/// Bytes that an index takes for each frame, about.
const INDEX_BYTES: u64 = 64;
/// Time that an image is kept after its last frame: as long its file stays open.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// The images opened last.
#[derive(Clone)]
pub struct Images {
    pool: Pool,
    /// By instance and content: what replaces an instance in the cache is another image.
    opened: Cache<(InstanceUid, u64, u32), Image>,
}

impl Images {
    /// None yet; `pool` opens them.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let size = |_: &(InstanceUid, u64, u32), image: &Image| {
            let bytes = image.head_bytes() + INDEX_BYTES * u64::from(image.index().frames());
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            pool,
            opened: Cache::builder()
                .weigher(size)
                .max_capacity(KEPT_BYTES)
                .time_to_idle(KEPT_FOR)
                .build(),
        }
    }

    /// Opens the image of an item, off the async threads.
    ///
    /// # Errors
    /// A problem with the status for it: no pixels, no room, damaged.
    pub async fn open(&self, item: &Item) -> Result<Image, Problem> {
        let entry = item.entry();
        let key = (entry.instance.clone(), entry.length, entry.crc32);
        // Of an instance that is not on disk the bytes would be kept.
        let is_on_disk = matches!(item, Item::Stored { fresh: None, .. });
        if is_on_disk && let Some(image) = self.opened.get(&key).await {
            return Ok(image);
        }
        let image = open_in(&self.pool, item).await.map_err(failed)?;
        let image = image.ok_or_else(passes_by)?;
        if is_on_disk {
            self.opened.insert(key, image.clone()).await;
        }
        Ok(image)
    }
}
