//! Reading a trail from its first record to its last, and saying where it does not hold together.
//!
//! Reading needs nothing of the service: it may run beside it, on a copy, on another machine.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use time::Date;

use super::event::Kind;
use super::files::{self, Segment};
use super::record::{Anchor, Hash, MAX_LINE, NotARecord, Record, Sequence};

/// Most faults kept in a report; more add nothing.
const MAX_FAULTS: usize = 100;

/// A place where a trail does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that is no record, or whose content was changed.
    #[error("{segment}, line {line}: {what}")]
    Line {
        /// Name of the segment.
        segment: String,
        /// Line in it, from 1.
        line: u64,
        /// What is wrong with it.
        what: NotARecord,
    },
    /// Records are missing, doubled or out of order.
    #[error("{segment}, line {line}: record {found} stands where record {expected} is expected")]
    Order {
        /// Name of the segment.
        segment: String,
        /// Line in it, from 1.
        line: u64,
        /// What the record before asks for.
        expected: Sequence,
        /// What is there.
        found: Sequence,
    },
    /// A record has the right number but does not follow the one before it.
    #[error("{segment}, line {line}: record {sequence} does not follow the record before it")]
    Link {
        /// Name of the segment.
        segment: String,
        /// Line in it, from 1.
        line: u64,
        /// The record.
        sequence: Sequence,
    },
    /// The trail does not begin with its first record, and no record says that what stood before was
    /// removed at the end of its retention.
    #[error("the records before {first} are missing, and none says that they expired")]
    Head {
        /// The first record there is.
        first: Sequence,
    },
    /// The trail ends before a record that was acknowledged.
    #[error("the trail ends at record {last}, and record {acknowledged} was acknowledged")]
    Tail {
        /// The last record there is.
        last: Sequence,
        /// The one the anchor names.
        acknowledged: Sequence,
    },
    /// The record an anchor names has another hash.
    #[error("record {sequence} is not the one the anchor names")]
    Anchor {
        /// The record.
        sequence: Sequence,
    },
    /// There are records and no anchor.
    #[error("the file of the anchor is missing or cannot be read")]
    NoAnchor,
}

/// What a whole trail looks like.
#[derive(Debug, Default)]
pub struct Report {
    /// Segments read.
    pub segments: usize,
    /// Records that are in order.
    pub records: u64,
    /// The first one.
    pub first: Option<Anchor>,
    /// The last one.
    pub last: Option<Anchor>,
    /// Bytes at the end that were never acknowledged: a crash cut a record short, or it is being
    /// written.
    pub unfinished: u64,
    /// Everything that does not hold together; 100 at most.
    pub faults: Vec<Fault>,
}

/// Reads a whole trail and compares it with its anchor, and with `kept`, one that was put aside.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn verify(dir: &Path, kept: Option<Anchor>) -> io::Result<Report> {
    let mut chain = Chain::open(dir, None)?;
    chain.kept = kept;
    for step in chain.by_ref() {
        step?;
    }
    Ok(chain.finish())
}

/// The records of a trail in their order; what does not hold together is kept for the end.
#[derive(Debug)]
pub struct Chain {
    anchor: Option<Anchor>,
    kept: Option<Anchor>,
    rest: std::vec::IntoIter<Segment>,
    lines: Option<Lines>,
    last: Option<Anchor>,
    head: Option<Anchor>,
    head_vouched: bool,
    whole: bool,
    report: Report,
}

