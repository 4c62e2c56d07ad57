//! WADO-RS as user agent (PS3.18 §10.4): instances as they are stored, counted to the last.
//!
//! An answer is whole when its closing boundary came. WADO-RS has no count of instances: where the
//! caller knows none, or fewer came, the server is asked what there is, and what is missing is asked
//! for again, instance by instance. What is still missing makes the retrieval fail.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::DicomwebArchive;
use super::client::{Answer, Ask};
use super::instance::IncomingFile;
use super::multipart::{Event, Parts};
use super::query::path_of;
use crate::archive::listing;
use crate::archive::{
    ArchiveError, InstanceSink, RetrieveReport, RetrieveRequest, Scope, SinkError,
};
use crate::dicom::uid::InstanceUid;

const SERVICE: &str = "WADO-RS";
const STAGE: &str = "retrieval";

const AS_STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
const UNCOMPRESSED: &str =
    "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.1";

/// Runs a retrieval to its end; see the module.
///
/// # Errors
/// Those of the exchange; [`ArchiveError::Incomplete`]; [`ArchiveError::Cancelled`].
pub async fn retrieve(
    archive: &DicomwebArchive,
    request: RetrieveRequest,
    sink: Arc<dyn InstanceSink>,
    cancel: CancellationToken,
) -> Result<RetrieveReport, ArchiveError> {
    let mut run = Run {
        archive,
        sink,
        delivered: HashSet::new(),
        refused: 0,
    };
    // Dropping the exchange closes its connection, which tells the server to stop.
    let outcome = cancel.run_until_cancelled(run.run(&request)).await;
    outcome.unwrap_or(Err(ArchiveError::Cancelled))
}

struct Run<'a> {
    archive: &'a DicomwebArchive,
    sink: Arc<dyn InstanceSink>,
    delivered: HashSet<InstanceUid>,
    refused: u64,
}

impl Run<'_> {
    async fn run(&mut self, request: &RetrieveRequest) -> Result<RetrieveReport, ArchiveError> {
        self.pass(&request.scope).await?;
        let delivered = self.delivered.len() as u64;
        let expected = match &request.scope {
            Scope::Instance(..) => Some(1),
            _ => request.expected,
        };
        if self.refused > 0 || expected.is_none_or(|expected| delivered < expected) {
            self.fetch_what_is_missing(&request.scope).await?;
        }
        Ok(RetrieveReport {
            delivered: self.delivered.len() as u64,
        })
    }

    async fn fetch_what_is_missing(&mut self, scope: &Scope) -> Result<(), ArchiveError> {
        let listed = listing::list(self.archive, scope).await?;
        let expected = listed.len() as u64;
        for entry in &listed {
            if self.delivered.contains(&entry.instance) {
                continue;
            }
            let one = (
                scope.study().clone(),
                entry.series.clone(),
                entry.instance.clone(),
            );
            self.pass(&Scope::Instance(one.0, one.1, one.2)).await?;
            if !self.delivered.contains(&entry.instance) {
                break;
            }
        }
        let missing = listed.iter();
        let missing = missing.filter(|entry| !self.delivered.contains(&entry.instance));
        match missing.count() as u64 {
            0 => Ok(()),
            missing => Err(ArchiveError::Incomplete { missing, expected }),
        }
    }

    /// One request and its answer, to the closing boundary.
    async fn pass(&mut self, scope: &Scope) -> Result<(), ArchiveError> {
        let client = &self.archive.client;
        let ask = Ask {
            service: SERVICE,
            path: path_of(scope),
            accept: if self.archive.quirks.uncompressed_only {
                UNCOMPRESSED
            } else {
                AS_STORED
            },
            fields: Default::default(),
        };
        let answer = client.get(&ask).await?;
        match answer.status {
            // 206: some instances cannot be sent; they will be missed.
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::GONE => {
                answer.finish().await;
                return Ok(());
            }
            status => return Err(client.status(SERVICE, status)),
        }
        answer.check_encoding()?;
        match answer.media_type().as_str() {
            "multipart/related" => self.parts(answer).await,
            // Some servers send one instance alone so.
            "application/dicom" => self.single(answer).await,
            _ => Err(answer.protocol("the answer to a retrieval is not multipart/related")),
        }
    }

    async fn parts(&mut self, mut answer: Answer) -> Result<(), ArchiveError> {
        let parts = Parts::of(answer.content_type());
        let mut parts = parts.map_err(|error| answer.protocol(error))?;
        let mut file = IncomingFile::new();
        while !parts.is_closed() {
            let Some(bytes) = answer.next(STAGE).await? else {
                return Err(answer.closed(STAGE));
            };
            parts.push(bytes);
            while let Some(event) = parts.event().map_err(|error| answer.protocol(error))? {
                match event {
                    Event::Part => file = IncomingFile::new(),
                    Event::Content(bytes) => self.content(&mut file, bytes).await?,
                    Event::PartEnd => {
                        let whole = std::mem::replace(&mut file, IncomingFile::new());
                        self.end(whole).await?;
                    }
                    Event::Close => {}
                }
            }
        }
        answer.finish().await;
        Ok(())
    }

    async fn single(&mut self, mut answer: Answer) -> Result<(), ArchiveError> {
        let mut file = IncomingFile::new();
        while let Some(bytes) = answer.next(STAGE).await? {
            self.content(&mut file, bytes).await?;
        }
        self.end(file).await
    }

    async fn content(&self, file: &mut IncomingFile, bytes: Bytes) -> Result<(), ArchiveError> {
        metrics::counter!("drimbox_upstream_bytes_received_total", "pacs" => self.archive.name())
            .increment(bytes.len() as u64);
        let refused = file.take(bytes, &*self.sink).await.err();
        // One instance that is refused is told at its end; the others go on.
        let ended = refused.and_then(|error| error.ends_retrieval());
        ended.map_or(Ok(()), Err)
    }

    async fn end(&mut self, file: IncomingFile) -> Result<(), ArchiveError> {
        match file.finish().await {
            Ok(instance) => {
                metrics::counter!("drimbox_upstream_instances_received_total", "pacs" => self.archive.name())
                    .increment(1);
                self.delivered.insert(instance);
                Ok(())
            }
            Err(error) => {
                self.refused += u64::from(error != SinkError::NotAskedFor);
                self.archive.count_refused(&error);
                error.ends_retrieval().map_or(Ok(()), Err)
            }
        }
    }
}
