//! The exam as one ZIP: its instances as a retrieval on this host gives them, in the syntax in which they are stored, a
//! DICOMDIR, and a read-me for whoever finds the file later.
//!
//! It is written while it is sent: a piece of an instance and what the directory will say are in memory, no more. An
//! archive that cannot be completed breaks off, and has no table of contents: nobody takes it for a whole one.

mod dicomdir;
mod zipped;

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::Viewer;
use crate::archive::Scope;
use crate::dicom::charset::CharacterSet;
use crate::dicom::edit::Edit;
use crate::dicom::uid::{InstanceUid, TransferSyntaxUid};
use crate::dicomweb::body::{Passed, Pieces};
use crate::dicomweb::ins;
use crate::dicomweb::object::Object;
use crate::dicomweb::service::Texts;
use crate::net::Connection;
use crate::source::PublishedExam;
use crate::studies::{Item, Studies};
use dicomdir::{Listed, Place};
use zipped::{Zipped, broken};

/// Instances of one archive: the directory of as many takes some tens of megabytes.
const MOST: usize = 50_000;
/// With the directory and the read-me, few enough for readers that know no ZIP64.
const _: () = assert!(MOST + 2 < u16::MAX as usize);
/// Sessions whose last archive is remembered.
const SESSIONS: usize = 10_000;
/// Name of the file on the computer of the person: nothing of the exam.
const NAME: &str = "attachment; filename=\"examen.zip\"";
const READ_ME: &str = include_str!("../../../templates/viewer/lisezmoi.txt");

/// The archives of sessions, by session.
pub(super) type Downloads = HashMap<[u8; 32], Arc<Progress>>;

/// How far an archive is.
pub(super) struct Progress {
    total: usize,
    sent: AtomicUsize,
    state: AtomicU8,
}

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// Says that an archive failed, unless it was said to be done.
struct Running(Arc<Progress>);

impl Drop for Running {
    fn drop(&mut self) {
        let state = &self.0.state;
        let _ = state.compare_exchange(RUNNING, FAILED, Ordering::Relaxed, Ordering::Relaxed);
        let outcome = match state.load(Ordering::Relaxed) {
            DONE => "done",
            _ => "broken",
        };
        metrics::counter!("drimbox_viewer_archives_total", "outcome" => outcome).increment(1);
    }
}

/// The routes.
pub(super) fn router() -> Router<Arc<Viewer>> {
    Router::new()
        .route("/viewer/api/archive", get(archive))
        .route("/viewer/api/archive/progress", get(progress))
}

