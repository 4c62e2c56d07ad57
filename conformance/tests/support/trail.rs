//! The audit trail of a gateway, as its files have it.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// The events of the trail in a folder, the oldest first.
pub fn events(folder: &Path) -> Vec<Json> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .collect();
    segments.sort();
    let text: String = segments
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    // The last line may be being written.
    let records = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok());
    records.map(|record| record["event"].clone()).collect()
}
