//! tmp
use super::uid::*;
/// tmp
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.1";
/// tmp
pub const IMPLEMENTATION_VERSION_NAME: &str = "DRIMBOX_0.1";
/// tmp
pub fn file_meta(_: &SopClassUid, _: &InstanceUid, _: &TransferSyntaxUid) -> Vec<u8> { Vec::new() }
