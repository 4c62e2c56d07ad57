//! What a study holds, as the archive says, remembered for a while.

use std::sync::Arc;
use std::time::Duration;

use dicom_core::{Tag, VR};
use moka::future::Cache as Remembered;

use super::{Studies, StudiesError};
use crate::archive::{FindRequest, Identifier, Level, Matches, Scope};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::store::{ListingStore, StoredListing, StoredSeries};

/// Series of one study read at most.
const MAX_SERIES: usize = 10_000;
/// Instances of one series counted at most.
const MAX_COUNTED: usize = 100_000;
/// Requests within this time come together.
const TOGETHER: Duration = Duration::from_secs(1);
/// Studies remembered.
const REMEMBERED: u64 = 10_000;

/// The series of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyListing {
    /// In the archive's order.
    pub series: Vec<SeriesSummary>,
}

/// One series of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSummary {
    /// Series Instance UID.
    pub series: SeriesUid,
    /// Modality (0008,0060).
    pub modality: Option<String>,
    /// Number of Series Related Instances (0020,1209), where the archive can be trusted with it.
    pub instances: Option<u64>,
}

impl SeriesSummary {
    /// Whether the series belongs to what a scope names.
    #[must_use]
    pub fn is_in(&self, scope: &Scope) -> bool {
        scope.series().is_none_or(|series| *series == self.series)
    }
}

/// The listings known.
pub(super) struct Listings {
    fresh: Remembered<StudyUid, Arc<StudyListing>>,
    /// Without counts, for requests that come together.
    uncounted: Remembered<StudyUid, Arc<StudyListing>>,
    last: Arc<dyn ListingStore>,
    pacs: String,
}

impl Listings {
    pub(super) fn new(pacs: &str, fresh_for: Duration, last: Arc<dyn ListingStore>) -> Self {
        Self {
            fresh: Remembered::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(fresh_for)
                .build(),
            uncounted: Remembered::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(TOGETHER)
                .build(),
            last,
            pacs: pacs.to_owned(),
        }
    }

    /// Whether the archive need not be asked about the study now.
    pub(super) fn is_fresh(&self, study: &StudyUid) -> bool {
        self.fresh.contains_key(study)
    }

    /// What `ask` says of the series of a study, for all who want to know at this moment.
    pub(super) async fn alone(
        &self,
        study: &StudyUid,
        ask: impl Future<Output = Result<StudyListing, StudiesError>>,
    ) -> Result<Arc<StudyListing>, StudiesError> {
        let asked = async { ask.await.map(Arc::new) };
        let listing = self.uncounted.try_get_with(study.clone(), asked).await;
        listing.map_err(|error: Arc<StudiesError>| error.as_ref().clone())
    }

    /// What the archive said when it was last asked, however long ago.
    pub(super) async fn last_known(&self, study: &StudyUid) -> Option<StudyListing> {
        let (last, pacs, uid) = (Arc::clone(&self.last), self.pacs.clone(), study.to_string());
        let found = tokio::task::spawn_blocking(move || last.get(&pacs, &uid)).await;
        match found {
            Ok(Ok(found)) => found.and_then(|stored| StudyListing::of(&stored)),
            Ok(Err(error)) => {
                tracing::warn!("{error}");
                None
            }
            Err(_) => None,
        }
    }

    /// Keeps what the archive said, beside the request that asked.
    fn keep(&self, study: &StudyUid, listing: &Arc<StudyListing>) {
        let (last, pacs, uid) = (Arc::clone(&self.last), self.pacs.clone(), study.to_string());
        let listing = Arc::clone(listing);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = last.put(&pacs, &uid, &listing.to_stored()) {
                tracing::warn!("{error}");
            }
        });
    }
}

impl StudyListing {
    /// Instances of a series, where the archive said it.
    pub(super) fn instances_of(&self, series: &SeriesUid) -> Option<u64> {
        let summary = self.series.iter().find(|known| known.series == *series)?;
        summary.instances
    }

    fn to_stored(&self) -> StoredListing {
        let series = self.series.iter().map(|summary| StoredSeries {
            uid: summary.series.to_string(),
            modality: summary.modality.clone(),
            instances: summary.instances,
        });
        StoredListing {
            series: series.collect(),
        }
    }

    fn of(stored: &StoredListing) -> Option<Self> {
        let series: Option<Vec<SeriesSummary>> = stored
            .series
            .iter()
            .map(|stored| {
                Some(SeriesSummary {
                    series: SeriesUid::parse(&stored.uid).ok()?,
                    modality: stored.modality.clone(),
                    instances: stored.instances,
                })
            })
            .collect();
        series.map(|series| Self { series })
    }
}

/// What a study or series holds, counted by the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Series of the study.
    pub series: u64,
    /// Instances of the study, or of the series.
    pub instances: u64,
    /// Modalities of the study's series, each once.
    pub modalities: Vec<String>,
}

