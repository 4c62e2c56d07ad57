//! PDUs on a TCP connection (PS3.8), read and written one by one so that a fault fits between.

use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu, read_pdu, write_pdu};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::command::Command;

/// Largest PDU that the simulator takes; it announces less.
const MAX_PDU: usize = 1 << 20;

/// What the simulator announces as the largest PDU it takes.
pub(super) const ANNOUNCED_PDU: u32 = 128 * 1024;

/// Largest identifier that the simulator takes.
const MAX_IDENTIFIER: usize = 1 << 20;

/// Why a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other side asked for the release of the association.
    Release,
    /// The other side aborted.
    Abort,
    /// The connection is closed, broken, or spoke something else than DICOM.
    Closed,
    /// The simulator hangs up without a word.
    HangUp,
}

/// A connection that speaks PDUs.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    /// What was read of the PDU to come: reading may be dropped and taken up again.
    partial: Vec<u8>,
    /// What arrived of the message to come, for the same reason.
    incoming: Incoming,
    /// Most bytes of data in a PDU that is sent.
    pub(super) max_data: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
            incoming: Incoming::default(),
            max_data: 16 * 1024,
        }
    }

    pub(super) fn set_nodelay(&self, on: bool) {
        let _ = self.stream.set_nodelay(on);
    }

    /// Reads a PDU. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Result<Pdu, End> {
        loop {
            if let Some(length) = self.announced()?
                && self.partial.len() >= length
            {
                let rest = self.partial.split_off(length);
                let whole = std::mem::replace(&mut self.partial, rest);
                let limit = u32::try_from(MAX_PDU).unwrap_or(u32::MAX);
                return match read_pdu(whole.as_slice(), limit, true) {
                    Ok(Some(pdu)) => Ok(pdu),
                    _ => Err(End::Closed),
                };
            }
            match self.stream.read_buf(&mut self.partial).await {
                Ok(0) | Err(_) => return Err(End::Closed),
                Ok(_) => {}
            }
        }
    }

    /// Length of the PDU at the front of what was read, header included, once it is known.
    fn announced(&self) -> Result<Option<usize>, End> {
        let [_, _, a, b, c, d, ..] = *self.partial.as_slice() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_PDU {
            return Err(End::Closed);
        }
        Ok(Some(length + 6))
    }

    /// Sends a PDU.
    pub(super) async fn send(&mut self, pdu: &Pdu) -> Result<(), End> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).map_err(|_| End::Closed)?;
        self.send_bytes(&bytes).await
    }

    /// Sends bytes as they are.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.stream.write_all(bytes).await.map_err(|_| End::Closed)
    }

    /// Sends a command, with nothing after it.
    pub(super) async fn send_command(&mut self, context: u8, command: &Command) -> Result<(), End> {
        let pdu = data_pdu(context, PDataValueType::Command, true, &command.encode());
        self.send(&pdu).await
    }

    /// Sends a part of a data set; `is_last` closes the data set.
    pub(super) async fn send_data(
        &mut self,
        context: u8,
        data: &[u8],
        is_last: bool,
    ) -> Result<(), End> {
        let mut rest = data;
        loop {
            let (now, later) = rest.split_at(rest.len().min(self.max_data));
            let last = is_last && later.is_empty();
            self.send(&data_pdu(context, PDataValueType::Data, last, now))
                .await?;
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    /// Reads a command and the data set that it announces, with the context it came in. Dropping
    /// the future loses nothing.
    pub(super) async fn receive_message(&mut self) -> Result<Message, End> {
        loop {
            let pdu = self.receive().await?;
            if let Some(message) = self.incoming.take(pdu)? {
                return Ok(message);
            }
        }
    }
}

/// A DIMSE message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) context: u8,
    pub(super) command: Command,
    pub(super) data: Vec<u8>,
}

/// A DIMSE message whose PDUs are still arriving.
#[derive(Debug, Default)]
struct Incoming {
    raw_command: Vec<u8>,
    command: Option<Command>,
    data: Vec<u8>,
}

impl Incoming {
    /// Takes the next PDU; the message when it is whole.
    fn take(&mut self, pdu: Pdu) -> Result<Option<Message>, End> {
        let values = match pdu {
            Pdu::PData { data } => data,
            Pdu::ReleaseRQ => return Err(End::Release),
            Pdu::AbortRQ { .. } => return Err(End::Abort),
            _ => return Err(End::Closed),
        };
        for value in values {
            let (buffer, is_command) = match value.value_type {
                PDataValueType::Command => (&mut self.raw_command, true),
                PDataValueType::Data => (&mut self.data, false),
            };
            if buffer.len() + value.data.len() > MAX_IDENTIFIER {
                return Err(End::Closed);
            }
            buffer.extend_from_slice(&value.data);
            if !value.is_last {
                continue;
            }
            if is_command {
                let command = Command::decode(&self.raw_command).ok_or(End::Closed)?;
                let more = command.has_data_set();
                self.command = Some(command);
                if more {
                    continue;
                }
            }
            let this = std::mem::take(self);
            return Ok(Some(Message {
                context: value.presentation_context_id,
                command: this.command.ok_or(End::Closed)?,
                data: this.data,
            }));
        }
        Ok(None)
    }
}

fn data_pdu(context: u8, kind: PDataValueType, is_last: bool, data: &[u8]) -> Pdu {
    Pdu::PData {
        data: vec![PDataValue {
            presentation_context_id: context,
            value_type: kind,
            is_last,
            data: data.to_vec(),
        }],
    }
}
