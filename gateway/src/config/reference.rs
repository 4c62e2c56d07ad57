//! `deploy/drimbox.reference.toml` says what the program does: its keys, its defaults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{Config, Problem, parse, read, section};

const REFERENCE: &str = include_str!("../../../deploy/drimbox.reference.toml");

/// The reference with its lines `#key = value` (defaults) uncommented, and those that start with
/// `#~ ` (examples) too when wanted.
fn uncommented(examples: bool) -> String {
    let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
        Some(rest) if examples && rest.starts_with("~ ") => rest.trim_start_matches("~ "),
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A folder with every file that the examples name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("tls")).unwrap();
    let names = REFERENCE.split('"').filter(|text| {
        text.starts_with("tls/") && (text.ends_with(".pem") || text.ends_with(".key"))
    });
    for name in names.chain([
        "jetons",
        "mot-de-passe-pacs",
        "jeton-pacs",
        "adresses-sonde",
        "mot-de-passe-smtp",
        "jeton-supervision",
        "phrase-de-passe",
    ]) {
        let (label, mode) = match name.ends_with(".pem") {
            true => ("CERTIFICATE", 0o644),
            false => ("PRIVATE KEY", 0o600),
        };
        let path = folder.path().join(name);
        let pem = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let key = folder.path().join("cle-eab");
    fs::write(&key, "c2VjcmV0").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

fn parsed(text: &str, base: &Path) -> Config {
    parse(text, base).unwrap_or_else(|problems| {
        let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
        panic!("{}", problems.join("\n"))
    })
}

#[test]
fn the_reference_loads_as_it_is() {
    let config = parsed(REFERENCE, Path::new("/etc/drimbox"));
    assert!(config.local.is_some() && config.peer.is_none());
}

#[test]
fn the_defaults_it_shows_are_those_of_the_program() {
    let base = Path::new("/etc/drimbox");
    let shown = parsed(&uncommented(false), base);
    assert_eq!(
        format!("{shown:#?}"),
        format!("{:#?}", parsed(REFERENCE, base))
    );

    let folder = folder();
    let all = uncommented(true);
    let lines = all.lines().filter(|line| !line.ends_with("# défaut"));
    let without = lines.collect::<Vec<_>>().join("\n");
    assert_ne!(all.lines().count(), without.lines().count());
    assert_eq!(
        format!("{:#?}", parsed(&all, folder.path())),
        format!("{:#?}", parsed(&without, folder.path()))
    );
}

#[test]
fn it_has_every_key_that_the_program_reads() {
    let folder = folder();
    let text = uncommented(true);
    parsed(&text, folder.path());
    let document = DeTable::parse(&text).unwrap();
    let source = section::Source::new(&text, folder.path());
    read::config(section::Section::root(&source, document.get_ref())).unwrap();
    let mut shown = BTreeSet::new();
    collect("", document.get_ref(), &mut shown);
    assert_eq!(shown, source.known_keys());
}

/// Every key of a table, as dotted paths without array indices.
fn collect(path: &str, table: &DeTable<'_>, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let key = match path {
            "" => key.get_ref().to_string(),
            path => format!("{path}.{}", key.get_ref()),
        };
        let tables = match value.get_ref() {
            DeValue::Array(items) => items.iter().map(toml::Spanned::get_ref).collect(),
            other => vec![other],
        };
        for value in tables {
            if let DeValue::Table(table) = value {
                collect(&key, table, keys);
            }
        }
        keys.insert(key);
    }
}
