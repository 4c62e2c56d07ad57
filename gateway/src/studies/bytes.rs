//! The bytes of instances, read ahead in large pieces and handed out without copying.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::Item;
use super::flowing::Pieces;
use crate::cache::{read_from_memory, read_range};

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
    /// Nothing was read yet. What is small goes out at once when the system has it in memory: another
    /// thread would take longer to wake than to read it. The rest is read while this is sent.
    begins: bool,
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
            begins: true,
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
                let begins = std::mem::take(&mut self.begins);
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
                    Some(Run::File { .. }) if begins => match self.next_from_memory() {
                        Some(bytes) => {
                            self.read_ahead();
                            self.current = bytes;
                            continue;
                        }
                        None => self.read_ahead(),
                    },
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

    /// The next piece, if it is in a file that the system has in memory.
    fn next_from_memory(&mut self) -> Option<Bytes> {
        let (file, at, now, _) = self.next_piece()?;
        let bytes = read_from_memory(&file, at, now)?;
        self.pass(now);
        Some(bytes)
    }

    /// File, place and length of the next piece, if it is in a file.
    fn next_piece(&self) -> Option<(Arc<File>, u64, usize, Option<Item>)> {
        let Some(Run::File {
            file,
            offset,
            length,
            item,
        }) = self.runs.front()
        else {
            return None;
        };
        let now = usize::try_from(CHUNK.min(*length)).unwrap_or(0);
        Some((Arc::clone(file), *offset, now, item.clone()))
    }

    /// Goes past so many bytes of the file in front.
    fn pass(&mut self, bytes: usize) {
        if let Some(Run::File { offset, length, .. }) = self.runs.front_mut() {
            *offset += bytes as u64;
            *length = length.saturating_sub(bytes as u64);
            if *length == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Starts to read the next piece, if it is in a file.
    fn read_ahead(&mut self) {
        let Some((from, at, now, item)) = self.next_piece() else {
            return;
        };
        self.pass(now);
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            read_range(&from, at, now).inspect_err(|error| {
                if let Some(item) = &item {
                    item.is_unreadable(error);
                }
            })
        }));
    }
}
