//! Reading acknowledged records from a place on, and remembering the place.

use std::io;
use std::path::{Path, PathBuf};

use super::chain::{Line, Lines};
use super::files::{self, Segment};
use super::record::{Anchor, Record, Sequence};

/// The last record that a server is known to have, in a file of its own.
pub(super) fn read_position(dir: &Path, target: &str) -> io::Result<Sequence> {
    match std::fs::read(position_file(dir, target)) {
        Ok(content) => {
            let anchor: Anchor = serde_json::from_slice(&content)?;
            Ok(anchor.sequence)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Sequence(0)),
        Err(error) => Err(error),
    }
}

/// Keeps that place, durably.
pub(super) fn write_position(dir: &Path, target: &str, at: Anchor) -> io::Result<()> {
    let content = serde_json::to_vec(&at)?;
    files::replace(&position_file(dir, target), &content)
}

fn position_file(dir: &Path, target: &str) -> PathBuf {
    dir.join(format!("syslog-{target}.json"))
}

/// Where the next record stands.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    next: Sequence,
    place: Option<(Segment, u64)>,
}

impl Cursor {
    /// After a record.
    pub(super) fn after(sequence: Sequence) -> Self {
        Self {
            next: sequence.next(),
            place: None,
        }
    }

    /// The next records, `most` of them, none after `acknowledged`: what stands after it may still
    /// change. Blocks.
    pub(super) fn read(
        &mut self,
        dir: &Path,
        acknowledged: Sequence,
        most: usize,
    ) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        while self.next <= acknowledged && records.len() < most {
            let (segment, offset) = match self.place.take() {
                Some(place) => place,
                None => (self.find(dir)?, 0),
            };
            let mut lines = Lines::at(&segment, offset)?;
            while self.next <= acknowledged && records.len() < most {
                let Line::Whole(line) = lines.next()? else {
                    break;
                };
                let record = Record::parse(&line)
                    .map_err(|what| io::Error::other(format!("{}: {what}", segment.name())))?;
                if record.sequence >= self.next {
                    self.next = record.sequence.next();
                    records.push(record);
                }
            }
            // A full batch or the end of what is acknowledged: go on here; else the next segment.
            if self.next > acknowledged || records.len() >= most {
                self.place = Some((segment, lines.offset));
            } else if segment.first >= self.next {
                return Err(io::Error::other(format!("{}: no record", segment.name())));
            }
        }
        Ok(records)
    }

    /// The segment of the next record; the oldest when that has gone.
    fn find(&self, dir: &Path) -> io::Result<Segment> {
        let mut segments = files::segments(dir)?;
        let at = segments
            .iter()
            .rposition(|segment| segment.first <= self.next);
        let at = at.unwrap_or(0);
        if at < segments.len() {
            return Ok(segments.swap_remove(at));
        }
        Err(io::Error::other("the trail has no segment"))
    }
}
