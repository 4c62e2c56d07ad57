//! DIMSE command sets (PS3.7 §6.3, annex E): always implicit VR little endian, group 0000.

/// Command Field (0000,0100) values (PS3.7 annex E.1).
pub mod field {
    /// C-STORE-RQ.
    pub const C_STORE_RQ: u16 = 0x0001;
    /// C-STORE-RSP.
    pub const C_STORE_RSP: u16 = 0x8001;
    /// C-GET-RQ.
    pub const C_GET_RQ: u16 = 0x0010;
    /// C-GET-RSP.
    pub const C_GET_RSP: u16 = 0x8010;
    /// C-FIND-RQ.
    pub const C_FIND_RQ: u16 = 0x0020;
    /// C-FIND-RSP.
    pub const C_FIND_RSP: u16 = 0x8020;
    /// C-MOVE-RQ.
    pub const C_MOVE_RQ: u16 = 0x0021;
    /// C-MOVE-RSP.
    pub const C_MOVE_RSP: u16 = 0x8021;
    /// C-ECHO-RQ.
    pub const C_ECHO_RQ: u16 = 0x0030;
    /// C-ECHO-RSP.
    pub const C_ECHO_RSP: u16 = 0x8030;
    /// C-CANCEL-RQ.
    pub const C_CANCEL_RQ: u16 = 0x0FFF;
}

/// Command Data Set Type (0000,0800): no data set follows.
const NO_DATA_SET: u16 = 0x0101;
/// Any other value: a data set follows.
const DATA_SET: u16 = 0x0001;

/// A command set: the elements that the gateway reads or writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Affected SOP Class UID (0000,0002).
    pub sop_class: Option<String>,
    /// Command Field (0000,0100).
    pub field: u16,
    /// Message ID (0000,0110).
    pub message_id: Option<u16>,
    /// Message ID Being Responded To (0000,0120).
    pub responded_id: Option<u16>,
    /// Move Destination (0000,0600).
    pub move_destination: Option<String>,
    /// Priority (0000,0700).
    pub priority: Option<u16>,
    /// Whether a data set follows (0000,0800).
    pub has_data: bool,
    /// Status (0000,0900).
    pub status: Option<u16>,
    /// Affected SOP Instance UID (0000,1000).
    pub sop_instance: Option<String>,
    /// Number of Remaining Sub-operations (0000,1020).
    pub remaining: Option<u16>,
    /// Number of Completed Sub-operations (0000,1021).
    pub completed: Option<u16>,
    /// Number of Failed Sub-operations (0000,1022).
    pub failed: Option<u16>,
    /// Number of Warning Sub-operations (0000,1023).
    pub warning: Option<u16>,
    /// Move Originator Application Entity Title (0000,1030).
    pub originator_ae: Option<String>,
    /// Move Originator Message ID (0000,1031).
    pub originator_id: Option<u16>,
}

impl Command {
    /// A request with a data set, as C-FIND, C-GET, C-MOVE and C-STORE have.
    #[must_use]
    pub fn request(field: u16, message_id: u16, sop_class: &str) -> Self {
        Self {
            field,
            message_id: Some(message_id),
            sop_class: Some(sop_class.to_owned()),
            // Medium; the only value that every PACS takes.
            priority: Some(0),
            has_data: true,
            ..Self::default()
        }
    }

    /// C-ECHO-RQ (PS3.7 §9.3.5).
    #[must_use]
    pub fn echo(message_id: u16) -> Self {
        Self {
            field: field::C_ECHO_RQ,
            message_id: Some(message_id),
            sop_class: Some(super::contexts::VERIFICATION.to_owned()),
            ..Self::default()
        }
    }

    /// C-CANCEL-RQ (PS3.7 §9.3.2.3).
    #[must_use]
    pub fn cancel(responded_id: u16) -> Self {
        Self {
            field: field::C_CANCEL_RQ,
            responded_id: Some(responded_id),
            ..Self::default()
        }
    }

    /// The response to a request, without data set.
    #[must_use]
    pub fn response_to(request: &Self, status: u16) -> Self {
        Self {
            field: request.field | 0x8000,
            responded_id: request.message_id,
            sop_class: request.sop_class.clone(),
            sop_instance: request.sop_instance.clone(),
            status: Some(status),
            ..Self::default()
        }
    }

