//! The socket under an association or an HTTP connection: TCP or TLS, tuned for request-response
//! traffic.
//!
//! A DIMSE retrieval alternates one message each way. With Nagle's algorithm at either end and
//! delayed acknowledgements at the other, every image costs up to 40 ms. `TCP_NODELAY` cures our
//! side; acknowledging at once (`TCP_QUICKACK`, which Linux forgets after each read) cures the side
//! of a PACS that has Nagle on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ArchiveError;

/// TLS towards an archive: connector and expected name.
pub type Tls = (TlsConnector, ServerName<'static>);

/// A TCP stream that sends and acknowledges at once.
#[derive(Debug)]
pub struct PromptTcp(TcpStream);

impl PromptTcp {
    /// Sets the socket up.
    ///
    /// # Errors
    /// The system's, when the socket refuses the options.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let this = Self(stream);
        this.acknowledge_at_once();
        Ok(this)
    }

    fn acknowledge_at_once(&self) {
        // A kernel that refuses costs time, not correctness.
        #[cfg(target_os = "linux")]
        let _ = self.0.set_quickack(true);
    }

    /// Whether the peer has closed, or sent what nobody asked for, while the stream was idle.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut probe = [0_u8; 1];
        !matches!(self.0.try_read(&mut probe), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for PromptTcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.0).poll_read(cx, buf);
        if result.is_ready() {
            self.acknowledge_at_once();
        }
        result
    }
}

impl AsyncWrite for PromptTcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The stream of an association or of an HTTP connection.
#[derive(Debug)]
pub enum Socket {
    /// Clear TCP.
    Plain(PromptTcp),
    /// TLS over TCP.
    Tls(Box<tokio_rustls::TlsStream<PromptTcp>>),
}

impl Socket {
    /// Connects to `host` and `port`, and does the TLS handshake where there is one.
    ///
    /// # Errors
    /// [`ArchiveError::Unreachable`] and [`ArchiveError::Tls`].
    pub async fn connect(host: &str, port: u16, tls: Option<&Tls>) -> Result<Self, ArchiveError> {
        let tcp = TcpStream::connect((host, port)).await;
        let tcp = tcp.map_err(|error| ArchiveError::Unreachable {
            address: format!("{host}:{port}"),
            detail: error.to_string(),
        })?;
        Self::over(tcp, &format!("{host}:{port}"), tls).await
    }

    /// Takes an open connection, and does the TLS handshake where there is one. `address` is how
    /// errors call the other side.
    ///
    /// # Errors
    /// [`ArchiveError::Unreachable`] and [`ArchiveError::Tls`].
    pub async fn over(
        tcp: TcpStream,
        address: &str,
        tls: Option<&Tls>,
    ) -> Result<Self, ArchiveError> {
        let tcp = PromptTcp::new(tcp).map_err(|error| ArchiveError::Unreachable {
            address: address.to_owned(),
            detail: error.to_string(),
        })?;
        let Some((connector, name)) = tls else {
            return Ok(Self::Plain(tcp));
        };
        let stream = connector.connect(name.clone(), tcp).await;
        let stream = stream.map_err(|error| ArchiveError::Tls {
            address: address.to_owned(),
            detail: error.to_string(),
        })?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// See [`PromptTcp::is_stale`].
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_stale(),
            // TLS peers send session tickets and alerts at any time: only use tells.
            Self::Tls(_) => false,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_socket_sends_at_once_and_still_acknowledges_at_once_after_it_was_read() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let here = listener.local_addr().unwrap();
        let ours = TcpStream::connect(here).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut ours = PromptTcp::new(ours).unwrap();
        assert!(ours.0.nodelay().unwrap());
        // Linux delays its acknowledgements once it has seen that each message is answered.
        for message in 0..50_u8 {
            peer.write_all(&[message]).await.unwrap();
            assert_eq!(ours.read_u8().await.unwrap(), message);
            assert!(ours.0.quickack().unwrap(), "after message {message}");
            ours.write_all(&[message]).await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), message);
        }
    }
}
