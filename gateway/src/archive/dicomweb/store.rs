//! STOW-RS as user agent (PS3.18 §10.5): instances as parts of one request, an outcome for each.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::client::{Answer, Ask, Body, Client};
use crate::archive::{ArchiveError, OutgoingInstance, StoreOutcome};
use crate::dicom::part10::file_meta;
use crate::dicom::uid::InstanceUid;

const SERVICE: &str = "STOW-RS";
/// Instances of one request.
const BATCH: usize = 50;
/// Bytes of the answer to one request.
const MAX_ANSWER: usize = 8 << 20;
/// Processing failure (PS3.4 table B.2-1).
const PROCESSING_FAILURE: u16 = 0x0110;

/// Sends instances, some at a time.
///
/// # Errors
/// Those of the exchange; [`ArchiveError::Status`] when the server refuses a whole request.
pub async fn store(
    client: &Client,
    instances: Vec<OutgoingInstance>,
) -> Result<Vec<StoreOutcome>, ArchiveError> {
    let mut outcomes = Vec::with_capacity(instances.len());
    let mut rest = instances.into_iter();
    loop {
        let batch: Vec<OutgoingInstance> = rest.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(outcomes);
        }
        outcomes.extend(send(client, batch).await?);
    }
}

async fn send(
    client: &Client,
    batch: Vec<OutgoingInstance>,
) -> Result<Vec<StoreOutcome>, ArchiveError> {
    let sent: Vec<InstanceUid> = batch.iter().map(|one| one.instance.clone()).collect();
    let boundary = Uuid::new_v4().simple().to_string();
    let content_type =
        format!("multipart/related; type=\"application/dicom\"; boundary={boundary}");
    let ask = Ask {
        service: SERVICE,
        path: "/studies".into(),
        accept: "application/dicom+json",
        fields: Default::default(),
    };
    let body = Body::new(StreamBody::new(
        parts(batch, boundary).map(|piece| piece.map(Frame::data)),
    ));
    let answer = client.post(&ask, &content_type, body).await?;
    let status = answer.status;
    // 409: none was stored, and the answer says why (PS3.18 table 10.5.3-1).
    if !status.is_success() && status != StatusCode::CONFLICT {
        return Err(client.status(SERVICE, status));
    }
    let told = read(answer).await?;
    let outcome = |uid: &InstanceUid| match told.get(uid.as_str()) {
        Some(outcome) => outcome.clone(),
        // Success of the whole is no proof: Orthanc answers 200 to parts that it skipped.
        None => StoreOutcome::Failed {
            status: PROCESSING_FAILURE,
            comment: "the archive does not say what became of it".into(),
        },
    };
    Ok(sent.iter().map(outcome).collect())
}

/// The body of a request: each instance as a DICOM file in a part of its own.
fn parts(
    batch: Vec<OutgoingInstance>,
    boundary: String,
) -> impl Stream<Item = std::io::Result<Bytes>> {
    let closing = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let each = stream::iter(batch).flat_map(move |instance| {
        let syntax = &instance.transfer_syntax;
        // Without `transfer-syntax`, which the file says itself and which Orthanc does not take.
        let head = format!("\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n");
        let mut head = head.into_bytes();
        head.extend(file_meta(&instance.sop_class, &instance.instance, syntax));
        stream::iter([Ok(Bytes::from(head))]).chain(instance.data)
    });
    each.chain(stream::iter([Ok(closing)]))
}

async fn read(mut answer: Answer) -> Result<HashMap<String, StoreOutcome>, ArchiveError> {
    answer.check_encoding()?;
    let is_json = answer.media_type().ends_with("json");
    let mut text = Vec::new();
    while let Some(bytes) = answer.next("storing").await? {
        if text.len() + bytes.len() > MAX_ANSWER {
            return Err(answer.protocol("the answer to a storage request is too long"));
        }
        text.extend_from_slice(&bytes);
    }
    if !is_json || text.is_empty() {
        return Ok(HashMap::new());
    }
    let told: Value = serde_json::from_slice(&text)
        .map_err(|_| answer.protocol("the answer to a storage request is not JSON"))?;
    // The object itself by the standard, an array of it by some servers.
    let object = match &told {
        Value::Array(all) => all.first().and_then(Value::as_object),
        told => told.as_object(),
    };
    Ok(object.map(outcomes).unwrap_or_default())
}

/// What the Store Instances Response Module says (PS3.18 §I.2).
fn outcomes(object: &Map<String, Value>) -> HashMap<String, StoreOutcome> {
    const REFERENCED: &str = "00081199";
    const FAILED: &str = "00081198";
    const INSTANCE: &str = "00081155";
    const WARNING_REASON: &str = "00081196";
    const FAILURE_REASON: &str = "00081197";
    let mut told = HashMap::new();
    for item in items(object, REFERENCED) {
        let outcome = match number(item, WARNING_REASON) {
            None | Some(0) => StoreOutcome::Stored,
            Some(warning) => StoreOutcome::StoredWithWarning(warning),
        };
        told.extend(uid(item, INSTANCE).map(|uid| (uid, outcome)));
    }
    for item in items(object, FAILED) {
        let outcome = StoreOutcome::Failed {
            status: number(item, FAILURE_REASON).unwrap_or(PROCESSING_FAILURE),
            comment: String::new(),
        };
        told.extend(uid(item, INSTANCE).map(|uid| (uid, outcome)));
    }
    told
}

fn items<'o>(
    object: &'o Map<String, Value>,
    tag: &str,
) -> impl Iterator<Item = &'o Map<String, Value>> {
    values(object, tag).iter().filter_map(Value::as_object)
}

fn uid(object: &Map<String, Value>, tag: &str) -> Option<String> {
    values(object, tag).first()?.as_str().map(str::to_owned)
}

fn number(object: &Map<String, Value>, tag: &str) -> Option<u16> {
    values(object, tag).first()?.as_u64()?.try_into().ok()
}

fn values<'o>(object: &'o Map<String, Value>, tag: &str) -> &'o [Value] {
    let value = object.get(tag).and_then(|attribute| attribute.get("Value"));
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::json;

    use super::*;

    #[test]
    fn each_instance_has_the_outcome_that_the_answer_gives_it() {
        let item = |uid: &str, tag: &str, reason: Value| {
            let mut item = json!({"00081155": {"vr": "UI", "Value": [uid]}});
            item[tag] = json!({"vr": "US", "Value": reason});
            item
        };
        let answer = json!({
            "00081199": {"vr": "SQ", "Value": [
                item("1.1", "00081190", json!(["http://here"])),
                item("1.2", "00081196", json!([0xB000])),
            ]},
            "00081198": {"vr": "SQ", "Value": [item("1.3", "00081197", json!([0x0124]))]},
        });
        let told = outcomes(answer.as_object().unwrap());
        assert_eq!(told["1.1"], StoreOutcome::Stored);
        assert_eq!(told["1.2"], StoreOutcome::StoredWithWarning(0xB000));
        assert!(matches!(
            told["1.3"],
            StoreOutcome::Failed { status: 0x0124, .. }
        ));
        assert!(outcomes(json!({}).as_object().unwrap()).is_empty());
    }
}
