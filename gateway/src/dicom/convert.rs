//! tmp
use super::reader::*;
use super::syntax::Encoding;
/// tmp
pub struct Converter;
impl Converter {
/// tmp
pub fn new(_: Encoding, _: Limits) -> Self { Self }
/// tmp
pub fn feed(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), ReadError> { Ok(()) }
/// tmp
pub fn finish(self, _: &mut Vec<u8>) -> Result<(), ReadError> { Ok(()) }
}
