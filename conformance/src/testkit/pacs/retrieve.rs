//! C-GET and C-MOVE: the sub-operations, and everything that can go wrong with them.

use std::net::SocketAddr;

use bytes::Bytes;
use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationRQ, Pdu, PresentationContextProposed, PresentationContextResultReason,
    UserVariableItem,
};
use tokio::net::TcpStream;

use super::behaviour::StoreFault;
use super::command::{C_CANCEL_RQ, C_MOVE_RQ, C_STORE_RQ, C_STORE_RSP, Command, element};
use super::object::Object;
use super::query::{self, Level};
use super::scp::{Association, GARBAGE, pdu_limit, stall};
use super::wire::{ANNOUNCED_PDU, End, Message, Wire};
use super::{Abilities, Asked, Behaviour, Identifier};

const PENDING: u16 = 0xFF00;
const SUCCESS: u16 = 0x0000;
const CANCELLED: u16 = 0xFE00;
const SOME_FAILED: u16 = 0xB000;
const ALL_FAILED: u16 = 0xA702;
const UNKNOWN_DESTINATION: u16 = 0xA801;
/// What a C-STORE comes to whose association is gone.
const REFUSED: u16 = 0x0122;
const CANNOT_UNDERSTAND: u16 = 0xC000;

/// Serves one C-GET or C-MOVE.
pub(super) async fn run(
    association: &mut Association,
    request: &Message,
    identifier: &Identifier,
) -> Result<(), End> {
    let behaviour = association.shared.behaviour();
    let Some(level) = Level::of(identifier) else {
        return respond(association, request, CANNOT_UNDERSTAND, &Counts::default()).await;
    };
    if let Some(status) = behaviour.retrieve_status {
        return respond(association, request, status, &Counts::default()).await;
    }
    let objects = association.shared.objects.clone();
    let asked: Vec<&Object> = query::select(
        &objects,
        identifier,
        level,
        &Behaviour::default(),
        Abilities::default(),
    )
    .into_iter()
    .flatten()
    .collect();
    let is_asked = |object: &Object| {
        let same = |other: &&Object| other.sop_instance == object.sop_instance;
        asked.iter().any(same)
    };
    let others = objects.iter().filter(|object| !is_asked(object));
    let plan: Vec<&Object> = asked
        .iter()
        .copied()
        .chain(others.take(behaviour.unasked))
        .collect();

    let mut route = if request.command.field() == C_MOVE_RQ {
        let destination = request.command.get_text(element::MOVE_DESTINATION);
        let Some(address) = association.shared.destinations.get(&destination).copied() else {
            let none = Counts::default();
            return respond(association, request, UNKNOWN_DESTINATION, &none).await;
        };
        let mut subs = Vec::new();
        if !plan.is_empty() {
            for _ in 0..behaviour.move_associations.max(1) {
                let title = &association.shared.ae_title;
                match Sub::open(title, &destination, address, &plan, &behaviour).await {
                    Ok(sub) => subs.push(sub),
                    // The destination does not take this association: nothing can be sent.
                    Err(_) => break,
                }
            }
        }
        Route::Move(subs)
    } else {
        Route::Get
    };
    let untold = association.shared.behaviour().without_counters;
    let mut retrieval = Retrieval {
        association,
        request,
        counts: Counts {
            remaining: plan.len(),
            untold,
            ..Counts::default()
        },
        next_message_id: 0,
        cancelled: false,
    };
    retrieval.perform(&plan, &mut route).await?;
    route.close().await;
    Ok(())
}

/// Where the C-STORE requests go.
enum Route {
    Get,
    Move(Vec<Sub>),
}

impl Route {
    async fn close(self) {
        if let Self::Move(subs) = self {
            for mut sub in subs {
                if sub.wire.send(&Pdu::ReleaseRQ).await.is_ok() {
                    let _ = sub.wire.receive().await;
                }
            }
        }
    }
}

/// The numbers of the responses (PS3.4 §C.4.2.1.6 and following).
#[derive(Debug, Default)]
struct Counts {
    remaining: usize,
    completed: usize,
    failed: Vec<String>,
    warning: usize,
    /// Not told.
    untold: bool,
}

impl Counts {
    fn done(&mut self) {
        self.remaining = self.remaining.saturating_sub(1);
        self.completed += 1;
    }

