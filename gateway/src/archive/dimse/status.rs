//! DIMSE status codes (PS3.7 annex C, PS3.4 annexes B and C).

/// Success.
pub const SUCCESS: u16 = 0x0000;
/// Sub-operations complete with one or more failures or warnings.
pub const SUB_OPERATIONS_WARNING: u16 = 0xB000;
/// The service user cancelled.
pub const CANCEL: u16 = 0xFE00;
/// Refused: out of resources.
pub const OUT_OF_RESOURCES: u16 = 0xA700;
/// Refused: move destination unknown.
pub const MOVE_DESTINATION_UNKNOWN: u16 = 0xA801;
/// Refused: not authorised.
pub const NOT_AUTHORISED: u16 = 0x0124;
/// SOP class not supported.
pub const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
/// Invalid SOP instance.
pub const INVALID_INSTANCE: u16 = 0x0117;
/// Error: cannot understand.
pub const CANNOT_UNDERSTAND: u16 = 0xC000;
/// Unrecognised operation.
pub const UNRECOGNISED_OPERATION: u16 = 0x0211;

/// Whether more responses follow.
#[must_use]
pub fn is_pending(status: u16) -> bool {
    matches!(status, 0xFF00 | 0xFF01)
}

/// Whether a C-STORE took the instance, possibly with a warning.
#[must_use]
pub fn is_stored(status: u16) -> bool {
    status == SUCCESS || is_warning(status)
}

/// Whether the status is a warning.
#[must_use]
pub fn is_warning(status: u16) -> bool {
    matches!(status, 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF)
}

/// A status in words.
#[must_use]
pub fn meaning(status: u16) -> &'static str {
    match status {
        SUCCESS => "(success)",
        0x0105 | 0x0106 => "(invalid attribute)",
        0x0110 => "(processing failure)",
        0x0111 => "(duplicate instance)",
        0x0112 => "(no such instance)",
        INVALID_INSTANCE => "(invalid instance)",
        0x0118 => "(no such SOP class)",
        SOP_CLASS_NOT_SUPPORTED => "(SOP class not supported): the PACS does not offer the service",
        NOT_AUTHORISED => "(not authorised): allow the gateway's AE title in the PACS",
        UNRECOGNISED_OPERATION => "(unrecognised operation): the PACS does not offer the service",
        0x0212 => "(mistyped argument)",
        OUT_OF_RESOURCES => "(out of resources)",
        0xA701 => "(out of resources: cannot count the matches)",
        0xA702 => "(out of resources: cannot perform the sub-operations)",
        MOVE_DESTINATION_UNKNOWN => {
            "(move destination unknown): declare the gateway's AE title, address and port in the PACS"
        }
        0xA900 => {
            "(identifier does not match the SOP class): the PACS may not allow this kind of query, \
             see the key `relational_queries`"
        }
        SUB_OPERATIONS_WARNING => "(some sub-operations failed)",
        CANCEL => "(cancelled)",
        0xA000..=0xAFFF => "(failure)",
        0xC000..=0xCFFF => "(unable to process)",
        _ => "(unknown status)",
    }
}
