//! The instances of a scope, as the archive lists them: what a retrieval that came short is compared
//! with.

use dicom_core::{Tag, VR};

use super::{Archive, ArchiveError, FindRequest, Identifier, Level, Match, Scope};
use crate::dicom::uid::{InstanceUid, SeriesUid};

const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);

/// Instances of one series listed at most.
const MAX_LISTED: usize = 100_000;

/// An instance of a scope.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Series Instance UID.
    pub series: SeriesUid,
    /// SOP Instance UID.
    pub instance: InstanceUid,
    /// SOP Class UID, where the archive says it.
    pub sop_class: Option<String>,
}

/// Lists the instances of a scope, series by series, so that no relational query is needed.
///
/// # Errors
/// Those of the searches.
pub async fn list(archive: &dyn Archive, scope: &Scope) -> Result<Vec<Listed>, ArchiveError> {
    let series: Vec<SeriesUid> = match scope.series() {
        Some(series) => vec![series.clone()],
        None => {
            let identifier = identifier_of(scope).1.with(SERIES_INSTANCE_UID, VR::UI, "");
            let found = query(archive, Level::Series, identifier).await?;
            found
                .iter()
                .filter_map(|answer| answer.uid(SERIES_INSTANCE_UID))
                .map(Into::into)
                .collect()
        }
    };
    let mut listed = Vec::new();
    let instance = scope.instance().map_or("", InstanceUid::as_str);
    for series in series {
        let identifier = identifier_of(&Scope::Series(scope.study().clone(), series.clone()))
            .1
            .with(SOP_INSTANCE_UID, VR::UI, instance)
            .with(SOP_CLASS_UID, VR::UI, "");
        for answer in query(archive, Level::Image, identifier).await? {
            if let Some(instance) = answer.uid(SOP_INSTANCE_UID) {
                listed.push(Listed {
                    series: series.clone(),
                    instance: instance.into(),
                    sop_class: answer.uid(SOP_CLASS_UID).map(|uid| uid.to_string()),
                });
            }
        }
    }
    Ok(listed)
}

/// The level of a scope and the unique keys that name it.
#[must_use]
pub fn identifier_of(scope: &Scope) -> (Level, Identifier) {
    let mut identifier =
        Identifier::default().with(STUDY_INSTANCE_UID, VR::UI, scope.study().as_str());
    if let Some(series) = scope.series() {
        identifier.set(SERIES_INSTANCE_UID, VR::UI, series.as_str());
    }
    if let Some(instance) = scope.instance() {
        identifier.set(SOP_INSTANCE_UID, VR::UI, instance.as_str());
    }
    (scope.level(), identifier)
}

async fn query(
    archive: &dyn Archive,
    level: Level,
    identifier: Identifier,
) -> Result<Vec<Match>, ArchiveError> {
    let request = FindRequest {
        level,
        identifier,
        max_matches: MAX_LISTED,
    };
    Ok(archive.find(request).await?.items)
}