    /// The command set on the wire, with its group length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Elements(Vec::with_capacity(256));
        body.text(0x0002, self.sop_class.as_deref(), 0);
        body.number(0x0100, Some(self.field));
        body.number(0x0110, self.message_id);
        body.number(0x0120, self.responded_id);
        body.text(0x0600, self.move_destination.as_deref(), b' ');
        body.number(0x0700, self.priority);
        body.number(
            0x0800,
            Some(if self.has_data { DATA_SET } else { NO_DATA_SET }),
        );
        body.number(0x0900, self.status);
        body.text(0x1000, self.sop_instance.as_deref(), 0);
        body.number(0x1020, self.remaining);
        body.number(0x1021, self.completed);
        body.number(0x1022, self.failed);
        body.number(0x1023, self.warning);
        body.text(0x1030, self.originator_ae.as_deref(), b' ');
        body.number(0x1031, self.originator_id);
        let mut whole = Elements(Vec::with_capacity(body.0.len() + 12));
        whole.element(
            0x0000,
            &u32::try_from(body.0.len()).unwrap_or(0).to_le_bytes(),
            0,
        );
        whole.0.extend_from_slice(&body.0);
        whole.0
    }

    /// Reads a command set.
    ///
    /// # Errors
    /// What is wrong, in words, when the bytes are not a command set.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut command = Self::default();
        let mut field = None;
        let mut data_set = NO_DATA_SET;
        while !bytes.is_empty() {
            let Some((&[g0, g1, e0, e1, l0, l1, l2, l3], rest)) = bytes.split_first_chunk::<8>()
            else {
                return Err("a command element is cut short");
            };
            let length =
                usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
            let Some((value, rest)) = rest.split_at_checked(length) else {
                return Err("a command element overruns its command set");
            };
            bytes = rest;
            // DCMTK appends status details, such as the list of failed instances, to the command.
            if [g0, g1] != [0, 0] {
                continue;
            }
            let number = || match value {
                &[a, b, ..] => Some(u16::from_le_bytes([a, b])),
                _ => None,
            };
            let text = || {
                let text = String::from_utf8_lossy(value);
                Some(text.trim_matches(['\0', ' ']).to_owned())
            };
            match u16::from_le_bytes([e0, e1]) {
                0x0002 => command.sop_class = text(),
                0x0100 => field = number(),
                0x0110 => command.message_id = number(),
                0x0120 => command.responded_id = number(),
                0x0600 => command.move_destination = text(),
                0x0700 => command.priority = number(),
                0x0800 => data_set = number().unwrap_or(NO_DATA_SET),
                0x0900 => command.status = number(),
                0x1000 => command.sop_instance = text(),
                0x1020 => command.remaining = number(),
                0x1021 => command.completed = number(),
                0x1022 => command.failed = number(),
                0x1023 => command.warning = number(),
                0x1030 => command.originator_ae = text(),
                0x1031 => command.originator_id = number(),
                // Group length, error comment (may hold patient data) and what else there is.
                _ => {}
            }
        }
        command.field = field.ok_or("a command set without command field (0000,0100)")?;
        command.has_data = data_set != NO_DATA_SET;
        Ok(command)
    }
}

/// Elements in implicit VR little endian, group 0000.
struct Elements(Vec<u8>);

impl Elements {
    fn element(&mut self, element: u16, value: &[u8], pad: u8) {
        let odd = value.len() % 2;
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&element.to_le_bytes());
        let length = u32::try_from(value.len() + odd).unwrap_or(0);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.extend(std::iter::repeat_n(pad, odd));
    }

    fn number(&mut self, element: u16, value: Option<u16>) {
        if let Some(value) = value {
            self.element(element, &value.to_le_bytes(), 0);
        }
    }

    fn text(&mut self, element: u16, value: Option<&str>, pad: u8) {
        if let Some(value) = value {
            self.element(element, value.as_bytes(), pad);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut command = Command::request(field::C_MOVE_RQ, 7, "1.2.840.10008.5.1.4.1.2.2.2");
        command.move_destination = Some("DRIMBOX".into());
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn every_cut_of_a_command_is_an_error_or_a_shorter_command() {
        let bytes = Command::echo(1).encode();
        for end in 0..bytes.len() {
            if let Ok(command) = Command::decode(&bytes[..end]) {
                assert_eq!(command.field, field::C_ECHO_RQ);
            }
        }
    }

    #[test]
    fn elements_of_other_groups_are_passed_over() {
        let mut bytes = Command::echo(1).encode();
        bytes.extend_from_slice(&[0x08, 0, 0x58, 0, 4, 0, 0, 0, b'1', b'.', b'2', 0]);
        assert_eq!(Command::decode(&bytes), Ok(Command::echo(1)));
    }

    #[test]
    fn a_length_beyond_the_command_set_is_refused() {
        let bytes = [0, 0, 0x00, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0];
        assert_eq!(
            Command::decode(&bytes),
            Err("a command element overruns its command set")
        );
    }
}
