//! A line between the browser and a server: it counts bytes, and may be as slow as a phone's.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::testkit::KitError;

/// Pieces on their way in one direction of a connection; more waits in the sender, as in a full window.
const UNDER_WAY: usize = 32;

/// What slows a line down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Bits per second in each direction, for all connections together.
    pub bits_per_second: f64,
    /// Time to the other end and back.
    pub round_trip: Duration,
}

/// 10 Mbit/s and 70 ms, as of a phone.
pub const PHONE: Shape = Shape {
    bits_per_second: 10e6,
    round_trip: Duration::from_millis(70),
};

/// A running line; it ends when dropped.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    shape: watch::Sender<Option<Shape>>,
    received: Arc<Received>,
    accept: AbortHandle,
}

/// When bytes from the server were handed to the client.
#[derive(Debug, Default)]
struct Received(Mutex<VecDeque<(SystemTime, u64)>>);

impl Received {
    fn add(&self, bytes: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back((SystemTime::now(), bytes as u64));
    }
}

/// When the wire of one direction has sent what it was given.
#[derive(Debug, Default)]
struct Wire(Mutex<Option<Instant>>);

impl Wire {
    /// Takes `bytes`; the moment at which the last of them has been sent.
    fn send(&self, bytes: usize, shape: Shape) -> Instant {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free.map_or_else(Instant::now, |free| free.max(Instant::now()));
        #[expect(clippy::cast_precision_loss, reason = "at most a buffer")]
        let taken = Duration::from_secs_f64(bytes as f64 * 8.0 / shape.bits_per_second);
        *free.insert(start + taken)
    }
}

impl Line {
    /// Listens on a port of loopback and passes what arrives to `server`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> Result<Self, KitError> {
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (shape, shapes) = watch::channel(None::<Shape>);
        let received = Arc::new(Received::default());
        let (up, down) = (Arc::new(Wire::default()), Arc::new(Wire::default()));
        let counted = Arc::clone(&received);
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (up, down) = (Arc::clone(&up), Arc::clone(&down));
                let (shapes, counted) = (shapes.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else {
                        return;
                    };
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    // What a connection costs before its first byte: one way and back.
                    let opened = shapes.borrow().map(|shape| shape.round_trip);
                    if let Some(round_trip) = opened {
                        tokio::time::sleep(round_trip).await;
                    }
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        carry(from_client, to_server, &up, &shapes, None),
                        carry(from_server, to_client, &down, &shapes, Some(&counted)),
                    );
                });
            }
        });
        Ok(Self {
            address,
            shape,
            received,
            accept: accept.abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forgets what was received, and is as slow as this from now on.
    pub fn reset(&self, shape: Option<Shape>) {
        self.shape.send_replace(shape);
        let mut all = self.received.0.lock();
        all.as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut())
            .clear();
    }

    /// Bytes that the client had received at that moment, since the last reset: TLS and HTTP included.
    #[must_use]
    pub fn received_until(&self, moment: SystemTime) -> u64 {
        let all = self.received.0.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .take_while(|(at, _)| *at <= moment)
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// When the last byte came, and how many there were.
    #[must_use]
    pub fn last(&self) -> Option<(SystemTime, u64)> {
        let all = self.received.0.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let (last, _) = all.back()?;
        Some((*last, all.iter().map(|(_, bytes)| bytes).sum()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// Carries bytes until the end of the stream.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &Wire,
    shapes: &watch::Receiver<Option<Shape>>,
    received: Option<&Received>,
) {
    let (sender, mut pieces) = mpsc::channel::<(Option<Instant>, Vec<u8>)>(UNDER_WAY);
    let send = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let shape = *shapes.borrow();
            // A slow wire takes packets, so that connections share it.
            let most = if shape.is_some() {
                4 * 1024
            } else {
                buffer.len()
            };
            let room = buffer.get_mut(..most).unwrap_or_default();
            let Ok(length @ 1..) = from.read(room).await else {
                return;
            };
            let due = shape.map(|shape| wire.send(length, shape) + shape.round_trip / 2);
            let piece = room.get(..length).unwrap_or_default().to_vec();
            if sender.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let deliver = async {
        while let Some((due, piece)) = pieces.recv().await {
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
            if let Some(received) = received {
                received.add(piece.len());
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(send, deliver);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A server that answers every connection's first byte with `length` bytes.
    async fn server(length: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = stream.read_u8().await;
                    stream.write_all(&vec![7; length]).await
                });
            }
        });
        address
    }

    async fn fetch(line: &Line) -> usize {
        let mut stream = TcpStream::connect(line.address()).await.unwrap();
        stream.write_u8(1).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.len()
    }

    #[tokio::test]
    async fn every_byte_from_the_server_is_counted_until_a_moment() {
        let line = Line::start(server(300_000).await).await.unwrap();
        let before = SystemTime::now();
        assert_eq!(fetch(&line).await, 300_000);
        let (last, all) = line.last().unwrap();
        assert_eq!(all, 300_000);
        assert_eq!(line.received_until(before), 0);
        assert_eq!(line.received_until(last), 300_000);
        line.reset(None);
        assert_eq!(line.last(), None);
    }

    #[tokio::test]
    async fn two_connections_share_a_slow_wire() {
        let line = Line::start(server(50_000).await).await.unwrap();
        let round_trip = Duration::from_millis(20);
        let bits_per_second = 8e6;
        line.reset(Some(Shape {
            bits_per_second,
            round_trip,
        }));
        let start = Instant::now();
        assert_eq!(tokio::join!(fetch(&line), fetch(&line)), (50_000, 50_000));
        // 100 kB at a megabyte per second, after the opening and the question: slower is possible, quicker is not.
        let least = 2 * round_trip + Duration::from_millis(100);
        assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    }
}
