//! Instances larger than memory while the disk has no room: their bytes go from the archive to the
//! readers that wait, and are nowhere as a whole.
//!
//! Every reader has a queue. A piece is in memory until each has taken it; its share of a budget is
//! free again then, so the slowest reader holds the archive back. A reader that comes later has
//! missed the start and asks for the instance anew.

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::archive::SinkError;
use crate::cache::Entry;

/// Bytes of the flowing instances of one retrieval that readers have not taken yet.
pub const FLOW_BUDGET: usize = 4 * 1024 * 1024;
/// Time that readers may stand still. A client that takes nothing is cut before, and readers of
/// several retrievals do not wait for each other; this is what is left if one of both is not so.
const STALLED: Duration = Duration::from_secs(120);

/// What a flowing instance is, and what of it lies on disk already.
#[derive(Clone)]
pub struct Opening {
    /// Identity and shape; its length and its file mean nothing. A head whose end was not met yet
    /// has the length `u64::MAX`.
    pub entry: Entry,
    /// The start of the Part 10 file, where the disk became full behind it: so many bytes.
    pub stored: Option<(Arc<File>, u64)>,
}

/// A flowing instance, as one reader has it.
pub struct FlowingItem {
    /// Identity and shape.
    pub opening: Opening,
    /// Taken by who reads it.
    pieces: Mutex<Option<Pieces>>,
    head: OnceLock<Bytes>,
}

impl FlowingItem {
    /// The pieces of the Part 10 file behind what is stored; `None` the second time.
    #[must_use]
    pub fn pieces(&self) -> Option<Pieces> {
        self.pieces.lock().take()
    }

    /// The head, once it was kept: the data set up to its pixel data.
    #[must_use]
    pub fn head(&self) -> Option<&Bytes> {
        self.head.get()
    }

    /// Keeps the head for [`Self::head`].
    pub fn keep_head(&self, head: Bytes) {
        let _ = self.head.set(head);
    }
}

/// What a reader gets.
enum Piece {
    Bytes {
        bytes: Bytes,
        budget: Arc<OwnedSemaphorePermit>,
    },
    /// The instance is whole.
    End,
}

/// The queue of one reader.
pub struct Pieces {
    queue: UnboundedReceiver<Piece>,
    /// Share of the piece that was taken last.
    budget: Option<Arc<OwnedSemaphorePermit>>,
}

impl Pieces {
    /// The next piece; `None` when the instance is whole.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionAborted`] when the rest does not come.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.budget = None;
        match self.queue.recv().await {
            Some(Piece::Bytes { bytes, budget }) => {
                self.budget = Some(budget);
                Ok(Some(bytes))
            }
            Some(Piece::End) => Ok(None),
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "an instance stopped arriving",
            )),
        }
    }
}

/// The end of the readers: one item each, that was not handed to them yet.
pub fn flowing(
    opening: &Opening,
    readers: impl Iterator<Item = u64>,
) -> (Vec<(u64, Arc<FlowingItem>)>, Vec<Sender>) {
    let both = readers.map(|reader| {
        let (sender, queue) = unbounded_channel();
        let pieces = Pieces {
            queue,
            budget: None,
        };
        let item = FlowingItem {
            opening: opening.clone(),
            pieces: Mutex::new(Some(pieces)),
            head: OnceLock::new(),
        };
        ((reader, Arc::new(item)), Sender(sender))
    });
    both.unzip()
}

/// The queue of one reader, where the archive's side fills it.
pub struct Sender(UnboundedSender<Piece>);

/// A flowing instance on the archive's side. Dropped without [`Flow::finish`] it breaks the answers
/// that read it.
pub struct Flow {
    readers: Vec<Sender>,
    budget: Arc<Semaphore>,
    cancel: CancellationToken,
    _turn: OwnedSemaphorePermit,
}

