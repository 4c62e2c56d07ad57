//! Holds `docs/dicom-conformance.md` in step with the code: the tables between markers are made
//! from what the code negotiates, returns and refuses, and a test compares them.
//!
//! `DRIMBOX_UPDATE_DOCS=1 cargo test -p drimbox --lib conformance` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, UidDictionary};
use dicom_dictionary_std::{StandardDataDictionary, StandardSopClassDictionary};
use dicom_transfer_syntax_registry::{TransferSyntaxIndex, TransferSyntaxRegistry};
use http::StatusCode;

use crate::archive::dimse::upper_layer::ProposedContext;
use crate::archive::dimse::{contexts, status};
use crate::dicom::charset::Repertoire;
use crate::dicom::part10::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicomweb::accept::Accept;
use crate::dicomweb::frames::media_type_of;
use crate::dicomweb::negotiate::{
    Retrieved, Unnamed, negotiate_bulk, negotiate_instances, negotiate_model,
};
use crate::dicomweb::path::{self, Target};
use crate::dicomweb::problem::Problem;
use crate::dicomweb::query::Level;
use crate::dicomweb::rendered::Asked;
use crate::pixels::{available_targets, is_video, lossy_targets};

/// Every generated table, by the name of its marker.
fn tables() -> Vec<(&'static str, String)> {
    vec![
        ("implementation", implementation()),
        ("services", services()),
        ("storage-classes", storage_classes()),
        ("transfer-syntaxes", transfer_syntaxes()),
        ("dimse-statuses", dimse_statuses()),
        ("resources", resources()),
        ("transcoding", transcoding()),
        ("return-attributes", return_attributes()),
        ("http-statuses", http_statuses()),
        ("character-sets", character_sets()),
    ]
}

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        assert_eq!(row.len(), head.len(), "{row:?}");
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

fn implementation() -> String {
    let rows = [
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
    ];
    table(
        &["item", "value"],
        rows.map(|(item, value)| vec![item.into(), format!("`{value}`")]),
    )
}

fn services() -> String {
    let get: Vec<ProposedContext> = contexts::getting(&["CT".to_owned()], false).unwrap();
    let proposed = contexts::query(true, false)
        .into_iter()
        .chain(contexts::moving())
        .chain(get.into_iter().filter(|context| !context.peer_sends));
    table(
        &["SOP class", "UID", "transfer syntaxes", "role"],
        proposed.map(|context| {
            let uid = context.abstract_syntax.as_ref();
            let syntaxes = context.transfer_syntaxes.iter();
            let syntaxes: Vec<String> = syntaxes.map(|uid| syntax_name(uid)).collect();
            let scp = contexts::accept_storage(uid, &["1.2.840.10008.1.2".to_owned()]).is_some();
            let role = if scp { "SCU and SCP" } else { "SCU" };
            vec![
                class_name(uid),
                uid.into(),
                syntaxes.join(", "),
                role.into(),
            ]
        }),
    )
}

fn storage_classes() -> String {
    let (classes, _) = contexts::storage_statement();
    table(
        &["SOP class", "UID", "content"],
        classes
            .into_iter()
            .map(|(uid, content)| vec![class_name(uid), uid.to_owned(), content.to_owned()]),
    )
}

fn transfer_syntaxes() -> String {
    let (_, groups) = contexts::storage_statement();
    let holds = |name: &str, uid: &str| {
        let group = groups.iter().find(|(group, _)| *group == name).unwrap();
        if group.1.contains(&uid) { "yes" } else { "" }.to_owned()
    };
    table(
        &[
            "transfer syntax",
            "UID",
            "data",
            "images",
            "video",
            "where contexts are left",
        ],
        syntaxes().into_iter().map(|uid| {
            let columns = ["data", "image", "video", "room"].map(|group| holds(group, uid));
            let mut row = vec![syntax_name(uid), uid.to_owned()];
            row.extend(columns);
            row
        }),
    )
}

