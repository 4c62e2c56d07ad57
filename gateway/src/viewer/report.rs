//! The report beside the images: the PDF that was registered with the exam.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Viewer;
use super::handlers::apart;
use crate::net::Connection;
use crate::studies::bytes::ItemBytes;

/// The route of the report; its answers are kept from other origins, and nothing in them runs.
pub(super) fn router() -> Router<Arc<Viewer>> {
    Router::new()
        .route("/viewer/api/report", get(report))
        .layer(from_fn(apart))
}

async fn report(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some((host, pacs)) = viewer.pacs(&connection) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(seeker) = viewer.seeker(&headers, &host, true) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let exam = viewer
        .exam_of(&connection, pacs, Some(&seeker.visitor), "report")
        .await;
    let exam = match exam {
        Ok(exam) => exam,
        Err(status) => return status.into_response(),
    };
    let found = viewer.parts.exams.report(&pacs.name, &exam.study).await;
    let (file, length) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(error) => {
            tracing::error!("{error}");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let mut answer = Response::new(Body::from_stream(content(
        ItemBytes::of_file(Arc::new(file), length),
        length,
    )));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/pdf"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let disposition = match query.as_deref() {
        Some("download") => "attachment; filename=\"compte-rendu.pdf\"",
        _ => "inline; filename=\"compte-rendu.pdf\"",
    };
    fields.insert(CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
    answer
}

fn content(mut bytes: ItemBytes, length: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    async_stream::try_stream! {
        let mut left = length;
        while left > 0 {
            let piece = bytes.next(left).await?;
            left -= piece.len() as u64;
            yield piece;
        }
    }
}
