//! Searches of an exam, answered from its KOS.

use dicom_core::{Tag, VR};

use crate::archive::{FindRequest, Identifier, Level, Match, Matches};
use crate::dicom::kos::{Kos, KosInstance, KosSeries};
use crate::dicom::syntax::EXPLICIT_LITTLE;
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicom::write::put_element;

const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const MODALITY: Tag = Tag(0x0008, 0x0060);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);
const SERIES_NUMBER: Tag = Tag(0x0020, 0x0011);
const INSTANCE_NUMBER: Tag = Tag(0x0020, 0x0013);
const RELATED_SERIES: Tag = Tag(0x0020, 0x1206);
const STUDY_RELATED_INSTANCES: Tag = Tag(0x0020, 0x1208);
const SERIES_RELATED_INSTANCES: Tag = Tag(0x0020, 0x1209);

/// The answers: matching by the unique keys only, as who lists an exam needs.
pub(super) fn find(kos: &Kos, request: &FindRequest) -> Matches {
    let mut matches = Matches::default();
    if !names(&request.identifier, STUDY_INSTANCE_UID, kos.study.as_str()) {
        return matches;
    }
    if matches!(request.level, Level::Patient | Level::Study) {
        matches.items.push(study(kos));
        return matches;
    }
    for series in &kos.series {
        if !names(
            &request.identifier,
            SERIES_INSTANCE_UID,
            series.series.as_str(),
        ) {
            continue;
        }
        let found: Vec<Match> = match request.level {
            Level::Image => {
                let wanted = |one: &&KosInstance| {
                    names(&request.identifier, SOP_INSTANCE_UID, one.instance.as_str())
                };
                let all = series.instances.iter().filter(wanted);
                all.map(|one| instance(kos, series, one)).collect()
            }
            _ => vec![self::series(kos, series)],
        };
        matches.items.extend(found);
    }
    matches.truncated = matches.items.len() > request.max_matches;
    matches.items.truncate(request.max_matches);
    matches
}

/// Whether a UID is among those that the identifier names, or it names none.
fn names(identifier: &Identifier, tag: Tag, uid: &str) -> bool {
    let value = identifier.value(tag);
    value.is_none_or(|value| value.split('\\').any(|one| one == uid || one == "*"))
}

fn study(kos: &Kos) -> Match {
    let mut data = Vec::new();
    uid(&mut data, STUDY_INSTANCE_UID, kos.study.as_str());
    number(&mut data, RELATED_SERIES, Some(kos.series.len()));
    number(
        &mut data,
        STUDY_RELATED_INSTANCES,
        Some(kos.instance_count()),
    );
    answer(data)
}

fn series(kos: &Kos, series: &KosSeries) -> Match {
    let mut data = Vec::new();
    if let Some(modality) = &series.modality {
        put_element(&mut data, MODALITY, VR::CS, modality.as_bytes());
    }
    uid(&mut data, STUDY_INSTANCE_UID, kos.study.as_str());
    uid(&mut data, SERIES_INSTANCE_UID, series.series.as_str());
    number(&mut data, SERIES_NUMBER, series.number);
    number(
        &mut data,
        SERIES_RELATED_INSTANCES,
        Some(series.instances.len()),
    );
    answer(data)
}

fn instance(kos: &Kos, series: &KosSeries, instance: &KosInstance) -> Match {
    let mut data = Vec::new();
    if let Some(class) = &instance.sop_class {
        uid(&mut data, SOP_CLASS_UID, class.as_str());
    }
    uid(&mut data, SOP_INSTANCE_UID, instance.instance.as_str());
    uid(&mut data, STUDY_INSTANCE_UID, kos.study.as_str());
    uid(&mut data, SERIES_INSTANCE_UID, series.series.as_str());
    number(&mut data, INSTANCE_NUMBER, instance.number);
    answer(data)
}

fn uid(data: &mut Vec<u8>, tag: Tag, uid: &str) {
    put_element(data, tag, VR::UI, uid.as_bytes());
}

fn number(data: &mut Vec<u8>, tag: Tag, number: Option<impl ToString>) {
    if let Some(number) = number {
        put_element(data, tag, VR::IS, number.to_string().as_bytes());
    }
}

fn answer(data: Vec<u8>) -> Match {
    Match {
        data: data.into(),
        transfer_syntax: TransferSyntaxUid::known(EXPLICIT_LITTLE),
    }
}
