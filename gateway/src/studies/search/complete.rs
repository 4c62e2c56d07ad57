//! A page of matches made whole: counts that the archive does not have, attributes of the levels
//! above, what the cache knows better.
//!
//! Everything here is bounded in time, the whole page together: what could not be found out in that
//! time is left out, and told.

use std::sync::Arc;
use std::time::Duration;

use dicom_core::{Tag, VR};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::ask::AT_ONCE;
use super::known::{TIMEZONE_OFFSET, complete_from};
use super::level::level_of;
use super::{INSTANCE_UID, SERIES_UID, STUDY_UID};
use crate::archive::{ArchiveError, FindRequest, Identifier, Key, Level, Match};
use crate::dicom::compose::{Composed, Reading};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::studies::{Counts, Studies, StudiesError};

const MODALITIES_IN_STUDY: Tag = Tag(0x0008, 0x0061);
const STUDY_SERIES: Tag = Tag(0x0020, 0x1206);
const STUDY_INSTANCES: Tag = Tag(0x0020, 0x1208);
const SERIES_INSTANCES: Tag = Tag(0x0020, 0x1209);

/// Time to complete a page.
const COMPLETED_WITHIN: Duration = Duration::from_secs(30);

/// What the matches of a page shall hold.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Level of the matches.
    pub level: Level,
    /// The identifier of the search: each of its tags is wanted.
    pub identifier: &'a Identifier,
    /// How the texts of the archive are to be read.
    pub reading: Reading<'a>,
}

/// A page made whole.
#[derive(Debug)]
pub struct Completed {
    /// The matches, in the order given.
    pub matches: Vec<Composed>,
    /// Whether something was left out that might be found out with more time.
    pub partial: bool,
}

/// Which entity an answer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub study: StudyUid,
    pub series: Option<SeriesUid>,
    pub instance: Option<InstanceUid>,
}

impl Studies {
    /// Completes the matches of a page.
    ///
    /// # Errors
    /// The archive's, when it does not answer any more; an answer that is no data set.
    pub async fn complete(
        &self,
        page: &[&Match],
        wanted: Wanted<'_>,
    ) -> Result<Completed, StudiesError> {
        let mut matches = Vec::with_capacity(page.len());
        let mut identities = Vec::with_capacity(page.len());
        for item in page {
            let (composed, identity) = read(item, wanted)?;
            matches.push(composed);
            identities.push(identity);
        }
        let deadline = Instant::now() + COMPLETED_WITHIN;
        let mut partial = false;
        let pairs = matches.iter_mut().zip(&identities);
        let mut pairs: Vec<(&mut Composed, &Identity)> = pairs
            .filter_map(|(composed, identity)| Some((composed, identity.as_ref()?)))
            .collect();
        for some in pairs.chunks_mut(AT_ONCE) {
            let asked = some.iter_mut().map(|(composed, identity)| {
                timeout_at(deadline, self.complete_one(composed, identity, wanted))
            });
            for outcome in join_all(asked).await {
                match outcome {
                    Ok(outcome) => partial |= !outcome?,
                    Err(_) => partial = true,
                }
            }
        }
        let known = self.known(wanted.level, &identities, wanted.reading).await;
        for (composed, known) in matches.iter_mut().zip(known) {
            if let Some(known) = known {
                let asked = |tag| wanted.identifier.get(tag).is_some() && !is_computed(tag);
                let wants = |tag| asked(tag) || tag == TIMEZONE_OFFSET;
                complete_from(composed, &known, wanted.level, wants);
            }
        }
        Ok(Completed { matches, partial })
    }

    /// What only the archive can tell; false when it refuses to.
    async fn complete_one(
        &self,
        composed: &mut Composed,
        identity: &Identity,
        wanted: Wanted<'_>,
    ) -> Result<bool, StudiesError> {
        let refused = |error: StudiesError| match error {
            // Gone since the archive answered.
            StudiesError::NotFound | StudiesError::Gone => Ok(true),
            StudiesError::Archive(ArchiveError::Failed { .. }) => Ok(false),
            error => Err(error),
        };
        let mut whole = true;
        for level in [Level::Study, Level::Series] {
            if level < wanted.level && is_without(composed, wanted.identifier, level) {
                let found = self.of_level(level, identity, wanted).await;
                whole &= match found {
                    Ok(Some(above)) => {
                        if let Ok(set) = above.data_set() {
                            let reading = wanted.reading;
                            composed.add_missing(set.elements(), reading, |tag| {
                                level_of(tag) == level && wanted.identifier.get(tag).is_some()
                            });
                        }
                        true
                    }
                    Ok(None) => true,
                    Err(error) => refused(error)?,
                };
            }
            if level <= wanted.level {
                whole &= match self.count_into(composed, level, identity, wanted).await {
                    Ok(()) => true,
                    Err(error) => refused(error)?,
                };
            }
        }
        Ok(whole)
    }

