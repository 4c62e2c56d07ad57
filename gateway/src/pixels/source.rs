//! Random access to the bytes of a stored object.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use parking_lot::Mutex;

use super::error::PixelError;

/// Bytes that can be read at any offset. Reading blocks.
pub trait ReadAt {
    /// Reads bytes at this offset; fewer than asked for near the end, none beyond it.
    ///
    /// # Errors
    /// What the system answers.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Fills the buffer from this offset.
    ///
    /// # Errors
    /// `UnexpectedEof` when the bytes end before; what the system answers.
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            let rest = into.get_mut(done..).unwrap_or_default();
            match self.read_at(offset.saturating_add(done as u64), rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(offset, into)
    }
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, into)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for Arc<S> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, into)
    }
}

/// Bytes before the data set of a file as they are, the data set inflated where it is deflated
/// (PS3.5 §A.5).
///
/// A deflated stream has no random access: reading forwards goes on where the last read ended,
/// reading backwards starts again. Memory is that of the inflater.
pub(super) struct DataSetBytes<S> {
    source: Arc<S>,
    /// Where the deflated data set begins; `None`: it is not deflated.
    deflated_from: Option<u64>,
    limit: u64,
    inflater: Mutex<Option<Forward<S>>>,
}

struct Forward<S> {
    at: u64,
    decoder: DeflateDecoder<Cursor<S>>,
}

impl<S: ReadAt> DataSetBytes<S> {
    /// `deflated_from`: offset of the data set where it is deflated; `limit`: bytes it may become.
    pub(super) fn new(source: S, deflated_from: Option<u64>, limit: u64) -> Self {
        Self {
            source: Arc::new(source),
            deflated_from,
            limit,
            inflater: Mutex::new(None),
        }
    }

    /// The bytes as they are stored.
    pub(super) fn stored(&self) -> &S {
        &self.source
    }

    fn read_inflated(&self, start: u64, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if offset.saturating_add(into.len() as u64) > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the deflated data set gives more bytes than the limit",
            ));
        }
        let mut slot = self.inflater.lock();
        let forward = match &mut *slot {
            Some(forward) if forward.at <= offset => forward,
            other => other.insert(Forward {
                at: 0,
                decoder: DeflateDecoder::new(Cursor {
                    source: Arc::clone(&self.source),
                    at: start,
                }),
            }),
        };
        let skip = offset - forward.at;
        let skipped = io::copy(&mut (&mut forward.decoder).take(skip), &mut io::sink())?;
        forward.at += skipped;
        if skipped < skip {
            return Ok(0);
        }
        let count = forward.decoder.read(into)?;
        forward.at += count as u64;
        Ok(count)
    }
}

impl<S: ReadAt> ReadAt for DataSetBytes<S> {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.deflated_from {
            Some(start) if offset >= start => self.read_inflated(start, offset - start, into),
            _ => self.source.read_at(offset, into),
        }
    }
}

/// Reads a source from one offset on.
pub(super) struct Cursor<S> {
    pub(super) source: Arc<S>,
    pub(super) at: u64,
}

impl<S: ReadAt> Read for Cursor<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(self.at, into)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The bytes of these ranges one after the other; never more than `limit`.
pub(super) fn read_ranges<S: ReadAt + ?Sized>(
    source: &S,
    ranges: &[std::ops::Range<u64>],
    limit: u64,
) -> Result<Vec<u8>, PixelError> {
    let total = ranges.iter().fold(0_u64, |sum, range| {
        sum.saturating_add(range.end - range.start)
    });
    if total > limit {
        return Err(PixelError::TooLarge {
            what: "bytes of one stored frame",
            size: total,
            limit,
        });
    }
    // Grown as the bytes come: ranges that a damaged file announces are not allocated.
    let mut out = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let step = usize::try_from(range.end - at)
                .unwrap_or(usize::MAX)
                .min(STEP);
            let from = out.len();
            out.resize(from + step, 0);
            source
                .read_exact_at(at, out.get_mut(from..).unwrap_or_default())
                .map_err(|error| cut(error, at))?;
            at += step as u64;
        }
    }
    Ok(out)
}

/// Bytes read at once from a source.
pub(super) const STEP: usize = 1 << 20;

pub(super) fn cut(error: io::Error, offset: u64) -> PixelError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        PixelError::Structure {
            offset,
            what: "the object ends before its pixels do",
        }
    } else {
        PixelError::Io(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_deflated_data_set_is_read_forwards_and_backwards() {
        let plain: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let mut file = b"file meta information".to_vec();
        let start = file.len() as u64;
        let mut deflate =
            flate2::write::DeflateEncoder::new(&mut file, flate2::Compression::fast());
        deflate.write_all(&plain).unwrap();
        deflate.finish().unwrap();
        let bytes = DataSetBytes::new(file, Some(start), 1 << 20);
        let mut buffer = [0; 1000];
        for offset in [0, 5_000, 700_001, 20, 799_000] {
            bytes.read_exact_at(start + offset, &mut buffer).unwrap();
            let offset = usize::try_from(offset).unwrap();
            assert_eq!(buffer[..], plain[offset..offset + 1000]);
        }
        assert_eq!(bytes.read_at(start + 800_000, &mut buffer).unwrap(), 0);
        bytes.read_exact_at(0, &mut buffer[..4]).unwrap();
        assert_eq!(&buffer[..4], b"file");
    }

    #[test]
    fn more_than_the_limit_is_not_inflated() {
        let mut file = Vec::new();
        let mut deflate =
            flate2::write::DeflateEncoder::new(&mut file, flate2::Compression::fast());
        deflate.write_all(&vec![0; 1 << 20]).unwrap();
        deflate.finish().unwrap();
        let bytes = DataSetBytes::new(file, Some(0), 1000);
        assert!(bytes.read_at(900, &mut [0; 101]).is_err());
        assert_eq!(bytes.read_at(900, &mut [0; 100]).unwrap(), 100);
    }

    #[test]
    fn ranges_beyond_the_end_or_the_limit_are_refused_without_their_memory() {
        let bytes = vec![1_u8; 100];
        let huge = 0..u64::MAX / 2;
        assert!(matches!(
            read_ranges(&bytes, std::slice::from_ref(&huge), 1 << 30),
            Err(PixelError::TooLarge { .. })
        ));
        assert!(matches!(
            read_ranges(&bytes, std::slice::from_ref(&huge), u64::MAX),
            Err(PixelError::Structure { .. })
        ));
        assert_eq!(
            read_ranges(&bytes, &[10..20, 90..100], 20).unwrap().len(),
            20
        );
    }
}
