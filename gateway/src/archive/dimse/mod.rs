//! A PACS spoken to with DIMSE services: C-ECHO, C-FIND, C-GET, C-MOVE, C-STORE, C-CANCEL.
//!
//! `dicom-ul` reads and writes the PDUs of the upper layer; the services on top of it, the pool of
//! associations and the counting of sub-operations are here. What a PACS does differently from the
//! standard is configuration ([`Quirks`](crate::config::Quirks)).

pub mod command;
pub mod contexts;
mod find;
mod moves;
pub mod negotiation;
pub mod pool;
mod receive;
mod retrieve;
mod scp;
mod send;
pub mod status;
pub mod upper_layer;

pub use moves::Moves;
pub use scp::StorageScp;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::socket::Tls;
use super::{
    Archive, ArchiveError, FindRequest, InstanceSink, Matches, OutgoingInstance, RetrieveReport,
    RetrieveRequest, SinkError, StoreOutcome,
};
use crate::config::{PacsDimse, Quirks, RetrieveMethod};
use command::{Command, field};
use pool::Pool;
use upper_layer::ProposedContext;

/// A PACS behind DIMSE.
pub struct DimseArchive {
    pool: Arc<Pool>,
    quirks: Quirks,
    moves: Arc<Moves>,
    query_contexts: Arc<[ProposedContext]>,
    fuzzy_contexts: Arc<[ProposedContext]>,
}

impl DimseArchive {
    /// The archive of the configured PACS of this name. `moves` is shared by all PACS of the gateway.
    #[must_use]
    pub fn new(
        name: &str,
        settings: &PacsDimse,
        quirks: &Quirks,
        tls: Option<Tls>,
        moves: Arc<Moves>,
    ) -> Self {
        Self {
            pool: Pool::new(name, settings.clone(), tls),
            quirks: quirks.clone(),
            moves,
            query_contexts: contexts::query(quirks.relational_queries, false).into(),
            fuzzy_contexts: contexts::query(quirks.relational_queries, true).into(),
        }
    }

    fn first_contexts(&self, modalities: &[String]) -> Option<Arc<[ProposedContext]>> {
        let method = self.pool.settings().retrieve;
        retrieve::first_contexts(method, modalities, self.quirks.uncompressed_only)
    }

    fn exact_contexts(
        &self,
        classes: &BTreeSet<String>,
    ) -> Vec<(BTreeSet<String>, Vec<ProposedContext>)> {
        match self.pool.settings().retrieve {
            RetrieveMethod::Get => {
                contexts::getting_classes(classes, self.quirks.uncompressed_only)
            }
            // The PACS proposes the contexts of its own associations.
            RetrieveMethod::Move => vec![(classes.clone(), contexts::moving())],
        }
    }

    async fn find_now(&self, request: &FindRequest) -> Result<Matches, ArchiveError> {
        let contexts = if request.identifier.wants_fuzzy_names() {
            &self.fuzzy_contexts
        } else {
            &self.query_contexts
        };
        find::find(&self.pool, contexts, request, &self.quirks).await
    }

    fn count_instance(&self) {
        self.count_instances(1);
    }

    fn count_instances(&self, count: u64) {
        metrics::counter!("drimbox_dimse_instances_received_total", "pacs" => self.name())
            .increment(count);
    }

    /// Notes a refused instance; `Err` when going on makes no sense.
    fn refused(&self, error: &SinkError) -> Result<(), ArchiveError> {
        count_refused(self.pool.name(), error);
        error.ends_retrieval().map_or(Ok(()), Err)
    }

