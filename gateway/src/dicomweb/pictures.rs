//! Pictures of several frames in one answer (PS3.18 §10.4.1.1.4): of a study, of a series, of a list of
//! frames; and the one that stands for a study or series (§10.4.1.1.5).
//!
//! They are made one after the other as they are sent: memory is that of one. Objects of a study that
//! are no images are left out, and frames that cannot be shown.

use std::collections::VecDeque;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dicom_core::{Tag, VR};
use http::header::CONTENT_TYPE;

use super::answer::no_store;
use super::body::{Batches, BodyError};
use super::frames::{self, Image};
use super::multipart::Boundary;
use super::problem::Problem;
use super::rendered::{Asked, picture};
use super::service::Call;
use super::status::failed;
use crate::archive::{FindRequest, Identifier, Level, Scope};
use crate::dicom::compose::Reading;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::pixels::PixelError;
use crate::pixels::pool::{Pool, PoolError};
use crate::studies::{Item, StudiesError};

const MODALITY_WITHOUT_IMAGES: [&str; 14] = [
    "AU", "DOC", "ECG", "EPS", "HD", "KO", "M3D", "PLAN", "PR", "REG", "RTPLAN", "RTRECORD",
    "RTSTRUCT", "SR",
];
/// Instances of a series among which the one in the middle is looked for.
const MAX_INSTANCES: usize = 20_000;

/// Where pictures come from, in the order they are sent.
pub enum Source {
    /// Frames of an image, from 0, while its retrieval goes on.
    Frames {
        /// The image.
        image: Image,
        /// The frames that are left.
        numbers: VecDeque<u32>,
        /// Keeps the image.
        batches: Batches,
    },
    /// The frame that stands for each image of a study or series.
    Items {
        /// Those that are at hand.
        ready: VecDeque<Item>,
        /// The others.
        batches: Batches,
    },
}

impl Source {
    /// Frames of one image, numbered from 0.
    pub fn frames(image: Image, numbers: impl IntoIterator<Item = u32>, batches: Batches) -> Self {
        Self::Frames {
            image,
            numbers: numbers.into_iter().collect(),
            batches,
        }
    }

    /// The images of a study or series.
    pub fn items(batches: Batches) -> Self {
        Self::Items {
            ready: VecDeque::new(),
            batches,
        }
    }

    /// The next picture; `None` after the last. What found the pool full may be asked again.
    async fn next(&mut self, pool: &Pool, asked: Asked) -> Result<Option<Bytes>, PictureError> {
        match self {
            Self::Frames { image, numbers, .. } => {
                let Some(number) = numbers.front().copied() else {
                    return Ok(None);
                };
                let made = picture(pool, image, Some(number), asked).await?;
                numbers.pop_front();
                Ok(Some(made))
            }
            Self::Items { ready, batches } => loop {
                let Some(item) = ready.pop_front() else {
                    match batches.next().await? {
                        Some(items) => ready.extend(items),
                        None => return Ok(None),
                    }
                    continue;
                };
                match of_item(pool, &item, asked).await {
                    Err(PictureError::Pool(PoolError::Busy)) => {
                        ready.push_front(item);
                        return Err(PoolError::Busy.into());
                    }
                    Err(PictureError::Pool(PoolError::Pixels(error))) if is_no_picture(&error) => {}
                    made => return made.map(Some),
                }
            },
        }
    }

    /// The same, also when the pool is full for a while.
    async fn next_patiently(
        &mut self,
        pool: &Pool,
        asked: Asked,
    ) -> Result<Option<Bytes>, PictureError> {
        loop {
            match self.next(pool, asked).await {
                Err(PictureError::Pool(PoolError::Busy)) => {
                    tokio::time::sleep(frames::PATIENCE).await
                }
                next => return next,
            }
        }
    }
}

async fn of_item(pool: &Pool, item: &Item, asked: Asked) -> Result<Bytes, PictureError> {
    let image = frames::open_in(pool, item).await?;
    let image = image.ok_or(PictureError::PassesBy)?;
    Ok(picture(pool, &image, None, asked).await?)
}

