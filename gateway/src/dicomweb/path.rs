//! Paths of the studies service (PS3.18 §10.1), parsed into types.
//!
//! What is not exactly one of them is not found: nothing of a path is passed on as text. It is cut at its
//! slashes first, and percent-encoding is undone in each segment after (RFC 3986 §2.4): an encoded slash
//! never separates.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::query::Level;
use crate::archive::Scope;
use crate::dicom::path::AttributePath;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid, Uid};

/// Frames named in one request.
const MAX_FRAMES: usize = 1000;

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
    /// `…/frames/{list}` of an instance: numbers from 1, in the order asked for.
    Frames(Scope, Vec<u32>),
    /// `…/rendered` and `…/thumbnail`.
    Rendered {
        /// The study, series or instance.
        scope: Scope,
        /// Frames of an instance, from 1; none for the one that stands for it.
        frames: Vec<u32>,
        /// A small picture.
        thumbnail: bool,
    },
    /// `…/bulkdata/{path}`: one value of an instance.
    Bulk(Scope, AttributePath),
    /// `…/bulkdata`: every value that metadata name by URL.
    AllBulk(Scope),
    /// `…/pixeldata`: all frames.
    Pixels(Scope),
}

/// Why a path names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// Not a path of the studies service.
    Unknown,
    /// Percent-encoding that is not complete, or no UTF-8.
    BadEscape,
    /// A UID in it is not one (PS3.5 §9.1).
    BadUid,
    /// A list of frames that is none, or too long.
    BadFrames,
    /// The way to a value that is none.
    BadAttribute,
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
    // Deeper than any value is.
    let parts = path.split('/').take(80).map(decoded);
    let parts: Vec<Cow<'_, str>> = parts.collect::<Result<_, PathError>>()?;
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
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

/// A segment with its percent-encoding undone.
fn decoded(segment: &str) -> Result<Cow<'_, str>, PathError> {
    let digits = |after: &str| {
        let two = after.as_bytes().first_chunk::<2>();
        two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !segment.split('%').skip(1).all(digits) {
        return Err(PathError::BadEscape);
    }
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map_err(|_| PathError::BadEscape)
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
        ["rendered"] => Ok(rendered(scope, Vec::new(), false)),
        ["thumbnail"] => Ok(rendered(scope, Vec::new(), true)),
        ["bulkdata"] => Ok(Target::AllBulk(scope)),
        ["bulkdata", rest @ ..] if scope.instance().is_some() => {
            if rest.iter().any(|segment| segment.contains('/')) {
                return Err(PathError::BadAttribute);
            }
            let path = rest
                .join("/")
                .parse()
                .map_err(|_| PathError::BadAttribute)?;
            Ok(Target::Bulk(scope, path))
        }
        ["pixeldata"] => Ok(Target::Pixels(scope)),
        ["frames", list, rest @ ..] if scope.instance().is_some() => {
            let frames = frame_list(list)?;
            match rest {
                [] => Ok(Target::Frames(scope, frames)),
                ["rendered"] => Ok(rendered(scope, frames, false)),
                ["thumbnail"] => Ok(rendered(scope, frames, true)),
                _ => Err(PathError::Unknown),
            }
        }
        _ => Err(PathError::Unknown),
    }
}

fn rendered(scope: Scope, frames: Vec<u32>, thumbnail: bool) -> Target {
    Target::Rendered {
        scope,
        frames,
        thumbnail,
    }
}

