//! Searches: asked of the archive, put in a stable order, remembered for the pages that follow.
//!
//! C-FIND has neither order nor pages. Answers are sorted by their UIDs, so that pages neither
//! overlap nor leave gaps, and kept a short while, so that the pages of one search are those of one
//! answer.

use std::sync::Arc;
use std::time::Duration;

use dicom_core::{Tag, VR};
use moka::future::Cache as Remembered;

use super::{Studies, StudiesError};
use crate::archive::{FindRequest, Identifier, Level, Match, Matches};

const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);
const INSTANCE_UID: Tag = Tag(0x0008, 0x0018);

/// Time the answers of a search are kept for its further pages.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Bytes of answers kept, all searches together.
const KEPT_BYTES: u64 = 16 * 1024 * 1024;
/// Parents looked into for a search that the archive does not do in one query.
const MAX_PARENTS: usize = 1000;

/// Recent answers.
pub(super) struct Searches {
    kept: Remembered<Asked, Arc<Matches>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Asked {
    level: Level,
    identifier: Identifier,
    max_matches: usize,
}

impl Searches {
    pub(super) fn new() -> Self {
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
        }
    }
}

impl Studies {
    /// The matches of a search in a stable order. With `first_page` the archive is asked anew;
    /// without, the answer that the first page came from is used while it is kept.
    ///
    /// # Errors
    /// The archive's.
    pub async fn search(
        &self,
        request: FindRequest,
        first_page: bool,
    ) -> Result<Arc<Matches>, StudiesError> {
        let asked = Asked {
            level: request.level,
            identifier: request.identifier.clone(),
            max_matches: request.max_matches,
        };
        if !first_page && let Some(kept) = self.searches.kept.get(&asked).await {
            return Ok(kept);
        }
        let mut matches = self.ask_for(request).await?;
        sort(&mut matches);
        let matches = Arc::new(matches);
        self.searches.kept.insert(asked, Arc::clone(&matches)).await;
        Ok(matches)
    }

    async fn ask_for(&self, request: FindRequest) -> Result<Matches, StudiesError> {
        let named = |tag| {
            request
                .identifier
                .value(tag)
                .is_some_and(|uid| !uid.contains(['\\', '*', '?']))
        };
        let parents_named = match request.level {
            Level::Patient | Level::Study => true,
            Level::Series => named(STUDY_UID),
            Level::Image => named(STUDY_UID) && named(SERIES_UID),
        };
        if parents_named || self.settings.relational_queries {
            return Ok(self.archive.find(request).await?);
        }
        self.level_by_level(request).await
    }

    /// A search below the study level for an archive that wants every parent named
    /// (PS3.4 §C.4.1.2.2.1, hierarchical search).
    async fn level_by_level(&self, request: FindRequest) -> Result<Matches, StudiesError> {
        let mut parents = vec![request.identifier.clone()];
        let mut truncated = false;
        let steps: &[(Level, Tag)] = match request.level {
            Level::Image => &[(Level::Study, STUDY_UID), (Level::Series, SERIES_UID)],
            _ => &[(Level::Study, STUDY_UID)],
        };
        for &(level, uid) in steps {
            let mut below = Vec::new();
            for parent in parents {
                let mut identifier = at_level(&parent, level);
                identifier.want(uid, VR::UI);
                let find = FindRequest {
                    level,
                    identifier,
                    max_matches: MAX_PARENTS,
                };
                let found = self.archive.find(find).await?;
                truncated |= found.truncated;
                for item in &found.items {
                    if let Some(found) = item.uid(uid) {
                        below.push(parent.clone().with(uid, VR::UI, found.as_str()));
                    }
                }
                if below.len() > MAX_PARENTS {
                    truncated = true;
                    below.truncate(MAX_PARENTS);
                    break;
                }
            }
            parents = below;
        }
        let mut all = Matches {
            items: Vec::new(),
            truncated,
        };
        for parent in parents {
            let left = request.max_matches.saturating_sub(all.items.len());
            if left == 0 {
                all.truncated = true;
                break;
            }
            let identifier = below_parents(&parent, request.level);
            let find = FindRequest {
                level: request.level,
                identifier,
                max_matches: left,
            };
            let found = self.archive.find(find).await?;
            all.truncated |= found.truncated;
            all.items.extend(found.items);
        }
        Ok(all)
    }
}

/// The keys of an identifier that a query at `level` may carry in a hierarchical search: its own
/// and the unique keys above.
fn at_level(identifier: &Identifier, level: Level) -> Identifier {
    let mut kept = Identifier::default();
    for (tag, key) in identifier.iter() {
        if level_of(tag) <= level {
            kept.put(tag, key.clone());
        }
    }
    kept
}

/// Without the keys of the levels above, the unique ones apart: the parents were matched already.
fn below_parents(identifier: &Identifier, level: Level) -> Identifier {
    let mut kept = Identifier::default();
    for (tag, key) in identifier.iter() {
        if level_of(tag) == level || [STUDY_UID, SERIES_UID].contains(&tag) {
            kept.put(tag, key.clone());
        }
    }
    kept
}

/// The level of an attribute in the study root model (PS3.4 tables C.6-2 to C.6-4, PS3.3 for the
/// rest); what is not known to be above the instances belongs to them.
fn level_of(tag: Tag) -> Level {
    match (tag.group(), tag.element()) {
        (0x0010, _)
        | (0x0020, 0x000D | 0x0010 | 0x1070 | 0x1200..=0x1208)
        | (
            0x0008,
            0x0020 | 0x0030 | 0x0050 | 0x0061 | 0x0062 | 0x0090 | 0x0096 | 0x1030 | 0x1032,
        )
        | (0x0008, 0x1048 | 0x1049 | 0x1060 | 0x1062 | 0x1080 | 0x1110)
        | (0x0032, _) => Level::Study,
        (0x0020, 0x000E | 0x0011 | 0x0060 | 0x1209)
        | (0x0008, 0x0021 | 0x0031 | 0x0060 | 0x0064 | 0x0070 | 0x0080 | 0x103E | 0x103F)
        | (0x0008, 0x1010 | 0x1040 | 0x1050 | 0x1052 | 0x1070 | 0x1090)
        | (0x0018, 0x0015 | 0x1030 | 0x5100)
        | (0x0040, 0x0244 | 0x0245 | 0x0253 | 0x0254 | 0x0260 | 0x0275) => Level::Series,
        _ => Level::Image,
    }
}

fn sort(matches: &mut Matches) {
    let key = |item: &Match| {
        let data_set = item.data_set().ok();
        let uid = |tag| {
            data_set
                .as_ref()
                .and_then(|data_set| data_set.elements().uid(tag))
                .map(|uid| uid.to_string())
                .unwrap_or_default()
        };
        (uid(STUDY_UID), uid(SERIES_UID), uid(INSTANCE_UID))
    };
    matches.items.sort_by_cached_key(key);
}
