//! Compression of JSON on its way (RFC 9110 §8.4.1), which becomes some ten times smaller. Nothing else is
//! compressed: images are already, or take longer than the network.

use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt as _};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue};

use super::body::BodyError;
use super::service::Call;

/// Texts below this size in bytes fit a packet or two as they are.
const WORTH_IT: usize = 1400;

/// A body of text as the client takes it; `answer` gets the fields that say so.
pub fn body(
    call: &Call<'_>,
    answer: &mut HeaderMap,
    text: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
) -> Body {
    answer.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    if !is_accepted(call.headers) {
        return Body::from_stream(text);
    }
    answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Body::from_stream(compressed(text))
}

/// As [`body`], of a text that is whole.
pub fn whole(call: &Call<'_>, answer: &mut HeaderMap, text: Vec<u8>) -> Body {
    if text.len() < WORTH_IT {
        return Body::from(text);
    }
    let text = futures_util::stream::iter([Ok(Bytes::from(text))]);
    body(call, answer, text)
}

/// Whether a client takes gzip: it says so, or any coding, with a weight above 0.
fn is_accepted(request: &HeaderMap) -> bool {
    let fields = request.get_all(ACCEPT_ENCODING).iter();
    let mut named = None;
    let mut any = None;
    for entry in fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
    {
        let (coding, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let weight = parameters
            .trim()
            .strip_prefix("q=")
            .map_or(Ok(1.0), str::parse);
        let accepted = weight.is_ok_and(|weight: f32| weight > 0.0);
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => named = Some(accepted),
            "*" => any = Some(accepted),
            _ => {}
        }
    }
    named.or(any).unwrap_or(false)
}

/// Compresses piece by piece, off the async threads; each piece can be read when it arrives.
fn compressed(
    text: impl Stream<Item = Result<Bytes, BodyError>> + Send,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut text = std::pin::pin!(text);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        while let Some(piece) = text.next().await {
            let piece = piece?;
            let work = tokio::task::spawn_blocking(move || {
                encoder.write_all(&piece)?;
                encoder.flush()?;
                let out = std::mem::take(encoder.get_mut());
                Ok::<_, std::io::Error>((encoder, out))
            });
            let (again, out) = work.await.map_err(std::io::Error::other)??;
            encoder = again;
            yield out.into();
        }
        yield encoder.finish()?.into();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read as _;

    fn accepted(field: &str) -> bool {
        let field = HeaderValue::from_str(field).unwrap();
        is_accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, field)]))
    }

    #[test]
    fn gzip_is_for_clients_that_name_it_with_a_weight() {
        for field in ["gzip", "br, gzip;q=0.5", "GZIP", "deflate, *", "x-gzip"] {
            assert!(accepted(field), "{field}");
        }
        for field in ["", "br", "gzip;q=0", "gzip; q=0.0, *", "*;q=0", "gzip;q=x"] {
            assert!(!accepted(field), "{field}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn each_piece_can_be_read_when_it_arrives_and_an_error_ends_all() {
        let pieces = ["[{\"a\":1}", ",{\"b\":2}", "]"].map(|text| Ok(Bytes::from(text)));
        let broken = [Err(BodyError::NotAcceptable)];
        let text = futures_util::stream::iter(pieces.into_iter().chain(broken));
        let mut out = std::pin::pin!(compressed(text));
        let mut received = Vec::new();
        for expected in ["[{\"a\":1}", "[{\"a\":1},{\"b\":2}"] {
            received.extend(out.next().await.unwrap().unwrap());
            let mut read = vec![0; expected.len()];
            let mut decoder = flate2::read::GzDecoder::new(received.as_slice());
            decoder.read_exact(&mut read).unwrap();
            assert_eq!(read, expected.as_bytes());
        }
        out.next().await.unwrap().unwrap();
        assert!(out.next().await.unwrap().is_err());
        assert!(out.next().await.is_none());
    }
}
