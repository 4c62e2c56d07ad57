//! The gateway's own storage SCP, which a C-MOVE sends its images to (PS3.4 annex B).
//!
//! It takes associations from the configured PACS only, and instances of moves under way only.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::command::{Command, field};
use super::contexts;
use super::moves::Moves;
use super::receive::receive_instance;
use super::status;
use super::upper_layer::{Association, Local, Rejection, trim_uid};
use crate::archive::socket::{PromptTcp, Socket};
use crate::archive::{ArchiveError, IncomingInstance, InstanceSink, InstanceWriter, SinkError};

/// Time to negotiate an association.
const NEGOTIATION: Duration = Duration::from_secs(10);

/// What the storage SCP needs to know.
#[derive(Clone)]
pub struct StorageScp {
    /// Moves that instances may belong to; its AE title is ours.
    pub moves: Arc<Moves>,
    /// AE titles that may open an association: those of the configured PACS.
    pub callers: Arc<HashSet<String>>,
    /// TLS, if the listener has it.
    pub tls: Option<TlsAcceptor>,
    /// Associations at once.
    pub max_associations: usize,
    /// Largest PDU accepted, bytes.
    pub max_pdu: u32,
    /// Time without any byte after which an association is aborted.
    pub idle_timeout: Duration,
}

impl StorageScp {
    /// Accepts associations until `stop`; then lets those under way end.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.max_associations));
        let tracker = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: the next association may find one.
                    tracing::warn!("the storage SCP cannot accept a connection: {error}");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let place = Arc::clone(&places).try_acquire_owned().ok();
            let scp = self.clone();
            let stop = stop.clone();
            tracker.spawn(async move {
                let congested = place.is_none();
                let served = scp.serve(tcp, peer.to_string(), congested, &stop).await;
                if let Err(error) = served {
                    metrics::counter!("drimbox_dimse_scp_errors_total", "cause" => error.cause())
                        .increment(1);
                    tracing::warn!("storage SCP: {error}");
                }
                drop(place);
            });
        }
        tracker.close();
        tracker.wait().await;
    }

    async fn serve(
        &self,
        tcp: TcpStream,
        address: String,
        congested: bool,
        stop: &CancellationToken,
    ) -> Result<(), ArchiveError> {
        let negotiated = timeout(NEGOTIATION, self.negotiate(tcp, address.clone(), congested));
        let Some(mut association) = negotiated.await.map_err(|_| ArchiveError::TimedOut {
            address,
            stage: "association request",
            after: NEGOTIATION,
        })??
        else {
            return Ok(());
        };
        loop {
            let received = tokio::select! {
                received = association.receive("instances") => received?,
                () = stop.cancelled() => {
                    association.abort().await;
                    return Ok(());
                }
            };
            let Some((context, command)) = received else {
                association.confirm_release().await;
                return Ok(());
            };
            self.answer(&mut association, context, &command).await?;
        }
    }

    async fn negotiate(
        &self,
        tcp: TcpStream,
        address: String,
        congested: bool,
    ) -> Result<Option<Association>, ArchiveError> {
        let broken = |error: std::io::Error| ArchiveError::Unreachable {
            address: address.clone(),
            detail: error.to_string(),
        };
        let tcp = PromptTcp::new(tcp).map_err(broken)?;
        let socket = match &self.tls {
            None => Socket::Plain(tcp),
            Some(acceptor) => {
                let stream = acceptor
                    .accept(tcp)
                    .await
                    .map_err(|error| ArchiveError::Tls {
                        address: address.clone(),
                        detail: error.to_string(),
                    })?;
                Socket::Tls(Box::new(stream.into()))
            }
        };
        let local = Local {
            ae_title: self.moves.ae_title(),
            max_pdu: self.max_pdu,
            response_timeout: self.idle_timeout,
        };
        let (mut association, request) = Association::accept(socket, address, local).await?;
        let refusal = if congested {
            Some(Rejection::Congested)
        } else if request.called_ae_title.trim() != self.moves.ae_title().as_str() {
            Some(Rejection::CalledNotRecognised)
        } else if !self.callers.contains(request.calling_ae_title.trim()) {
            Some(Rejection::CallingNotRecognised)
        } else {
            None
        };
        if let Some(reason) = refusal {
            tracing::warn!(?reason, "storage SCP: association rejected");
            association.reject(reason).await;
            return Ok(None);
        }
        let chosen: Vec<Option<String>> = request
            .presentation_contexts
            .iter()
            .map(|proposal| {
                let sop_class = trim_uid(&proposal.abstract_syntax);
                contexts::accept_storage(sop_class, &proposal.transfer_syntaxes)
            })
            .collect();
        association.confirm(&request, &chosen).await?;
        Ok(Some(association))
    }

    async fn answer(
        &self,
        association: &mut Association,
        context: u8,
        command: &Command,
    ) -> Result<(), ArchiveError> {
        match command.field {
            field::C_ECHO_RQ => {
                let response = Command::response_to(command, status::SUCCESS);
                association.send(context, &response, None).await
            }
            field::C_STORE_RQ => {
                let sink = self.moves.sink_for(association.peer_ae_title(), command);
                let sink: &dyn InstanceSink = match &sink {
                    Some(sink) => sink.as_ref(),
                    None => &NotAskedFor,
                };
                receive_instance(association, context, command, sink)
                    .await
                    .map(|_| ())
            }
            _ => {
                Err(association
                    .protocol(format!("command {:04X}H at a storage SCP", command.field)))
            }
        }
    }
}

/// The sink of instances that no move under way expects.
struct NotAskedFor;

impl InstanceSink for NotAskedFor {
    fn begin(&self, _: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        metrics::counter!("drimbox_dimse_unexpected_instances_total").increment(1);
        Err(SinkError::NotAskedFor)
    }
}
