//! An association of the DICOM upper layer (PS3.8), requested or accepted.
//!
//! The control PDUs are read and written by `dicom-ul`. P-DATA-TF, which carries the images, is
//! cut here without copying, and the length of every PDU is checked against what this side
//! announced before anything is reserved for it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderPresentationReason as PresentationReason,
    AssociationRJServiceUserReason as UserReason, AssociationRJSource, AssociationRQ, Pdu,
    PresentationContextResultReason, read_pdu, write_pdu,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::command::Command;
use super::negotiation::{
    QueryAbilities, association_request, explain_rejection, peer_abilities, peer_max_pdu,
    user_variables,
};
use crate::archive::ArchiveError;
use crate::archive::socket::Socket;
use crate::config::AeTitle;

/// DICOM application context name (PS3.7 annex A).
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Bytes of PDU type, reserved byte and length.
const PDU_HEADER: usize = 6;
/// Bytes of a presentation data value's length, context and control header.
const PDV_HEADER: usize = 6;
/// Largest A-ASSOCIATE PDU accepted: 128 contexts with some 60 transfer syntaxes each.
const MAX_CONTROL_PDU: usize = 512 * 1024;
/// Largest command set accepted; real ones have some hundred bytes.
const MAX_COMMAND: usize = 64 * 1024;
/// Bytes asked from the socket at a time.
const READ_SIZE: usize = 256 * 1024;
/// Largest PDU sent, whatever the peer accepts.
pub(super) const MAX_SENT_PDU: usize = 1024 * 1024;

/// A presentation context that both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedContext {
    /// Odd number that messages carry.
    pub id: u8,
    /// Abstract syntax: a SOP class.
    pub abstract_syntax: String,
    /// Transfer syntax of data sets in this context.
    pub transfer_syntax: String,
}

/// A presentation context to propose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProposedContext {
    /// Abstract syntax: a SOP class.
    pub abstract_syntax: Cow<'static, str>,
    /// Transfer syntaxes; one when images shall come as stored.
    pub transfer_syntaxes: Vec<&'static str>,
    /// True when the peer will send on this context (C-GET): we take the SCP role.
    pub peer_sends: bool,
    /// What is asked for in the SOP class extended negotiation.
    pub extended: Option<QueryAbilities>,
}

/// A presentation data value (PS3.8 §9.3.5.1): a piece of a message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdv {
    /// Presentation context of the message.
    pub context: u8,
    /// A piece of the command; else of the data set.
    pub command: bool,
    /// The last piece of it.
    pub last: bool,
    /// The piece.
    pub data: Bytes,
}

/// An open association.
#[derive(Debug)]
pub struct Association {
    socket: Socket,
    address: String,
    buffer: BytesMut,
    pending: VecDeque<Pdv>,
    contexts: Vec<AcceptedContext>,
    abilities: Vec<(String, QueryAbilities)>,
    peer_ae_title: String,
    local_max_pdu: usize,
    peer_max_pdu: usize,
    response_timeout: Duration,
}

/// What this side says of itself when it associates.
#[derive(Debug, Clone)]
pub struct Local<'a> {
    /// AE title of this side.
    pub ae_title: &'a AeTitle,
    /// Largest PDU this side accepts.
    pub max_pdu: u32,
    /// Time without any byte while something is due.
    pub response_timeout: Duration,
}

impl Association {
    /// Requests an association over a connected socket (PS3.8 §7.1).
    ///
    /// # Errors
    /// Rejection, silence, a broken connection, or no context accepted.
    pub async fn request(
        socket: Socket,
        address: String,
        local: Local<'_>,
        called: &AeTitle,
        proposed: &[ProposedContext],
    ) -> Result<Self, ArchiveError> {
        let mut this = Self::over(socket, address, &local);
        let request = association_request(&local, called, proposed);
        this.send_pdu(&Pdu::AssociationRQ(request)).await?;
        match this.receive_control("association").await? {
            Pdu::AssociationAC(ac) => {
                this.peer_max_pdu = peer_max_pdu(&ac.user_variables);
                this.abilities = peer_abilities(&ac.user_variables);
                this.peer_ae_title = called.as_str().to_owned();
                this.contexts = ac
                    .presentation_contexts
                    .iter()
                    .filter(|result| result.reason == PresentationContextResultReason::Acceptance)
                    .filter_map(|result| {
                        let proposal = proposed.get(usize::from(result.id.checked_sub(1)? / 2))?;
                        Some(AcceptedContext {
                            id: result.id,
                            abstract_syntax: proposal.abstract_syntax.to_string(),
                            transfer_syntax: trim_uid(&result.transfer_syntax).to_owned(),
                        })
                    })
                    .collect();
                Ok(this)
            }
            Pdu::AssociationRJ(rejection) => {
                let (reason, remedy) = explain_rejection(&rejection, local.ae_title, called);
                Err(ArchiveError::Rejected {
                    address: this.address,
                    ae_title: called.to_string(),
                    reason,
                    remedy,
                    transient: rejection.result == AssociationRJResult::Transient,
                })
            }
            Pdu::AbortRQ { .. } => Err(ArchiveError::Aborted {
                address: this.address,
            }),
            other => Err(this.protocol(format!("{} in place of an association", name(&other)))),
        }
    }

