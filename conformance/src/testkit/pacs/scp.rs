//! One association with the simulator: negotiation, then one service after the other.

use std::collections::HashMap;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, AssociationAC, AssociationRJ, AssociationRJResult,
    AssociationRJServiceProviderASCEReason, AssociationRJServiceProviderPresentationReason,
    AssociationRJServiceUserReason, AssociationRJSource, AssociationRQ, Pdu,
    PresentationContextResult, PresentationContextResultReason, UserVariableItem,
};
use tokio::net::TcpStream;

use super::behaviour::{FindFault, Rejection};
use super::command::{C_CANCEL_RQ, C_ECHO_RQ, C_FIND_RQ, C_GET_RQ, C_MOVE_RQ, Command, element};
use super::query::{self, Level};
use super::retrieve;
use super::wire::{ANNOUNCED_PDU, End, Message, Wire};
use super::{Abilities, Asked, Behaviour, Identifier, OpenOne, Shared};

/// Bytes of another protocol: what a wrong port answers.
pub(super) const GARBAGE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>";

const SUCCESS: u16 = 0x0000;
const PENDING: u16 = 0xFF00;
const CANCELLED: u16 = 0xFE00;
const IDENTIFIER_DOES_NOT_MATCH: u16 = 0xA900;
const CANNOT_UNDERSTAND: u16 = 0xC000;

/// A presentation context that was proposed.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) abstract_syntax: String,
    /// The transfer syntax agreed on; `None` when the context was refused.
    pub(super) transfer_syntax: Option<String>,
    /// Whether the requestor takes C-STORE requests on it.
    pub(super) requestor_is_scp: bool,
}

/// An association that was accepted.
#[derive(Debug)]
pub(super) struct Association {
    pub(super) shared: Shared,
    pub(super) wire: Wire,
    pub(super) contexts: HashMap<u8, Context>,
    pub(super) calling: String,
    /// What was agreed on for queries.
    abilities: Abilities,
    /// Largest PDU that the requestor takes; 0: any.
    peer_max_pdu: u32,
}

/// Serves one connection to its end.
pub(super) async fn serve(shared: Shared, stream: TcpStream) {
    let mut wire = Wire::new(stream);
    wire.set_nodelay(shared.behaviour().nodelay);
    let end = match negotiate(&shared, &mut wire).await {
        Err(end) => end,
        Ok((request, _open)) => {
            let mut association = Association::new(shared.clone(), wire, &request);
            let end = association.converse().await;
            wire = association.wire;
            end
        }
    };
    match end {
        End::Release => {
            shared.record(Asked::Released);
            let _ = wire.send(&Pdu::ReleaseRP).await;
        }
        End::Abort => shared.record(Asked::Aborted),
        End::Closed => shared.record(Asked::Closed),
        End::HangUp => {}
    }
}

/// Reads the association request and answers it.
async fn negotiate(shared: &Shared, wire: &mut Wire) -> Result<(AssociationRQ, OpenOne), End> {
    let Pdu::AssociationRQ(request) = wire.receive().await? else {
        return Err(End::Closed);
    };
    shared.record(Asked::Association {
        calling: request.calling_ae_title.clone(),
        called: request.called_ae_title.clone(),
        contexts: request.presentation_contexts.len(),
        max_pdu: max_pdu(&request),
    });
    if shared.behaviour().silent {
        stall(shared, wire, |behaviour| behaviour.silent).await?;
    }
    let behaviour = shared.behaviour();
    let (open, before) = shared.open.one_more();
    let over = behaviour
        .max_associations
        .is_some_and(|most| before >= most);
    if let Some(why) = behaviour.reject.or(over.then_some(Rejection::LocalLimit)) {
        drop(open);
        wire.send(&Pdu::AssociationRJ(rejection(why))).await?;
        return Err(End::HangUp);
    }
    if behaviour.garbage {
        wire.send_bytes(GARBAGE).await?;
        return Err(End::HangUp);
    }
    let accept = accept(&request, &behaviour);
    wire.send(&Pdu::AssociationAC(accept)).await?;
    Ok((request, open))
}

