//! Search (QIDO-RS, PS3.18 §10.6): from a parsed query to JSON, over C-FIND or its like.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, WARNING};
use serde_json::value::RawValue;

use super::answer::{no_store, value};
use super::gzip;
use super::multipart::{Boundary, DICOM_XML, PartHeader};
use super::negotiate::{ModelType, negotiate_model};
use super::problem::Problem;
use super::query::{IncludeFields, Level, Query, Scope};
use super::service::{Call, Pacs, Texts};
use super::status::failed;
use crate::archive::{self, FindRequest, Identifier, Match};
use crate::dicom::charset::Repertoire;
use crate::dicom::compose::{Composed, Reading};
use crate::dicom::json::{Attribute, JsonOptions, write_object};
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::syntax::Encoding;
use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::dicom::xml::{self, XmlError};
use crate::source::PublishedExam;
use crate::studies::search::Wanted;
use crate::studies::{Studies, StudiesError};

/// What `includefield=all` adds to the attributes of each level: what archives commonly index.
const ALL_OF_STUDY: &[Tag] = &[
    tags::STUDY_DESCRIPTION,
    tags::SOP_CLASSES_IN_STUDY,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_AGE,
    tags::PATIENT_SIZE,
    tags::PATIENT_WEIGHT,
    tags::PHYSICIANS_OF_RECORD,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::INSTITUTION_NAME,
    tags::PROCEDURE_CODE_SEQUENCE,
];
const ALL_OF_SERIES: &[Tag] = &[
    tags::SERIES_DATE,
    tags::SERIES_TIME,
    tags::BODY_PART_EXAMINED,
    tags::PROTOCOL_NAME,
    tags::LATERALITY,
    tags::MANUFACTURER,
    tags::MANUFACTURER_MODEL_NAME,
    tags::STATION_NAME,
    tags::OPERATORS_NAME,
    tags::PERFORMING_PHYSICIAN_NAME,
];
const ALL_OF_INSTANCE: &[Tag] = &[
    tags::CONTENT_DATE,
    tags::CONTENT_TIME,
    tags::ACQUISITION_NUMBER,
    tags::ACQUISITION_DATE,
    tags::ACQUISITION_TIME,
    tags::IMAGE_TYPE,
    tags::IMAGE_POSITION_PATIENT,
    tags::IMAGE_ORIENTATION_PATIENT,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::SAMPLES_PER_PIXEL,
];

/// Answered by the gateway itself, or meaningless outside C-FIND.
const NOT_ASKED: &[Tag] = &[
    tags::SPECIFIC_CHARACTER_SET,
    tags::RETRIEVE_URL,
    tags::TIMEZONE_OFFSET_FROM_UTC,
];

/// Texts of the standard: PS3.18 §8.3.4.4, §8.3.4.2, §8.3.4.5, §8.3.4.6.
const MORE_RESULTS: &str = "There are additional results that can be requested";
const TOO_MANY: &str = "The number of results exceeded the maximum supported by the server. Additional results can be requested.";
const NOT_FUZZY: &str =
    "The fuzzymatching parameter is not supported. Only literal matching has been performed.";
const NOT_EMPTY: &str = "The emptyvaluematching parameter is not supported. Empty Value Matching has not been performed.";
const NOT_MULTIPLE: &str = "The multiplevaluematching parameter is not supported. Multiple Value Matching has not been performed.";
const UNCHECKED: &str =
    "The archive did not return every attribute that was searched by: some results may not match";
const INCOMPLETE: &str =
    "Some counts or attributes could not be found out in time and were left empty";
const IGNORED: &str = "One or more query parameters were not recognized and were ignored";

/// A page of matches, ready to send.
#[derive(Debug)]
pub struct Page {
    /// A JSON array.
    pub body: Vec<u8>,
    /// Texts of `Warning` fields (RFC 9111 §5.5, code 299).
    pub warnings: Vec<&'static str>,
}

/// A page of matches, whatever it is written as.
#[derive(Debug)]
pub struct Found {
    /// The matches in their stable order.
    pub matches: Vec<Described>,
    /// Texts of `Warning` fields (RFC 9111 §5.5, code 299).
    pub warnings: Vec<&'static str>,
}

/// One match: what it holds, and what the gateway adds.
#[derive(Debug)]
pub struct Described {
    /// A data set in Explicit VR Little Endian; its texts are in Unicode.
    pub data_set: Vec<u8>,
    /// Attributes of the service itself: where the resource is, whether it is at hand, and those
    /// that a match must have though nothing is known of them.
    pub extra: BTreeMap<Tag, Attribute>,
}

/// What is searched for, and where.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The query.
    pub query: &'a Query,
    /// Matches at most.
    pub max_matches: usize,
    /// The exam that was granted: what its KOS does not name is not found.
    pub within: Option<&'a PublishedExam>,
}

