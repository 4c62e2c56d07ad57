//! A bundle while it is written.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Bundle, Cache, Entry, Key, index};
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};

/// Number of the pack among the files of a bundle.
const PACK: u32 = 0;

/// An instance to write: its identity and the shape of its Part 10 file.
#[derive(Debug, Clone)]
pub struct Object {
    /// SOP instance.
    pub instance: InstanceUid,
    /// SOP class.
    pub sop_class: SopClassUid,
    /// Transfer syntax of the data set.
    pub transfer_syntax: TransferSyntaxUid,
    /// Bytes before the data set.
    pub meta_length: u64,
    /// Bytes of the data set before its pixel data.
    pub head_length: u64,
    /// Bytes of the data set after its pixel data.
    pub tail_length: u64,
}

/// A bundle that is not whole yet: nobody finds it in the cache. Dropped without
/// [`Staging::commit`] it leaves nothing behind.
pub struct Staging {
    cache: Arc<Cache>,
    key: Key,
    dir: PathBuf,
    pack: Mutex<Pack>,
    pack_file: Arc<File>,
    next_file: AtomicU32,
    bytes: AtomicU64,
    committed: bool,
}

struct Pack {
    file: File,
    length: u64,
}

/// A file for one instance too large to be held in memory.
pub struct LargeObject {
    file: File,
    number: u32,
    length: u64,
    checksum: crc32fast::Hasher,
}

impl Staging {
    pub(super) fn begin(cache: Arc<Cache>, key: Key) -> io::Result<Self> {
        cache.reserve(0, 0)?;
        let dir = cache.dir.join(uuid::Uuid::new_v4().simple().to_string());
        fs::create_dir(&dir)?;
        let path = file_path(&dir, PACK);
        let file = File::create(&path)?;
        let pack_file = Arc::new(File::open(&path)?);
        Ok(Self {
            cache,
            key,
            dir,
            pack: Mutex::new(Pack { file, length: 0 }),
            pack_file,
            next_file: AtomicU32::new(PACK + 1),
            bytes: AtomicU64::new(0),
            committed: false,
        })
    }

    /// Appends a Part 10 file, given in pieces, to the pack.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::StorageFull`] when there is no room. Nothing was appended then.
    pub fn append(&self, object: Object, pieces: &[Bytes]) -> io::Result<Entry> {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.reserve(length)?;
        let mut pack = self.pack.lock();
        let offset = pack.length;
        if let Err(error) = write_pieces(&mut pack.file, pieces) {
            // What follows must start where the last whole instance ends.
            let rewound = pack.file.set_len(offset).and_then(|()| {
                io::Seek::seek(&mut pack.file, io::SeekFrom::Start(offset)).map(|_| ())
            });
            self.unreserve(length);
            return Err(rewound.err().unwrap_or(error));
        }
        pack.length += length;
        let mut checksum = crc32fast::Hasher::new();
        pieces.iter().for_each(|piece| checksum.update(piece));
        Ok(entry(object, PACK, offset, length, checksum.finalize()))
    }

    /// Starts a file of its own for an instance.
    ///
    /// # Errors
    /// The system's.
    pub fn begin_large(&self) -> io::Result<LargeObject> {
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        let file = File::create_new(file_path(&self.dir, number))?;
        Ok(LargeObject {
            file,
            number,
            length: 0,
            checksum: crc32fast::Hasher::new(),
        })
    }

    /// Appends to a large instance.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_large(&self, large: &mut LargeObject, pieces: &[Bytes]) -> io::Result<()> {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.reserve(length)?;
        write_pieces(&mut large.file, pieces)?;
        large.length += length;
        pieces.iter().for_each(|piece| large.checksum.update(piece));
        Ok(())
    }

    /// The large instance is whole.
    ///
    /// # Errors
    /// The system's, when the data do not reach the disk.
    pub fn finish_large(&self, large: LargeObject, object: Object) -> io::Result<Entry> {
        large.file.sync_data()?;
        let crc32 = large.checksum.finalize();
        Ok(entry(object, large.number, 0, large.length, crc32))
    }

    /// What was written of a large instance: its file, and how many bytes of it count.
    ///
    /// # Errors
    /// The system's.
    pub fn written(&self, large: &LargeObject) -> io::Result<(Arc<File>, u64)> {
        let file = File::open(file_path(&self.dir, large.number))?;
        Ok((Arc::new(file), large.length))
    }

    /// The large instance will not be whole: its room is given back.
    pub fn discard_large(&self, large: LargeObject) {
        let _ = fs::remove_file(file_path(&self.dir, large.number));
        self.unreserve(large.length);
    }

    /// The open file that an entry lies in.
    ///
    /// # Errors
    /// The system's.
    pub fn file(&self, entry: &Entry) -> io::Result<Arc<File>> {
        if entry.file == PACK {
            return Ok(Arc::clone(&self.pack_file));
        }
        File::open(file_path(&self.dir, entry.file)).map(Arc::new)
    }

    /// Makes the bundle durable and known: data, then index, then the catalogue.
    ///
    /// # Errors
    /// The system's; the bundle is then gone.
    pub fn commit(mut self, entries: Vec<Arc<Entry>>) -> io::Result<Arc<Bundle>> {
        self.pack.lock().file.sync_data()?;
        let bytes = self.bytes.load(Ordering::Acquire);
        index::write(&self.dir, &self.key, bytes, &entries)?;
        self.committed = true;
        let (key, dir) = (self.key.clone(), self.dir.clone());
        let bundle = Arc::new(Bundle::new(&self.cache, key, dir, entries));
        self.cache
            .adopt(self.key.clone(), self.dir.clone(), bytes, &bundle);
        Ok(bundle)
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.cache
            .reserve(self.bytes.load(Ordering::Acquire), length)?;
        self.bytes.fetch_add(length, Ordering::AcqRel);
        Ok(())
    }

    fn unreserve(&self, length: u64) {
        self.bytes.fetch_sub(length, Ordering::AcqRel);
        self.cache.release(length);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            super::remove(&self.dir);
            self.cache.release(self.bytes.load(Ordering::Acquire));
        }
    }
}

/// Path of a file of a bundle. Only numbers chosen here reach it.
pub(super) fn file_path(dir: &Path, number: u32) -> PathBuf {
    match number {
        PACK => dir.join("pack"),
        number => dir.join(format!("large-{number}")),
    }
}

fn entry(object: Object, file: u32, offset: u64, length: u64, crc32: u32) -> Entry {
    Entry {
        instance: object.instance,
        sop_class: object.sop_class,
        transfer_syntax: object.transfer_syntax,
        file,
        offset,
        length,
        crc32,
        meta_length: object.meta_length,
        head_length: object.head_length,
        tail_length: object.tail_length,
    }
}

fn write_pieces(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