    fn status(&self) -> u16 {
        if self.failed.is_empty() && self.warning == 0 {
            SUCCESS
        } else if self.completed == 0 && self.warning == 0 {
            ALL_FAILED
        } else {
            SOME_FAILED
        }
    }
}

struct Retrieval<'a> {
    association: &'a mut Association,
    request: &'a Message,
    counts: Counts,
    next_message_id: u16,
    cancelled: bool,
}

impl Retrieval<'_> {
    async fn perform(&mut self, plan: &[&Object], route: &mut Route) -> Result<(), End> {
        let last = plan.len();
        for (number, object) in plan
            .iter()
            .enumerate()
            .map(|(at, object)| (at + 1, *object))
        {
            let holds = move |b: &Behaviour| b.hold_before.is_some_and(|held| held <= number);
            if holds(&self.association.shared.behaviour()) {
                self.hold(holds).await?;
            }
            let behaviour = self.association.shared.behaviour();
            if self.cancelled && !behaviour.ignores_cancel {
                return self.finish(CANCELLED).await;
            }
            if number + behaviour.loses > last {
                self.counts.done();
                continue;
            }
            let early = behaviour.final_response_early && number == last;
            if early {
                self.counts.done();
                self.finish(SUCCESS).await?;
            }
            self.sub_operation(object, number, route, &behaviour)
                .await?;
            if early {
                return Ok(());
            }
            if !behaviour.without_pending && number < last {
                let pending = self.response(PENDING, false);
                let context = self.request.context;
                self.association
                    .wire
                    .send_command(context, &pending)
                    .await?;
            }
        }
        if self.cancelled && self.counts.remaining > 0 {
            return self.finish(CANCELLED).await;
        }
        self.finish(self.counts.status()).await
    }

    /// Waits before a C-STORE; a C-CANCEL that comes meanwhile is noted and ends the wait.
    async fn hold(&mut self, holds: impl Fn(&Behaviour) -> bool) -> Result<(), End> {
        let mut changes = self.association.shared.behaviour.subscribe();
        tokio::select! {
            _ = changes.wait_for(|behaviour| !holds(behaviour)) => {}
            message = self.association.receive() => {
                self.cancelled |= message?.command.field() == C_CANCEL_RQ;
            }
        }
        Ok(())
    }

    async fn sub_operation(
        &mut self,
        object: &Object,
        number: usize,
        route: &mut Route,
        behaviour: &Behaviour,
    ) -> Result<(), End> {
        let fault = behaviour.store.get(&number).copied();
        let place = match route {
            Route::Get => find_context(self.association, object),
            Route::Move(subs) => {
                let at = number % subs.len().max(1);
                subs.get(at).and_then(|sub| sub.context(object))
            }
        };
        let context = match fault {
            Some(StoreFault::Failed) => None,
            Some(StoreFault::RefusedContext) => Some(253),
            _ => place,
        };
        let Some(context) = context else {
            self.counts.remaining -= 1;
            self.counts.failed.push(object.sop_instance.clone());
            return Ok(());
        };
        let times = if fault == Some(StoreFault::Twice) {
            2
        } else {
            1
        };
        for _ in 0..times {
            self.store(object, number, context, route, behaviour)
                .await?;
        }
        if times == 2 {
            self.counts.completed += 1;
        }
        Ok(())
    }

    async fn store(
        &mut self,
        object: &Object,
        number: usize,
        context: u8,
        route: &mut Route,
        behaviour: &Behaviour,
    ) -> Result<(), End> {
        self.next_message_id = self.next_message_id.wrapping_add(1).max(1);
        let mut command = Command::new(C_STORE_RQ, true)
            .number(element::MESSAGE_ID, self.next_message_id)
            .number(element::PRIORITY, 0)
            .text(element::AFFECTED_SOP_CLASS, &object.sop_class, 0)
            .text(element::AFFECTED_SOP_INSTANCE, &object.sop_instance, 0);
        let is_move = matches!(route, Route::Move(_));
        if is_move && !behaviour.without_move_originator {
            let id = self.request.command.message_id();
            command = command
                .text(element::MOVE_ORIGINATOR, &self.association.calling, b' ')
                .number(element::MOVE_ORIGINATOR_MESSAGE_ID, id);
        }
        let fault = behaviour.store.get(&number).copied();
        let data = spoiled(object, fault);
        let shared = self.association.shared.clone();
        let wire = match route {
            Route::Get => &mut self.association.wire,
            Route::Move(subs) => {
                let at = number % subs.len().max(1);
                let sub = subs.get_mut(at).ok_or(End::HangUp)?;
                &mut sub.wire
            }
        };
        wire.send_command(context, &command).await?;
        let half = data.len() / 2;
        let (first, second) = data.split_at(half);
        match fault {
            Some(StoreFault::OversizedPdu) => {
                wire.send_bytes(&[
                    4, 0, 0xFF, 0xFF, 0xFF, 0xF0, 0xFF, 0xFF, 0xFF, 0xEC, context, 0,
                ])
                .await?;
                let _ = wire.send_bytes(first).await;
                let lasts = move |b: &Behaviour| b.store.get(&number) == fault.as_ref();
                stall(&shared, wire, lasts).await?;
                return Err(End::HangUp);
            }
            Some(StoreFault::Truncated) => wire.send_data(context, first, true).await?,
            Some(StoreFault::Die | StoreFault::Abort | StoreFault::Garbage) => {
                wire.send_data(context, first, false).await?;
                if fault == Some(StoreFault::Garbage) {
                    wire.send_bytes(GARBAGE).await?;
                }
                if fault == Some(StoreFault::Abort) {
                    self.association.abort().await?;
                }
                return Err(End::HangUp);
            }
            Some(StoreFault::Stall) => {
                wire.send_data(context, first, false).await?;
                let lasts = move |b: &Behaviour| b.store.get(&number) == fault.as_ref();
                stall(&shared, wire, lasts).await?;
                wire.send_data(context, second, true).await?;
            }
            _ => wire.send_data(context, &data, true).await?,
        }
        let status = self.wait_for_answer(number, route).await?;
        shared.record(Asked::Stored(status));
        self.counts.remaining = self.counts.remaining.saturating_sub(1);
        match (status, fault) {
            (SUCCESS, Some(StoreFault::Warning)) => self.counts.warning += 1,
            (SUCCESS, _) => self.counts.completed += 1,
            // PS3.4 §B.2.3: 0xBxxx is stored, with a warning.
            (0xB000..=0xBFFF, _) => self.counts.warning += 1,
            _ => self.counts.failed.push(object.sop_instance.clone()),
        }
        Ok(())
    }

    /// Waits for the C-STORE response, noting a C-CANCEL that comes before it.
    async fn wait_for_answer(&mut self, number: usize, route: &mut Route) -> Result<u16, End> {
        loop {
            let message = match route {
                Route::Get => self.association.receive().await?,
                Route::Move(subs) => {
                    let at = number % subs.len().max(1);
                    let sub = subs.get_mut(at).ok_or(End::HangUp)?;
                    tokio::select! {
                        message = sub.wire.receive_message() => match message {
                            Ok(message) => message,
                            Err(_) => return Ok(REFUSED),
                        },
                        message = self.association.receive() => message?,
                    }
                }
            };
            match message.command.field() {
                C_STORE_RSP => return Ok(message.command.status()),
                C_CANCEL_RQ => self.cancelled = true,
                _ => return Err(End::HangUp),
            }
        }
    }

    fn response(&self, status: u16, has_data_set: bool) -> Command {
        counted(self.request, status, &self.counts, has_data_set)
    }

    async fn finish(&mut self, status: u16) -> Result<(), End> {
        respond(self.association, self.request, status, &self.counts).await
    }
}

