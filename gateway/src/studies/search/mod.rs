//! Searches: asked of the archive, put in a stable order, remembered for the pages that follow.
//!
//! C-FIND has neither order nor pages. Answers that are no match are left out, the others sorted by
//! their UIDs, so that pages neither overlap nor leave gaps, and kept a short while, so that the
//! pages of one search are those of one answer.

mod ask;
mod complete;
mod known;
mod level;
mod matching;

pub use complete::{Completed, Wanted};

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dicom_core::Tag;
use moka::future::Cache as Remembered;

use super::{Counts, Studies, StudiesError};
use crate::archive::{FindRequest, Identifier, Level, Match, Matches};
use crate::dicom::compose::Reading;
use crate::dicom::uid::{SeriesUid, StudyUid};
use complete::Identity;

const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);
const INSTANCE_UID: Tag = Tag(0x0008, 0x0018);

/// Time the answers of a search are kept for its further pages.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Bytes of answers kept, all searches together.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;
/// Counts kept, each of a study or a series.
const COUNTS_KEPT: u64 = 50_000;
/// Answers about the studies and series above matches kept.
const ABOVE_KEPT: u64 = 1_000;

/// Recent answers, and what was found out to complete them.
pub(super) struct Searches {
    kept: Remembered<Asked, Arc<Matches>>,
    counts: Remembered<(StudyUid, Option<SeriesUid>), Arc<Counts>>,
    above: Remembered<(Level, Identifier), Option<Match>>,
    /// The archive refused a query that does not name every parent.
    hierarchical: AtomicBool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    level: Level,
    identifier: Identifier,
    max_matches: usize,
}

impl Searches {
    /// `counts_for` is how long a count is believed.
    pub(super) fn new(counts_for: Duration) -> Self {
        let weight = |_: &Asked, matches: &Arc<Matches>| {
            let bytes: usize = matches.items.iter().map(|item| item.data.len() + 128).sum();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            kept: Remembered::builder()
                .weigher(weight)
                .max_capacity(KEPT_BYTES)
                .time_to_live(KEPT_FOR)
                .build(),
            counts: Remembered::builder()
                .max_capacity(COUNTS_KEPT)
                .time_to_live(counts_for)
                .build(),
            above: Remembered::builder()
                .max_capacity(ABOVE_KEPT)
                .time_to_live(KEPT_FOR)
                .build(),
            hierarchical: AtomicBool::new(false),
        }
    }
}

impl Studies {
    /// The matches of a search in a stable order, each once. With `first_page` the archive is asked
    /// anew; without, the answer that the first page came from is used while it is kept.
    ///
    /// # Errors
    /// The archive's.
    pub async fn search(
        &self,
        request: FindRequest,
        reading: Reading<'_>,
        first_page: bool,
    ) -> Result<Arc<Matches>, StudiesError> {
        let asked = Asked {
            level: request.level,
            identifier: request.identifier.clone(),
            max_matches: request.max_matches,
        };
        let ask = async {
            let mut matches = self.ask_for(&request, reading).await?;
            put_in_order(&mut matches, request.max_matches);
            Ok::<_, StudiesError>(Arc::new(matches))
        };
        if first_page {
            let matches = ask.await?;
            self.searches.kept.insert(asked, Arc::clone(&matches)).await;
            return Ok(matches);
        }
        // Pages that are asked for together share one answer.
        let kept = self.searches.kept.try_get_with(asked, ask).await;
        kept.map_err(|error: Arc<StudiesError>| error.as_ref().clone())
    }
}

/// By UID, each entity once.
fn put_in_order(matches: &mut Matches, most: usize) {
    let mut keyed: Vec<([String; 3], Match)> = std::mem::take(&mut matches.items)
        .into_iter()
        .map(|item| (uids(&item), item))
        .collect();
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    keyed.dedup_by(|(one, _), (other, _)| one == other && one.iter().any(|uid| !uid.is_empty()));
    matches.truncated |= keyed.len() > most;
    keyed.truncate(most);
    matches.items = keyed.into_iter().map(|(_, item)| item).collect();
}

fn uids(item: &Match) -> [String; 3] {
    let data_set = item.data_set().ok();
    [STUDY_UID, SERIES_UID, INSTANCE_UID].map(|tag| {
        data_set
            .as_ref()
            .and_then(|data_set| data_set.elements().uid(tag))
            .map(|uid| uid.to_string())
            .unwrap_or_default()
    })
}
