//! A stream whose writes may wait only so long for the other end.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Ends a connection whose client accepts no byte for `limit` while some wait to be written.
///
/// A slow client is served as long as some byte gets through; time with nothing to write does not
/// count. It stands under TLS, so that the progress of every record is seen.
pub(super) struct WriteIdle<S> {
    inner: S,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> WriteIdle<S> {
    pub(super) fn new(inner: S, limit: Duration) -> Self {
        Self {
            inner,
            limit,
            timer: Box::pin(tokio::time::sleep(limit)),
            waiting: false,
        }
    }

    /// Passes the outcome of a write on, and replaces a wait that lasted too long by an error.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = false;
            return outcome;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        self.timer.as_mut().poll(cx).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client accepted no byte for too long",
            ))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteIdle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteIdle<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A flush that is ready says nothing about a write that still waits.
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        if outcome.is_ready() {
            outcome
        } else {
            self.watch(cx, outcome)
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, outcome)
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

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_accepts_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let mut stream = WriteIdle::new(near, LIMIT);
        let before = Instant::now();
        let error = stream.write_all(b"more than four").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(before.elapsed().as_secs(), LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_served_to_the_end() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut stream = WriteIdle::new(near, LIMIT);
        let reader = tokio::spawn(async move {
            let mut text = Vec::new();
            let mut byte = [0];
            loop {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                if far.read(&mut byte).await.unwrap() == 0 {
                    return text;
                }
                text.push(byte[0]);
            }
        });
        stream.write_all(b"byte by byte").await.unwrap();
        drop(stream);
        assert_eq!(reader.await.unwrap(), b"byte by byte");
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_anything_to_write_does_not_count() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = WriteIdle::new(near, LIMIT);
        stream.write_all(b"one").await.unwrap();
        tokio::time::advance(LIMIT * 100).await;
        stream.write_all(b"two").await.unwrap();
        drop(stream);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "onetwo");
    }
}
