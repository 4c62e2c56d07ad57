//! Retrieval of instances (PS3.18 §10.4.1.1.1 to §10.4.1.1.3): studies, series, instances as Part 10
//! files.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::answer::{no_store, value};
use super::body::{self, Batches, BodyError, Part, PartsSent, Passed, Sending};
use super::conditional::Variant;
use super::ins;
use super::multipart::{Boundary, DICOM};
use super::negotiate::{Form, NotAcceptable, Retrieved, negotiate_instances};
use super::problem::Problem;
use super::service::Call;
use super::status::failed;
use super::transcoded::{Ahead, Transcoded};
use crate::archive::Scope;
use crate::dicom::uid::TransferSyntaxUid;
use crate::studies::Item;

/// Answers a retrieval.
///
/// # Errors
/// A problem, before the first byte.
pub async fn answer(call: &Call<'_>, scope: Scope) -> Result<Response, Problem> {
    let resource = match &scope {
        Scope::Instance(..) => Retrieved::Instance,
        Scope::Study(_) | Scope::Series(..) => Retrieved::Several,
    };
    let encoding = negotiate_instances(&call.accept, resource, call.service.unnamed)?;
    let reader = call.open(&scope).await?;
    let known = reader.known_items().map_err(failed)?;
    let variant =
        Variant::of(known.as_deref()).map(|variant| variant.with(&[&format!("{encoding:?}")]));
    // Another KOS may name another patient.
    let variant = variant.map(|variant| match &call.exam {
        Some(exam) => variant.with(&[exam.kos.as_str()]),
        None => variant,
    });
    let edits = ins::of_exam(call.exam.as_deref(), call.service.add_ins);
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let batches = Batches::open(reader).await.map_err(failed)?;
    let at_hand = known.as_deref().unwrap_or_else(|| batches.first());
    let syntax = |item: &Item| item.entry().transfer_syntax.clone();
    if let (Scope::Instance(..), [item]) = (&scope, at_hand) {
        let stored = syntax(item);
        let Some((form, delivery)) = encoding.single(&stored) else {
            return Err(NotAcceptable::transfer_syntax([&stored]).into());
        };
        if form == Form::SinglePart {
            return match Part::new(item.clone(), delivery, edits) {
                Part::Passed(part) if part.is_beyond_changes() => Err(beyond_changes()),
                Part::Passed(part) => single(part, batches, variant.as_ref()).await,
                Part::Transcoded(wish) => {
                    let made = call.service.transcoding.make(wish).await?;
                    Ok(transcoded(made, variant.as_ref()))
                }
            };
        }
    }
    if at_hand
        .iter()
        .any(|item| encoding.part(&syntax(item)).is_none())
    {
        return Err(NotAcceptable::transfer_syntax(
            at_hand.iter().map(|item| &item.entry().transfer_syntax),
        )
        .into());
    }
    let sending = Sending { encoding, edits };
    if sending.is_beyond_changes(at_hand) {
        return Err(beyond_changes());
    }
    // The first instance that is transcoded decides on the status.
    let first = batches.first().first().cloned();
    let first = match first.and_then(|item| sending.part(item)) {
        Some(Part::Transcoded(wish)) => Some(call.service.transcoding.make(wish).await?),
        _ => None,
    };
    let ahead = Ahead::new(call.service.transcoding.clone(), first);
    let boundary = Boundary::random();
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, boundary.content_type(DICOM));
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    // Everything is at hand and goes as it is: the length lets a client see a cut at once.
    if let Some(length) = known.and_then(|items| sending.total_length(&boundary, &items)) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let sent = PartsSent::default();
    answer.extensions_mut().insert(sent.clone());
    let is_changed = !sending.edits.is_empty();
    let stream = body::instances(batches, boundary, sending, ahead, sent);
    *answer.body_mut() = begun(stream, is_changed).await?;
    Ok(answer)
}

/// A body; of images that are changed, one whose first bytes are made: a change that cannot be made to the
/// first finds a status.
async fn begun(
    stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    is_changed: bool,
) -> Result<Body, Problem> {
    if !is_changed {
        return Ok(Body::from_stream(stream));
    }
    let mut stream = Box::pin(stream);
    let first = stream.next().await;
    if let Some(Err(error @ BodyError::Unreadable(_))) = &first {
        tracing::warn!("an image is not sent, as the INS cannot be added: {error}");
        return Err(Problem::bad_gateway(
            "an image cannot be changed as it must be",
        ));
    }
    Ok(Body::from_stream(stream::iter(first).chain(stream)))
}

/// The answer where the INS cannot be added to an image: it does not leave without.
fn beyond_changes() -> Problem {
    tracing::warn!("an image is not sent: its head is too large for the INS to be added");
    Problem::content_too_large(
        "the head of an image is too large to be changed",
        "ask the centre that has the images",
    )
}

async fn single(
    part: Passed,
    batches: Batches,
    variant: Option<&Variant>,
) -> Result<Response, Problem> {
    let (syntax, length) = (part.transfer_syntax(), part.length());
    let is_changed = !part.edits.is_empty();
    let body = begun(body::single(part, batches), is_changed).await?;
    Ok(one_file(&syntax, length, variant, body))
}

fn transcoded(made: Transcoded, variant: Option<&Variant>) -> Response {
    let (syntax, length) = (made.transfer_syntax.clone(), made.length);
    let body = Body::from_stream(body::made(made));
    one_file(&syntax, Some(length), variant, body)
}

fn one_file(
    transfer_syntax: &TransferSyntaxUid,
    length: Option<u64>,
    variant: Option<&Variant>,
    body: Body,
) -> Response {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    let kind = format!("application/dicom; transfer-syntax={transfer_syntax}");
    headers.insert(CONTENT_TYPE, value(&kind));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    no_store(headers);
    if let Some(variant) = variant {
        variant.put(headers);
    }
    answer
}
