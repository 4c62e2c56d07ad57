//! The index of a bundle on disk: a header line, which names the bundle, and a line of entries,
//! each guarded by a checksum.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};

/// Name of the index in the folder of a bundle.
pub(super) const FILE: &str = "index";
const TEMPORARY: &str = "index.new";
/// Raised with every change of the layout: folders of another version are removed.
const VERSION: u32 = 3;
const MAX_HEADER: u64 = 4096;
const MAX_ENTRIES: u64 = 256 * 1024 * 1024;

/// Where one instance lies, as a Part 10 file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// SOP instance.
    pub instance: InstanceUid,
    /// SOP class.
    pub sop_class: SopClassUid,
    /// Transfer syntax of the data set.
    pub transfer_syntax: TransferSyntaxUid,
    /// File of the bundle: 0 is the pack, others hold one large instance.
    pub file: u32,
    /// First byte in that file.
    pub offset: u64,
    /// Bytes of the Part 10 file.
    pub length: u64,
    /// CRC-32 of these bytes.
    pub crc32: u32,
    /// Bytes before the data set: preamble and file meta information.
    pub meta_length: u64,
    /// Bytes of the data set before its pixel data; all of it when it has none.
    pub head_length: u64,
    /// Bytes at the end of the data set that are the elements after its pixel data; 0 when there
    /// are none.
    pub tail_length: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    pub key: Key,
    /// Bytes of all files of the bundle.
    pub bytes: u64,
    entries_length: u64,
    entries_crc32: u32,
}

/// Writes the index so that it is either absent or whole, whenever the machine stops.
pub(super) fn write(dir: &Path, key: &Key, bytes: u64, entries: &[Arc<Entry>]) -> io::Result<()> {
    let list: Vec<&Entry> = entries.iter().map(AsRef::as_ref).collect();
    let body = serde_json::to_vec(&list)?;
    let header = Header {
        version: VERSION,
        key: key.clone(),
        bytes,
        entries_length: body.len() as u64,
        entries_crc32: crc32fast::hash(&body),
    };
    let header = serde_json::to_vec(&header)?;
    let temporary = dir.join(TEMPORARY);
    let mut file = File::create(&temporary)?;
    writeln!(file, "{:08x}", crc32fast::hash(&header))?;
    file.write_all(&header)?;
    file.write_all(b"\n")?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

/// The header of a bundle.
pub(super) fn read_header(dir: &Path) -> io::Result<Header> {
    parse_header(&mut BufReader::new(File::open(dir.join(FILE))?))
}

/// The entries of the bundle of `key`; their files must be there and long enough.
pub(super) fn read(dir: &Path, key: &Key) -> io::Result<Vec<Arc<Entry>>> {
    let mut reader = BufReader::new(File::open(dir.join(FILE))?);
    let header = parse_header(&mut reader)?;
    if header.key != *key {
        return Err(damaged("the index is that of another bundle"));
    }
    if header.entries_length > MAX_ENTRIES {
        return Err(damaged("the index is too large"));
    }
    let mut body = Vec::new();
    reader.take(header.entries_length).read_to_end(&mut body)?;
    if body.len() as u64 != header.entries_length || crc32fast::hash(&body) != header.entries_crc32
    {
        return Err(damaged("the entries of the index are damaged"));
    }
    let entries: Vec<Entry> = serde_json::from_slice(&body)?;
    let mut sizes = std::collections::HashMap::new();
    for entry in &entries {
        let size = match sizes.get(&entry.file) {
            Some(size) => *size,
            None => {
                let size = fs::metadata(super::staging::file_path(dir, entry.file))?.len();
                sizes.insert(entry.file, size);
                size
            }
        };
        let end = entry.offset.checked_add(entry.length);
        let inside = end.is_some_and(|end| end <= size)
            && entry
                .meta_length
                .checked_add(entry.head_length)
                .and_then(|head| head.checked_add(entry.tail_length))
                .is_some_and(|outside_pixels| outside_pixels <= entry.length);
        if !inside {
            return Err(damaged("an entry lies beyond its file"));
        }
    }
    Ok(entries.into_iter().map(Arc::new).collect())
}

/// When the bundle was last used, as far as the disk knows.
pub(super) fn last_used(dir: &Path) -> SystemTime {
    fs::metadata(dir.join(FILE))
        .and_then(|metadata| metadata.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Writes the time of last use.
pub(super) fn touch(dir: &Path) {
    let touched = File::options()
        .append(true)
        .open(dir.join(FILE))
        .and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!("the time of last use of a bundle was not kept: {error}");
    }
}

fn parse_header(reader: &mut impl BufRead) -> io::Result<Header> {
    let mut limited = reader.take(MAX_HEADER);
    let mut checksum = String::new();
    limited.read_line(&mut checksum)?;
    let mut line = Vec::new();
    limited.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(damaged("the header of the index is cut short"));
    }
    if u32::from_str_radix(checksum.trim_end(), 16).ok() != Some(crc32fast::hash(&line)) {
        return Err(damaged("the header of the index is damaged"));
    }
    let header: Header = serde_json::from_slice(&line)?;
    if header.version != VERSION {
        return Err(damaged("the index is of another version"));
    }
    Ok(header)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
