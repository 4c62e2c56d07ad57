//! Room for results that wait for their clients: a bounded number of bytes, in memory and on disk.
//!
//! Who waits for room waits for what was given room before, never for what comes after: so that those
//! who wait never hold what the others need.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::SpooledTempFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size.
const PIECE: u64 = 64 << 10;
/// Bytes of a result kept in memory; a larger one goes to disk.
pub const IN_MEMORY: usize = 8 << 20;

/// The room; clones share it.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    room: Arc<Semaphore>,
    pieces: u32,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// Others wait for their clients: 503 with Retry-After.
    #[error("too many images wait for their clients; try again in a moment")]
    Full,
    /// One result alone would take more than all may: 413.
    #[error(
        "the image takes {needed} bytes once it is transcoded where {limit} are allowed; ask for it as it is stored, or raise pixels.max_spool_bytes"
    )]
    TooLarge {
        /// The estimate in bytes.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Spool {
    /// Room for `bytes`; results that are too large for memory go to `folder`, without a name in it.
    #[must_use]
    pub fn new(folder: PathBuf, bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let pieces = u32::try_from(bytes / PIECE).unwrap_or(most).clamp(1, most);
        Self {
            folder,
            room: Arc::new(Semaphore::new(pieces as usize)),
            pieces,
        }
    }

    /// A file for one result.
    #[must_use]
    pub fn file(&self) -> SpooledTempFile {
        SpooledTempFile::new_in(IN_MEMORY, &self.folder)
    }

    /// Room for a result of about this many bytes, if there is some now.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn try_reserve(&self, bytes: u64) -> Result<Share, SpoolError> {
        let pieces = self.pieces_of(bytes)?;
        let share = Arc::clone(&self.room).try_acquire_many_owned(pieces);
        share.map(Share).map_err(|_| SpoolError::Full)
    }

    /// Room for a result of about this many bytes, once there is some.
    ///
    /// # Errors
    /// [`SpoolError::TooLarge`].
    pub async fn reserve(&self, bytes: u64) -> Result<Share, SpoolError> {
        let pieces = self.pieces_of(bytes)?;
        let share = Arc::clone(&self.room).acquire_many_owned(pieces).await;
        share.map(Share).map_err(|_| SpoolError::Full)
    }

    fn pieces_of(&self, bytes: u64) -> Result<u32, SpoolError> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).ok();
        pieces
            .filter(|pieces| *pieces <= self.pieces)
            .ok_or(SpoolError::TooLarge {
                needed: bytes,
                limit: u64::from(self.pieces) * PIECE,
            })
    }
}

/// The room of one result; free again when dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

impl Share {
    /// Bytes that fit.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.num_permits() as u64 * PIECE
    }

    /// Gives back what a result of this many bytes does not take.
    pub fn shrink(&mut self, bytes: u64) {
        let kept = usize::try_from(bytes.div_ceil(PIECE)).unwrap_or(usize::MAX);
        let spare = self.0.num_permits().saturating_sub(kept);
        drop(self.0.split(spare));
    }
}

/// Counts what is written, and refuses what was not reserved.
pub struct Measured<W> {
    /// Where it goes.
    pub inner: W,
    /// Bytes so far.
    pub length: u64,
    /// Bytes at most.
    pub most: u64,
}

impl<W: io::Write> io::Write for Measured<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.length.saturating_add(data.len() as u64) > self.most {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                "the result is larger than expected",
            ));
        }
        let count = self.inner.write(data)?;
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use futures_util::FutureExt as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_waits_for_its_clients_is_bounded_and_room_comes_back() {
        let spool = Spool::new(PathBuf::new(), 10 * MIB);
        let mut large = spool.try_reserve(8 * MIB).unwrap();
        assert_eq!(large.bytes(), 8 * MIB);
        assert_eq!(spool.try_reserve(3 * MIB).err(), Some(SpoolError::Full));
        let waiting = spool.reserve(3 * MIB);
        let mut waiting = Box::pin(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        // It turned out smaller than it was thought to be.
        large.shrink(7 * MIB);
        assert!(waiting.now_or_never().unwrap().is_ok());
        drop(large);
        assert!(spool.try_reserve(10 * MIB).is_ok());
    }

    #[test]
    fn a_result_larger_than_all_room_is_refused_and_not_waited_for() {
        let spool = Spool::new(PathBuf::new(), 10 * MIB);
        let too_large = SpoolError::TooLarge {
            needed: 11 * MIB,
            limit: 10 * MIB,
        };
        let refused = spool.reserve(11 * MIB).now_or_never().unwrap();
        assert_eq!(refused.err(), Some(too_large));
    }

    #[test]
    fn nothing_is_written_beyond_what_was_reserved() {
        let mut out = Measured {
            inner: Vec::new(),
            length: 0,
            most: 3,
        };
        out.write_all(b"abc").unwrap();
        assert!(out.write_all(b"d").is_err());
        assert_eq!((out.inner.as_slice(), out.length), (&b"abc"[..], 3));
    }
}
