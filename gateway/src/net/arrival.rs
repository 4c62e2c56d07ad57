//! The body of a request whose client stops sending it, or sends next to nothing.
//!
//! A handler that reads a body holds one of the places for requests. A body that does not get on is
//! therefore given up, and its request ends with 408 (RFC 9110 §15.5.9).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// Bytes a second that a body brings on average, beyond the first wait: a byte now and then would
/// hold a place for days.
const LEAST_RATE: u64 = 1024;

/// What a handler that still waited is told.
#[derive(Debug, thiserror::Error)]
#[error("the client took too long to send the body of its request")]
struct TooLate;

/// Whether the body of a request was given up.
#[derive(Debug, Clone, Default)]
pub(super) struct Late(Arc<AtomicBool>);

impl Late {
    /// Whether it was.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Passes a body on for as long as it gets on.
///
/// Only time in which somebody waits for the client counts: `limit` for each wait, and `limit` for
/// all of them together plus the time that what came takes at [`LEAST_RATE`].
pub(super) struct Arriving<B> {
    inner: B,
    limit: Duration,
    late: Late,
    bytes: u64,
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> Arriving<B> {
    pub(super) fn new(inner: B, limit: Duration, late: Late) -> Self {
        Self {
            inner,
            limit,
            late,
            bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    /// How long the client may take now.
    fn patience(&self) -> Duration {
        let earned = Duration::from_secs(self.bytes / LEAST_RATE);
        let left = self.limit.saturating_add(earned);
        left.saturating_sub(self.waited).min(self.limit)
    }

    fn came(&mut self, frame: &Frame<Bytes>) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited = self.waited.saturating_add(since.elapsed());
        }
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.bytes = self.bytes.saturating_add(length as u64);
    }
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.late.is_so() {
            return Poll::Ready(Some(Err(TooLate.into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                this.came(frame);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience();
        let (_, timer) = this
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(patience))));
        timer.as_mut().poll(cx).map(|()| {
            this.late.0.store(true, Ordering::Relaxed);
            Some(Err(TooLate.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use http_body_util::BodyExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A body that brings `bytes` after each `pause`, `times` times; how many bytes a reader got.
    async fn read(bytes: usize, pause: Duration, times: usize) -> Result<usize, Late> {
        let frames = futures_util::stream::unfold(times, move |left| async move {
            let left = left.checked_sub(1)?;
            tokio::time::sleep(pause).await;
            Some((Ok::<_, BoxError>(Bytes::from(vec![0; bytes])), left))
        });
        let late = Late::default();
        let body = Arriving::new(Body::from_stream(frames), LIMIT, late.clone());
        match body.collect().await {
            Ok(whole) => Ok(whole.to_bytes().len()),
            Err(_) => Err(late),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up() {
        let late = read(8_000_000, LIMIT * 2, 1).await.unwrap_err();
        assert!(late.is_so());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_that_gets_on_is_read_to_the_end() {
        let read = read(32 * 1024, Duration::from_secs(30), 1_000).await;
        assert_eq!(read.unwrap(), 32 * 1024 * 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_not_enough() {
        let late = read(1, Duration::from_secs(5), 16_000).await.unwrap_err();
        assert!(late.is_so());
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_does_not_count() {
        let late = Late::default();
        let mut body = Arriving::new(Body::from("all of it"), LIMIT, late.clone());
        tokio::time::advance(LIMIT * 100).await;
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "all of it");
        assert!(!late.is_so());
    }
}
