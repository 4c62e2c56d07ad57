//! A TCP proxy on loopback that spoils the connection between two parties that are in good health.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::KitError;

/// What happens to the bytes that the server sends back to the client, or of
/// [`FaultProxy::of_what_clients_send`] to those that the client sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Each piece waits this long, in both directions.
    Latency(Duration),
    /// Both sides are closed after this many bytes of a connection.
    CutAfter(u64),
    /// After this many bytes of a connection nothing moves any more, and nothing is closed.
    StallAfter(u64),
    /// Every byte is a write, and a packet, of its own.
    ByteByByte,
    /// Connections are closed as soon as they are accepted.
    Refuse,
}

/// Where the bytes go that the faults befall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToClient,
    ToServer,
}

/// A running proxy; it ends, with its connections, when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    connections: Arc<AtomicUsize>,
    accept: AbortHandle,
    alive: watch::Sender<()>,
}

impl FaultProxy {
    /// Listens on a port of loopback and passes what arrives to `server`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(server: SocketAddr) -> Result<Self, KitError> {
        Self::spoiling(server, Direction::ToClient).await
    }

    /// One whose faults befall the bytes that clients send: those of a PACS that is the client of a
    /// storage SCP.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn of_what_clients_send(server: SocketAddr) -> Result<Self, KitError> {
        Self::spoiling(server, Direction::ToServer).await
    }

    async fn spoiling(server: SocketAddr, spoiled: Direction) -> Result<Self, KitError> {
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (fault, faults) = watch::channel(Fault::None);
        let (alive, life) = watch::channel(());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (faults, mut life) = (faults.clone(), life.clone());
                // What was cut before it came is not its business.
                life.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, server, faults, spoiled) => {}
                        // The sender went: the proxy was dropped.
                        _ = life.changed() => {}
                    }
                });
            }
        });
        Ok(Self {
            address,
            fault,
            connections,
            accept: accept.abort_handle(),
            alive,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the fault, for connections to come and for the open ones.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Closes every open connection now.
    pub fn cut_all(&self) {
        self.alive.send_replace(());
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    faults: watch::Receiver<Fault>,
    spoiled: Direction,
) {
    if *faults.borrow() == Fault::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let sent = AtomicU64::new(0);
    let counted = |direction| (direction == spoiled).then_some(&sent);
    let up = counted(Direction::ToServer);
    let up = copy(from_client, to_server, faults.clone(), up);
    let down = copy(from_server, to_client, faults, counted(Direction::ToClient));
    // A half that ended well is a half-closed connection; a cut ends both.
    tokio::select! {
        cut = up => if !cut { std::future::pending::<()>().await },
        _ = down => {}
    }
}

/// Copies until the end of the stream; true when the connection is to be cut. `counted` is there
/// for the direction whose bytes count.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    counted: Option<&AtomicU64>,
) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            let _ = to.shutdown().await;
            return false;
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let fault = *faults.borrow_and_update();
            let so_far = counted.map_or(0, |count| count.load(Ordering::Relaxed));
            let limit = match (fault, counted) {
                (Fault::CutAfter(limit) | Fault::StallAfter(limit), Some(_)) => {
                    limit - so_far.min(limit)
                }
                (Fault::ByteByByte, Some(_)) => 1,
                (Fault::Refuse, _) => return true,
                _ => u64::MAX,
            };
            if limit == 0 {
                if matches!(fault, Fault::CutAfter(_)) {
                    return true;
                }
                // Stalled until the fault is another one.
                if faults.changed().await.is_err() {
                    return true;
                }
                continue;
            }
            if let Fault::Latency(time) = fault {
                tokio::time::sleep(time).await;
            }
            let length = usize::try_from(limit).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(length);
            if to.write_all(now).await.is_err() {
                return true;
            }
            if let Some(count) = counted {
                count.fetch_add(now.len() as u64, Ordering::Relaxed);
            }
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A server that sends `length` bytes to whoever connects.
    async fn source(length: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { stream.write_all(&vec![7; length]).await });
            }
        });
        address
    }

    async fn received(proxy: &FaultProxy) -> usize {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        all.len()
    }

    #[tokio::test]
    async fn a_connection_is_cut_after_exactly_so_many_bytes() {
        let proxy = FaultProxy::start(source(300_000).await).await.unwrap();
        assert_eq!(received(&proxy).await, 300_000);
        proxy.set(Fault::CutAfter(123_456));
        assert_eq!(received(&proxy).await, 123_456);
        proxy.set(Fault::Refuse);
        assert_eq!(received(&proxy).await, 0);
        assert_eq!(proxy.connections(), 3);
        proxy.cut_all();
        proxy.set(Fault::None);
        assert_eq!(
            received(&proxy).await,
            300_000,
            "a cut is over when it is done"
        );
    }

    #[tokio::test]
    async fn what_clients_send_is_cut_and_what_they_get_is_not() {
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = echo.local_addr().unwrap();
        let (told, mut counts) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                let _ = stream.write_all(&[7; 5_000]).await;
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                let _ = told.send(all.len());
            }
        });
        let proxy = FaultProxy::of_what_clients_send(address).await.unwrap();
        proxy.set(Fault::CutAfter(1_000));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.read_exact(&mut [0; 5_000]).await.unwrap();
        let _ = stream.write_all(&[7; 3_000]).await;
        assert_eq!(counts.recv().await, Some(1_000));
    }

    #[tokio::test]
    async fn a_stalled_connection_goes_on_when_the_fault_is_lifted() {
        let proxy = FaultProxy::start(source(300_000).await).await.unwrap();
        proxy.set(Fault::StallAfter(1_000));
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let mut first = vec![0; 1_000];
        stream.read_exact(&mut first).await.unwrap();
        proxy.set(Fault::None);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), 299_000);
    }
}
