//! Retrieval by C-GET or C-MOVE (PS3.4 §C.4.2, §C.4.3), counted to the last instance.
//!
//! A first pass asks for the whole scope with the SOP classes its modalities suggest. Whatever then
//! did not come (classes that were not negotiated, sub-operations that failed, an instance that the
//! PACS counted but never sent) is found by listing the scope and asked for again, instance by
//! instance with exact contexts. What is still missing after that makes the retrieval fail.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dicom_core::{Tag, VR};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::DimseArchive;
use super::command::{Command, field};
use super::contexts::{self, STUDY_ROOT_GET, STUDY_ROOT_MOVE};
use super::moves::ActiveMove;
use super::receive::{Received, receive_instance};
use super::status;
use super::upper_layer::{Association, ProposedContext};
use crate::archive::listing::{self, Listed, identifier_of};
use crate::archive::{
    ArchiveError, Identifier, IncomingInstance, InstanceSink, InstanceWriter, Level,
    RetrieveReport, RetrieveRequest, Scope, SinkError,
};
use crate::config::RetrieveMethod;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);

/// Bytes of the identifier of a response (a list of failed instances).
const MAX_RESPONSE: usize = 8 * 1024 * 1024;
/// Instances named in one request of the second pass: the list fits in one PDU of any PACS.
const INSTANCES_PER_REQUEST: usize = 100;
/// Time a PACS gets to stop after C-CANCEL before the association is aborted.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// What one request brought.
#[derive(Debug, Default)]
struct Pass {
    /// Completed and warning sub-operations, where the PACS counted them.
    announced: Option<u64>,
    failed: u64,
    /// Failure status of the service.
    failure: Option<u16>,
    /// Some sub-operation did not go well (PS3.4 tables C.4-2 and C.4-3, B000), and the PACS does not
    /// say how many failed.
    partial: bool,
}

impl Pass {
    /// Whether what was delivered is the whole of what was asked for: the PACS, or who asks, must
    /// have said how much that is.
    fn is_whole(&self, delivered: u64, expected: Option<u64>) -> bool {
        let counted = self.announced.is_some() || expected.is_some();
        counted
            && self.failure.is_none()
            && self.failed == 0
            && !self.partial
            // The counters on the wire have 16 bits.
            && self.announced.is_none_or(|announced| announced == delivered & 0xFFFF)
            && expected.is_none_or(|expected| delivered >= expected)
    }
}

/// Runs a retrieval to its end; see the module.
///
/// # Errors
/// Those of the association; [`ArchiveError::Incomplete`]; [`ArchiveError::Cancelled`].
pub async fn retrieve(
    dimse: &DimseArchive,
    request: RetrieveRequest,
    sink: Arc<dyn InstanceSink>,
    cancel: CancellationToken,
) -> Result<RetrieveReport, ArchiveError> {
    let mut run = Run {
        dimse,
        sink,
        cancel,
        delivered: HashSet::new(),
        failure: None,
    };
    let first = match dimse.first_contexts(&request.modalities) {
        Some(contexts) => Some(run.pass(&contexts, &identifier_of(&request.scope)).await?),
        None => None,
    };
    let delivered = run.delivered.len() as u64;
    if !first.is_some_and(|pass| pass.is_whole(delivered, request.expected)) {
        run.fetch_what_is_missing(&request.scope).await?;
    }
    Ok(RetrieveReport {
        delivered: run.delivered.len() as u64,
    })
}

struct Run<'a> {
    dimse: &'a DimseArchive,
    sink: Arc<dyn InstanceSink>,
    cancel: CancellationToken,
    delivered: HashSet<InstanceUid>,
    /// Failure status that the PACS answered last, with its service.
    failure: Option<(&'static str, u16)>,
}

