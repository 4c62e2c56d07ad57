//! Metadata (PS3.18 §10.4.1.1.5): instances in the DICOM JSON model, without their pixel data.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use dicom_core::{Tag, VR};

use super::answer::json;
use super::body::{self, Batches, Describe};
use super::negotiate::negotiate_json;
use super::problem::Problem;
use super::service::{Call, Texts};
use super::status::failed;
use crate::archive::Scope;
use crate::dicom::json::{Attribute, JsonOptions, write_object};
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::syntax::Encoding;
use crate::studies::Item;

const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);

/// Answers a request for metadata.
///
/// # Errors
/// A problem, before the first byte.
pub async fn answer(call: &Call<'_>, scope: Scope) -> Result<Response, Problem> {
    let media = negotiate_json(&call.accept)?;
    let reader = call.pacs.studies.open(&scope).await.map_err(failed)?;
    let batches = Batches::open(reader).await.map_err(failed)?;
    let describe = describe(
        call.pacs.texts.clone(),
        call.pacs.studies.limits(),
        call.root.clone(),
    );
    let stream = body::metadata(batches, describe, call.service.max_head_bytes);
    Ok(json(media, Body::from_stream(stream)))
}

/// Describes instances in the DICOM JSON model with a RetrieveURL of their own.
fn describe(texts: Texts, limits: Limits, root: String) -> Describe {
    Arc::new(move |item: &Item, head: &[u8], out: &mut Vec<u8>| {
        let entry = item.entry();
        let encoding = Encoding::of(&entry.transfer_syntax);
        let data_set = DataSet::parse(head, encoding, limits).map_err(|error| error.to_string())?;
        let elements = data_set.elements();
        let uid = |tag| {
            elements
                .uid(tag)
                .map(|uid| uid.to_string())
                .unwrap_or_default()
        };
        let url = format!(
            "{root}/studies/{}/series/{}/instances/{}",
            uid(Tag(0x0020, 0x000D)),
            uid(Tag(0x0020, 0x000E)),
            entry.instance
        );
        let syntax = entry.transfer_syntax.as_str();
        let options = JsonOptions {
            fallback: texts.fallback,
            charset_override: texts.replaces.as_ref(),
            // No bulk data resource yet: everything but pixel data is written in place.
            inline_max: usize::MAX,
            bulk_uri: None,
            extra: BTreeMap::from([
                (RETRIEVE_URL, Attribute::text(VR::UR, url)),
                (Tag(0x0008, 0x3002), Attribute::text(VR::UI, syntax)),
                (Tag(0x7FE0, 0x0008), Attribute::Absent),
                (Tag(0x7FE0, 0x0009), Attribute::Absent),
                (Tag(0x7FE0, 0x0010), Attribute::Absent),
            ]),
        };
        write_object(out, elements, &options);
        Ok(())
    })
}