/// True for what an object is, not for what is wrong with it.
fn is_no_picture(error: &PixelError) -> bool {
    matches!(
        error,
        PixelError::NoPixels
            | PixelError::Unsupported(_)
            | PixelError::UnsupportedForm { .. }
            | PixelError::NotRenderable(_)
    )
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
enum PictureError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Studies(#[from] StudiesError),
    #[error("no room on disk to look into an instance of this size")]
    PassesBy,
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Pool(error) => frames::failed(error),
            PictureError::Studies(error) => failed(error),
            PictureError::PassesBy => frames::passes_by(),
        }
    }
}

impl From<PictureError> for BodyError {
    fn from(error: PictureError) -> Self {
        match error {
            PictureError::Studies(error) => Self::Studies(error),
            error => Self::Unreadable(error.to_string()),
        }
    }
}

/// `multipart/related` of pictures. The first one decides on the status.
///
/// # Errors
/// A problem; 406 when nothing can be shown.
pub async fn answer(
    call: &Call<'_>,
    mut source: Source,
    asked: Asked,
) -> Result<Response, Problem> {
    let pool = call.service.pixels.clone();
    let first = source.next(&pool, asked).await?.ok_or_else(|| {
        Problem::not_acceptable(
            "nothing here can be shown as a picture",
            "ask for the instances themselves, as they are stored",
        )
    })?;
    let boundary = Boundary::random();
    let content_type = boundary.content_type(asked.media_type());
    let parts = async_stream::try_stream! {
        yield boundary.open_plain(asked.media_type(), true);
        yield first;
        while let Some(next) = source.next_patiently(&pool, asked).await.map_err(BodyError::from)? {
            yield boundary.open_plain(asked.media_type(), false);
            yield next;
        }
        yield boundary.close();
    };
    let parts: std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<Bytes, BodyError>> + Send>,
    > = Box::pin(parts);
    let mut answer = Response::new(Body::from_stream(parts));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    asked.left_out.tell(headers);
    no_store(headers);
    Ok(answer)
}

/// The instance that stands for a study or series: the one in the middle of the series, of the first
/// one with images. An instance stands for itself.
///
/// # Errors
/// The archive's; 404.
pub async fn representative(call: &Call<'_>, scope: Scope) -> Result<Scope, Problem> {
    match scope {
        Scope::Study(study) => {
            let listing = call.pacs.studies.listing(&study).await.map_err(failed)?;
            let has_images = |modality: &Option<String>| {
                let modality = modality.as_deref().unwrap_or_default();
                !MODALITY_WITHOUT_IMAGES.contains(&modality)
            };
            let mut series = listing.series.iter();
            let found = series.find(|series| has_images(&series.modality));
            let found = found.or(listing.series.first());
            let series = found.ok_or_else(|| failed(StudiesError::NotFound))?;
            in_the_middle(call, study, series.series.clone()).await
        }
        Scope::Series(study, series) => in_the_middle(call, study, series).await,
        instance => Ok(instance),
    }
}

async fn in_the_middle(
    call: &Call<'_>,
    study: StudyUid,
    series: SeriesUid,
) -> Result<Scope, Problem> {
    const INSTANCE: Tag = Tag(0x0008, 0x0018);
    const NUMBER: Tag = Tag(0x0020, 0x0013);
    let identifier = Identifier::default()
        .with(Tag(0x0020, 0x000D), VR::UI, study.as_str())
        .with(Tag(0x0020, 0x000E), VR::UI, series.as_str())
        .with(INSTANCE, VR::UI, "")
        .with(NUMBER, VR::IS, "");
    let request = FindRequest {
        level: Level::Image,
        identifier,
        max_matches: MAX_INSTANCES,
    };
    let texts = &call.pacs.texts;
    let reading = Reading {
        fallback: texts.fallback,
        replaces: texts.replaces.as_ref(),
    };
    let found = call.pacs.studies.search(request, reading, false).await;
    let found = found.map_err(failed)?;
    let mut instances: Vec<(Option<i64>, InstanceUid)> = found
        .items
        .iter()
        .filter_map(|item| {
            let number = item.text(NUMBER).and_then(|text| text.trim().parse().ok());
            Some((number, item.uid(INSTANCE)?.into()))
        })
        .collect();
    instances.sort();
    let middle = instances.len() / 2;
    match instances.into_iter().nth(middle) {
        Some((_, instance)) => Ok(Scope::Instance(study, series, instance)),
        None => Err(failed(StudiesError::NotFound)),
    }
}
