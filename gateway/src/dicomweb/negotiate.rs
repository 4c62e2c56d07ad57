//! tmp
use super::accept::{Accept,E};
use crate::dicom::uid::TransferSyntaxUid;
/// tmp
#[derive(Clone)]
pub enum InstanceFormat { /// tmp
 Single{/// tmp
 a:u8}, /// tmp
 Multi }
impl InstanceFormat { /// tmp
 pub fn accepts(&self, _: &TransferSyntaxUid) -> bool { true } }
/// tmp
pub fn instances(_: &Accept, _: bool) -> Result<InstanceFormat, E> { Ok(InstanceFormat::Multi) }
/// tmp
pub fn json(_: &Accept) -> Result<(), E> { Ok(()) }
