//! A ZIP that is sent while it is written: nothing of it is looked at again.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

/// Bytes by which an instance may grow on its way: the INS takes some two hundred.
const GROWTH: u64 = 64 << 10;

/// The ZIP, with what of it was not taken yet.
pub(super) struct Zipped {
    writer: ZipWriter<StreamWriter<Sink>>,
    sink: Sink,
}

impl Zipped {
    /// Nothing is in it.
    pub(super) fn new() -> Self {
        let sink = Sink::default();
        Self {
            writer: ZipWriter::new_stream(sink.clone()),
            sink,
        }
    }

    /// Begins a file of about this many bytes; the one before is whole.
    ///
    /// # Errors
    /// When the one before is larger than was said.
    pub(super) fn begin(&mut self, name: &str, length: Option<u64>) -> io::Result<()> {
        self.writer.start_file(name, stored(length)).map_err(broken)
    }

    /// What came since the last time.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut *self.sink.0.lock()).into()
    }

    /// The rest, with the table of contents.
    ///
    /// # Errors
    /// When the last file is larger than was said.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        self.writer.finish().map_err(broken)?;
        let rest = std::mem::take(&mut *self.sink.0.lock());
        Ok(rest.into())
    }
}

impl Write for Zipped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Takes what the archive is made of until it is sent.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end of an archive that cannot be completed.
pub(super) fn broken(error: impl std::fmt::Display) -> io::Error {
    // Names no instance: the log of the studies does.
    let error = io::Error::other(error.to_string());
    tracing::warn!("an archive of an exam breaks off: {error}");
    error
}

/// As it is: images are compressed already, and lengths stay foreseeable. ZIP64 where an entry may need it.
fn stored(length: Option<u64>) -> SimpleFileOptions {
    let large = length.is_some_and(|length| length.saturating_add(GROWTH) >= u64::from(u32::MAX));
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(large)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::{Seek as _, SeekFrom};
    use std::process::Command;

    use super::*;

    #[test]
    fn only_an_entry_that_needs_it_has_large_lengths() {
        // Readers of the nineties open the usual archive.
        let write = |length| {
            let mut zip = Zipped::new();
            zip.begin("A", length).unwrap();
            zip.write_all(b"content").unwrap();
            zip.finish().unwrap()
        };
        let has_zip64 = |bytes: &[u8]| {
            bytes
                .windows(4)
                .any(|field| field == [0x01, 0x00, 0x10, 0x00])
        };
        assert!(!has_zip64(&write(Some(7))));
        assert!(has_zip64(&write(Some(5 << 30))));
        assert!(has_zip64(&write(Some(u64::from(u32::MAX) - 200))));
    }

    /// Says of each entry where it begins and how large it is, then what the last one holds.
    const LIST: &str = r"import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
print(*(f'{one.filename} {one.header_offset} {one.file_size}' for one in archive.infolist()), sep='\n')
print(archive.read('DICOMDIR').decode())";

    /// The archive of a whole-slide study: one object of more than 4 GiB, and files behind it. Its zeros are a hole of
    /// the file, and take no place on disk.
    #[test]
    fn an_archive_of_more_than_4_gib_is_read_by_others() {
        const LENGTH: u64 = (4 << 30) + (1 << 20);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("examen.zip");
        let mut file = File::create(&path).unwrap();
        let mut zip = Zipped::new();
        zip.begin("LISEZMOI.TXT", None).unwrap();
        zip.write_all(b"read me").unwrap();
        zip.begin("DICOM/S00001/I0000001", Some(LENGTH)).unwrap();
        file.write_all(&zip.take()).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..LENGTH >> 20 {
            zip.write_all(&zeros).unwrap();
            let piece = i64::try_from(zip.take().len()).unwrap();
            assert_eq!(piece, 1 << 20, "a piece goes by as it is");
            file.seek(SeekFrom::Current(piece)).unwrap();
        }
        zip.begin("DICOM/S00001/I0000002", Some(5)).unwrap();
        zip.write_all(b"small").unwrap();
        zip.begin("DICOMDIR", None).unwrap();
        zip.write_all(b"the directory").unwrap();
        file.write_all(&zip.finish().unwrap()).unwrap();
        drop(file);
        let listed = Command::new("python3")
            .args(["-c", LIST])
            .arg(&path)
            .output();
        let listed = listed.unwrap();
        let said = String::from_utf8_lossy(&listed.stderr).into_owned();
        assert!(listed.status.success(), "{said}");
        let lines = String::from_utf8(listed.stdout).unwrap();
        let lines: Vec<Vec<&str>> = lines
            .lines()
            .map(|line| line.split(' ').collect())
            .collect();
        let [read_me, large, small, directory, content] = lines.as_slice() else {
            unreachable!("{lines:?}");
        };
        let length = LENGTH.to_string();
        assert_eq!(read_me.last(), Some(&"7"));
        assert_eq!(large.last(), Some(&length.as_str()));
        for (entry, length) in [(small, "5"), (directory, "13")] {
            let place: u64 = entry.get(1).unwrap().parse().unwrap();
            assert!(place > LENGTH, "{entry:?}");
            assert_eq!(entry.last(), Some(&length));
        }
        assert_eq!(content.join(" "), "the directory");
    }
}
