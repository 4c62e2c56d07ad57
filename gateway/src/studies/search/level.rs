//! Which level of the study root model an attribute belongs to.

use dicom_core::Tag;

use super::{INSTANCE_UID, SERIES_UID, STUDY_UID};
use crate::archive::{Identifier, Level};

/// The unique keys of the model (PS3.4 §C.6.2.1).
pub(super) const UNIQUE: [Tag; 3] = [STUDY_UID, SERIES_UID, INSTANCE_UID];

/// The level of an attribute in the study root model (PS3.4 tables C.6-2 to C.6-4, PS3.3 for the
/// rest); what is not known to be above the instances belongs to them.
pub(super) fn level_of(tag: Tag) -> Level {
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

/// The keys that a query at `level` may carry in a hierarchical search (PS3.4 §C.4.1.2.2.1): its own
/// and the unique keys above.
pub(super) fn own_keys(identifier: &Identifier, level: Level) -> Identifier {
    let mut kept = Identifier::default();
    for (tag, key) in identifier.iter() {
        let unique_above = UNIQUE.contains(&tag) && level_of(tag) < level;
        if level_of(tag) == level || unique_above {
            kept.put(tag, key.clone());
        }
    }
    if identifier.wants_fuzzy_names() {
        kept.match_names_fuzzily();
    }
    kept
}

/// Whether something else than its unique key is matched at a level.
pub(super) fn is_matched_at(identifier: &Identifier, level: Level) -> bool {
    identifier
        .iter()
        .any(|(tag, key)| level_of(tag) == level && key.is_matching() && !UNIQUE.contains(&tag))
}
