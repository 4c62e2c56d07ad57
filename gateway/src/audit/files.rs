//! The files of a trail: segments named by their first record and day, and the anchor.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use time::{Date, Month};

use super::record::{Anchor, Sequence};

/// The file of the anchor.
const ANCHOR: &str = "anchor";
/// Bytes of each of its two places.
const SLOT: usize = 192;

/// A file of records: `FIRST-YYYYMMDD.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The record it begins with.
    pub(super) first: Sequence,
    /// The day (UTC) it was begun.
    pub(super) day: Date,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Segment {
    pub(super) fn new(dir: &Path, first: Sequence, day: Date) -> Self {
        let name = format!(
            "{:020}-{:04}{:02}{:02}.jsonl",
            first.0,
            day.year(),
            u8::from(day.month()),
            day.day()
        );
        Self {
            first,
            day,
            path: dir.join(name),
        }
    }

    fn of_path(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
        let (first, day) = name.split_once('-')?;
        let whole = first.len() == 20 && day.len() == 8;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !whole || !digits(first) || !digits(day) {
            return None;
        }
        let first = Sequence(first.parse().ok()?);
        let month = Month::try_from(day.get(4..6)?.parse::<u8>().ok()?).ok()?;
        let year = day.get(..4)?.parse().ok()?;
        let day = Date::from_calendar_date(year, month, day.get(6..)?.parse().ok()?).ok()?;
        Some(Self { first, day, path })
    }

    /// Makes its file, which must not be there yet.
    pub(super) fn create(&self) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
    }

    /// Opens its file to go on with it.
    pub(super) fn reopen(&self) -> io::Result<File> {
        OpenOptions::new().append(true).open(&self.path)
    }

    /// Its name without the folder, for messages.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// The segments of a folder in their order.
pub(super) fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        found.extend(Segment::of_path(entry?.path()));
    }
    found.sort();
    Ok(found)
}

/// Makes a folder that the service alone may enter.
pub(super) fn make_folder(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces a small file as a whole: what was there stays until the new content is on disk.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// The file of the last acknowledged record. It has two places, written in turn, so that one is whole
/// whatever happens to the other.
#[derive(Debug)]
pub(super) struct AnchorFile {
    file: File,
    turn: bool,
}

impl AnchorFile {
    /// Opens or makes it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(ANCHOR))?;
        Ok(Self { file, turn: false })
    }

    /// Keeps an anchor in place of the older of the two.
    pub(super) fn write(&mut self, anchor: Anchor) -> io::Result<()> {
        let stated = state(anchor);
        let line = format!("{stated:width$}\n", width = SLOT - 1);
        let at = if self.turn { SLOT as u64 } else { 0 };
        self.turn = !self.turn;
        self.file.write_all_at(line.as_bytes(), at)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The anchor of a trail; `None` when there is none that can be read.
pub(super) fn read_anchor(dir: &Path) -> io::Result<Option<Anchor>> {
    let mut text = Vec::new();
    match File::open(dir.join(ANCHOR)) {
        Ok(file) => file.take(2 * SLOT as u64).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let places = text.chunks(SLOT).filter_map(|place| {
        let stated = std::str::from_utf8(place).ok()?.trim_end();
        let (json, _) = stated.split_once(" # ")?;
        let anchor: Anchor = serde_json::from_str(json).ok()?;
        (state(anchor) == stated).then_some(anchor)
    });
    Ok(places.max_by_key(|anchor| anchor.sequence))
}

/// An anchor and a check of its own, so that half of one is never taken for one.
fn state(anchor: Anchor) -> String {
    let json = format!(
        "{{\"sequence\":{},\"hash\":\"{}\"}}",
        anchor.sequence, anchor.hash
    );
    let digest: [u8; 32] = Sha256::digest(json.as_bytes()).into();
    let check = u64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default());
    format!("{json} # {check:016x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use time::macros::date;

    use super::super::record::Hash;
    use super::*;

    #[test]
    fn half_an_anchor_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_anchor(dir.path()).unwrap(), None);
        let mut file = AnchorFile::open(dir.path()).unwrap();
        for sequence in 1..=3 {
            let anchor = Anchor {
                sequence: Sequence(sequence),
                hash: Hash([u8::try_from(sequence).unwrap(); 32]),
            };
            file.write(anchor).unwrap();
            assert_eq!(read_anchor(dir.path()).unwrap(), Some(anchor));
        }
        let path = dir.path().join(ANCHOR);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let left = read_anchor(dir.path()).unwrap().unwrap();
        assert_eq!(left.sequence, Sequence(2));
    }

    #[test]
    fn segments_are_listed_in_order_and_other_files_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for first in [10, 9, 100] {
            let segment = Segment::new(dir.path(), Sequence(first), date!(2026 - 11 - 21));
            segment.create().unwrap();
        }
        for other in ["anchor", "7-20261121.jsonl", "lock", "x.jsonl"] {
            std::fs::write(dir.path().join(other), "").unwrap();
        }
        let found = segments(dir.path()).unwrap();
        let firsts: Vec<_> = found.iter().map(|segment| segment.first.0).collect();
        assert_eq!(firsts, [9, 10, 100]);
        assert_eq!(found[0].day, date!(2026 - 11 - 21));
    }
}
