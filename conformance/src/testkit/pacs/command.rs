//! DIMSE command sets (PS3.7 §6.3.1, annex E): implicit VR little endian, group 0000 alone.

use std::collections::BTreeMap;

pub(super) const C_STORE_RQ: u16 = 0x0001;
pub(super) const C_STORE_RSP: u16 = 0x8001;
pub(super) const C_GET_RQ: u16 = 0x0010;
pub(super) const C_FIND_RQ: u16 = 0x0020;
pub(super) const C_MOVE_RQ: u16 = 0x0021;
pub(super) const C_ECHO_RQ: u16 = 0x0030;
pub(super) const C_CANCEL_RQ: u16 = 0x0FFF;

/// Elements of group 0000, by element number.
pub(super) mod element {
    pub(in super::super) const AFFECTED_SOP_CLASS: u16 = 0x0002;
    pub(in super::super) const COMMAND_FIELD: u16 = 0x0100;
    pub(in super::super) const MESSAGE_ID: u16 = 0x0110;
    pub(in super::super) const RESPONDED_MESSAGE_ID: u16 = 0x0120;
    pub(in super::super) const MOVE_DESTINATION: u16 = 0x0600;
    pub(in super::super) const PRIORITY: u16 = 0x0700;
    pub(in super::super) const DATA_SET_TYPE: u16 = 0x0800;
    pub(in super::super) const STATUS: u16 = 0x0900;
    pub(in super::super) const AFFECTED_SOP_INSTANCE: u16 = 0x1000;
    pub(in super::super) const REMAINING: u16 = 0x1020;
    pub(in super::super) const COMPLETED: u16 = 0x1021;
    pub(in super::super) const FAILED: u16 = 0x1022;
    pub(in super::super) const WARNING: u16 = 0x1023;
    pub(in super::super) const MOVE_ORIGINATOR: u16 = 0x1030;
    pub(in super::super) const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
}

/// (0000,0800) when no data set follows (PS3.7 §E.1-1).
const NO_DATA_SET: u16 = 0x0101;

/// A command set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Command {
    elements: BTreeMap<u16, Vec<u8>>,
}

impl Command {
    /// A command with this field, with or without a data set after it.
    pub(super) fn new(field: u16, has_data_set: bool) -> Self {
        let kind = if has_data_set { 0x0000 } else { NO_DATA_SET };
        Self::default()
            .number(element::COMMAND_FIELD, field)
            .number(element::DATA_SET_TYPE, kind)
    }

    /// The response to `request` with this status.
    pub(super) fn response(request: &Self, status: u16, has_data_set: bool) -> Self {
        let mut response = Self::new(request.field() | 0x8000, has_data_set)
            .number(element::RESPONDED_MESSAGE_ID, request.message_id())
            .number(element::STATUS, status);
        if let Some(class) = request.elements.get(&element::AFFECTED_SOP_CLASS) {
            let class = class.clone();
            response.elements.insert(element::AFFECTED_SOP_CLASS, class);
        }
        response
    }

    pub(super) fn number(mut self, element: u16, value: u16) -> Self {
        self.elements.insert(element, value.to_le_bytes().to_vec());
        self
    }

    pub(super) fn text(mut self, element: u16, value: &str, padding: u8) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(padding);
        }
        self.elements.insert(element, bytes);
        self
    }

    pub(super) fn get_number(&self, element: u16) -> Option<u16> {
        match self.elements.get(&element)?.as_slice() {
            [a, b] => Some(u16::from_le_bytes([*a, *b])),
            _ => None,
        }
    }

    pub(super) fn get_text(&self, element: u16) -> String {
        let bytes = self.elements.get(&element).map(Vec::as_slice);
        let text = String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        text.trim_matches([' ', '\0']).to_owned()
    }

    pub(super) fn field(&self) -> u16 {
        self.get_number(element::COMMAND_FIELD).unwrap_or(0)
    }

    pub(super) fn message_id(&self) -> u16 {
        self.get_number(element::MESSAGE_ID).unwrap_or(0)
    }

    pub(super) fn status(&self) -> u16 {
        self.get_number(element::STATUS).unwrap_or(0xFFFF)
    }

    pub(super) fn has_data_set(&self) -> bool {
        self.get_number(element::DATA_SET_TYPE) != Some(NO_DATA_SET)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut group = Vec::new();
        for (element, value) in &self.elements {
            put(&mut group, *element, value);
        }
        let length = u32::try_from(group.len()).unwrap_or(u32::MAX);
        let mut all = Vec::new();
        put(&mut all, 0x0000, &length.to_le_bytes());
        all.append(&mut group);
        all
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut elements = BTreeMap::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
            let [g0, g1, e0, e1, l0, l1, l2, l3] = *head;
            if [g0, g1] != [0, 0] {
                return None;
            }
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let (value, rest) = rest.split_at_checked(length)?;
            elements.insert(u16::from_le_bytes([e0, e1]), value.to_vec());
            bytes = rest;
        }
        elements.remove(&0x0000);
        bytes.is_empty().then_some(Self { elements })
    }
}

fn put(into: &mut Vec<u8>, element: u16, value: &[u8]) {
    into.extend_from_slice(&[0, 0]);
    into.extend_from_slice(&element.to_le_bytes());
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_back_as_it_was_written() {
        let command = Command::new(C_MOVE_RQ, true)
            .number(element::MESSAGE_ID, 7)
            .text(element::MOVE_DESTINATION, "DRIMBOX", b' ');
        let read = Command::decode(&command.encode());
        assert_eq!(read.as_ref(), Some(&command));
        assert_eq!(command.get_text(element::MOVE_DESTINATION), "DRIMBOX");
        assert!(Command::decode(&[0, 0, 0, 9, 255, 255, 255, 255]).is_none());
    }
}