fn counted(request: &Message, status: u16, counts: &Counts, has_data_set: bool) -> Command {
    let number = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let response = Command::response(&request.command, status, has_data_set);
    if counts.untold {
        return response;
    }
    let mut response = response
        .number(element::COMPLETED, number(counts.completed))
        .number(element::FAILED, number(counts.failed.len()))
        .number(element::WARNING, number(counts.warning));
    // PS3.7 §9.3.3.2: only while sub-operations remain to be performed.
    if status == PENDING || status == CANCELLED {
        response = response.number(element::REMAINING, number(counts.remaining));
    }
    response
}

/// Sends the final response, with the list of what failed.
async fn respond(
    association: &mut Association,
    request: &Message,
    status: u16,
    counts: &Counts,
) -> Result<(), End> {
    let context = request.context;
    let lists = !counts.failed.is_empty();
    let response = counted(request, status, counts, lists);
    association.wire.send_command(context, &response).await?;
    if lists {
        let syntax = association.transfer_syntax(context);
        let list = query::failed_list(&counts.failed, &syntax);
        association.wire.send_data(context, &list, true).await?;
    }
    Ok(())
}

/// The context of a C-GET association that an object can travel in.
fn find_context(association: &Association, object: &Object) -> Option<u8> {
    let fits = |(id, context): (&u8, &super::scp::Context)| {
        let takes = context.requestor_is_scp
            && context.abstract_syntax == object.sop_class
            && context.transfer_syntax.as_ref() == Some(&object.transfer_syntax);
        takes.then_some(*id)
    };
    association.contexts.iter().filter_map(fits).min()
}

