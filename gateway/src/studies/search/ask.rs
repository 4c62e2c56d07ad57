//! From one search to the queries that an archive answers: one for each alternative, and level by
//! level where every parent must be named.

use std::sync::atomic::Ordering;

use dicom_core::{Tag, VR};
use futures_util::future::join_all;

use super::level::{UNIQUE, is_matched_at, own_keys};
use super::matching::{any_matches, is_match};
use super::{SERIES_UID, STUDY_UID};
use crate::archive::{ArchiveError, FindRequest, Identifier, Key, Level, Match, Matches};
use crate::dicom::compose::Reading;
use crate::dicom::reader::{Elements, Value};
use crate::dicom::uid::StudyUid;
use crate::studies::{Studies, StudiesError};

const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);

/// Parents looked into for a search that the archive does not do in one query.
const MAX_PARENTS: usize = 1000;
/// Queries under way for one search.
pub(super) const AT_ONCE: usize = 4;

/// PS3.4 table C.4-1: the data set does not match the SOP class; the answer to a relational query
/// where none was agreed on.
const DATA_SET_DOES_NOT_MATCH: u16 = 0xA900;

impl Studies {
    /// Every match of a search, in no order.
    pub(super) async fn ask_for(
        &self,
        request: &FindRequest,
        reading: Reading<'_>,
    ) -> Result<Matches, StudiesError> {
        let mut all = Matches::default();
        for identifier in alternatives(&request.identifier) {
            let find = FindRequest {
                identifier,
                ..request.clone()
            };
            let found = self.ask_one(find, reading).await?;
            add(&mut all, found);
        }
        Ok(all)
    }

    async fn ask_one(
        &self,
        request: FindRequest,
        reading: Reading<'_>,
    ) -> Result<Matches, StudiesError> {
        let identifier = &request.identifier;
        let is_own = match request.level {
            Level::Patient | Level::Study => true,
            Level::Series => {
                names_one(identifier, STUDY_UID) && !is_matched_at(identifier, Level::Study)
            }
            Level::Image => {
                names_one(identifier, STUDY_UID)
                    && names_one(identifier, SERIES_UID)
                    && !is_matched_at(identifier, Level::Study)
                    && !is_matched_at(identifier, Level::Series)
            }
        };
        // What is computed of a study is known at its level only, also where queries are relational.
        let computed = request.identifier.value(MODALITIES_IN_STUDY).is_some();
        let relational = self.settings.relational_queries
            && !computed
            && !self.searches.hierarchical.load(Ordering::Relaxed);
        if !is_own && !relational {
            return self.level_by_level(request, reading).await;
        }
        match self.ask_archive(request.clone(), reading).await {
            Err(StudiesError::Archive(ArchiveError::Failed { status, .. }))
                if !is_own && status == DATA_SET_DOES_NOT_MATCH =>
            {
                if !self.searches.hierarchical.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        pacs = %self.settings.pacs,
                        "the PACS refuses relational queries: searching level by level; set `relational_queries = false` in [pacs.quirks]"
                    );
                }
                self.level_by_level(request, reading).await
            }
            outcome => outcome,
        }
    }

    /// A search below the study level for an archive that wants every parent named
    /// (PS3.4 §C.4.1.2.2.1, hierarchical search).
    async fn level_by_level(
        &self,
        request: FindRequest,
        reading: Reading<'_>,
    ) -> Result<Matches, StudiesError> {
        let mut parents = vec![request.identifier.clone()];
        let mut all = Matches::default();
        let steps: &[(Level, Tag)] = match request.level {
            Level::Image => &[(Level::Study, STUDY_UID), (Level::Series, SERIES_UID)],
            _ => &[(Level::Study, STUDY_UID)],
        };
        for &(level, uid) in steps {
            if names_one(&request.identifier, uid) && !is_matched_at(&request.identifier, level) {
                continue;
            }
            let mut below: Vec<Identifier> = Vec::new();
            for some in parents.chunks(AT_ONCE) {
                let finds = some.iter().map(|parent| {
                    let mut identifier = own_keys(parent, level);
                    identifier.want(uid, VR::UI);
                    let find = FindRequest {
                        level,
                        identifier,
                        max_matches: MAX_PARENTS,
                    };
                    self.ask_archive(find, reading)
                });
                for (parent, found) in some.iter().zip(join_all(finds).await) {
                    let found = found?;
                    all.truncated |= found.truncated;
                    all.fuzzy_names |= found.fuzzy_names;
                    all.unchecked |= found.unchecked;
                    let uids = found.items.iter().filter_map(|item| item.uid(uid));
                    below
                        .extend(uids.map(|found| parent.clone().with(uid, VR::UI, found.as_str())));
                }
                if below.len() > MAX_PARENTS {
                    all.truncated = true;
                    break;
                }
            }
            // The same entities whenever there are too many.
            below.sort_by(|one, other| one.value(uid).cmp(&other.value(uid)));
            below.truncate(MAX_PARENTS);
            parents = below;
        }
        for some in parents.chunks(AT_ONCE) {
            if all.items.len() >= request.max_matches {
                all.truncated = true;
                break;
            }
            let finds = some.iter().map(|parent| {
                let find = FindRequest {
                    level: request.level,
                    identifier: own_keys(parent, request.level),
                    max_matches: request.max_matches,
                };
                self.ask_archive(find, reading)
            });
            for found in join_all(finds).await {
                add(&mut all, found?);
            }
        }
        Ok(all)
    }

    /// One query, and of its answers those that are matches.
    async fn ask_archive(
        &self,
        request: FindRequest,
        reading: Reading<'_>,
    ) -> Result<Matches, StudiesError> {
        let identifier = request.identifier.clone();
        let study_level = request.level == Level::Study;
        let mut found = self.archive.find(request).await?;
        let fuzzy = found.fuzzy_names;
        let mut unchecked = false;
        found.items.retain(|item| {
            let Ok(set) = item.data_set() else {
                // What cannot be read is told when it is to be shown.
                return true;
            };
            let is_wanted = is_match(&identifier, set.elements(), reading, fuzzy);
            unchecked |= is_wanted && lacks_a_key(&identifier, set.elements());
            is_wanted
        });
        found.unchecked |= unchecked;
        if study_level && let Some(modalities) = identifier.value(MODALITIES_IN_STUDY) {
            self.leave_out_other_modalities(&mut found, modalities)
                .await?;
        }
        Ok(found)
    }

    /// Looks into the studies whose modalities the archive did not tell: it may not know the key
    /// (PS3.4 table C.6-2 leaves it optional).
    async fn leave_out_other_modalities(
        &self,
        found: &mut Matches,
        wanted: &str,
    ) -> Result<(), StudiesError> {
        let told = |item: &Match| item.text(MODALITIES_IN_STUDY).is_some();
        let (mut kept, open): (Vec<Match>, Vec<Match>) =
            std::mem::take(&mut found.items).into_iter().partition(told);
        if open.len() > MAX_PARENTS {
            found.truncated = true;
        }
        let open: Vec<Match> = open.into_iter().take(MAX_PARENTS).collect();
        for some in open.chunks(AT_ONCE) {
            let listings = some.iter().map(async |item| {
                let Some(study) = item.uid(STUDY_UID).map(StudyUid::from) else {
                    return Ok(false);
                };
                match self.listing(&study).await {
                    Ok(listing) => {
                        let modalities = listing.series.iter();
                        let modalities: Vec<String> = modalities
                            .filter_map(|series| series.modality.clone())
                            .collect();
                        Ok(!modalities.is_empty() && any_matches(VR::CS, wanted, &modalities))
                    }
                    Err(StudiesError::NotFound | StudiesError::Gone) => Ok(false),
                    Err(error) => Err(error),
                }
            });
            for (item, is_wanted) in some.iter().zip(join_all(listings).await) {
                if is_wanted? {
                    kept.push(item.clone());
                }
            }
        }
        found.items = kept;
        Ok(())
    }
}

