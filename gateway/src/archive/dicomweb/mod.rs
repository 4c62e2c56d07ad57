//! A PACS spoken to with DICOMweb (PS3.18): QIDO-RS, WADO-RS, STOW-RS over HTTP/1.1.
//!
//! Answers are read as they arrive, in memory that does not grow with them; a slow reader holds the
//! server back. Nothing that ends early is taken for whole.

pub mod client;
mod find;
pub(super) mod instance;
pub mod items;
pub mod multipart;
mod query;
mod retrieve;
mod store;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::socket::Tls;
use super::{
    Archive, ArchiveError, FindRequest, InstanceSink, Matches, OutgoingInstance, RetrieveReport,
    RetrieveRequest, SinkError, StoreOutcome,
};
use crate::config::{PacsDicomweb, Quirks};
use client::{Client, Credentials};

/// A PACS behind DICOMweb.
pub struct DicomwebArchive {
    client: Client,
    quirks: Quirks,
}

impl DicomwebArchive {
    /// The archive of the configured PACS of this name.
    #[must_use]
    pub fn new(
        name: &str,
        settings: &PacsDicomweb,
        quirks: &Quirks,
        tls: Option<Tls>,
        credentials: Credentials,
    ) -> Self {
        Self {
            client: Client::new(name, settings, tls, credentials),
            quirks: quirks.clone(),
        }
    }

    fn name(&self) -> String {
        self.client.name().to_owned()
    }

    /// Counts an instance that the gateway did not take.
    fn count_refused(&self, error: &SinkError) {
        let Some(cause) = error.cause() else { return };
        metrics::counter!("drimbox_upstream_instances_refused_total", "pacs" => self.name(), "cause" => cause)
            .increment(1);
        tracing::warn!(pacs = %self.name(), "an instance was refused: {error}");
    }

    fn count<T>(
        &self,
        service: &'static str,
        outcome: Result<T, ArchiveError>,
    ) -> Result<T, ArchiveError> {
        let word = match &outcome {
            Ok(_) => "ok",
            Err(ArchiveError::Cancelled) => "cancelled",
            Err(error) => {
                metrics::counter!("drimbox_upstream_errors_total", "pacs" => self.name(), "cause" => error.cause())
                    .increment(1);
                "failed"
            }
        };
        metrics::counter!(
            "drimbox_upstream_operations_total",
            "pacs" => self.name(), "service" => service, "outcome" => word
        )
        .increment(1);
        outcome
    }
}

impl Archive for DicomwebArchive {
    fn verify(&self) -> BoxFuture<'_, Result<(), ArchiveError>> {
        async move {
            let outcome = find::verify(&self.client).await;
            self.count("verify", outcome)
        }
        .boxed()
    }

    fn find(&self, request: FindRequest) -> BoxFuture<'_, Result<Matches, ArchiveError>> {
        async move {
            let outcome = find::find(&self.client, &request, &self.quirks).await;
            self.count("search", outcome)
        }
        .boxed()
    }

    fn retrieve(
        &self,
        request: RetrieveRequest,
        sink: Arc<dyn InstanceSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<RetrieveReport, ArchiveError>> {
        async move {
            let outcome = retrieve::retrieve(self, request, sink, cancel).await;
            self.count("retrieve", outcome)
        }
        .boxed()
    }

    fn store(
        &self,
        instances: Vec<OutgoingInstance>,
    ) -> BoxFuture<'_, Result<Vec<StoreOutcome>, ArchiveError>> {
        async move {
            let outcome = store::store(&self.client, instances).await;
            self.count("store", outcome)
        }
        .boxed()
    }
}