impl Chain {
    /// Opens a trail. With a day, segments that ended before it are left out, and so is the question
    /// whether they are there.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(dir: &Path, since: Option<Date>) -> io::Result<Self> {
        // The anchor first: what it names is in the segments by then.
        let anchor = files::read_anchor(dir)?;
        let mut segments = files::segments(dir)?;
        let skipped = since.map_or(0, |since| {
            let later = segments.iter().skip(1).take_while(|next| next.day < since);
            later.count()
        });
        segments.drain(..skipped);
        Ok(Self {
            anchor,
            kept: None,
            rest: segments.into_iter(),
            lines: None,
            last: None,
            head: None,
            head_vouched: false,
            whole: skipped == 0,
            report: Report::default(),
        })
    }

    /// What was found; call it after the last record.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let last = self.last.unwrap_or(Anchor::EMPTY);
        match self.anchor {
            None if self.last.is_some() => self.fault(Fault::NoAnchor),
            anchor => {
                for anchor in anchor.into_iter().chain(self.kept) {
                    if anchor.sequence > last.sequence {
                        self.fault(Fault::Tail {
                            last: last.sequence,
                            acknowledged: anchor.sequence,
                        });
                    }
                }
            }
        }
        if let Some(head) = self.head
            && self.whole
            && head.sequence > Sequence(0)
            && !self.head_vouched
        {
            let first = head.sequence.next();
            self.fault(Fault::Head { first });
        }
        self.report.last = self.last;
        self.report
    }

    /// What was found so far.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.report.faults
    }

    fn fault(&mut self, fault: Fault) {
        if self.report.faults.len() < MAX_FAULTS {
            self.report.faults.push(fault);
        }
    }

    fn step(&mut self) -> io::Result<Option<Record>> {
        loop {
            let Some(lines) = &mut self.lines else {
                let Some(segment) = self.rest.next() else {
                    return Ok(None);
                };
                match Lines::open(&segment) {
                    Ok(lines) => self.lines = Some(lines),
                    // The service removed it, at the end of its retention, after the list was made.
                    Err(error)
                        if error.kind() == io::ErrorKind::NotFound && self.last.is_none() => {}
                    Err(error) => return Err(error),
                }
                continue;
            };
            let line = lines.next()?;
            let (segment, number) = (lines.name.clone(), lines.number);
            match line {
                Line::End => {
                    self.report.segments += 1;
                    self.lines = None;
                }
                Line::Unfinished(bytes) => {
                    let acknowledged = self.anchor.map_or(Sequence(0), |anchor| anchor.sequence);
                    let last = self.last.map_or(Sequence(0), |last| last.sequence);
                    if self.rest.len() == 0 && last >= acknowledged {
                        self.report.unfinished = bytes;
                    } else {
                        self.fault(Fault::Line {
                            segment,
                            line: number,
                            what: NotARecord::Form,
                        });
                    }
                }
                Line::Whole(bytes) => match Record::parse(&bytes) {
                    Ok(record) => {
                        self.place(&record, segment, number);
                        return Ok(Some(record));
                    }
                    Err(what) => {
                        self.fault(Fault::Line {
                            segment,
                            line: number,
                            what,
                        });
                    }
                },
            }
        }
    }

    /// Compares a record with the one before it, with the anchors, and goes on from it.
    fn place(&mut self, record: &Record, segment: String, line: u64) {
        match self.last {
            None => {
                let sequence = Sequence(record.sequence.0.saturating_sub(1));
                let head = Anchor {
                    sequence,
                    hash: record.previous,
                };
                self.head = Some(head);
                self.report.first = Some(record.anchor());
                if sequence == Sequence(0) && record.previous != Hash::ZERO {
                    self.fault(Fault::Link {
                        segment,
                        line,
                        sequence: record.sequence,
                    });
                }
            }
            Some(last) if record.sequence != last.sequence.next() => self.fault(Fault::Order {
                segment,
                line,
                expected: last.sequence.next(),
                found: record.sequence,
            }),
            Some(last) if record.previous != last.hash => self.fault(Fault::Link {
                segment,
                line,
                sequence: record.sequence,
            }),
            Some(_) => {}
        }
        for anchor in self.anchor.into_iter().chain(self.kept) {
            if anchor.sequence == record.sequence && anchor.hash != record.hash {
                self.fault(Fault::Anchor {
                    sequence: anchor.sequence,
                });
            }
        }
        if let Some(head) = self.head {
            self.head_vouched |= self.kept == Some(head) || expired(record, head);
        }
        self.report.records += 1;
        self.last = Some(record.anchor());
    }
}

/// Whether a record says that everything up to `head` was removed at the end of its retention.
fn expired(record: &Record, head: Anchor) -> bool {
    if !record.line().contains(Kind::TrailExpired.word()) {
        return false;
    }
    let event = record
        .event()
        .filter(|event| event.kind == Kind::TrailExpired);
    let note = event.and_then(|event| event.trail);
    note.is_some_and(|note| note.sequence == head.sequence && note.hash == head.hash)
}

impl Iterator for Chain {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// What a segment gives next.
#[derive(Debug)]
pub(super) enum Line {
    /// A line with its newline.
    Whole(Vec<u8>),
    /// The end of the file without a newline: so many bytes.
    Unfinished(u64),
    /// Nothing more.
    End,
}

/// The lines of a segment, each of bounded length.
#[derive(Debug)]
pub(super) struct Lines {
    reader: BufReader<File>,
    name: String,
    number: u64,
    /// Bytes of the whole lines read so far.
    pub(super) offset: u64,
}

impl Lines {
    pub(super) fn open(segment: &Segment) -> io::Result<Self> {
        Ok(Self {
            reader: BufReader::with_capacity(MAX_LINE, File::open(&segment.path)?),
            name: segment.name(),
            number: 0,
            offset: 0,
        })
    }

    /// Goes to where an earlier reading ended.
    pub(super) fn at(segment: &Segment, offset: u64) -> io::Result<Self> {
        let mut lines = Self::open(segment)?;
        lines.reader.seek(SeekFrom::Start(offset))?;
        lines.offset = offset;
        Ok(lines)
    }

    /// The next line. What is longer than a record may be comes in pieces, none of which is one.
    pub(super) fn next(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let mut limited = self.reader.by_ref().take(MAX_LINE as u64 + 1);
        limited.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(Line::End);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') || line.len() > MAX_LINE {
            self.offset += line.len() as u64;
            return Ok(Line::Whole(line));
        }
        Ok(Line::Unfinished(line.len() as u64))
    }
}