fn add(all: &mut Matches, found: Matches) {
    all.truncated |= found.truncated;
    all.fuzzy_names |= found.fuzzy_names;
    all.unchecked |= found.unchecked;
    all.items.extend(found.items);
}

/// Whether an answer has no value for a key, though an archive that compares a key returns it
/// (PS3.4 §C.2.2.1.3).
fn lacks_a_key(identifier: &Identifier, elements: Elements<'_>) -> bool {
    let compared = identifier.iter().filter(|(tag, key)| {
        key.is_matching() && *tag != MODALITIES_IN_STUDY && !UNIQUE.contains(tag)
    });
    compared.into_iter().any(|(tag, _)| {
        elements
            .find(tag)
            .is_none_or(|element| match element.value() {
                Value::Bytes(bytes) => bytes.iter().all(|byte| matches!(byte, b' ' | 0)),
                Value::Items(items) => items.iter().next().is_none(),
                Value::Fragments(_) | Value::Large(_) => false,
            })
    })
}

fn names_one(identifier: &Identifier, tag: Tag) -> bool {
    identifier
        .value(tag)
        .is_some_and(|uid| !uid.contains(['\\', '*', '?']))
}

/// One identifier for each combination of the codes that keys list: C-FIND has lists of UIDs only
/// (PS3.4 §C.2.2.2.2), and most archives take a list of codes for one code.
fn alternatives(identifier: &Identifier) -> Vec<Identifier> {
    let mut all = vec![identifier.clone()];
    for (tag, key) in identifier.iter() {
        let Key::Value(VR::CS, value) = key else {
            continue;
        };
        let codes: Vec<&str> = value.split('\\').collect();
        if codes.len() < 2 {
            continue;
        }
        all = all
            .iter()
            .flat_map(|one| {
                codes
                    .iter()
                    .map(|code| one.clone().with(tag, VR::CS, *code))
            })
            .collect();
    }
    all
}
