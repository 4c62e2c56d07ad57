//! The body of a response, counted on its way out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::connection::ListenerKind;
use super::stall::Progress;

/// What is recorded of one request, from its head to the last byte of its response. Written to the
/// log and the metrics when it is dropped, whatever dropped it.
pub(super) struct Record {
    pub(super) request_id: Arc<str>,
    pub(super) listener: ListenerKind,
    pub(super) resource: &'static str,
    /// Absent until the handler has answered.
    pub(super) status: Option<StatusCode>,
    /// The request's place among those in progress.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    started: Instant,
    bytes: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not there yet: a record dropped like this belongs to a client that went away.
    Open,
    Reached,
    /// The body itself failed: the transport ends without a proper close.
    Failed,
}

impl Record {
    /// Starts the clock of a request.
    pub(super) fn start(listener: ListenerKind, request_id: Arc<str>) -> Self {
        metrics::gauge!("drimbox_http_requests_in_progress", "listener" => listener.as_str())
            .increment(1.0);
        Self {
            request_id,
            listener,
            resource: "other",
            status: None,
            permit: None,
            started: Instant::now(),
            bytes: 0,
            end: End::Open,
        }
    }

    fn labels(&self) -> [(&'static str, &'static str); 2] {
        [
            ("listener", self.listener.as_str()),
            ("resource", self.resource),
        ]
    }

    fn count(&mut self, data: &Bytes) {
        if self.bytes == 0 && !data.is_empty() {
            metrics::histogram!("drimbox_http_first_byte_seconds", &self.labels())
                .record(self.started.elapsed().as_secs_f64());
        }
        self.bytes = self.bytes.saturating_add(data.len() as u64);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self {
            request_id,
            listener,
            resource,
            status,
            started,
            bytes,
            end,
            ..
        } = &*self;
        let labels = self.labels();
        metrics::gauge!("drimbox_http_requests_in_progress", "listener" => listener.as_str())
            .decrement(1.0);
        metrics::counter!("drimbox_http_response_bytes_total", &labels).increment(*bytes);
        metrics::histogram!("drimbox_http_request_seconds", &labels)
            .record(started.elapsed().as_secs_f64());
        let outcome = match end {
            End::Reached => "complete",
            End::Open => "client_gone",
            End::Failed => "source_failed",
        };
        if *end != End::Reached {
            let [by_listener, by_resource] = labels;
            let labels = [by_listener, by_resource, ("cause", outcome)];
            metrics::counter!("drimbox_http_aborted_responses_total", &labels).increment(1);
        }
        tracing::info!(
            request = &**request_id,
            %listener,
            resource,
            status = status.map(|status| status.as_u16()),
            bytes,
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome,
            "request"
        );
    }
}

/// Passes the frames of a body on as they are, and keeps its record.
pub(super) struct Counted {
    inner: Body,
    record: Record,
    length: Option<u64>,
    head_only: bool,
    /// Nothing is sent, and no length but the announced one may be told (RFC 9110 §8.6).
    of_unknown_length: bool,
    progress: Option<Arc<Progress>>,
}

impl Counted {
    /// `length`: the announced `Content-Length`. `without_body`: the answer has none to send,
    /// whatever it announces (HEAD, 204, 304); `head_only`: what it would have sent may be of any
    /// length.
    pub(super) fn new(
        inner: Body,
        mut record: Record,
        length: Option<u64>,
        (without_body, head_only): (bool, bool),
    ) -> Self {
        if without_body || inner.is_end_stream() {
            record.end = End::Reached;
        }
        let of_unknown_length = head_only && length.is_none() && inner.is_end_stream();
        let length = length.or_else(|| inner.size_hint().exact());
        Self {
            inner,
            record,
            length,
            head_only,
            of_unknown_length,
            progress: Progress::current(),
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.head_only {
            return Poll::Ready(None);
        }
        if let Some(progress) = &this.progress {
            progress.asked();
        }
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        let record = &mut this.record;
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    record.count(data);
                }
                // With a known length the transport stops asking at the last byte.
                if Some(record.bytes) == this.length || this.inner.is_end_stream() {
                    record.end = End::Reached;
                }
                if let Some(progress) = &this.progress {
                    progress.handed_over();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                record.end = End::Failed;
                tracing::warn!(
                    request = &*record.request_id,
                    listener = %record.listener,
                    resource = record.resource,
                    %error,
                    "response broken off: its source failed"
                );
            }
            Poll::Ready(None) => record.end = End::Reached,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        !self.of_unknown_length && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.of_unknown_length {
            return SizeHint::default();
        }
        self.inner.size_hint()
    }
}
