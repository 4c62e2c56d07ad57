//! C-STORE as service class provider: one instance from an association into a sink, whether it
//! comes on the association of a C-GET or on one that the PACS opened after a C-MOVE.

use super::command::{Command, field};
use super::status;
use super::upper_layer::Association;
use crate::archive::{ArchiveError, IncomingInstance, InstanceSink, SinkError};
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};

/// What became of one C-STORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The sink has the instance.
    Taken(InstanceUid),
    /// The sink, or the message itself, was at fault; the PACS was told so.
    Refused(SinkError),
}

/// Receives the data set of `request`, hands it to `sink`, answers.
///
/// # Errors
/// Those of the association. A refused instance is not an error here.
pub async fn receive_instance(
    association: &mut Association,
    context: u8,
    request: &Command,
    sink: &dyn InstanceSink,
) -> Result<Received, ArchiveError> {
    let outcome = take(association, context, request, sink).await?;
    let status = match &outcome {
        Received::Taken(_) => status::SUCCESS,
        Received::Refused(SinkError::NotAskedFor) => status::NOT_AUTHORISED,
        Received::Refused(SinkError::Malformed(_)) => status::CANNOT_UNDERSTAND,
        Received::Refused(SinkError::Abandoned | SinkError::NoRoom(_)) => status::OUT_OF_RESOURCES,
    };
    association
        .send(context, &Command::response_to(request, status), None)
        .await?;
    Ok(outcome)
}

async fn take(
    association: &mut Association,
    context: u8,
    request: &Command,
    sink: &dyn InstanceSink,
) -> Result<Received, ArchiveError> {
    if request.field != field::C_STORE_RQ || !request.has_data {
        return Err(association.protocol(format!(
            "a command {:04X}H where a C-STORE was due",
            request.field
        )));
    }
    let incoming = match identify(association, context, request) {
        Ok(incoming) => incoming,
        Err(detail) => {
            skip(association, context).await?;
            return Ok(Received::Refused(SinkError::Malformed(detail)));
        }
    };
    let instance = incoming.instance.clone();
    let mut writer = match sink.begin(incoming) {
        Ok(writer) => writer,
        Err(error) => {
            skip(association, context).await?;
            return Ok(Received::Refused(error));
        }
    };
    loop {
        let (data, last) = association.receive_data(context, "an instance").await?;
        if let Err(error) = writer.write(data).await {
            if !last {
                skip(association, context).await?;
            }
            return Ok(Received::Refused(error));
        }
        if last {
            break;
        }
    }
    Ok(match writer.finish().await {
        Ok(()) => Received::Taken(instance),
        Err(error) => Received::Refused(error),
    })
}

/// The identity of the instance, from the command and the context *of this message*.
fn identify(
    association: &Association,
    context: u8,
    request: &Command,
) -> Result<IncomingInstance, String> {
    let context = association
        .context(context)
        .ok_or("a presentation context that was not accepted")?;
    let uid = |text: Option<&str>, what: &str| {
        let text = text.ok_or_else(|| format!("no {what} in the command"))?;
        crate::dicom::uid::Uid::parse(text).map_err(|error| format!("{what}: {error}"))
    };
    Ok(IncomingInstance {
        sop_class: SopClassUid::from(uid(request.sop_class.as_deref(), "SOP class")?),
        instance: InstanceUid::from(uid(request.sop_instance.as_deref(), "SOP instance")?),
        transfer_syntax: TransferSyntaxUid::from(uid(
            Some(&context.transfer_syntax),
            "transfer syntax",
        )?),
    })
}

/// Reads a data set and drops it.
async fn skip(association: &mut Association, context: u8) -> Result<(), ArchiveError> {
    while !association.receive_data(context, "an instance").await?.1 {}
    Ok(())
}
