//! What answers have in common: media types, caching, opening what they speak of.

use http::header::{CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue};

use super::body::Batches;
use super::problem::Problem;
use super::service::Call;
use super::status::failed;
use crate::archive::Scope;

/// Opens one instance and waits for it.
pub async fn open_one(call: &Call<'_>, scope: &Scope) -> Result<Batches, Problem> {
    let reader = call.open(scope).await?;
    Batches::open(reader).await.map_err(failed)
}

/// Health data: only the client itself may keep it, and asks again.
pub fn no_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Accept, Authorization"));
}

/// A field value of ours; empty if it is none.
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