    fn name(&self) -> String {
        self.pool.name().to_owned()
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
                metrics::counter!("drimbox_dimse_errors_total", "pacs" => self.name(), "cause" => error.cause())
                    .increment(1);
                "failed"
            }
        };
        metrics::counter!(
            "drimbox_dimse_operations_total",
            "pacs" => self.name(), "service" => service, "outcome" => word
        )
        .increment(1);
        outcome
    }

    async fn echo(&self) -> Result<(), ArchiveError> {
        let mut lease = self.pool.acquire(&self.query_contexts).await?;
        let reused = lease.was_reused();
        let mut outcome = self.echo_over(&mut lease).await;
        if reused && outcome.as_ref().is_err_and(ArchiveError::is_outage) {
            lease = lease.renew().await?;
            outcome = self.echo_over(&mut lease).await;
        }
        let status = outcome?;
        lease.keep();
        match status {
            status::SUCCESS => Ok(()),
            status => Err(ArchiveError::Failed {
                service: "C-ECHO",
                status,
                meaning: status::meaning(status),
            }),
        }
    }

    async fn echo_over(&self, lease: &mut pool::Lease) -> Result<u16, ArchiveError> {
        let association = lease.association()?;
        let Some(context) = association
            .context_for(contexts::VERIFICATION)
            .map(|c| c.id)
        else {
            return Err(ArchiveError::NotOffered {
                address: association.address().to_owned(),
                service: "C-ECHO",
            });
        };
        let message_id = self.pool.next_message_id();
        association
            .send(context, &Command::echo(message_id), None)
            .await?;
        let Some((_, response)) = association.receive("verification").await? else {
            return Err(association.protocol("a release in place of a response".into()));
        };
        if response.field != field::C_ECHO_RSP || response.responded_id != Some(message_id) {
            return Err(association.protocol("not a response to the C-ECHO".into()));
        }
        Ok(response.status.unwrap_or(status::SUCCESS))
    }
}

/// Counts an instance that the gateway did not take.
fn count_refused(pacs: &str, error: &SinkError) {
    let Some(cause) = error.cause() else { return };
    metrics::counter!("drimbox_dimse_instances_refused_total", "pacs" => pacs.to_owned(), "cause" => cause)
        .increment(1);
    tracing::warn!(%pacs, "an instance was refused: {error}");
}

impl Archive for DimseArchive {
    fn verify(&self) -> BoxFuture<'_, Result<(), ArchiveError>> {
        async move {
            let outcome = self.echo().await;
            self.count("echo", outcome)
        }
        .boxed()
    }

    fn find(&self, request: FindRequest) -> BoxFuture<'_, Result<Matches, ArchiveError>> {
        async move {
            let outcome = self.find_now(&request).await;
            self.count("find", outcome)
        }
        .boxed()
    }

    fn maintain(&self, stop: CancellationToken) -> BoxFuture<'_, ()> {
        async move {
            // So that the first request finds an association, and the log tells at once that the PACS is away.
            self.pool.anticipate(Arc::clone(&self.query_contexts));
            let mut tick = tokio::time::interval(Duration::from_secs(5));
            loop {
                tokio::select! {
                    _ = tick.tick() => self.pool.sweep().await,
                    () = stop.cancelled() => break,
                }
            }
            self.pool.close().await;
        }
        .boxed()
    }

    // Orthanc goes through the instances of each series for it.
    fn counts_slowly(&self) -> bool {
        true
    }

    fn anticipate(&self, modalities: &[String]) {
        if let Some(contexts) = self.first_contexts(modalities) {
            self.pool.anticipate(contexts);
        }
    }

    fn retrieve(
        &self,
        request: RetrieveRequest,
        sink: Arc<dyn InstanceSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<RetrieveReport, ArchiveError>> {
        async move {
            let service = match self.pool.settings().retrieve {
                RetrieveMethod::Get => "get",
                RetrieveMethod::Move => "move",
            };
            let outcome = retrieve::retrieve(self, request, sink, cancel).await;
            self.count(service, outcome)
        }
        .boxed()
    }

    fn store(
        &self,
        instances: Vec<OutgoingInstance>,
    ) -> BoxFuture<'_, Result<Vec<StoreOutcome>, ArchiveError>> {
        async move {
            let outcome = send::store(&self.pool, instances).await;
            self.count("store", outcome)
        }
        .boxed()
    }
}
