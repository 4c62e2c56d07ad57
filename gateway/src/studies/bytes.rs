//! The bytes of instances, read ahead in large pieces and handed out without copying.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::Item;
use super::flowing::Pieces;
use crate::cache::read_range;

/// Bytes read at a time. Two of these are in memory for each request.
const CHUNK: u64 = 256 * 1024;

/// Reads the Part 10 files of some items one after the other.
///
/// Neighbours in the same file become one run, read with few large reads whatever the size of the
/// instances; the next piece is read while the last one is sent.
pub struct ItemBytes {
    runs: VecDeque<Run>,
    ahead: Option<JoinHandle<io::Result<Bytes>>>,
    current: Bytes,
}

enum Run {
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
        /// An item of it, which knows where it comes from; `None`: it is no part of the cache.
        item: Option<Item>,
    },
    Memory(Bytes),
    /// The rest of an instance that flows through.
    Flowing(Option<Pieces>),
}

impl ItemBytes {
    /// The bytes of `items`, in their order.
    #[must_use]
    pub fn new(items: &[Item]) -> Self {
        let mut runs: VecDeque<Run> = VecDeque::new();
        for item in items {
            match item {
                Item::Stored {
                    fresh: Some(bytes), ..
                } => runs.push_back(Run::Memory(bytes.clone())),
                Item::Stored {
                    entry,
                    file,
                    fresh: None,
                    ..
                } => match runs.back_mut() {
                    Some(Run::File {
                        file: last,
                        offset,
                        length,
                        ..
                    }) if Arc::ptr_eq(last, file) && *offset + *length == entry.offset => {
                        *length += entry.length;
                    }
                    _ => runs.push_back(Run::File {
                        file: Arc::clone(file),
                        offset: entry.offset,
                        length: entry.length,
                        item: Some(item.clone()),
                    }),
                },
                Item::Held(held) => runs.extend(held.pieces.iter().cloned().map(Run::Memory)),
                Item::Flowing(flowing) => {
                    if let Some((file, length)) = &flowing.opening.stored {
                        runs.push_back(Run::File {
                            file: Arc::clone(file),
                            offset: 0,
                            length: *length,
                            item: Some(item.clone()),
                        });
                    }
                    runs.push_back(Run::Flowing(flowing.pieces()));
                }
            }
        }
        Self::of(runs)
    }

    /// Bytes that are in memory.
    #[must_use]
    pub fn in_memory(bytes: Bytes) -> Self {
        Self::of(VecDeque::from([Run::Memory(bytes)]))
    }

    /// The first bytes of a file.
    #[must_use]
    pub fn of_file(file: Arc<File>, length: u64) -> Self {
        let whole = Run::File {
            file,
            offset: 0,
            length,
            item: None,
        };
        Self::of(VecDeque::from([whole]))
    }

    fn of(runs: VecDeque<Run>) -> Self {
        Self {
            runs,
            ahead: None,
            current: Bytes::new(),
        }
    }

    /// The next bytes, `most` at most and at least one; none at the end of an instance whose length
    /// nobody knew.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::UnexpectedEof`] past the end, and
    /// [`io::ErrorKind::ConnectionAborted`] when the archive breaks off.
    pub async fn next(&mut self, most: u64) -> io::Result<Bytes> {
        while self.current.is_empty() {
            if self.ahead.is_none() {
                match self.runs.front_mut() {
                    Some(Run::Memory(bytes)) => {
                        self.current = std::mem::take(bytes);
                        self.runs.pop_front();
                        continue;
                    }
                    Some(Run::Flowing(pieces)) => {
                        let pieces = pieces.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
                        if let Some(piece) = pieces.next().await? {
                            self.current = piece;
                            continue;
                        }
                        self.runs.pop_front();
                        return Ok(Bytes::new());
                    }
                    Some(Run::File { .. }) | None => self.read_ahead(),
                }
            }
            let reading = self.ahead.take().ok_or(io::ErrorKind::UnexpectedEof)?;
            let arrived = reading.await.map_err(io::Error::other)?;
            // Read on while this piece is sent.
            self.read_ahead();
            self.current = arrived?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(self.current.split_to(self.current.len().min(most)))
    }

    /// Starts to read the next piece, if it is in a file.
    fn read_ahead(&mut self) {
        let Some(Run::File {
            file,
            offset,
            length,
            item,
        }) = self.runs.front_mut()
        else {
            return;
        };
        let now = CHUNK.min(*length);
        let (from, at, item) = (Arc::clone(file), *offset, item.clone());
        *offset += now;
        *length -= now;
        if *length == 0 {
            self.runs.pop_front();
        }
        let now = usize::try_from(now).unwrap_or(0);
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            read_range(&from, at, now).inspect_err(|error| {
                if let Some(item) = &item {
                    item.is_unreadable(error);
                }
            })
        }));
    }
}