/// Lets the other side wait while `holds`, and notices when it gives up.
pub(super) async fn stall(
    shared: &Shared,
    wire: &mut Wire,
    holds: impl Fn(&Behaviour) -> bool,
) -> Result<(), End> {
    let mut changes = shared.behaviour.subscribe();
    tokio::select! {
        _ = changes.wait_for(|behaviour| !holds(behaviour)) => Ok(()),
        pdu = wire.receive() => match pdu {
            Ok(Pdu::ReleaseRQ) => Err(End::Release),
            Ok(Pdu::AbortRQ { .. }) => Err(End::Abort),
            _ => Err(End::Closed),
        },
    }
}

fn accept(request: &AssociationRQ, behaviour: &Behaviour) -> AssociationAC {
    let result = |(id, context): (u8, Context)| PresentationContextResult {
        id,
        reason: match context.transfer_syntax {
            Some(_) => PresentationContextResultReason::Acceptance,
            None => PresentationContextResultReason::AbstractSyntaxNotSupported,
        },
        transfer_syntax: context
            .transfer_syntax
            .unwrap_or_else(|| uids::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()),
    };
    let mut user_variables = vec![
        UserVariableItem::MaxLength(ANNOUNCED_PDU),
        UserVariableItem::ImplementationClassUID("2.25.112233445566778899".to_owned()),
        UserVariableItem::ImplementationVersionName("SIMULATOR".to_owned()),
    ];
    // Roles are agreed on as proposed.
    let roles = request
        .user_variables
        .iter()
        .filter(|variable| matches!(variable, UserVariableItem::ScuScpRoleSelectionSubItem(..)));
    user_variables.extend(roles.cloned());
    if let Some(abilities) = behaviour.abilities {
        user_variables.extend(extended(request).map(|(sop_class, asked)| {
            let fields = asked.and(abilities).fields();
            UserVariableItem::SopClassExtendedNegotiationSubItem(sop_class, fields)
        }));
    }
    AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: request.application_context_name.clone(),
        presentation_contexts: contexts(request, behaviour).map(result).collect(),
        user_variables,
    }
}

/// What the request asks for in the extended negotiation of each SOP class.
fn extended(request: &AssociationRQ) -> impl Iterator<Item = (String, Abilities)> {
    let variables = request.user_variables.iter();
    variables.filter_map(|variable| match variable {
        UserVariableItem::SopClassExtendedNegotiationSubItem(sop_class, fields) => {
            Some((uid(sop_class), Abilities::parse(fields)))
        }
        _ => None,
    })
}

