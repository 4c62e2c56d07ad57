//! Metadata (PS3.18 §10.4.1.1.5): instances in the DICOM JSON model, or in the Native DICOM Model,
//! without their bulk data.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dicom_core::{Tag, VR};
use futures_util::Stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use super::answer::no_store;
use super::body::{Batches, BodyError};
use super::bulk::{INLINE_MAX, location};
use super::conditional::Variant;
use super::gzip;
use super::ins;
use super::multipart::{Boundary, DICOM_XML, PartHeader};
use super::negotiate::{ModelType, negotiate_model};
use super::object::Object;
use super::problem::Problem;
use super::service::{Call, Texts};
use super::status::failed;
use crate::archive::Scope;
use crate::dicom::json::{Attribute, JsonOptions, write_object};
use crate::dicom::path::AttributePath;
use crate::dicom::reader::Limits;
use crate::dicom::xml;
use crate::studies::Item;

const AVAILABLE_TRANSFER_SYNTAX: Tag = Tag(0x0008, 0x3002);
const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);

/// Instances described at a time, off the async threads.
const DESCRIBED: usize = 64;

/// Answers a request for metadata.
///
/// # Errors
/// A problem, before the first byte.
pub async fn answer(call: &Call<'_>, scope: Scope) -> Result<Response, Problem> {
    let model = negotiate_model(&call.accept)?;
    let reader = call.open(&scope).await?;
    let variant = Variant::of(reader.known_items().map_err(failed)?.as_deref())
        .map(|variant| variant.with(&[model.as_str(), &call.root]));
    // Another KOS may name another patient.
    let variant = variant.map(|variant| match &call.exam {
        Some(exam) => variant.with(&[exam.kos.as_str()]),
        None => variant,
    });
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let batches = Batches::open(reader).await.map_err(failed)?;
    let describe = Describer {
        texts: call.pacs.texts.clone(),
        limits: Limits {
            head_bytes: call.service.max_head_bytes,
            ..call.pacs.studies.limits()
        },
        root: call.root.clone().into(),
        ins: ins::in_metadata(call.exam.as_deref(), call.service.add_ins),
    };
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    match model {
        ModelType::Xml => {
            let boundary = Boundary::random();
            headers.insert(CONTENT_TYPE, boundary.content_type(DICOM_XML));
            let parts = xml_parts(batches, describe, boundary);
            *answer.body_mut() = Body::from_stream(parts);
        }
        ModelType::DicomJson | ModelType::Json => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(model.as_str()));
            let array = json_array(batches, describe);
            *answer.body_mut() = gzip::body(call, answer.headers_mut(), array);
        }
    }
    Ok(answer)
}

/// What makes the description of an instance.
#[derive(Clone)]
struct Describer {
    texts: Texts,
    limits: Limits,
    /// Root of the service in URLs.
    root: Arc<str>,
    /// The INS of the KOS, as the images have it.
    ins: Option<(Tag, Attribute)>,
}

impl Describer {
    /// The JSON object of an instance, with a RetrieveURL of its own. Blocks.
    fn write(&self, item: &Item, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let entry = item.entry();
        let object = Object::read(item, self.limits)?;
        object.with(|elements| {
            let uid = |tag| {
                let uid = elements.uid(tag);
                uid.map(|uid| uid.to_string()).unwrap_or_default()
            };
            let url = format!(
                "{}/studies/{}/series/{}/instances/{}",
                self.root,
                uid(STUDY_INSTANCE_UID),
                uid(SERIES_INSTANCE_UID),
                entry.instance
            );
            let bulk_uri = |path: &AttributePath| location(&url, path);
            let syntax = entry.transfer_syntax.as_str();
            let mut extra = BTreeMap::from([
                (RETRIEVE_URL, Attribute::text(VR::UR, url.clone())),
                (AVAILABLE_TRANSFER_SYNTAX, Attribute::text(VR::UI, syntax)),
            ]);
            extra.extend(self.ins.clone());
            if let Some(pixels) = object.pixels() {
                let uri = bulk_uri(&AttributePath::top(pixels.tag));
                extra.insert(pixels.tag, Attribute::BulkData(pixels.vr, uri));
            }
            let options = JsonOptions {
                fallback: self.texts.fallback,
                charset_override: self.texts.replaces.as_ref(),
                inline_max: INLINE_MAX,
                bulk_uri: Some(&bulk_uri),
                extra,
            };
            write_object(out, elements, &options);
        })
    }
}

/// A JSON array with one object an instance.
fn json_array(
    batches: Batches,
    describer: Describer,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut first = true;
        for await chunk in described(batches, describer) {
            let mut out = Vec::new();
            for object in chunk? {
                out.push(if std::mem::take(&mut first) { b'[' } else { b',' });
                out.extend_from_slice(&object);
            }
            yield out.into();
        }
        yield Bytes::from_static(if first { b"[]" } else { b"]" });
    }
}

/// Native DICOM Model documents, a part an instance (PS3.18 §8.7.3.2, PS3.19 §A.1).
fn xml_parts(
    batches: Batches,
    describer: Describer,
    boundary: Boundary,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut first = true;
        let header = PartHeader { media_type: DICOM_XML, transfer_syntax: None, location: None };
        for await chunk in described(batches, describer) {
            for object in chunk? {
                let document = tokio::task::spawn_blocking(move || xml::from_json(&object));
                let document = document.await.map_err(std::io::Error::other)?;
                yield boundary.open(&header, std::mem::take(&mut first));
                yield document.map_err(|error| BodyError::Unreadable(error.to_string()))?.into();
            }
        }
        yield boundary.close();
    }
}

/// The JSON objects of all instances, some at a time.
fn described(
    mut batches: Batches,
    describer: Describer,
) -> impl Stream<Item = Result<Vec<Vec<u8>>, BodyError>> + Send {
    async_stream::try_stream! {
        while let Some(items) = batches.next().await? {
            for chunk in items.chunks(DESCRIBED) {
                for item in chunk {
                    Object::await_head(item, describer.limits).await?;
                }
                let (chunk, describer) = (chunk.to_vec(), describer.clone());
                let described = tokio::task::spawn_blocking(move || {
                    let objects = chunk.iter().map(|item| {
                        let mut out = Vec::with_capacity(4096);
                        describer.write(item, &mut out).map(|()| out)
                    });
                    objects.collect::<Result<Vec<_>, BodyError>>()
                });
                yield described.await.map_err(std::io::Error::other)??;
            }
        }
    }
}
