//! What a study holds, as the archive says, remembered for a while.

use std::sync::Arc;
use std::time::Duration;

use dicom_core::{Tag, VR};
use moka::future::Cache as Remembered;

use super::{Studies, StudiesError};
use crate::archive::{FindRequest, Identifier, Level};
use crate::dicom::uid::{SeriesUid, StudyUid};

/// Series of one study read at most.
const MAX_SERIES: usize = 10_000;
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

/// The listings known.
pub(super) struct Listings {
    fresh: Remembered<StudyUid, Arc<StudyListing>>,
    last: Remembered<StudyUid, Arc<StudyListing>>,
}

impl Listings {
    pub(super) fn new(fresh_for: Duration) -> Self {
        Self {
            fresh: Remembered::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(fresh_for)
                .build(),
            last: Remembered::builder().max_capacity(REMEMBERED).build(),
        }
    }

    /// What the archive said when it was last asked, however long ago.
    pub(super) fn last_known(&self, study: &StudyUid) -> Option<Arc<StudyListing>> {
        // The synchronous view of moka: a look at the map without waiting.
        futures_util::FutureExt::now_or_never(self.last.get(study)).flatten()
    }
}

impl Studies {
    /// The series of a study, asked of the archive unless it was asked a short while ago.
    ///
    /// # Errors
    /// [`StudiesError::NotFound`]; the archive's.
    pub async fn listing(&self, study: &StudyUid) -> Result<Arc<StudyListing>, StudiesError> {
        let asked = self.listings.fresh.try_get_with(study.clone(), async {
            let listing = Arc::new(self.ask(study).await?);
            self.listings
                .last
                .insert(study.clone(), Arc::clone(&listing))
                .await;
            Ok(listing)
        });
        asked
            .await
            .map_err(|error: Arc<StudiesError>| error.as_ref().clone())
    }

    async fn ask(&self, study: &StudyUid) -> Result<StudyListing, StudiesError> {
        let identifier = Identifier::default()
            .with(Tag(0x0008, 0x0060), VR::CS, "")
            .with(Tag(0x0020, 0x000D), VR::UI, study.as_str())
            .with(Tag(0x0020, 0x000E), VR::UI, "")
            .with(Tag(0x0020, 0x1209), VR::IS, "");
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