impl Flow {
    /// An instance that flows to some readers. `turn` is the only one of its study: readers take one
    /// instance after the other, and the bytes of a second one would wait in front of the first.
    #[must_use]
    pub fn new(
        readers: Vec<Sender>,
        budget: Arc<Semaphore>,
        cancel: CancellationToken,
        turn: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            readers,
            budget,
            cancel,
            _turn: turn,
        }
    }

    /// Hands bytes to every reader; waits while they have too many. Nobody reads: they are dropped.
    ///
    /// # Errors
    /// [`SinkError::Abandoned`] when the retrieval is cancelled, [`SinkError::NoRoom`] when the
    /// readers stand still.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), SinkError> {
        while !bytes.is_empty() {
            if self.cancel.is_cancelled() {
                return Err(SinkError::Abandoned);
            }
            self.readers.retain(|Sender(queue)| !queue.is_closed());
            if self.readers.is_empty() {
                return Ok(());
            }
            let now = bytes.split_to(bytes.len().min(FLOW_BUDGET));
            let share = u32::try_from(now.len()).unwrap_or(u32::MAX);
            let room = Arc::clone(&self.budget).acquire_many_owned(share);
            let room = tokio::select! {
                room = timeout(STALLED, room) => room,
                () = self.cancel.cancelled() => return Err(SinkError::Abandoned),
            };
            let budget = room
                .map_err(|_| SinkError::NoRoom("its readers stand still".into()))?
                .map_err(|_| SinkError::Abandoned)?;
            let budget = Arc::new(budget);
            for Sender(queue) in &self.readers {
                let _ = queue.send(Piece::Bytes {
                    bytes: now.clone(),
                    budget: Arc::clone(&budget),
                });
            }
        }
        Ok(())
    }

    /// The instance is whole.
    pub fn finish(self) {
        for Sender(queue) in &self.readers {
            let _ = queue.send(Piece::End);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use futures_util::FutureExt;

    use super::*;
    use crate::cache::Object;
    use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
    use crate::studies::flight::held_entry;

    const MIB: usize = 1024 * 1024;

    #[tokio::test]
    async fn no_more_than_the_budget_waits_for_the_slowest_reader() {
        let (mut flow, budget, items) = flow(2);
        let mut fast = items[0].pieces().unwrap();
        let mut slow = items[1].pieces().unwrap();
        let mut sent = 0;
        while flow.send(mebibyte()).now_or_never().is_some() {
            sent += MIB;
            fast.next().await.unwrap().unwrap();
        }
        assert_eq!(sent, FLOW_BUDGET);
        // The first is free once the reader has asked for the second.
        slow.next().await.unwrap().unwrap();
        assert!(flow.send(mebibyte()).now_or_never().is_none());
        slow.next().await.unwrap().unwrap();
        assert!(flow.send(mebibyte()).now_or_never().is_some());
        assert!(flow.send(mebibyte()).now_or_never().is_none());
        drop((slow, fast));
        drop(items);
        assert_eq!(budget.available_permits(), FLOW_BUDGET);
    }

    #[tokio::test]
    async fn a_piece_larger_than_the_budget_is_handed_on_bit_by_bit() {
        let (mut flow, _, items) = flow(1);
        let mut pieces = items[0].pieces().unwrap();
        let large = Bytes::from(vec![7; 3 * FLOW_BUDGET + 1]);
        let send = async {
            flow.send(large.clone()).await.unwrap();
            flow.finish();
        };
        let read = async {
            let mut read = Vec::new();
            while let Some(piece) = pieces.next().await.unwrap() {
                assert!(piece.len() <= FLOW_BUDGET);
                read.extend_from_slice(&piece);
            }
            read
        };
        let ((), read) = tokio::join!(send, read);
        assert_eq!(read, large);
    }

    #[tokio::test]
    async fn what_nobody_reads_is_dropped_and_holds_nobody_back() {
        let (mut flow, _, items) = flow(2);
        flow.send(mebibyte()).await.unwrap();
        drop(items);
        for _ in 0..100 {
            flow.send(mebibyte()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_instance_that_breaks_off_does_not_look_whole() {
        let (mut flow, _, items) = flow(1);
        let mut pieces = items[0].pieces().unwrap();
        flow.send(mebibyte()).await.unwrap();
        drop(flow);
        assert!(pieces.next().await.unwrap().is_some());
        let broken = pieces.next().await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn readers_that_stand_still_do_not_hold_the_archive_for_ever() {
        let (mut flow, _, _items) = flow(1);
        let outcome = loop {
            if let Err(error) = flow.send(mebibyte()).await {
                break error;
            }
        };
        assert!(matches!(outcome, SinkError::NoRoom(_)));
    }

    fn flow(readers: u64) -> (Flow, Arc<Semaphore>, Vec<Arc<FlowingItem>>) {
        let object = Object {
            instance: InstanceUid::parse("1.2.3").unwrap(),
            sop_class: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            transfer_syntax: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
            meta_length: 0,
            head_length: 0,
            tail_length: 0,
        };
        let opening = Opening {
            entry: held_entry(object, 0),
            stored: None,
        };
        let (items, senders) = flowing(&opening, 0..readers);
        let budget = Arc::new(Semaphore::new(FLOW_BUDGET));
        let turn = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let cancel = CancellationToken::new();
        let flow = Flow::new(senders, Arc::clone(&budget), cancel, turn);
        (
            flow,
            budget,
            items.into_iter().map(|(_, item)| item).collect(),
        )
    }

    fn mebibyte() -> Bytes {
        Bytes::from(vec![7; MIB])
    }
}