    /// Waits for an association request over an accepted connection.
    ///
    /// # Errors
    /// Silence, a broken connection, or something else than a request.
    pub async fn accept(
        socket: Socket,
        address: String,
        local: Local<'_>,
    ) -> Result<(Self, AssociationRQ), ArchiveError> {
        let mut this = Self::over(socket, address, &local);
        match this.receive_control("association request").await? {
            Pdu::AssociationRQ(request) => {
                this.peer_max_pdu = peer_max_pdu(&request.user_variables);
                this.peer_ae_title = request.calling_ae_title.trim().to_owned();
                Ok((this, request))
            }
            other => Err(this.protocol(format!("{} in place of an association", name(&other)))),
        }
    }

    /// Answers a request with the contexts chosen for it: for each proposed context its transfer
    /// syntax, or `None` when refused.
    ///
    /// # Errors
    /// A broken connection.
    pub async fn confirm(
        &mut self,
        request: &AssociationRQ,
        chosen: &[Option<String>],
    ) -> Result<(), ArchiveError> {
        let mut results = Vec::with_capacity(request.presentation_contexts.len());
        for (proposal, transfer_syntax) in request.presentation_contexts.iter().zip(chosen) {
            results.push(dicom_ul::pdu::PresentationContextResult {
                id: proposal.id,
                reason: match transfer_syntax {
                    Some(_) => PresentationContextResultReason::Acceptance,
                    None => PresentationContextResultReason::AbstractSyntaxNotSupported,
                },
                transfer_syntax: transfer_syntax
                    .clone()
                    .unwrap_or_else(|| "1.2.840.10008.1.2".to_owned()),
            });
            if let Some(transfer_syntax) = transfer_syntax {
                self.contexts.push(AcceptedContext {
                    id: proposal.id,
                    abstract_syntax: trim_uid(&proposal.abstract_syntax).to_owned(),
                    transfer_syntax: transfer_syntax.clone(),
                });
            }
        }
        let answer = dicom_ul::pdu::AssociationAC {
            protocol_version: 1,
            calling_ae_title: request.calling_ae_title.clone(),
            called_ae_title: request.called_ae_title.clone(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: results,
            user_variables: user_variables(u32::try_from(self.local_max_pdu).unwrap_or(u32::MAX)),
        };
        self.send_pdu(&Pdu::AssociationAC(answer)).await
    }

    /// Rejects a request: `recognised` tells whether the called AE title is ours.
    pub async fn reject(mut self, reason: Rejection) {
        let (result, source) = match reason {
            Rejection::CalledNotRecognised => (
                AssociationRJResult::Permanent,
                AssociationRJSource::ServiceUser(UserReason::CalledAETitleNotRecognized),
            ),
            Rejection::CallingNotRecognised => (
                AssociationRJResult::Permanent,
                AssociationRJSource::ServiceUser(UserReason::CallingAETitleNotRecognized),
            ),
            Rejection::Congested => (
                AssociationRJResult::Transient,
                AssociationRJSource::ServiceProviderPresentation(
                    PresentationReason::LocalLimitExceeded,
                ),
            ),
        };
        // The peer may be gone already: there is nobody left to tell.
        let _ = self
            .send_pdu(&Pdu::AssociationRJ(AssociationRJ { result, source }))
            .await;
        let _ = self.socket.shutdown().await;
    }

    fn over(socket: Socket, address: String, local: &Local<'_>) -> Self {
        Self {
            socket,
            address,
            buffer: BytesMut::with_capacity(READ_SIZE),
            pending: VecDeque::new(),
            contexts: Vec::new(),
            abilities: Vec::new(),
            peer_ae_title: String::new(),
            local_max_pdu: usize::try_from(local.max_pdu).unwrap_or(MAX_SENT_PDU),
            peer_max_pdu: 16_384,
            response_timeout: local.response_timeout,
        }
    }

    /// The contexts agreed on.
    #[must_use]
    pub fn contexts(&self) -> &[AcceptedContext] {
        &self.contexts
    }

    /// The context of a message.
    #[must_use]
    pub fn context(&self, id: u8) -> Option<&AcceptedContext> {
        self.contexts.iter().find(|context| context.id == id)
    }

    /// The first context of an abstract syntax.
    #[must_use]
    pub fn context_for(&self, abstract_syntax: &str) -> Option<&AcceptedContext> {
        self.contexts
            .iter()
            .find(|context| context.abstract_syntax == abstract_syntax)
    }

    /// What the peer said it does in queries of this SOP class; nothing when it did not say.
    #[must_use]
    pub fn abilities(&self, abstract_syntax: &str) -> QueryAbilities {
        let found = self
            .abilities
            .iter()
            .find(|(sop_class, _)| sop_class == abstract_syntax);
        found.map(|(_, abilities)| *abilities).unwrap_or_default()
    }

    /// `host:port` of the peer, for messages.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// AE title of the peer.
    #[must_use]
    pub fn peer_ae_title(&self) -> &str {
        &self.peer_ae_title
    }

    /// Whether an idle association can no longer be used.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !self.pending.is_empty() || !self.buffer.is_empty() || self.socket.is_stale()
    }