/// Every transfer syntax that is negotiated, in the order of their UIDs.
fn syntaxes() -> Vec<&'static str> {
    let (_, groups) = contexts::storage_statement();
    let all: BTreeSet<&str> = groups
        .iter()
        .flat_map(|(_, group)| *group)
        .copied()
        .collect();
    let mut all: Vec<&str> = all.into_iter().collect();
    all.sort_by_key(|uid| {
        let numbers = uid.split('.').map(|part| part.parse().unwrap_or(u64::MAX));
        numbers.collect::<Vec<_>>()
    });
    all
}

fn dimse_statuses() -> String {
    let rows = [
        (status::SUCCESS, "C-STORE, C-ECHO response", "done"),
        (
            status::OUT_OF_RESOURCES,
            "C-STORE response",
            "no room for the instance",
        ),
        (
            status::NOT_AUTHORISED,
            "C-STORE response",
            "no retrieval under way asked for the instance",
        ),
        (
            status::CANNOT_UNDERSTAND,
            "C-STORE response",
            "the request or the data set is malformed",
        ),
        (
            status::SUB_OPERATIONS_WARNING,
            "C-GET, C-MOVE received",
            "what is missing is asked for again by instance; then the retrieval fails",
        ),
        (
            status::CANCEL,
            "C-FIND, C-GET, C-MOVE received",
            "the end of an operation that the gateway cancelled",
        ),
    ];
    table(
        &["status", "where", "meaning"],
        rows.map(|(code, wherever, meaning)| {
            vec![format!("{code:04X}H"), wherever.into(), meaning.into()]
        }),
    )
}

fn resources() -> String {
    let rows = [
        "/studies",
        "/series",
        "/instances",
        "/studies/{study}/series",
        "/studies/{study}/instances",
        "/studies/{study}/series/{series}/instances",
        "/studies/{study}",
        "/studies/{study}/series/{series}",
        "/studies/{study}/series/{series}/instances/{instance}",
        "/studies/{study}/metadata",
        "/studies/{study}/series/{series}/metadata",
        "/studies/{study}/series/{series}/instances/{instance}/metadata",
        "/studies/{study}/series/{series}/instances/{instance}/frames/{list}",
        "/studies/{study}/series/{series}/instances/{instance}/rendered",
        "/studies/{study}/series/{series}/instances/{instance}/frames/{frame}/rendered",
        "/studies/{study}/series/{series}/instances/{instance}/thumbnail",
        "/studies/{study}/series/{series}/instances/{instance}/frames/{frame}/thumbnail",
        "/studies/{study}/rendered",
        "/studies/{study}/series/{series}/rendered",
        "/studies/{study}/thumbnail",
        "/studies/{study}/series/{series}/thumbnail",
        "/studies/{study}/pixeldata",
        "/studies/{study}/series/{series}/pixeldata",
        "/studies/{study}/series/{series}/instances/{instance}/pixeldata",
        "/studies/{study}/bulkdata",
        "/studies/{study}/series/{series}/bulkdata",
        "/studies/{study}/series/{series}/instances/{instance}/bulkdata",
        "/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path}",
    ];
    let json = accepted(
        &[
            "application/dicom+json",
            "application/json",
            "multipart/related; type=\"application/dicom+xml\"",
        ],
        |accept| negotiate_model(accept).is_ok(),
    );
    let instances = |resource| {
        let forms = [
            "multipart/related; type=\"application/dicom\"",
            "application/dicom",
        ];
        accepted(&forms, |accept| {
            negotiate_instances(accept, resource, Unnamed::default()).is_ok()
        })
    };
    let bulk = accepted(
        &[
            "multipart/related; type=\"application/octet-stream\"",
            "application/octet-stream",
        ],
        |accept| negotiate_bulk(accept).is_ok(),
    );
    let pictures = accepted(
        &["image/jpeg", "image/png", "image/gif", "image/jp2"],
        |accept| Asked::parse("", accept, false).is_ok(),
    );
    table(
        &["resource", "transaction", "media types"],
        rows.map(|template| {
            let path = template
                .replace("{study}", "1.2.3")
                .replace("{series}", "1.2.4")
                .replace("{instance}", "1.2.5")
                .replace("{list}", "1,2")
                .replace("{frame}", "1")
                .replace("{path}", "7FE00010");
            let (transaction, media) = match path::parse(&path) {
                Ok(Target::Search { .. }) => ("search", json.clone()),
                Ok(Target::Retrieve(crate::archive::Scope::Instance(..))) => {
                    ("retrieve", instances(Retrieved::Instance))
                }
                Ok(Target::Retrieve(_)) => ("retrieve", instances(Retrieved::Several)),
                Ok(Target::Metadata(_)) => ("retrieve metadata", json.clone()),
                Ok(Target::Frames(..)) => (
                    "retrieve frames",
                    "`multipart/related` of what §5.2.3 lists; one frame without parts too"
                        .to_owned(),
                ),
                Ok(Target::Rendered { .. }) => ("retrieve rendered", pictures.clone()),
                Ok(Target::Bulk(..)) => ("retrieve bulk data", bulk.clone()),
                Ok(Target::Pixels(_)) => (
                    "retrieve pixel data",
                    "`multipart/related` of what §5.2.3 lists".to_owned(),
                ),
                Ok(Target::AllBulk(_)) => (
                    "retrieve all bulk data",
                    "`multipart/related` of octets, and of what §5.2.3 lists for compressed pixels"
                        .to_owned(),
                ),
                Err(_) => ("not offered (404)", String::new()),
            };
            vec![format!("`{template}`"), transaction.into(), media]
        }),
    )
}

