//! C-FIND as service class user (PS3.4 §C.4.1, PS3.7 §9.1.2).

use std::sync::Arc;

use super::command::{Command, field};
use super::contexts::{PATIENT_ROOT_FIND, STUDY_ROOT_FIND};
use super::negotiation::QueryAbilities;
use super::pool::{Lease, Pool};
use super::status;
use super::upper_layer::ProposedContext;
use crate::archive::{ArchiveError, FindRequest, Level, Match, Matches};
use crate::config::Quirks;
use crate::dicom::uid::TransferSyntaxUid;
use dicom_core::{Tag, VR};

/// Bytes of one answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// Bytes of all answers of one search.
const MAX_ANSWERS: usize = 128 * 1024 * 1024;

/// Searches the PACS.
///
/// # Errors
/// Those of the association, or the failure status of the PACS.
pub async fn find(
    pool: &Arc<Pool>,
    contexts: &Arc<[ProposedContext]>,
    request: &FindRequest,
    quirks: &Quirks,
) -> Result<Matches, ArchiveError> {
    let mut lease = pool.acquire(contexts).await?;
    let reused = lease.was_reused();
    let outcome = match exchange(&mut lease, pool, request, quirks).await {
        // The PACS may have closed an idle association at any time.
        Err(error) if reused && error.is_outage() => {
            lease = lease.renew().await?;
            exchange(&mut lease, pool, request, quirks).await
        }
        outcome => outcome,
    };
    if outcome.as_ref().is_ok() || matches!(outcome, Err(ArchiveError::Failed { .. })) {
        lease.keep();
    }
    outcome
}

async fn exchange(
    lease: &mut Lease,
    pool: &Pool,
    request: &FindRequest,
    quirks: &Quirks,
) -> Result<Matches, ArchiveError> {
    let association = lease.association()?;
    let sop_class = match request.level {
        Level::Patient => PATIENT_ROOT_FIND,
        _ => STUDY_ROOT_FIND,
    };
    let Some(context) = association.context_for(sop_class).cloned() else {
        return Err(ArchiveError::NotOffered {
            address: association.address().to_owned(),
            service: "C-FIND",
        });
    };
    let transfer_syntax = TransferSyntaxUid::parse(&context.transfer_syntax)
        .map_err(|error| association.protocol(format!("transfer syntax: {error}")))?;
    let message_id = pool.next_message_id();
    let explicit =
        transfer_syntax.as_str() != dicom_dictionary_std::uids::IMPLICIT_VR_LITTLE_ENDIAN;
    let abilities = association.abilities(sop_class);
    let identifier = encode(request, explicit, abilities, quirks);
    let command = Command::request(field::C_FIND_RQ, message_id, sop_class);
    association
        .send(context.id, &command, Some(&identifier))
        .await?;

    let mut matches = Matches {
        fuzzy_names: abilities.fuzzy_names && request.identifier.wants_fuzzy_names(),
        ..Matches::default()
    };
    let mut bytes = 0_usize;
    let mut cancelled = false;
    loop {
        let Some((id, response)) = association.receive("search").await? else {
            return Err(association.protocol("a release in place of a response".into()));
        };
        if response.field != field::C_FIND_RSP || response.responded_id != Some(message_id) {
            return Err(association.protocol("not a response to the search".into()));
        }
        let data = if response.has_data {
            Some(
                association
                    .receive_data_set(id, MAX_ANSWER, "search")
                    .await?,
            )
        } else {
            None
        };
        let status = response.status.unwrap_or(status::CANNOT_UNDERSTAND);
        if !status::is_pending(status) {
            return match status {
                status::SUCCESS | status::CANCEL => {
                    matches.truncated |= status == status::CANCEL;
                    if let Some(limit) = quirks.max_results {
                        matches.truncated |= matches.items.len() >= limit;
                    }
                    Ok(matches)
                }
                status => Err(ArchiveError::Failed {
                    service: "C-FIND",
                    status,
                    meaning: status::meaning(status),
                }),
            };
        }
        let Some(data) = data else { continue };
        if matches.items.len() < request.max_matches && bytes + data.len() <= MAX_ANSWERS {
            bytes += data.len();
            // A slice of a large PDU would keep all of it in memory.
            let data = if data.len() < 64 * 1024 {
                data.to_vec().into()
            } else {
                data
            };
            matches.items.push(Match {
                data,
                transfer_syntax: transfer_syntax.clone(),
            });
        } else {
            matches.truncated = true;
            if !cancelled {
                cancelled = true;
                association
                    .send(context.id, &Command::cancel(message_id), None)
                    .await?;
            }
        }
    }
}

fn encode(
    request: &FindRequest,
    explicit: bool,
    abilities: QueryAbilities,
    quirks: &Quirks,
) -> Vec<u8> {
    let mut identifier = request.identifier.clone();
    if !abilities.date_time {
        // The PACS would match the time on every day of the range (PS3.4 §C.2.2.2.5): it gets the
        // days, and whoever asked compares the moments.
        for (_, time) in identifier.combined_ranges() {
            identifier.set(time, VR::TM, "");
        }
    }
    identifier.set(Tag(0x0008, 0x0052), VR::CS, request.level.as_str());
    let ascii = identifier.is_ascii();
    let charset = match &quirks.charset {
        Some(charset) if !ascii => charset.as_str(),
        _ => "ISO_IR 192",
    };
    if quirks.send_charset || !ascii {
        identifier.set(Tag(0x0008, 0x0005), VR::CS, charset);
    }
    identifier.encode(explicit, charset)
}