    /// Sends a command, and its data set if there is one, in one write.
    ///
    /// # Errors
    /// A broken or stuck connection.
    pub async fn send(
        &mut self,
        context: u8,
        command: &Command,
        data: Option<&[u8]>,
    ) -> Result<(), ArchiveError> {
        let command = command.encode();
        let mut out = Vec::with_capacity(command.len() + data.map_or(0, <[u8]>::len) + 64);
        self.fragment(&mut out, context, true, true, &command);
        if let Some(data) = data {
            self.fragment(&mut out, context, false, true, data);
        }
        self.write(&out).await
    }

    /// Sends a piece of a data set; `last` with the end of it.
    ///
    /// # Errors
    /// A broken or stuck connection.
    pub async fn send_data(
        &mut self,
        context: u8,
        data: &[u8],
        last: bool,
    ) -> Result<(), ArchiveError> {
        let mut out = Vec::with_capacity(data.len() + 64);
        self.fragment(&mut out, context, false, last, data);
        self.write(&out).await
    }

    /// The next command, with the context it came in; `None` when the peer released.
    ///
    /// Safe to cancel: nothing read is lost.
    ///
    /// # Errors
    /// Silence, a broken connection, an abort, a broken protocol.
    pub async fn receive(
        &mut self,
        stage: &'static str,
    ) -> Result<Option<(u8, Command)>, ArchiveError> {
        loop {
            if let Some(taken) = self.take_command()? {
                return Ok(Some(taken));
            }
            if !self.receive_pdvs(stage).await? {
                return Ok(None);
            }
        }
    }

    /// The next piece of the data set that follows a command, and whether it is the last.
    ///
    /// # Errors
    /// As [`Self::receive`]; a release in the middle of a data set breaks the protocol.
    pub async fn receive_data(
        &mut self,
        context: u8,
        stage: &'static str,
    ) -> Result<(Bytes, bool), ArchiveError> {
        loop {
            if let Some(pdv) = self.pending.pop_front() {
                if pdv.command || pdv.context != context {
                    return Err(self.protocol("a command in the middle of a data set".into()));
                }
                return Ok((pdv.data, pdv.last));
            }
            if !self.receive_pdvs(stage).await? {
                return Err(self.protocol("a release in the middle of a data set".into()));
            }
        }
    }

    /// A whole data set of at most `cap` bytes.
    ///
    /// # Errors
    /// As [`Self::receive_data`]; a data set beyond `cap`.
    pub async fn receive_data_set(
        &mut self,
        context: u8,
        cap: usize,
        stage: &'static str,
    ) -> Result<Bytes, ArchiveError> {
        let (first, mut last) = self.receive_data(context, stage).await?;
        if last && first.len() <= cap {
            return Ok(first);
        }
        let mut whole = BytesMut::from(first.as_ref());
        while !last && whole.len() <= cap {
            let (piece, is_last) = self.receive_data(context, stage).await?;
            whole.extend_from_slice(&piece);
            last = is_last;
        }
        if whole.len() > cap {
            return Err(self.protocol(format!("a data set of more than {cap} bytes")));
        }
        Ok(whole.freeze())
    }

    /// Releases the association (PS3.8 §7.2) and closes the connection.
    pub async fn release(mut self) {
        let farewell = async {
            if self.send_pdu(&Pdu::ReleaseRQ).await.is_ok() {
                let _ = self.receive_control("release").await;
            }
            let _ = self.socket.shutdown().await;
        };
        let _ = timeout(Duration::from_secs(2), farewell).await;
    }