/// What becomes of each context that the request proposes.
fn contexts<'a>(
    request: &'a AssociationRQ,
    behaviour: &'a Behaviour,
) -> impl Iterator<Item = (u8, Context)> + 'a {
    request.presentation_contexts.iter().map(|proposed| {
        let abstract_syntax = uid(&proposed.abstract_syntax);
        let syntaxes: Vec<_> = proposed.transfer_syntaxes.iter().map(|s| uid(s)).collect();
        let native = [
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            uids::IMPLICIT_VR_LITTLE_ENDIAN,
        ];
        let transfer_syntax = match Service::of(&abstract_syntax) {
            Service::Get if behaviour.without_get => None,
            Service::Storage if behaviour.without_storage => None,
            Service::Storage => syntaxes.first().cloned(),
            Service::Unknown => None,
            _ => syntaxes
                .iter()
                .find(|syntax| native.contains(&syntax.as_str()))
                .cloned(),
        };
        let requestor_is_scp = request.user_variables.iter().any(|variable| {
            matches!(variable, UserVariableItem::ScuScpRoleSelectionSubItem(class, roles)
                if uid(class) == abstract_syntax && roles.scp)
        });
        let context = Context {
            abstract_syntax,
            transfer_syntax,
            requestor_is_scp,
        };
        (proposed.id, context)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Echo,
    Find,
    Get,
    Move,
    Storage,
    Unknown,
}

impl Service {
    fn of(abstract_syntax: &str) -> Self {
        match abstract_syntax {
            uids::VERIFICATION => Self::Echo,
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
            | uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND => Self::Find,
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
            | uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET => Self::Get,
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
            | uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE => Self::Move,
            // PS3.4 annex B.5: the storage classes, and the private ones of vendors.
            other if other.starts_with("1.2.840.10008.5.1.4.1.2.") => Self::Unknown,
            other if other.starts_with("1.2.840.10008.5.1.4.") => Self::Storage,
            other if !other.starts_with("1.2.840.10008.") => Self::Storage,
            _ => Self::Unknown,
        }
    }
}

fn uid(text: &str) -> String {
    text.trim_end_matches(['\0', ' ']).to_owned()
}

fn max_pdu(request: &AssociationRQ) -> u32 {
    let length = request
        .user_variables
        .iter()
        .find_map(|variable| match variable {
            UserVariableItem::MaxLength(length) => Some(*length),
            _ => None,
        });
    length.unwrap_or(0)
}

fn rejection(why: Rejection) -> AssociationRJ {
    use AssociationRJServiceProviderASCEReason as Provider;
    use AssociationRJServiceProviderPresentationReason as Presentation;
    use AssociationRJServiceUserReason as User;
    let user = AssociationRJSource::ServiceUser;
    let presentation = AssociationRJSource::ServiceProviderPresentation;
    let (result, source) = match why {
        Rejection::CallingAeTitle => (true, user(User::CallingAETitleNotRecognized)),
        Rejection::CalledAeTitle => (true, user(User::CalledAETitleNotRecognized)),
        Rejection::ApplicationContext => (true, user(User::ApplicationContextNameNotSupported)),
        Rejection::NoReason => (true, user(User::NoReasonGiven)),
        Rejection::ProtocolVersion => (
            true,
            AssociationRJSource::ServiceProviderASCE(Provider::ProtocolVersionNotSupported),
        ),
        Rejection::Congestion => (false, presentation(Presentation::TemporaryCongestion)),
        Rejection::LocalLimit => (false, presentation(Presentation::LocalLimitExceeded)),
    };
    let result = if result {
        AssociationRJResult::Permanent
    } else {
        AssociationRJResult::Transient
    };
    AssociationRJ { result, source }
}

impl Association {
    fn new(shared: Shared, wire: Wire, request: &AssociationRQ) -> Self {
        let behaviour = shared.behaviour();
        let contexts = contexts(request, &behaviour).collect();
        let asked = extended(request).next().map(|(_, asked)| asked);
        let abilities = asked
            .zip(behaviour.abilities)
            .map(|(asked, own)| asked.and(own));
        Self {
            shared,
            wire,
            contexts,
            calling: request.calling_ae_title.clone(),
            abilities: abilities.unwrap_or_default(),
            peer_max_pdu: max_pdu(request),
        }
    }

    async fn converse(&mut self) -> End {
        loop {
            match self.serve_one().await {
                Err(end) => return end,
                Ok(()) if self.shared.behaviour().closes_after_service => return End::HangUp,
                Ok(()) => {}
            }
        }
    }

    /// The next message; dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> Result<Message, End> {
        let message = self.wire.receive_message().await?;
        if message.command.field() == C_CANCEL_RQ {
            self.shared.record(Asked::Cancel);
        }
        Ok(message)
    }

    pub(super) fn limit_pdu(&mut self) {
        self.wire.max_data = pdu_limit(self.shared.behaviour().pdu_length, self.peer_max_pdu);
    }

    async fn serve_one(&mut self) -> Result<(), End> {
        let message = self.receive().await?;
        self.limit_pdu();
        match message.command.field() {
            C_ECHO_RQ => {
                self.shared.record(Asked::Echo);
                let response = Command::response(&message.command, SUCCESS, false);
                self.wire.send_command(message.context, &response).await
            }
            C_FIND_RQ => self.find(message).await,
            C_GET_RQ | C_MOVE_RQ => {
                let identifier = self.identifier(&message);
                self.shared.record(match message.command.field() {
                    C_GET_RQ => Asked::Get(identifier.clone()),
                    _ => Asked::Move {
                        destination: message.command.get_text(element::MOVE_DESTINATION),
                        identifier: identifier.clone(),
                    },
                });
                retrieve::run(self, &message, &identifier).await
            }
            // A cancel that came too late.
            C_CANCEL_RQ => Ok(()),
            _ => Err(End::HangUp),
        }
    }

    /// The transfer syntax agreed on for a context.
    pub(super) fn transfer_syntax(&self, context: u8) -> String {
        self.contexts
            .get(&context)
            .and_then(|context| context.transfer_syntax.clone())
            .unwrap_or_default()
    }

    fn identifier(&self, message: &Message) -> Identifier {
        let syntax = self.transfer_syntax(message.context);
        query::identifier(&message.data, &syntax).unwrap_or_default()
    }

    async fn find(&mut self, message: Message) -> Result<(), End> {
        let identifier = self.identifier(&message);
        self.shared.record(Asked::Find(identifier.clone()));
        let behaviour = self.shared.behaviour();
        let Some(level) = Level::of(&identifier) else {
            return self.end_find(&message, CANNOT_UNDERSTAND).await;
        };
        match behaviour.find {
            Some(FindFault::Status(status)) => return self.end_find(&message, status).await,
            Some(FindFault::Stall) => {
                let stalls = |b: &Behaviour| b.find == Some(FindFault::Stall);
                stall(&self.shared, &mut self.wire, stalls).await?;
            }
            _ => {}
        }
        if behaviour.without_relational_queries && !level.names_its_parents(&identifier) {
            return self.end_find(&message, IDENTIFIER_DOES_NOT_MATCH).await;
        }
        let objects = self.shared.objects.clone();
        let syntax = self.transfer_syntax(message.context);
        let mut selected = query::select(&objects, &identifier, level, &behaviour, self.abilities);
        if behaviour.shuffles && !selected.is_empty() {
            let turn = self.shared.asked.borrow().len() % selected.len();
            selected.rotate_left(turn);
            if turn % 2 == 1 {
                selected.reverse();
            }
        }
        let answers: Vec<_> = selected
            .iter()
            .take(behaviour.max_results.unwrap_or(usize::MAX))
            .map(|group| {
                let title = &self.shared.ae_title;
                query::answer(&objects, group, &identifier, title, &behaviour, &syntax)
            })
            .collect();
        let endless = behaviour.find == Some(FindFault::Endless) && !answers.is_empty();
        let turns = if endless { usize::MAX } else { 1 };
        let pending = Command::response(&message.command, PENDING, true);
        for (number, answer) in (0..turns).flat_map(|_| answers.iter()).enumerate() {
            self.find_fault(behaviour.find, number).await?;
            self.wire.send_command(message.context, &pending).await?;
            self.wire.send_data(message.context, answer, true).await?;
            if self.cancelled().await? && !behaviour.ignores_cancel {
                return self.end_find(&message, CANCELLED).await;
            }
        }
        self.find_fault(behaviour.find, answers.len()).await?;
        self.end_find(&message, SUCCESS).await
    }

    /// Whether a C-CANCEL has arrived; does not wait for one.
    pub(super) async fn cancelled(&mut self) -> Result<bool, End> {
        tokio::select! {
            biased;
            message = self.receive() => Ok(message?.command.field() == C_CANCEL_RQ),
            // Gives the socket one turn to be read.
            () = tokio::task::yield_now() => Ok(false),
        }
    }

    async fn find_fault(&mut self, fault: Option<FindFault>, sent: usize) -> Result<(), End> {
        match fault {
            Some(FindFault::DieAfter(n)) if n == sent => Err(End::HangUp),
            Some(FindFault::AbortAfter(n)) if n == sent => {
                self.abort().await?;
                Err(End::HangUp)
            }
            Some(FindFault::GarbageAfter(n)) if n == sent => {
                self.wire.send_bytes(GARBAGE).await?;
                Err(End::HangUp)
            }
            _ => Ok(()),
        }
    }

    async fn end_find(&mut self, message: &Message, status: u16) -> Result<(), End> {
        let response = Command::response(&message.command, status, false);
        self.wire.send_command(message.context, &response).await
    }

    /// Aborts the association, as a PACS that lost its database does.
    pub(super) async fn abort(&mut self) -> Result<(), End> {
        let reason = AbortRQServiceProviderReason::ReasonNotSpecified;
        let source = AbortRQSource::ServiceProvider(reason);
        self.wire.send(&Pdu::AbortRQ { source }).await
    }
}

/// Bytes of data in a PDU: no more than asked for, nor than the other side takes with the six bytes
/// of the PDV's head (PS3.8 §D.1.1; 0 is no limit).
pub(super) fn pdu_limit(wanted: usize, peer_max_pdu: u32) -> usize {
    match peer_max_pdu {
        0 => wanted,
        limit => wanted.min((limit as usize).saturating_sub(6)),
    }
    .max(1)
}