/// Numbers from 1 with commas between them.
fn frame_list(text: &str) -> Result<Vec<u32>, PathError> {
    let numbers: Result<Vec<u32>, PathError> = text
        .split(',')
        .take(MAX_FRAMES + 1)
        .map(|number| match number.parse() {
            Ok(number) if number > 0 && !text.contains('+') => Ok(number),
            _ => Err(PathError::BadFrames),
        })
        .collect();
    numbers.and_then(|list| {
        if list.len() > MAX_FRAMES {
            Err(PathError::BadFrames)
        } else {
            Ok(list)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
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
    fn percent_encoding_is_undone_in_each_segment_and_never_separates() {
        let instance = "/studies/1.2/series/1.3/instances/1.4";
        for (encoded, plain) in [
            ("/frames/1%2C2", "/frames/1,2"),
            ("/frames/%31%2c2/rendered", "/frames/1,2/rendered"),
            ("/%6Detadata", "/metadata"),
            (
                "/bulkdata/0088%30200/0/7FE00010",
                "/bulkdata/00880200/0/7FE00010",
            ),
        ] {
            let parsed = parse(&format!("{instance}{encoded}"));
            assert!(parsed.is_ok(), "{encoded}");
            assert_eq!(parsed, parse(&format!("{instance}{plain}")), "{encoded}");
        }
        assert_eq!(parse("/studies/1%2E2"), parse("/studies/1.2"));
        for (path, error) in [
            ("/studies/1.2%2Fseries%2F1.3", PathError::BadUid),
            ("/studies%2F1.2", PathError::Unknown),
            ("/studies/1.2%2F", PathError::BadUid),
            ("/studies/%", PathError::BadEscape),
            ("/studies/1.2%2", PathError::BadEscape),
            ("/studies/1.2%zz", PathError::BadEscape),
            ("/studies/1.2%+f", PathError::BadEscape),
            ("/studies/%FF", PathError::BadEscape),
            ("/studies/1.2%00", PathError::BadUid),
            // Undone once.
            ("/studies/1%252E2", PathError::BadUid),
        ] {
            assert_eq!(parse(path), Err(error), "{path}");
        }
        for path in ["/frames/1%2Frendered", "/bulkdata/00880200%2F0%2F7FE00010"] {
            assert!(parse(&format!("{instance}{path}")).is_err(), "{path}");
        }
    }

    #[test]
    fn a_list_of_frames_has_numbers_from_1_in_the_order_asked_for() {
        let list = |list: &str| match parse(&format!(
            "/studies/1.2/series/1.3/instances/1.4/frames/{list}"
        )) {
            Ok(Target::Frames(_, frames)) => Ok(frames),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(list("7"), Ok(vec![7]));
        assert_eq!(list("3,1,3"), Ok(vec![3, 1, 3]));
        for frames in ["", "0", "1,", "1,,2", "-1", "+1", "a", "4294967296", "1 "] {
            // A slash at the end is not looked at.
            let error = if frames.is_empty() {
                PathError::Unknown
            } else {
                PathError::BadFrames
            };
            assert_eq!(list(frames), Err(error), "{frames}");
        }
        assert_eq!(
            list(&vec!["1"; MAX_FRAMES].join(",")).unwrap().len(),
            MAX_FRAMES
        );
        assert_eq!(
            list(&vec!["1"; MAX_FRAMES + 1].join(",")),
            Err(PathError::BadFrames)
        );
    }

    #[test]
    fn pictures_are_of_every_level_and_of_lists_of_frames() {
        let study = StudyUid::parse("1.2").unwrap();
        let series = SeriesUid::parse("1.3").unwrap();
        let instance = InstanceUid::parse("1.4").unwrap();
        let picture = |scope, frames, thumbnail| {
            Ok(Target::Rendered {
                scope,
                frames,
                thumbnail,
            })
        };
        assert_eq!(
            parse("/studies/1.2/rendered"),
            picture(Scope::Study(study.clone()), vec![], false)
        );
        assert_eq!(
            parse("/studies/1.2/series/1.3/thumbnail"),
            picture(Scope::Series(study.clone(), series.clone()), vec![], true)
        );
        assert_eq!(
            parse("/studies/1.2/series/1.3/instances/1.4/frames/3,1/rendered"),
            picture(Scope::Instance(study, series, instance), vec![3, 1], false)
        );
    }

    #[test]
    fn all_bulk_data_and_all_pixels_are_of_every_level() {
        let study = Scope::Study(StudyUid::parse("1.2").unwrap());
        assert_eq!(
            parse("/studies/1.2/bulkdata"),
            Ok(Target::AllBulk(study.clone()))
        );
        assert_eq!(parse("/studies/1.2/pixeldata"), Ok(Target::Pixels(study)));
        for level in ["/series/1.3", "/series/1.3/instances/1.4"] {
            let path = format!("/studies/1.2{level}");
            let all = parse(&format!("{path}/bulkdata"));
            assert!(matches!(all, Ok(Target::AllBulk(_))), "{path}");
            let pixels = parse(&format!("{path}/pixeldata"));
            assert!(matches!(pixels, Ok(Target::Pixels(_))), "{path}");
        }
        // One value, or one frame, is of one instance.
        for path in ["bulkdata/00420011", "frames/1"] {
            assert_eq!(
                parse(&format!("/studies/1.2/{path}")),
                Err(PathError::Unknown)
            );
        }
    }
}