    /// Confirms a release that the peer asked for and closes the connection.
    pub async fn confirm_release(mut self) {
        let _ = self.send_pdu(&Pdu::ReleaseRP).await;
        let _ = self.socket.shutdown().await;
    }

    /// Aborts the association (PS3.8 §7.3) and closes the connection.
    pub async fn abort(mut self) {
        let farewell = async {
            let source =
                AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::ReasonNotSpecified);
            let _ = self.send_pdu(&Pdu::AbortRQ { source }).await;
            let _ = self.socket.shutdown().await;
        };
        let _ = timeout(Duration::from_secs(1), farewell).await;
    }

    /// A protocol error of the peer, without content of the exchange.
    #[must_use]
    pub fn protocol(&self, detail: String) -> ArchiveError {
        ArchiveError::Protocol {
            address: self.address.clone(),
            detail,
        }
    }

    fn take_command(&mut self) -> Result<Option<(u8, Command)>, ArchiveError> {
        let Some(end) = self.pending.iter().position(|pdv| !pdv.command || pdv.last) else {
            let held: usize = self.pending.iter().map(|pdv| pdv.data.len()).sum();
            if held > MAX_COMMAND {
                return Err(self.protocol(format!("a command of more than {MAX_COMMAND} bytes")));
            }
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut context = 0;
        for pdv in self.pending.drain(..=end).collect::<Vec<_>>() {
            if !pdv.command {
                return Err(self.protocol("a data set without a command".into()));
            }
            context = pdv.context;
            bytes.extend_from_slice(&pdv.data);
        }
        if bytes.len() > MAX_COMMAND {
            return Err(self.protocol(format!("a command of more than {MAX_COMMAND} bytes")));
        }
        let command = Command::decode(&bytes).map_err(|detail| self.protocol(detail.into()))?;
        Ok(Some((context, command)))
    }

    /// Reads one PDU that must carry data; `false` when the peer asked for a release.
    async fn receive_pdvs(&mut self, stage: &'static str) -> Result<bool, ArchiveError> {
        let (kind, body) = self.receive_pdu(stage).await?;
        match kind {
            0x04 => {
                let cut = cut_pdvs(body, &mut self.pending);
                cut.map_err(|detail| self.protocol(detail.into()))?;
                Ok(true)
            }
            0x05 => Ok(false),
            0x07 => Err(ArchiveError::Aborted {
                address: self.address.clone(),
            }),
            other => Err(self.protocol(format!("a PDU of type {other:02X}H during {stage}"))),
        }
    }

    /// Reads one PDU: its type and what follows its header.
    async fn receive_pdu(&mut self, stage: &'static str) -> Result<(u8, Bytes), ArchiveError> {
        loop {
            if let &[kind, _, a, b, c, d, ..] = self.buffer.as_ref() {
                let length =
                    usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                let cap = if kind == 0x04 {
                    self.local_max_pdu
                } else {
                    MAX_CONTROL_PDU
                };
                if !(0x01..=0x07).contains(&kind) {
                    return Err(self.protocol(format!("a PDU of unknown type {kind:02X}H")));
                }
                if length > cap {
                    return Err(self.protocol(format!(
                        "a PDU of {length} bytes where at most {cap} are allowed"
                    )));
                }
                let whole = PDU_HEADER + length;
                if self.buffer.len() >= whole {
                    let mut pdu = self.buffer.split_to(whole).freeze();
                    pdu.advance(PDU_HEADER);
                    return Ok((kind, pdu));
                }
                self.buffer
                    .reserve((whole - self.buffer.len()).max(READ_SIZE));
            } else {
                self.buffer.reserve(READ_SIZE);
            }
            let read = timeout(
                self.response_timeout,
                self.socket.read_buf(&mut self.buffer),
            );
            match read.await {
                Ok(Ok(0)) => {
                    return Err(ArchiveError::Closed {
                        address: self.address.clone(),
                        stage,
                    });
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(broken(&self.address, stage, &error)),
                Err(_) => {
                    return Err(ArchiveError::TimedOut {
                        address: self.address.clone(),
                        stage,
                        after: self.response_timeout,
                    });
                }
            }
        }
    }

    /// Reads one PDU that is not P-DATA-TF; data that was on its way is dropped.
    async fn receive_control(&mut self, stage: &'static str) -> Result<Pdu, ArchiveError> {
        loop {
            let (kind, body) = self.receive_pdu(stage).await?;
            if kind == 0x04 {
                continue;
            }
            let parsed = parse_control(kind, &body);
            return parsed.map_err(|detail| self.protocol(detail));
        }
    }

    async fn send_pdu(&mut self, pdu: &Pdu) -> Result<(), ArchiveError> {
        let mut out = Vec::with_capacity(4096);
        write_pdu(&mut out, pdu).map_err(|error| self.protocol(error.to_string()))?;
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let stage = "sending";
        let written = timeout(self.response_timeout, async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(broken(&self.address, stage, &error)),
            Err(_) => Err(ArchiveError::TimedOut {
                address: self.address.clone(),
                stage,
                after: self.response_timeout,
            }),
        }
    }

    /// Appends P-DATA-TF PDUs within what the peer accepts.
    fn fragment(&self, out: &mut Vec<u8>, context: u8, command: bool, last: bool, data: &[u8]) {
        let room = self.peer_max_pdu.clamp(PDV_HEADER + 2, MAX_SENT_PDU) - PDV_HEADER;
        // PS3.8 annex E: fragments have an even length.
        let room = room & !1;
        let mut rest = data;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(room));
            rest = after;
            let ends = rest.is_empty();
            let length = u32::try_from(piece.len()).unwrap_or(0);
            out.extend_from_slice(&[0x04, 0]);
            out.extend_from_slice(&(length + 6).to_be_bytes());
            out.extend_from_slice(&(length + 2).to_be_bytes());
            out.push(context);
            out.push(u8::from(command) | if ends && last { 2 } else { 0 });
            out.extend_from_slice(piece);
            if ends {
                return;
            }
        }
    }
}

