//! C-STORE as service class user (PS3.4 annex B, PS3.7 §9.1.1).

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;

use super::command::{Command, field};
use super::contexts;
use super::pool::Pool;
use super::status;
use super::upper_layer::{Association, ProposedContext};
use crate::archive::{ArchiveError, OutgoingInstance, StoreOutcome};

/// Contexts of one association.
const MAX_PAIRS: usize = 128;

/// Sends instances, each in the context of its SOP class and transfer syntax.
///
/// # Errors
/// Those of the association; a failure status is the outcome of its instance instead.
pub async fn store(
    pool: &Arc<Pool>,
    instances: Vec<OutgoingInstance>,
) -> Result<Vec<StoreOutcome>, ArchiveError> {
    let mut outcomes = Vec::with_capacity(instances.len());
    let mut rest = instances.into_iter().peekable();
    while rest.peek().is_some() {
        let mut pairs: BTreeSet<(String, &'static str)> = BTreeSet::new();
        let mut batch = Vec::new();
        while let Some(instance) = rest.peek() {
            if let Some(syntax) = contexts::known_syntax(instance.transfer_syntax.as_str()) {
                let pair = (instance.sop_class.to_string(), syntax);
                if pairs.len() == MAX_PAIRS && !pairs.contains(&pair) {
                    break;
                }
                pairs.insert(pair);
            }
            batch.extend(rest.next());
        }
        send_batch(pool, &pairs, batch, &mut outcomes).await?;
    }
    Ok(outcomes)
}

async fn send_batch(
    pool: &Arc<Pool>,
    pairs: &BTreeSet<(String, &'static str)>,
    batch: Vec<OutgoingInstance>,
    outcomes: &mut Vec<StoreOutcome>,
) -> Result<(), ArchiveError> {
    if pairs.is_empty() {
        outcomes.extend(batch.iter().map(|_| StoreOutcome::NotAccepted));
        return Ok(());
    }
    let proposed: Arc<[ProposedContext]> = contexts::storing(pairs).into();
    let mut lease = pool.acquire(&proposed).await?;
    for instance in batch {
        let outcome = send_one(lease.association()?, pool, instance).await?;
        outcomes.push(outcome);
    }
    lease.keep();
    Ok(())
}

async fn send_one(
    association: &mut Association,
    pool: &Pool,
    mut instance: OutgoingInstance,
) -> Result<StoreOutcome, ArchiveError> {
    let context = association.contexts().iter().find(|context| {
        context.abstract_syntax == instance.sop_class.as_str()
            && context.transfer_syntax == instance.transfer_syntax.as_str()
    });
    let Some(context) = context.map(|context| context.id) else {
        return Ok(StoreOutcome::NotAccepted);
    };
    let message_id = pool.next_message_id();
    let mut command = Command::request(field::C_STORE_RQ, message_id, instance.sop_class.as_str());
    command.sop_instance = Some(instance.instance.to_string());
    association.send(context, &command, None).await?;
    let mut held = None;
    while let Some(piece) = instance.data.next().await {
        let piece = piece.map_err(|error| ArchiveError::Sink(format!("reading: {error}")))?;
        if let Some(before) = held.replace(piece) {
            let before: bytes::Bytes = before;
            association.send_data(context, &before, false).await?;
        }
    }
    association
        .send_data(context, held.as_deref().unwrap_or_default(), true)
        .await?;
    let Some((_, response)) = association.receive("storing").await? else {
        return Err(association.protocol("a release in place of a response".into()));
    };
    if response.field != field::C_STORE_RSP || response.responded_id != Some(message_id) {
        return Err(association.protocol("not a response to the C-STORE".into()));
    }
    Ok(match response.status.unwrap_or(status::CANNOT_UNDERSTAND) {
        status::SUCCESS => StoreOutcome::Stored,
        status if status::is_stored(status) => StoreOutcome::StoredWithWarning(status),
        status => StoreOutcome::Failed {
            status,
            comment: status::meaning(status).to_owned(),
        },
    })
}