impl Run<'_> {
    async fn fetch_what_is_missing(&mut self, scope: &Scope) -> Result<(), ArchiveError> {
        let listed = listing::list(self.dimse, scope).await?;
        let expected = listed.len() as u64;
        let missing: Vec<Listed> = listed
            .into_iter()
            .filter(|entry| !self.delivered.contains(&entry.instance))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut classes: BTreeSet<String> = missing
            .iter()
            .filter_map(|entry| entry.sop_class.clone())
            .collect();
        if missing.iter().any(|entry| entry.sop_class.is_none()) {
            // Some archives do not say: every class there is gets its try.
            classes.extend(contexts::every_class().map(str::to_owned));
        }
        for (classes, contexts) in self.dimse.exact_contexts(&classes) {
            let contexts: Arc<[ProposedContext]> = contexts.into();
            let mut by_series: BTreeMap<&SeriesUid, Vec<&InstanceUid>> = BTreeMap::new();
            for entry in missing
                .iter()
                .filter(|entry| !self.delivered.contains(&entry.instance))
                .filter(|entry| {
                    entry
                        .sop_class
                        .as_ref()
                        .is_none_or(|class| classes.contains(class))
                })
            {
                by_series
                    .entry(&entry.series)
                    .or_default()
                    .push(&entry.instance);
            }
            for (series, instances) in by_series {
                for chunk in instances.chunks(INSTANCES_PER_REQUEST) {
                    self.fetch(&contexts, scope.study(), series, chunk).await?;
                }
            }
        }
        let missing = missing
            .iter()
            .filter(|entry| !self.delivered.contains(&entry.instance))
            .count() as u64;
        match self.failure {
            _ if missing == 0 => Ok(()),
            // Nothing came at all: the PACS said why.
            Some((service, status)) if self.delivered.is_empty() => Err(ArchiveError::Failed {
                service,
                status,
                meaning: status::meaning(status),
            }),
            _ => Err(ArchiveError::Incomplete { missing, expected }),
        }
    }

    /// Asks for some instances of a series: all at once, then those that did not come one by one,
    /// for a PACS that takes no list.
    async fn fetch(
        &mut self,
        contexts: &Arc<[ProposedContext]>,
        study: &StudyUid,
        series: &SeriesUid,
        instances: &[&InstanceUid],
    ) -> Result<(), ArchiveError> {
        let named = |list: &str| {
            let (_, series) = identifier_of(&Scope::Series(study.clone(), series.clone()));
            (Level::Image, series.with(SOP_INSTANCE_UID, VR::UI, list))
        };
        let list: Vec<&str> = instances.iter().map(|uid| uid.as_str()).collect();
        self.pass(contexts, &named(&list.join("\\"))).await?;
        if instances.len() > 1 {
            for instance in instances {
                if !self.delivered.contains(*instance) {
                    let pass = self.pass(contexts, &named(instance.as_str())).await?;
                    if pass.failed > 0 || pass.failure.is_some() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    async fn pass(
        &mut self,
        contexts: &Arc<[ProposedContext]>,
        identifier: &(Level, Identifier),
    ) -> Result<Pass, ArchiveError> {
        let (service, pass) = match self.dimse.pool.settings().retrieve {
            RetrieveMethod::Get => ("C-GET", self.get(contexts, identifier).await?),
            RetrieveMethod::Move => ("C-MOVE", self.move_to_us(contexts, identifier).await?),
        };
        if let Some(status) = pass.failure {
            self.failure = Some((service, status));
        }
        Ok(pass)
    }

    async fn get(
        &mut self,
        contexts: &Arc<[ProposedContext]>,
        identifier: &(Level, Identifier),
    ) -> Result<Pass, ArchiveError> {
        let mut lease = self.dimse.pool.acquire(contexts).await?;
        let before = self.delivered.len();
        let reused = lease.was_reused();
        let mut outcome = self.get_over(lease.association()?, identifier).await;
        if let Err(error) = &outcome
            && reused
            && error.is_outage()
            && self.delivered.len() == before
        {
            lease = lease.renew().await?;
            outcome = self.get_over(lease.association()?, identifier).await;
        }
        // An association that refused something is not worth keeping: the PACS may accept more on
        // the next one.
        match &outcome {
            Ok(pass) if pass.failed == 0 && pass.failure.is_none() => lease.keep(),
            Ok(_) => lease.release().await,
            Err(_) => {}
        }
        outcome
    }

    async fn get_over(
        &mut self,
        association: &mut Association,
        identifier: &(Level, Identifier),
    ) -> Result<Pass, ArchiveError> {
        let message_id = self.dimse.pool.next_message_id();
        let command = Command::request(field::C_GET_RQ, message_id, STUDY_ROOT_GET);
        let context = send_request(association, &command, identifier, "C-GET").await?;
        let mut exchange = Exchange::new(context, message_id);
        loop {
            let (id, command) = exchange.next(association, &self.cancel).await?;
            match command.field {
                field::C_STORE_RQ if exchange.cancelled => {
                    receive_instance(association, id, &command, &Refuse).await?;
                }
                field::C_STORE_RQ => {
                    match receive_instance(association, id, &command, &*self.sink).await? {
                        Received::Taken(instance) => {
                            self.dimse.count_instance();
                            self.delivered.insert(instance);
                        }
                        // Given up on purpose: the PACS is told to stop (`Exchange::next`) before
                        // the association ends.
                        Received::Refused(SinkError::Abandoned) if self.cancel.is_cancelled() => {}
                        Received::Refused(error) => self.dimse.refused(&error)?,
                    }
                }
                _ => {
                    if let Some(pass) = exchange.response(association, id, &command).await? {
                        return Ok(pass);
                    }
                }
            }
        }
    }

    async fn move_to_us(
        &mut self,
        contexts: &Arc<[ProposedContext]>,
        identifier: &(Level, Identifier),
    ) -> Result<Pass, ArchiveError> {
        let active = ActiveMove::new(
            self.dimse.name(),
            Arc::clone(&self.sink),
            identifier.1.clone(),
        );
        let ticket = self
            .dimse
            .moves
            .register(&self.dimse.pool, Arc::clone(&active))?;
        let mut lease = self.dimse.pool.acquire(contexts).await?;
        let reused = lease.was_reused();
        let mut outcome = self
            .move_over(lease.association()?, identifier, ticket.id())
            .await;
        if let Err(error) = &outcome
            && reused
            && error.is_outage()
            && active.delivered_count() == 0
        {
            lease = lease.renew().await?;
            outcome = self
                .move_over(lease.association()?, identifier, ticket.id())
                .await;
        }
        let pass = outcome?;
        lease.keep();
        // The last images may still be on their way on other associations.
        if let Some(announced) = pass.announced {
            active
                .wait_for(announced, self.dimse.pool.settings().response_timeout)
                .await;
        }
        if let Some(error) = active.fatal() {
            return Err(error);
        }
        let delivered = active.take_delivered();
        self.dimse.count_instances(delivered.len() as u64);
        self.delivered.extend(delivered);
        Ok(pass)
    }

    async fn move_over(
        &mut self,
        association: &mut Association,
        identifier: &(Level, Identifier),
        message_id: u16,
    ) -> Result<Pass, ArchiveError> {
        let mut command = Command::request(field::C_MOVE_RQ, message_id, STUDY_ROOT_MOVE);
        command.move_destination = Some(self.dimse.moves.ae_title().to_string());
        let context = send_request(association, &command, identifier, "C-MOVE").await?;
        let mut exchange = Exchange::new(context, message_id);
        loop {
            let (id, command) = exchange.next(association, &self.cancel).await?;
            if let Some(pass) = exchange.response(association, id, &command).await? {
                return Ok(pass);
            }
        }
    }
}

/// The state of one C-GET or C-MOVE on its association.
struct Exchange {
    context: u8,
    message_id: u16,
    cancelled: bool,
    deadline: Option<Instant>,
}

impl Exchange {
    fn new(context: u8, message_id: u16) -> Self {
        Self {
            context,
            message_id,
            cancelled: false,
            deadline: None,
        }
    }

    /// The next command. Once `cancel` has fired C-CANCEL is sent first, whatever has arrived, and
    /// the PACS gets [`CANCEL_GRACE`] to end the exchange.
    async fn next(
        &mut self,
        association: &mut Association,
        cancel: &CancellationToken,
    ) -> Result<(u8, Command), ArchiveError> {
        let received = if let Some(deadline) = self.deadline {
            timeout_at(deadline, association.receive("retrieval"))
                .await
                .map_err(|_| ArchiveError::Cancelled)?
        } else {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {
                    self.cancelled = true;
                    self.deadline = Some(Instant::now() + CANCEL_GRACE);
                    association.send(self.context, &Command::cancel(self.message_id), None).await?;
                    return Box::pin(self.next(association, cancel)).await;
                }
                received = association.receive("retrieval") => received,
            }
        };
        received?.ok_or_else(|| association.protocol("a release during a retrieval".into()))
    }

    /// Takes a response; `Some` when it is the last.
    async fn response(
        &mut self,
        association: &mut Association,
        context: u8,
        command: &Command,
    ) -> Result<Option<Pass>, ArchiveError> {
        let ours = matches!(command.field, field::C_GET_RSP | field::C_MOVE_RSP)
            && command.responded_id == Some(self.message_id);
        if !ours {
            return Err(association.protocol("not a response to the retrieval".into()));
        }
        if command.has_data {
            association
                .receive_data_set(context, MAX_RESPONSE, "retrieval")
                .await?;
        }
        let status = command.status.unwrap_or(status::CANNOT_UNDERSTAND);
        if status::is_pending(status) {
            return Ok(None);
        }
        if self.cancelled || status == status::CANCEL {
            return Err(ArchiveError::Cancelled);
        }
        let announced = command
            .completed
            .map(|completed| u64::from(completed) + u64::from(command.warning.unwrap_or(0)));
        let success = status == status::SUCCESS || status == status::SUB_OPERATIONS_WARNING;
        Ok(Some(Pass {
            announced: announced.map(|count| count & 0xFFFF),
            failed: u64::from(command.failed.unwrap_or(0)),
            failure: (!success).then_some(status),
            partial: status == status::SUB_OPERATIONS_WARNING && command.failed.is_none(),
        }))
    }
}

async fn send_request(
    association: &mut Association,
    command: &Command,
    (level, identifier): &(Level, Identifier),
    service: &'static str,
) -> Result<u8, ArchiveError> {
    let sop_class = command.sop_class.as_deref().unwrap_or_default();
    let Some(context) = association.context_for(sop_class).cloned() else {
        return Err(ArchiveError::NotOffered {
            address: association.address().into(),
            service,
        });
    };
    let explicit = context.transfer_syntax != dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN;
    let identifier = identifier
        .clone()
        .with(Tag(0x0008, 0x0052), VR::CS, level.as_str());
    let data = identifier.encode(explicit, "ISO_IR 6");
    association.send(context.id, command, Some(&data)).await?;
    Ok(context.id)
}

/// Refuses everything: what a PACS still sends after C-CANCEL.
struct Refuse;

impl InstanceSink for Refuse {
    fn begin(&self, _: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        Err(SinkError::Abandoned)
    }
}

/// The contexts of the first pass; see [`DimseArchive::first_contexts`].
pub(super) fn first_contexts(
    method: RetrieveMethod,
    modalities: &[String],
    uncompressed_only: bool,
) -> Option<Arc<[ProposedContext]>> {
    match method {
        RetrieveMethod::Get => contexts::getting(modalities, uncompressed_only).map(Into::into),
        RetrieveMethod::Move => Some(contexts::moving().into()),
    }
}