impl Studies {
    /// Whether the archive's own counts are to be believed.
    #[must_use]
    pub fn counts_are_trusted(&self) -> bool {
        self.settings.related_counts
    }

    /// Counts a study, or one series of it, for an archive that does not.
    ///
    /// # Errors
    /// As [`Self::listing`].
    pub async fn count(
        &self,
        study: &StudyUid,
        series: Option<&SeriesUid>,
    ) -> Result<Counts, StudiesError> {
        let listing = self.listing(study).await?;
        let mut counts = Counts::default();
        for summary in &listing.series {
            if series.is_some_and(|series| *series != summary.series) {
                continue;
            }
            counts.series += 1;
            if let Some(modality) = &summary.modality
                && !counts.modalities.contains(modality)
            {
                counts.modalities.push(modality.clone());
            }
            counts.instances += match summary.instances {
                Some(instances) => instances,
                None => self
                    .list_instances(study, &summary.series)
                    .await?
                    .items
                    .len() as u64,
            };
        }
        Ok(counts)
    }

    async fn list_instances(
        &self,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<Matches, StudiesError> {
        let identifier = Identifier::default()
            .with(Tag(0x0020, 0x000D), VR::UI, study.as_str())
            .with(Tag(0x0020, 0x000E), VR::UI, series.as_str())
            .with(Tag(0x0008, 0x0018), VR::UI, "");
        let request = FindRequest {
            level: Level::Image,
            identifier,
            max_matches: MAX_COUNTED,
        };
        Ok(self.archive.find(request).await?)
    }

    /// Counts the cached series of a listing that the archive did not count: one that changed since
    /// must not be served as whole. What the archive cannot list to the end stays uncounted.
    async fn count_cached(
        &self,
        study: &StudyUid,
        listing: &mut StudyListing,
    ) -> Result<(), StudiesError> {
        for summary in &mut listing.series {
            let is_cached = || self.cache.contains(&self.key(study, &summary.series));
            if summary.instances.is_none() && is_cached() {
                let found = self.list_instances(study, &summary.series).await?;
                summary.instances = (!found.truncated).then_some(found.items.len() as u64);
            }
        }
        Ok(())
    }

    /// The series of a study, asked of the archive unless it was asked a short while ago.
    ///
    /// # Errors
    /// [`StudiesError::NotFound`]; [`StudiesError::Gone`] when it had the study before; the archive's.
    pub async fn listing(&self, study: &StudyUid) -> Result<Arc<StudyListing>, StudiesError> {
        let asked = self.listings.fresh.try_get_with(study.clone(), async {
            let listing = match self.ask(study, true).await {
                Ok(mut listing) => {
                    self.count_cached(study, &mut listing).await?;
                    Arc::new(listing)
                }
                // What it held stays known, so that this answer stays the same.
                Err(StudiesError::NotFound) if self.listings.last_known(study).await.is_some() => {
                    return Err(StudiesError::Gone);
                }
                Err(error) => return Err(error),
            };
            self.listings.keep(study, &listing);
            Ok(listing)
        });
        asked
            .await
            .map_err(|error: Arc<StudiesError>| error.as_ref().clone())
    }

    pub(super) async fn ask(
        &self,
        study: &StudyUid,
        counted: bool,
    ) -> Result<StudyListing, StudiesError> {
        let mut identifier = Identifier::default()
            .with(Tag(0x0008, 0x0060), VR::CS, "")
            .with(Tag(0x0020, 0x000D), VR::UI, study.as_str())
            .with(Tag(0x0020, 0x000E), VR::UI, "");
        if counted {
            identifier = identifier.with(Tag(0x0020, 0x1209), VR::IS, "");
        }
        let request = FindRequest {
            level: Level::Series,
            identifier,
            max_matches: MAX_SERIES,
        };
        let matches = self.archive.find(request).await?;
        let mut series: Vec<SeriesSummary> = Vec::with_capacity(matches.items.len());
        for item in &matches.items {
            let Some(uid) = item.uid(Tag(0x0020, 0x000E)) else {
                continue;
            };
            // Some archives match UIDs loosely.
            if item
                .uid(Tag(0x0020, 0x000D))
                .is_some_and(|uid| uid.as_str() != study.as_str())
            {
                continue;
            }
            let uid = SeriesUid::from(uid);
            if series.iter().any(|known| known.series == uid) {
                continue;
            }
            let count = item
                .text(Tag(0x0020, 0x1209))
                .and_then(|text| text.parse().ok());
            series.push(SeriesSummary {
                series: uid,
                modality: item
                    .text(Tag(0x0008, 0x0060))
                    .filter(|text| !text.is_empty()),
                instances: count.filter(|_| self.settings.related_counts),
            });
        }
        if series.is_empty() {
            Err(StudiesError::NotFound)
        } else {
            Ok(StudyListing { series })
        }
    }
}