/// Those of these media types that are answered.
fn accepted(candidates: &[&str], answered: impl Fn(&Accept) -> bool) -> String {
    let offered = candidates.iter().filter(|candidate| {
        let accept = Accept::parse([**candidate]).expect("an Accept field");
        answered(&accept)
    });
    let offered: Vec<String> = offered.map(|media| format!("`{media}`")).collect();
    offered.join(", ")
}

fn transcoding() -> String {
    let names = |targets: &[TransferSyntaxUid]| {
        let names: Vec<String> = targets
            .iter()
            .map(|uid| syntax_name(uid.as_str()))
            .collect();
        names.join(", ")
    };
    table(
        &[
            "stored",
            "frame as stored",
            "transcoded without loss to",
            "on request, with loss, to",
        ],
        syntaxes().into_iter().map(|stored| {
            let uid = TransferSyntaxUid::parse(stored).unwrap();
            let mut name = syntax_name(stored);
            if is_video(&uid) {
                name += " (video)";
            }
            vec![
                name,
                format!("`{}`", media_type_of(&uid)),
                names(available_targets(&uid)),
                names(lossy_targets(&uid)),
            ]
        }),
    )
}

fn return_attributes() -> String {
    let levels = [Level::Study, Level::Series, Level::Instance];
    let all: BTreeSet<Tag> = levels
        .iter()
        .flat_map(|level| level.return_attributes())
        .copied()
        .collect();
    table(
        &["attribute", "tag", "study", "series", "instance"],
        all.into_iter().map(|tag| {
            let entry = StandardDataDictionary
                .by_tag(tag)
                .expect("a standard attribute");
            let mut row = vec![entry.alias().to_owned(), tag.to_string()];
            row.extend(levels.map(|level| {
                let returned = level.return_attributes().contains(&tag);
                if returned { "yes" } else { "" }.to_owned()
            }));
            row
        }),
    )
}

fn http_statuses() -> String {
    let now = std::time::Duration::from_secs(1);
    let rows = [
        (
            StatusCode::OK,
            "the answer; of a search without match an empty list",
        ),
        (
            StatusCode::PARTIAL_CONTENT,
            "the range of a value that was asked for",
        ),
        (StatusCode::NOT_MODIFIED, "the client has this form already"),
        (
            Problem::bad_request("", "").status(),
            "path, query or `Accept` malformed",
        ),
        (Problem::unauthorized("").status(), "no valid token"),
        (
            Problem::forbidden("").status(),
            "known, and not offered on this listener",
        ),
        (
            Problem::not_found("").status(),
            "no such resource, study, series, instance or frame",
        ),
        (
            Problem::method_not_allowed("").status(),
            "a method other than those in `Allow`",
        ),
        (
            Problem::not_acceptable("", "").status(),
            "nothing the client accepts can be made; the body lists what can",
        ),
        (
            Problem::request_timeout().status(),
            "the body of a request did not come in time",
        ),
        (
            Problem::gone("").status(),
            "the PACS had the study when it was last asked, and has it no more",
        ),
        (
            Problem::content_too_large("", "").status(),
            "more than is decoded or answered at once",
        ),
        (
            Problem::range_not_satisfiable(0).status(),
            "the range lies outside the value",
        ),
        (
            Problem::misdirected().status(),
            "the host is not that of the TLS connection",
        ),
        (
            Problem::header_too_large().status(),
            "the head of the request is too large",
        ),
        (Problem::internal().status(), "a defect of the gateway"),
        (
            Problem::bad_gateway("").status(),
            "the PACS cannot be reached, refused, or sent too little",
        ),
        (
            Problem::unavailable("", now).status(),
            "busy, or the PACS is left alone after failures; with `Retry-After`",
        ),
        (
            Problem::gateway_timeout("").status(),
            "the PACS did not answer in time",
        ),
    ];
    table(
        &["status", "when"],
        rows.map(|(status, when)| vec![status.to_string(), when.into()]),
    )
}

