//! tmp
use http::HeaderMap;
/// tmp
pub struct Accept;
/// tmp
#[derive(Debug, thiserror::Error)]
#[error("tmp")]
pub struct E;
impl E {
/// tmp
pub fn remedy(&self) -> &'static str { "" } }
impl Accept {
/// tmp
pub fn from_request(_: &HeaderMap, _: Option<&str>) -> Result<Self, E> { Ok(Self) }
}
