//! One part of a WADO-RS answer: a DICOM file (PS3.10 §7), of which the sink gets the data set.

use bytes::Bytes;

use crate::archive::{IncomingInstance, InstanceSink, InstanceWriter, SinkError};
use crate::dicom::part10::{FileMeta, Part10Error, parse_arriving};
use crate::dicom::uid::InstanceUid;

/// A file on its way into the sink.
pub struct IncomingFile {
    state: State,
}

enum State {
    /// The file so far: its meta information is not whole yet.
    Meta(Bytes),
    /// The data set goes to the sink.
    DataSet(InstanceUid, Box<dyn InstanceWriter>),
    /// The instance was refused: the rest is dropped.
    Refused(SinkError),
}

impl IncomingFile {
    /// A file of which nothing has come yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Meta(Bytes::new()),
        }
    }

    /// Takes the next bytes. Slow storage makes the caller wait here.
    ///
    /// # Errors
    /// [`SinkError`] once, when the instance is refused; what follows of it is dropped.
    pub async fn take(&mut self, bytes: Bytes, sink: &dyn InstanceSink) -> Result<(), SinkError> {
        let outcome = self.hand_on(bytes, sink).await;
        if let Err(error) = &outcome {
            self.state = State::Refused(error.clone());
        }
        outcome
    }

    async fn hand_on(&mut self, bytes: Bytes, sink: &dyn InstanceSink) -> Result<(), SinkError> {
        let data = match &mut self.state {
            State::Refused(_) => return Ok(()),
            State::DataSet(..) => bytes,
            State::Meta(so_far) => {
                *so_far = joined(so_far, bytes);
                let Some(meta) = parse_arriving(so_far).map_err(malformed)? else {
                    return Ok(());
                };
                let data = so_far.slice(meta.data_set_offset..);
                self.state = begin(meta, sink)?;
                data
            }
        };
        match &mut self.state {
            State::DataSet(_, writer) => writer.write(data).await,
            State::Meta(_) | State::Refused(_) => Ok(()),
        }
    }

    /// The file is whole: the instance that the sink took.
    ///
    /// # Errors
    /// [`SinkError`] when it was refused.
    pub async fn finish(self) -> Result<InstanceUid, SinkError> {
        match self.state {
            State::DataSet(instance, writer) => writer.finish().await.map(|()| instance),
            State::Refused(error) => Err(error),
            State::Meta(_) => Err(malformed(Part10Error::Truncated)),
        }
    }
}

fn begin(meta: FileMeta, sink: &dyn InstanceSink) -> Result<State, SinkError> {
    let (Some(sop_class), Some(instance)) = (meta.sop_class, meta.instance) else {
        return Err(SinkError::Malformed(
            "the file meta information names no SOP class or no SOP instance".into(),
        ));
    };
    let writer = sink.begin(IncomingInstance {
        sop_class,
        instance: instance.clone(),
        // The header of the part may leave it out or say otherwise: the file knows.
        transfer_syntax: meta.transfer_syntax,
    })?;
    Ok(State::DataSet(instance, writer))
}

fn joined(front: &Bytes, back: Bytes) -> Bytes {
    if front.is_empty() {
        back
    } else {
        [front.as_ref(), back.as_ref()].concat().into()
    }
}

fn malformed(error: Part10Error) -> SinkError {
    SinkError::Malformed(error.to_string())
}
