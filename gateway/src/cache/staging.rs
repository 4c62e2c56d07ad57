//! A bundle while it is written.

use std::fs::{self, File};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
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

/// The instances of a bundle that were small enough to be held in memory, one after the other.
struct Pack {
    file: Box<dyn PackFile>,
    /// Bytes of the whole instances.
    length: u64,
    /// What was written of an instance that is not whole could not be cut off.
    spoiled: bool,
}

/// What a pack needs of its file; tests put one in its place that runs full.
trait PackFile: Write + Send {
    /// Cuts the file to this length; what is written next starts there.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// What was written has reached the disk.
    fn sync(&self) -> io::Result<()>;
}

impl PackFile for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(|_| ())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Pack {
    /// Appends an instance, of which nothing is there when it fails; returns where it starts.
    fn append(&mut self, length: u64, pieces: &[Bytes]) -> io::Result<u64> {
        if self.spoiled {
            return Err(io::Error::other("the pack has an end that is not whole"));
        }
        let offset = self.length;
        if let Err(error) = write_pieces(&mut self.file, pieces) {
            // What follows must start where the last whole instance ends.
            self.spoiled = self.file.cut(offset).is_err();
            return Err(error);
        }
        self.length += length;
        Ok(offset)
    }
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
            pack: Mutex::new(Pack {
                file: Box::new(file),
                length: 0,
                spoiled: false,
            }),
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
        let offset = match self.pack.lock().append(length, pieces) {
            Ok(offset) => offset,
            Err(error) => {
                self.unreserve(length);
                return Err(error);
            }
        };
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
    /// As [`Self::append`]; what was appended before still counts.
    pub fn append_large(&self, large: &mut LargeObject, pieces: &[Bytes]) -> io::Result<()> {
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.reserve(length)?;
        if let Err(error) = write_pieces(&mut large.file, pieces) {
            self.unreserve(length);
            return Err(error);
        }
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
        self.pack.lock().file.sync()?;
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

fn write_pieces(file: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use tempfile::TempDir;

    use super::super::read_range;
    use super::super::tests::{ROOMY, instance, key, object};
    use super::*;

    #[test]
    fn an_instance_that_the_disk_cuts_short_leaves_nothing_and_the_next_starts_at_the_last_whole_one()
     {
        let (dir, cache, staging) = staged();
        let room = small_disk(&staging, 8, true);
        let first = staging.append(object(1), &pieces("first")).unwrap();
        let full = staging
            .append(object(2), &pieces("does not fit"))
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(cache.size(), (0, 5));
        room.store(1_000, Ordering::SeqCst);
        let third = staging.append(object(3), &pieces("third")).unwrap();
        assert_eq!((first.offset, third.offset), (0, 5));
        staging
            .commit(vec![Arc::new(first), Arc::new(third)])
            .unwrap();
        drop(cache);

        // All of it is compared with its checksums then.
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        let bundle = cache.get(&key("1")).unwrap();
        let third = bundle.find(&instance(3)).unwrap();
        let file = bundle.file(third).unwrap();
        assert_eq!(read_range(&file, third.offset, 5).unwrap(), "third");
        assert_eq!(file.metadata().unwrap().len(), 10);
        assert_eq!(cache.size(), (1, 10));
    }

    #[test]
    fn a_pack_that_cannot_be_cut_takes_nothing_more() {
        let (dir, cache, staging) = staged();
        let room = small_disk(&staging, 8, false);
        staging.append(object(1), &pieces("first")).unwrap();
        let full = staging
            .append(object(2), &pieces("does not fit"))
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        room.store(1_000, Ordering::SeqCst);
        assert!(staging.append(object(3), &pieces("third")).is_err());
        assert_eq!(cache.size(), (0, 5));
        drop(staging);
        assert_gone(&dir, &cache);
    }

    #[test]
    fn a_device_without_room_says_that_it_is_full() {
        let (dir, cache, staging) = staged();
        staging.pack.lock().file = Box::new(full_device());
        let full = staging.append(object(1), &pieces("first")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(cache.size(), (0, 0));

        let mut large = staging.begin_large().unwrap();
        staging
            .append_large(&mut large, &pieces("written"))
            .unwrap();
        large.file = full_device();
        let full = staging
            .append_large(&mut large, &pieces("not"))
            .unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let (file, length) = staging.written(&large).unwrap();
        assert_eq!(length, 7);
        assert_eq!(read_range(&file, 0, 7).unwrap(), "written");
        assert_eq!(cache.size(), (0, 7));
        staging.discard_large(large);
        assert_eq!(cache.size(), (0, 0));
        drop(staging);
        assert_gone(&dir, &cache);
    }

    #[test]
    fn a_bundle_that_does_not_reach_the_disk_leaves_no_folder() {
        // The images, then the index.
        let failures: [fn(&Staging); 2] = [
            |staging| {
                small_disk(staging, 0, true);
            },
            |staging| fs::create_dir(staging.dir.join("index.new")).unwrap(),
        ];
        for fails in failures {
            let (dir, cache, staging) = staged();
            let entry = staging.append(object(1), &pieces("first")).unwrap();
            fails(&staging);
            assert!(staging.commit(vec![Arc::new(entry)]).is_err());
            assert!(cache.get(&key("1")).is_none());
            assert_gone(&dir, &cache);
        }
    }

    fn staged() -> (TempDir, Arc<Cache>, Staging) {
        let dir = TempDir::new().unwrap();
        let cache = Cache::open(dir.path(), ROOMY).unwrap();
        let staging = cache.stage(key("1")).unwrap();
        (dir, cache, staging)
    }

    fn pieces(text: &'static str) -> Vec<Bytes> {
        let (one, other) = text.split_at(text.len() / 2);
        vec![
            Bytes::from_static(one.as_bytes()),
            Bytes::from_static(other.as_bytes()),
        ]
    }

    fn assert_gone(dir: &TempDir, cache: &Cache) {
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(cache.size(), (0, 0));
    }

    fn full_device() -> File {
        File::options().write(true).open("/dev/full").unwrap()
    }

    /// Puts the pack on a disk with room for so many bytes; without any, nothing reaches it.
    fn small_disk(staging: &Staging, room: u64, can_be_cut: bool) -> Arc<AtomicU64> {
        let room = Arc::new(AtomicU64::new(room));
        let file = File::options()
            .write(true)
            .open(file_path(&staging.dir, PACK));
        staging.pack.lock().file = Box::new(SmallDisk {
            file: file.unwrap(),
            room: Arc::clone(&room),
            can_be_cut,
        });
        room
    }

    struct SmallDisk {
        file: File,
        room: Arc<AtomicU64>,
        can_be_cut: bool,
    }

    impl Write for SmallDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = usize::try_from(self.room.load(Ordering::SeqCst)).unwrap();
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let written = self.file.write(&bytes[..bytes.len().min(room)])?;
            self.room.fetch_sub(written as u64, Ordering::SeqCst);
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl PackFile for SmallDisk {
        fn cut(&mut self, length: u64) -> io::Result<()> {
            if self.can_be_cut {
                PackFile::cut(&mut self.file, length)
            } else {
                Err(io::ErrorKind::Other.into())
            }
        }

        fn sync(&self) -> io::Result<()> {
            match self.room.load(Ordering::SeqCst) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                _ => PackFile::sync(&self.file),
            }
        }
    }
}