impl Asked<'_> {
    fn shows(&self, found: &Match) -> bool {
        let Some(exam) = self.within else {
            return true;
        };
        let is_named = || {
            let series = SeriesUid::from(found.uid(tags::SERIES_INSTANCE_UID)?);
            if self.query.level == Level::Instance {
                let instance = InstanceUid::from(found.uid(tags::SOP_INSTANCE_UID)?);
                return Some(exam.has_instance(&series, &instance));
            }
            Some(exam.has_series(&series))
        };
        self.query.level == Level::Study || is_named().unwrap_or(false)
    }
}

/// Answers a search.
///
/// # Errors
/// A problem.
pub async fn answer(call: &Call<'_>, level: Level, scope: Scope) -> Result<Response, Problem> {
    let model = negotiate_model(&call.accept)?;
    let query = Query::parse(level, scope, call.uri.query().unwrap_or_default())?;
    let Pacs { studies, texts } = call.pacs;
    let asked = Asked {
        query: &query,
        max_matches: call.service.max_matches,
        within: call.exam.as_deref(),
    };
    let found = run(studies, texts, asked, &call.root)
        .await
        .map_err(failed)?;
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    no_store(headers);
    for warning in found.warnings {
        headers.append(WARNING, value(&format!("299 drimbox \"{warning}\"")));
    }
    *answer.body_mut() = match model {
        ModelType::DicomJson | ModelType::Json => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(model.as_str()));
            gzip::whole(call, headers, found.body)
        }
        ModelType::Xml => {
            let boundary = Boundary::random();
            headers.insert(CONTENT_TYPE, boundary.content_type(DICOM_XML));
            let parts = tokio::task::spawn_blocking(move || xml_parts(&found.body, &boundary));
            let parts = parts
                .await
                .map_err(|_| Problem::internal())?
                .map_err(|error| failed(StudiesError::Internal(error.to_string())))?;
            Body::from(parts)
        }
    };
    Ok(answer)
}

/// The matches of a JSON array as Native DICOM Model documents, a part a match. Blocks.
fn xml_parts(matches: &[u8], boundary: &Boundary) -> Result<Vec<u8>, XmlError> {
    let matches: Vec<&RawValue> =
        serde_json::from_slice(matches).map_err(|_| XmlError::NotDicomJson)?;
    let header = PartHeader {
        media_type: DICOM_XML,
        transfer_syntax: None,
        location: None,
    };
    let mut out = Vec::new();
    for (at, object) in matches.into_iter().enumerate() {
        out.extend_from_slice(&boundary.open(&header, at == 0));
        out.extend(xml::from_json(object.get().as_bytes())?);
    }
    out.extend_from_slice(&boundary.close());
    Ok(out)
}

/// Runs a search. `root` is where the service stands, for `RetrieveURL`.
///
/// # Errors
/// The archive's.
pub async fn run(
    studies: &Studies,
    texts: &Texts,
    asked: Asked<'_>,
    root: &str,
) -> Result<Page, StudiesError> {
    let found = find(studies, texts, asked, root).await?;
    Ok(Page {
        body: write_json(found.matches)?,
        warnings: found.warnings,
    })
}

/// The page of matches that a search asks for.
///
/// # Errors
/// The archive's.
pub async fn find(
    studies: &Studies,
    texts: &Texts,
    asked: Asked<'_>,
    root: &str,
) -> Result<Found, StudiesError> {
    let query = asked.query;
    let mut found = Found {
        matches: Vec::new(),
        warnings: warnings_of(query),
    };
    if query.nothing_matches {
        return Ok(found);
    }
    let reading = Reading {
        fallback: texts.fallback,
        replaces: texts.replaces.as_ref(),
    };
    let level = level_of(query.level);
    let identifier = identify(query);
    let request = FindRequest {
        level,
        identifier: identifier.clone(),
        max_matches: asked.max_matches,
    };
    let matches = studies.search(request, reading, query.offset == 0).await?;
    if query.fuzzy && !matches.fuzzy_names {
        found.warnings.push(NOT_FUZZY);
    }
    if matches.unchecked {
        found.warnings.push(UNCHECKED);
    }
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let limit = query.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let shown: Vec<&Match> = matches
        .items
        .iter()
        .filter(|found| asked.shows(found))
        .collect();
    let page: Vec<&Match> = shown.iter().copied().skip(offset).take(limit).collect();
    if shown.len() > offset.saturating_add(page.len()) {
        found.warnings.push(MORE_RESULTS);
    } else if matches.truncated {
        found.warnings.push(TOO_MANY);
    }
    let wanted = Wanted {
        level,
        identifier: &identifier,
        reading,
    };
    let completed = studies.complete(&page, wanted).await?;
    if completed.partial {
        found.warnings.push(INCOMPLETE);
    }
    let described = completed.matches.iter();
    found.matches = described
        .map(|composed| describe(composed, query, root))
        .collect();
    Ok(found)
}

fn warnings_of(query: &Query) -> Vec<&'static str> {
    let told = [
        (query.ignored, IGNORED),
        (query.empty_values, NOT_EMPTY),
        (query.multiple_values, NOT_MULTIPLE),
    ];
    let told = told.into_iter().filter(|(is_told, _)| *is_told);
    told.map(|(_, text)| text).collect()
}