/// Why the gateway rejects an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The called AE title is not the gateway's.
    CalledNotRecognised,
    /// The calling AE title is that of no configured PACS.
    CallingNotRecognised,
    /// Too many associations.
    Congested,
}

/// Cuts what follows the header of a P-DATA-TF PDU (PS3.8 §9.3.5), without copying.
///
/// # Errors
/// What is wrong, in words.
pub fn cut_pdvs(mut body: Bytes, pdvs: &mut VecDeque<Pdv>) -> Result<(), &'static str> {
    while body.has_remaining() {
        if body.remaining() < PDV_HEADER {
            return Err("a presentation data value is cut short");
        }
        let length = usize::try_from(body.get_u32()).unwrap_or(usize::MAX);
        if length < 2 || length > body.remaining() {
            return Err("a presentation data value overruns its PDU");
        }
        let context = body.get_u8();
        let control = body.get_u8();
        pdvs.push_back(Pdv {
            context,
            command: control & 1 != 0,
            last: control & 2 != 0,
            data: body.split_to(length - 2),
        });
    }
    Ok(())
}

/// Parses a control PDU. `dicom-ul` panics on some malformed ones: that is the peer's error.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_control(kind: u8, body: &[u8]) -> Result<Pdu, String> {
    let mut whole = Vec::with_capacity(PDU_HEADER + body.len());
    whole.extend_from_slice(&[kind, 0]);
    whole.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    whole.extend_from_slice(body);
    let cap = u32::try_from(MAX_CONTROL_PDU).unwrap_or(u32::MAX);
    match catch_unwind(AssertUnwindSafe(|| read_pdu(whole.as_slice(), cap, false))) {
        Ok(Ok(Some(pdu))) => Ok(pdu),
        Ok(Ok(None)) | Err(_) => Err(format!("a malformed PDU of type {kind:02X}H")),
        Ok(Err(error)) => Err(format!("a malformed PDU of type {kind:02X}H: {error}")),
    }
}

/// A UID without the padding that some systems leave in associations.
#[must_use]
pub fn trim_uid(uid: &str) -> &str {
    uid.trim_end_matches(['\0', ' '])
}

fn broken(address: &str, stage: &'static str, error: &std::io::Error) -> ArchiveError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => ArchiveError::Closed {
            address: address.to_owned(),
            stage,
        },
        ErrorKind::InvalidData => ArchiveError::Tls {
            address: address.to_owned(),
            detail: error.to_string(),
        },
        _ => ArchiveError::Unreachable {
            address: address.to_owned(),
            detail: error.to_string(),
        },
    }
}

fn name(pdu: &Pdu) -> &'static str {
    match pdu {
        Pdu::Unknown { .. } => "an unknown PDU",
        Pdu::AssociationRQ(_) => "an association request",
        Pdu::AssociationAC(_) => "an association acceptance",
        Pdu::AssociationRJ(_) => "an association rejection",
        Pdu::PData { .. } => "data",
        Pdu::ReleaseRQ | Pdu::ReleaseRP => "a release",
        Pdu::AbortRQ { .. } => "an abort",
    }
}
