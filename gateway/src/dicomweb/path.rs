//! Paths of the studies service (PS3.18 §10.1), parsed into types.
//!
//! What is not exactly one of them is not found: nothing of a path is passed on as text.

use super::query::Level;
use crate::archive::Scope;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid, Uid};

/// A resource of the studies service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/studies`, `/series`, `/instances` and those below a study or series: search.
    Search {
        /// What is searched.
        level: Level,
        /// Study in the path.
        study: Option<StudyUid>,
        /// Series in the path.
        series: Option<SeriesUid>,
    },
    /// A study, series or instance.
    Retrieve(Scope),
    /// `…/metadata`.
    Metadata(Scope),
    /// A resource of the standard that this service does not have.
    NotOffered(&'static str),
}

/// Why a path names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// Not a path of the studies service.
    Unknown,
    /// A UID in it is not one (PS3.5 §9.1).
    BadUid,
}

/// Parses the path after the root of the service: `/studies/…`.
///
/// A series or instance below another study than its own is found by nobody, so `/series` at the
/// root is a search only.
///
/// # Errors
/// [`PathError`].
pub fn parse(path: &str) -> Result<Target, PathError> {
    let path = path.strip_prefix('/').ok_or(PathError::Unknown)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').take(12).collect();
    let all = |level| {
        Ok(Target::Search {
            level,
            study: None,
            series: None,
        })
    };
    match parts.as_slice() {
        ["studies"] => all(Level::Study),
        ["series"] => all(Level::Series),
        ["instances"] => all(Level::Instance),
        ["studies", study, rest @ ..] => below_study(uid(study)?.into(), rest),
        _ => Err(PathError::Unknown),
    }
}

fn below_study(study: StudyUid, rest: &[&str]) -> Result<Target, PathError> {
    match rest {
        [] => Ok(Target::Retrieve(Scope::Study(study))),
        ["series"] => Ok(Target::Search {
            level: Level::Series,
            study: Some(study),
            series: None,
        }),
        ["instances"] => Ok(Target::Search {
            level: Level::Instance,
            study: Some(study),
            series: None,
        }),
        ["series", series, rest @ ..] => {
            let series: SeriesUid = uid(series)?.into();
            match rest {
                [] => Ok(Target::Retrieve(Scope::Series(study, series))),
                ["instances"] => Ok(Target::Search {
                    level: Level::Instance,
                    study: Some(study),
                    series: Some(series),
                }),
                ["instances", instance, rest @ ..] => {
                    let instance: InstanceUid = uid(instance)?.into();
                    below(Scope::Instance(study, series, instance), rest)
                }
                rest => below(Scope::Series(study, series), rest),
            }
        }
        rest => below(Scope::Study(study), rest),
    }
}

/// A UID as a URL writes it: without the padding that data sets have.
fn uid(text: &str) -> Result<Uid, PathError> {
    Uid::parse(text)
        .ok()
        .filter(|uid| uid.as_str() == text)
        .ok_or(PathError::BadUid)
}

fn below(scope: Scope, rest: &[&str]) -> Result<Target, PathError> {
    match rest {
        [] => Ok(Target::Retrieve(scope)),
        ["metadata"] => Ok(Target::Metadata(scope)),
        ["rendered"] => Ok(Target::NotOffered("rendered images")),
        ["thumbnail"] => Ok(Target::NotOffered("thumbnails")),
        ["bulkdata", ..] => Ok(Target::NotOffered("bulk data")),
        ["pixeldata"] => Ok(Target::NotOffered("bulk data")),
        ["frames", ..] if scope.instance().is_some() => Ok(Target::NotOffered("frames")),
        _ => Err(PathError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_level_is_parsed_into_its_scope() {
        let study = StudyUid::parse("1.2").unwrap();
        let series = SeriesUid::parse("1.3").unwrap();
        let instance = InstanceUid::parse("1.4").unwrap();
        assert_eq!(
            parse("/studies/1.2"),
            Ok(Target::Retrieve(Scope::Study(study.clone())))
        );
        assert_eq!(
            parse("/studies/1.2/series/1.3/metadata"),
            Ok(Target::Metadata(Scope::Series(
                study.clone(),
                series.clone()
            )))
        );
        assert_eq!(
            parse("/studies/1.2/series/1.3/instances/1.4/"),
            Ok(Target::Retrieve(Scope::Instance(study, series, instance)))
        );
    }

    #[test]
    fn what_could_leave_the_service_is_refused() {
        for path in [
            "/studies/..",
            "/studies/1.2/series/..%2f",
            "/studies/1.2/series/%2e%2e",
            "/studies//series",
            "/studies/1.2/series/1.3/instances/1/../../x",
            "/studies/1.2\u{0}",
        ] {
            assert!(parse(path).is_err(), "{path} was taken");
        }
        assert_eq!(parse("studies"), Err(PathError::Unknown));
        assert_eq!(parse("/"), Err(PathError::Unknown));
        assert_eq!(parse("/patients"), Err(PathError::Unknown));
    }

    #[test]
    fn resources_of_the_standard_that_are_missing_are_named() {
        assert_eq!(
            parse("/studies/1.2/series/1.3/instances/1.4/frames/1"),
            Ok(Target::NotOffered("frames"))
        );
        assert_eq!(parse("/studies/1.2/frames/1"), Err(PathError::Unknown));
    }
}