fn write_json(matches: Vec<Described>) -> Result<Vec<u8>, StudiesError> {
    let mut body = Vec::with_capacity(matches.len() * 1500 + 2);
    body.push(b'[');
    for (at, Described { data_set, extra }) in matches.into_iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        let set = DataSet::parse(&data_set, Encoding::ExplicitLittle, Limits::default())
            .map_err(|error| StudiesError::Internal(format!("a match: {error}")))?;
        let options = JsonOptions {
            fallback: Repertoire::Utf8,
            charset_override: None,
            inline_max: usize::MAX,
            bulk_uri: None,
            extra,
        };
        write_object(&mut body, set.elements(), &options);
    }
    body.push(b']');
    Ok(body)
}

fn level_of(level: Level) -> archive::Level {
    match level {
        Level::Study => archive::Level::Study,
        Level::Series => archive::Level::Series,
        Level::Instance => archive::Level::Image,
    }
}

/// The identifier of the C-FIND: what the path and the keys name, what every match must hold, what
/// was asked for besides.
fn identify(query: &Query) -> Identifier {
    let mut identifier = Identifier::default();
    if query.fuzzy {
        identifier.match_names_fuzzily();
    }
    // The unique keys of the level and of those above are always there (PS3.4 §C.6.2.1).
    identifier.want(tags::STUDY_INSTANCE_UID, VR::UI);
    if query.level >= Level::Series {
        identifier.want(tags::SERIES_INSTANCE_UID, VR::UI);
    }
    if query.level == Level::Instance {
        identifier.want(tags::SOP_INSTANCE_UID, VR::UI);
    }
    for tag in query.return_attributes() {
        if !NOT_ASKED.contains(&tag) {
            identifier.want(tag, vr_of(tag));
        }
    }
    match &query.include {
        IncludeFields::Listed(paths) => {
            for path in paths {
                if path.first().is_some_and(|tag| !NOT_ASKED.contains(tag)) {
                    identifier.set_path(&with_vr(path), "");
                }
            }
        }
        IncludeFields::All => {
            let levels: &[(Level, &[Tag])] = &[
                (Level::Study, ALL_OF_STUDY),
                (Level::Series, ALL_OF_SERIES),
                (Level::Instance, ALL_OF_INSTANCE),
            ];
            for (level, attributes) in levels {
                if *level == query.level {
                    attributes
                        .iter()
                        .for_each(|tag| identifier.want(*tag, vr_of(*tag)));
                }
            }
        }
    }
    for key in &query.keys {
        let mut path = with_vr(&key.path);
        if let Some(last) = path.last_mut() {
            last.1 = key.vr;
        }
        identifier.set_path(&path, &key.value.to_identifier());
    }
    if let Some(study) = &query.scope.study {
        identifier.set(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
    }
    if let Some(series) = &query.scope.series {
        identifier.set(tags::SERIES_INSTANCE_UID, VR::UI, series.as_str());
    }
    identifier
}

fn with_vr(path: &[Tag]) -> Vec<(Tag, VR)> {
    path.iter().map(|tag| (*tag, vr_of(*tag))).collect()
}

fn vr_of(tag: Tag) -> VR {
    StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// One match: what is known of it, `RetrieveURL` of ours, and every required attribute, empty where
/// nothing is known.
fn describe(composed: &Composed, query: &Query, root: &str) -> Described {
    let mut extra = BTreeMap::from([
        (tags::QUERY_RETRIEVE_LEVEL, Attribute::Absent),
        (tags::RETRIEVE_AE_TITLE, Attribute::Absent),
    ]);
    for tag in query.return_attributes() {
        if !NOT_ASKED.contains(&tag) && !composed.contains(tag) {
            extra.insert(tag, Attribute::Strings(vr_of(tag), Vec::new()));
        }
    }
    if composed.is_empty(tags::INSTANCE_AVAILABILITY) {
        extra.insert(
            tags::INSTANCE_AVAILABILITY,
            Attribute::text(VR::CS, "ONLINE"),
        );
    }
    let uid = |tag| composed.uid(tag);
    let study = uid(tags::STUDY_INSTANCE_UID);
    let series = uid(tags::SERIES_INSTANCE_UID);
    let instance = uid(tags::SOP_INSTANCE_UID);
    let url = match (query.level, study, series, instance) {
        (Level::Study, Some(study), ..) => Some(format!("{root}/studies/{study}")),
        (Level::Series, Some(study), Some(series), _) => {
            Some(format!("{root}/studies/{study}/series/{series}"))
        }
        (Level::Instance, Some(study), Some(series), Some(instance)) => Some(format!(
            "{root}/studies/{study}/series/{series}/instances/{instance}"
        )),
        _ => None,
    };
    let url = url.map_or(Attribute::Absent, |url| Attribute::text(VR::UR, url));
    extra.insert(tags::RETRIEVE_URL, url);
    Described {
        data_set: composed.encode(),
        extra,
    }
}