/// The data set of an object, spoiled as the fault wants it.
fn spoiled(object: &Object, fault: Option<StoreFault>) -> Bytes {
    let data = &object.data_set;
    match fault {
        Some(StoreFault::HugeElement) => {
            // (0008,0001), which stands before everything else in an object, of 4 GB.
            let head: &[u8] = if object.transfer_syntax == uids::IMPLICIT_VR_LITTLE_ENDIAN {
                &[8, 0, 1, 0, 0xF0, 0xFF, 0xFF, 0xFF]
            } else {
                &[8, 0, 1, 0, b'U', b'N', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF]
            };
            [head, data].concat().into()
        }
        Some(StoreFault::OtherUidInside) => {
            let mut data = data.to_vec();
            let uid = object.sop_instance.as_bytes();
            if let Some(at) = memchr::memmem::find(&data, uid)
                && let Some(digit) = data.get_mut(at + uid.len() - 1)
            {
                *digit = if *digit == b'1' { b'2' } else { b'1' };
            }
            data.into()
        }
        _ => data.clone(),
    }
}

/// An association that the simulator opens to send objects.
struct Sub {
    wire: Wire,
    /// SOP class, transfer syntax and id of each context that was accepted.
    contexts: Vec<(String, String, u8)>,
}

impl Sub {
    async fn open(
        title: &str,
        destination: &str,
        address: SocketAddr,
        plan: &[&Object],
        behaviour: &Behaviour,
    ) -> Result<Self, End> {
        let stream = TcpStream::connect(address).await.map_err(|_| End::HangUp)?;
        let mut wire = Wire::new(stream);
        wire.set_nodelay(behaviour.nodelay);
        let mut pairs: Vec<(String, String)> = plan
            .iter()
            .map(|object| (object.sop_class.clone(), object.transfer_syntax.clone()))
            .collect();
        pairs.sort();
        pairs.dedup();
        let proposed: Vec<_> = (0u8..128)
            .zip(&pairs)
            .map(|(number, (class, syntax))| PresentationContextProposed {
                id: number * 2 + 1,
                abstract_syntax: class.clone(),
                transfer_syntaxes: vec![syntax.clone()],
            })
            .collect();
        let request = AssociationRQ {
            protocol_version: 1,
            calling_ae_title: title.to_owned(),
            called_ae_title: destination.to_owned(),
            application_context_name: "1.2.840.10008.3.1.1.1".to_owned(),
            presentation_contexts: proposed,
            user_variables: vec![
                UserVariableItem::MaxLength(ANNOUNCED_PDU),
                UserVariableItem::ImplementationClassUID("2.25.112233445566778899".to_owned()),
            ],
        };
        wire.send(&Pdu::AssociationRQ(request)).await?;
        let Pdu::AssociationAC(accepted) = wire.receive().await.map_err(|_| End::HangUp)? else {
            return Err(End::HangUp);
        };
        let peer_max = accepted.user_variables.iter().find_map(|item| match item {
            UserVariableItem::MaxLength(length) => Some(*length),
            _ => None,
        });
        wire.max_data = pdu_limit(behaviour.pdu_length, peer_max.unwrap_or(0));
        let contexts = accepted
            .presentation_contexts
            .iter()
            .filter(|c| c.reason == PresentationContextResultReason::Acceptance)
            .filter_map(|context| {
                let at = usize::from(context.id.checked_sub(1)? / 2);
                let (class, syntax) = pairs.get(at)?;
                Some((class.clone(), syntax.clone(), context.id))
            })
            .collect();
        Ok(Self { wire, contexts })
    }

    fn context(&self, object: &Object) -> Option<u8> {
        self.contexts
            .iter()
            .find(|(class, syntax, _)| {
                *class == object.sop_class && *syntax == object.transfer_syntax
            })
            .map(|(_, _, id)| *id)
    }
}