async fn archive(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let Some((host, pacs)) = viewer.pacs(&connection).filter(|_| viewer.parts.download) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(seeker) = viewer.seeker(&headers, &host, true) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let exam = viewer
        .exam_of(&connection, pacs, Some(&seeker.visitor), "archive")
        .await;
    let exam = match exam {
        Ok(exam) => exam,
        Err(status) => return status.into_response(),
    };
    let total = exam.instance_count();
    if total > MOST {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let Some(running) = viewer.begin(seeker.visitor.session, total) else {
        return StatusCode::CONFLICT.into_response();
    };
    let source = Source {
        studies: Arc::clone(&pacs.studies),
        texts: pacs.texts.clone(),
        edits: ins::of_exam(Some(&exam), viewer.parts.add_ins),
        exam,
    };
    let mut answer = Response::new(Body::from_stream(content(source, running)));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    fields.insert(CONTENT_DISPOSITION, HeaderValue::from_static(NAME));
    fields.insert(
        HeaderName::from_static("x-instances"),
        HeaderValue::from(total),
    );
    answer
}

/// How far the archive of this session is; asking keeps no session alive.
async fn progress(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let host = connection.host.as_deref().unwrap_or_default();
    let Some(seeker) = viewer.seeker(&headers, host, false) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let found = viewer
        .downloads
        .lock()
        .get(&seeker.visitor.session)
        .cloned();
    let (sent, total, state) = match found {
        None => (0, 0, "none"),
        Some(progress) => {
            let state = match progress.state.load(Ordering::Relaxed) {
                RUNNING => "running",
                DONE => "done",
                _ => "failed",
            };
            (progress.sent.load(Ordering::Relaxed), progress.total, state)
        }
    };
    Json(json!({ "sent": sent, "total": total, "state": state })).into_response()
}

impl Viewer {
    /// Begins the archive of a session; `None` while one is under way.
    fn begin(&self, session: [u8; 32], total: usize) -> Option<Running> {
        let progress = Arc::new(Progress {
            total,
            sent: AtomicUsize::new(0),
            state: AtomicU8::new(RUNNING),
        });
        let mut downloads = self.downloads.lock();
        let is_running = |one: &Progress| one.state.load(Ordering::Relaxed) == RUNNING;
        if downloads.get(&session).is_some_and(|one| is_running(one)) {
            return None;
        }
        if downloads.len() >= SESSIONS {
            downloads.retain(|_, one| is_running(one));
            if downloads.len() >= SESSIONS {
                return None;
            }
        }
        downloads.insert(session, Arc::clone(&progress));
        Some(Running(progress))
    }
}

/// Where the instances come from.
struct Source {
    studies: Arc<Studies>,
    texts: Texts,
    /// Changes to the head of every instance.
    edits: Arc<[Edit]>,
    exam: Arc<PublishedExam>,
}

/// The bytes of the archive.
fn content(source: Source, running: Running) -> impl Stream<Item = io::Result<Bytes>> + Send {
    async_stream::try_stream! {
        let mut zip = Zipped::new();
        zip.begin("LISEZMOI.TXT", None)?;
        zip.write_all(READ_ME.as_bytes())?;
        yield zip.take();
        let exam = Arc::clone(&source.exam);
        let mut listed: Vec<Vec<Listed>> = Vec::with_capacity(exam.series.len());
        for (number, series) in (1..).zip(&exam.series) {
            let mut missing: HashSet<&InstanceUid> = series.instances.iter().collect();
            let mut of_series: Vec<Listed> = Vec::with_capacity(missing.len());
            let scope = Scope::Series(exam.study.clone(), series.series.clone());
            let mut reader = source.studies.open(&scope).await.map_err(broken)?;
            while let Some(items) = reader.next().await.map_err(broken)? {
                for item in items {
                    // What the KOS does not name is not the exam's; what came twice is there already.
                    if !missing.remove(&item.entry().instance) {
                        continue;
                    }
                    let place = of_series.len() + 1;
                    let one = source.listed(&item, number, place).await?;
                    let name = one.file.replace('\\', "/");
                    zip.begin(&name, item.length())?;
                    let part = Passed::as_stored(item, Arc::clone(&source.edits));
                    let mut pieces = Pieces::of(&part);
                    while let Some(piece) = pieces.next().await.map_err(broken)? {
                        zip.write_all(&piece)?;
                        yield zip.take();
                    }
                    of_series.push(one);
                    running.0.sent.fetch_add(1, Ordering::Relaxed);
                }
            }
            if !missing.is_empty() {
                Err(broken("the archive has fewer instances than the KOS names"))?;
            }
            listed.push(of_series);
        }
        let own = instance_of_directory().ok_or_else(|| broken("no UID for the directory"))?;
        let directory = dicomdir::file(&listed, &own).ok_or_else(|| broken("no directory"))?;
        zip.begin("DICOMDIR", None)?;
        zip.write_all(&directory)?;
        yield zip.finish()?;
        running.0.state.store(DONE, Ordering::Relaxed);
    }
}

/// A UID made from random bits (PS3.5 §B.2).
fn instance_of_directory() -> Option<InstanceUid> {
    let random = uuid::Uuid::new_v4().as_u128();
    InstanceUid::parse(&format!("2.25.{random}")).ok()
}

impl Source {
    /// What the directory says of an instance; the first of a series speaks for the series, and for what is above.
    async fn listed(&self, item: &Item, series: usize, number: usize) -> io::Result<Listed> {
        let limits = self.studies.limits();
        Object::await_head(item, limits).await.map_err(broken)?;
        let (item, texts) = (item.clone(), self.texts.clone());
        let work = move || {
            let object = Object::read(&item, limits)?;
            let entry = item.entry();
            let transfer_syntax: TransferSyntaxUid = entry.transfer_syntax.clone();
            let place = Place {
                instance: entry.instance.clone(),
                sop_class: entry.sop_class.clone(),
                transfer_syntax,
                file: format!("DICOM\\S{series:05}\\I{number:07}"),
                number,
            };
            object.with(|set| {
                let declared = set.declared_character_set(texts.fallback);
                let charset = texts.replaces.clone().or(declared);
                let charset = charset.unwrap_or_else(|| CharacterSet::undeclared(texts.fallback));
                Listed::of(place, set, &charset, number == 1)
            })
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(broken)?.map_err(broken)
    }
}
