//! tmp
use super::service::Pacs;
use super::path::SearchLevel;
use super::problem::Problem;
use crate::studies::StudiesError;
use crate::dicom::uid::*;
/// tmp
pub struct Found { /// tmp
 pub body: Vec<u8>, /// tmp
 pub warnings: Vec<String> }
/// tmp
pub fn parse(_: SearchLevel, _: Option<StudyUid>, _: Option<SeriesUid>, _: Option<&str>) -> Result<(), Problem> { Err(Problem::not_implemented("x","y")) }
/// tmp
pub async fn run(_: &Pacs, _: &(), _: usize, _: &str) -> Result<Found, StudiesError> { Ok(Found{body:vec![], warnings: vec![]}) }