fn character_sets() -> String {
    table(
        &["defined term", "alone", "with code extensions (ISO 2022)"],
        Repertoire::ALL.iter().map(|(_, term)| {
            let extended = match term.strip_prefix("ISO_IR ") {
                Some("192") | None => String::new(),
                Some(number) => format!("ISO 2022 IR {number}"),
            };
            vec![(*term).to_owned(), "yes".into(), extended]
        }),
    )
}

fn class_name(uid: &str) -> String {
    let entry = StandardSopClassDictionary.by_uid(uid);
    entry
        .unwrap_or_else(|| panic!("{uid} is no standard SOP class"))
        .name
        .to_owned()
}

fn syntax_name(uid: &str) -> String {
    match TransferSyntaxRegistry.get(uid) {
        Some(syntax) => syntax.name().to_owned(),
        None => panic!("{uid} is no standard transfer syntax"),
    }
}

/// The document with these tables between their markers.
fn filled(document: &str) -> String {
    let mut text = document.to_owned();
    for (name, table) in tables() {
        let (begin, end) = (
            format!("<!-- begin {name} -->\n"),
            format!("<!-- end {name} -->"),
        );
        let from = text
            .find(&begin)
            .unwrap_or_else(|| panic!("no marker {name}"))
            + begin.len();
        let to = text[from..]
            .find(&end)
            .unwrap_or_else(|| panic!("no end of {name}"))
            + from;
        text.replace_range(from..to, &table);
    }
    text
}

#[test]
fn the_conformance_statement_says_what_the_code_does() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dicom-conformance.md");
    let document = std::fs::read_to_string(&file).unwrap();
    let expected = filled(&document);
    if std::env::var_os("DRIMBOX_UPDATE_DOCS").is_some() {
        std::fs::write(&file, expected).unwrap();
        return;
    }
    let first = document
        .lines()
        .zip(expected.lines())
        .find(|(is, should)| is != should);
    assert!(
        document == expected,
        "docs/dicom-conformance.md is not what the code does, first at {first:?}; \
         DRIMBOX_UPDATE_DOCS=1 cargo test -p drimbox --lib conformance writes it anew"
    );
}

#[test]
fn every_status_of_a_problem_is_in_the_table() {
    let (code, _) = include_str!("dicomweb/problem.rs")
        .split_once("#[cfg(test)]")
        .expect("tests at the end");
    let made: BTreeSet<&str> = code
        .split("StatusCode::")
        .skip(1)
        .filter_map(|rest| {
            rest.split(|c: char| !c.is_ascii_uppercase() && c != '_')
                .next()
        })
        .filter(|name| !name.is_empty())
        .collect();
    // The head, the line below it, and the three that are no problem.
    assert_eq!(http_statuses().lines().count() - 5, made.len(), "{made:?}");
}

#[test]
fn every_marker_of_the_conformance_statement_belongs_to_a_table() {
    let document = include_str!("../../docs/dicom-conformance.md");
    let names: BTreeSet<&str> = tables().into_iter().map(|(name, _)| name).collect();
    let marked = document
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- begin "));
    let marked: BTreeSet<&str> = marked
        .filter_map(|rest| rest.strip_suffix(" -->"))
        .collect();
    assert_eq!(marked, names);
}