    /// The answer of the archive for the study or series that an entity belongs to.
    async fn of_level(
        &self,
        level: Level,
        identity: &Identity,
        wanted: Wanted<'_>,
    ) -> Result<Option<Match>, StudiesError> {
        let mut identifier = Identifier::default();
        for (tag, key) in wanted.identifier.iter() {
            if level_of(tag) == level {
                match key {
                    Key::Value(vr, _) => identifier.want(tag, *vr),
                    Key::Sequence(_) => identifier.want(tag, VR::SQ),
                }
            }
        }
        identifier.set(STUDY_UID, VR::UI, identity.study.as_str());
        if level == Level::Series {
            let Some(series) = &identity.series else {
                return Ok(None);
            };
            identifier.set(SERIES_UID, VR::UI, series.as_str());
        }
        let asked = self
            .searches
            .above
            .try_get_with((level, identifier.clone()), async {
                let request = FindRequest {
                    level,
                    identifier,
                    max_matches: 1,
                };
                let found = self.archive.find(request).await?;
                Ok::<_, StudiesError>(found.items.into_iter().next())
            });
        asked
            .await
            .map_err(|error: Arc<StudiesError>| error.as_ref().clone())
    }

    /// Counts what the archive does not count, or is not believed about.
    async fn count_into(
        &self,
        composed: &mut Composed,
        level: Level,
        identity: &Identity,
        wanted: Wanted<'_>,
    ) -> Result<(), StudiesError> {
        let counted: &[Tag] = match level {
            Level::Study => &[STUDY_SERIES, STUDY_INSTANCES, MODALITIES_IN_STUDY],
            _ => &[SERIES_INSTANCES],
        };
        let asked = |tag: &&Tag| wanted.identifier.get(**tag).is_some();
        let mut asked = counted.iter().filter(asked).peekable();
        if asked.peek().is_none()
            || (self.counts_are_trusted() && asked.all(|tag| !composed.is_empty(*tag)))
        {
            return Ok(());
        }
        let series = match level {
            Level::Study => None,
            _ => match &identity.series {
                Some(series) => Some(series.clone()),
                None => return Ok(()),
            },
        };
        let key = (identity.study.clone(), series.clone());
        let counting = async {
            let counts = self.count(&identity.study, series.as_ref()).await?;
            Ok::<_, StudiesError>(Arc::new(counts))
        };
        let counts = self.searches.counts.try_get_with(key, counting).await;
        let counts = counts.map_err(|error: Arc<StudiesError>| error.as_ref().clone())?;
        put_counts(composed, level, &counts);
        Ok(())
    }
}

fn put_counts(composed: &mut Composed, level: Level, counts: &Counts) {
    let mut number = |tag, count: u64| composed.set(tag, VR::IS, count.to_string());
    if level == Level::Series {
        number(SERIES_INSTANCES, counts.instances);
        return;
    }
    number(STUDY_SERIES, counts.series);
    number(STUDY_INSTANCES, counts.instances);
    if !counts.modalities.is_empty() {
        composed.set(MODALITIES_IN_STUDY, VR::CS, counts.modalities.join("\\"));
    }
}

/// Whether an answer holds nothing of a level above it, though something is wanted: the archive
/// tells attributes of its own level only. One that tells some has told what there is.
fn is_without(composed: &Composed, identifier: &Identifier, level: Level) -> bool {
    let of_level = identifier.iter().map(|(tag, _)| tag).filter(|tag| {
        level_of(*tag) == level
            && ![STUDY_UID, SERIES_UID, INSTANCE_UID].contains(tag)
            && !is_computed(*tag)
    });
    let mut of_level = of_level.peekable();
    of_level.peek().is_some() && of_level.all(|tag| composed.is_empty(tag))
}

fn is_computed(tag: Tag) -> bool {
    [
        STUDY_SERIES,
        STUDY_INSTANCES,
        SERIES_INSTANCES,
        MODALITIES_IN_STUDY,
    ]
    .contains(&tag)
}

/// An answer in Unicode, with the UIDs that its search named; and which entity it is.
fn read(item: &Match, wanted: Wanted<'_>) -> Result<(Composed, Option<Identity>), StudiesError> {
    let set = item
        .data_set()
        .map_err(|error| StudiesError::Internal(format!("an answer of the PACS: {error}")))?;
    let elements = set.elements();
    let mut composed = Composed::of(elements, wanted.reading);
    let mut uid = |tag| {
        let found = elements.uid(tag);
        let named = || {
            let named = wanted.identifier.value(tag)?;
            crate::dicom::uid::Uid::parse(named).ok()
        };
        let uid = found.or_else(named)?;
        if composed.is_empty(tag) {
            composed.set(tag, VR::UI, uid.as_str().to_owned());
        }
        Some(uid)
    };
    let study = uid(STUDY_UID).map(StudyUid::from);
    let below = |level| wanted.level >= level;
    let series = below(Level::Series).then(|| uid(SERIES_UID)).flatten();
    let instance = below(Level::Image).then(|| uid(INSTANCE_UID)).flatten();
    let identity = study.map(|study| Identity {
        study,
        series: series.map(SeriesUid::from),
        instance: instance.map(InstanceUid::from),
    });
    Ok((composed, identity))
}
