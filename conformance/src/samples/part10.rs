//! DICOM files (PS3.10): file meta information and elements by dicom-object, Pixel Data by hand, so that
//! frames can be written one at a time and laid out in fragments on purpose.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use dicom_core::Tag;
use dicom_core::header::Header;
use dicom_core::value::Value;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_object::meta::FileMetaTableBuilder;
use dicom_transfer_syntax_registry::entries;
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::Error;
use super::dataset::DataSet;
use super::uid::uid;

/// Explicit VR big endian: retired in 2006, still found in archives.
pub(super) const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// The value of Pixel Data (7FE0,0010).
pub(super) enum Pixels {
    /// The object has no Pixel Data.
    Absent,
    /// Native samples, little endian.
    Native(Vec<u8>),
    /// Native frames made while they are written, for objects larger than memory ought to be.
    Stream(FrameStream),
    /// A Basic Offset Table (PS3.5 §A.4), empty or with one entry per frame, and the fragments.
    Encapsulated {
        /// Entries of the Basic Offset Table.
        offsets: Vec<u32>,
        /// Fragments, each of even length.
        fragments: Vec<Vec<u8>>,
    },
}

/// Frames of equal length, made one at a time.
pub(super) struct FrameStream {
    /// Number of frames.
    pub frames: u32,
    /// Length of a frame in bytes.
    pub frame_length: u32,
    /// Makes the frame of that index.
    pub frame: Box<dyn Fn(u32) -> Vec<u8>>,
}

/// SHA-256, in lower-case hexadecimal, of the pixels of a data set; `None` without Pixel Data.
///
/// What is hashed survives a lossless change of the encoding around the pixels: native samples in
/// little-endian order with the padding byte of the value, whatever the byte order of the file; for
/// encapsulated pixels the bytes of all fragments in order, without item tags and offset table.
pub fn pixel_digest(dataset: &InMemDicomObject) -> Option<String> {
    let mut digest = Context::new(&SHA256);
    match dataset.get(tags::PIXEL_DATA)?.value() {
        Value::Primitive(value) => digest.update(&value.to_bytes()),
        Value::PixelSequence(sequence) => {
            for fragment in sequence.fragments() {
                digest.update(fragment);
            }
        }
        Value::Sequence(_) => return None,
    }
    Some(hexadecimal(digest))
}

/// Writes a file and returns the digest of its pixels, as [`pixel_digest`] reads it back.
pub(super) fn write_file(
    path: &Path,
    dataset: &DataSet,
    transfer_syntax: &str,
    pixels: &mut Pixels,
) -> Result<Option<String>, Error> {
    let file = File::create(path).map_err(|source| Error::io(path, source))?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(transfer_syntax)
        .media_storage_sop_class_uid(text_of(dataset, tags::SOP_CLASS_UID))
        .media_storage_sop_instance_uid(text_of(dataset, tags::SOP_INSTANCE_UID))
        .implementation_class_uid(uid("implementation"))
        .implementation_version_name("SAMPLES")
        .build()
        .map_err(|error| Error::dicom(path, error))?;
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    meta.write(&mut head)
        .map_err(|error| Error::dicom(path, error))?;
    out.write_all(&head)
        .map_err(|source| Error::io(path, source))?;

    let encoding = match transfer_syntax {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        EXPLICIT_VR_BIG_ENDIAN => entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
        _ => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
    };
    let encode = |part: DataSet| {
        let mut bytes = Vec::new();
        part.write_dataset_with_ts(&mut bytes, &encoding)
            .map_err(|error| Error::dicom(path, error))?;
        Ok(bytes)
    };
    let before = encode(part(dataset, |tag| tag < tags::PIXEL_DATA))?;
    let after = encode(part(dataset, |tag| tag > tags::PIXEL_DATA))?;
    let order = PixelOrder {
        implicit: transfer_syntax == uids::IMPLICIT_VR_LITTLE_ENDIAN,
        big_endian: transfer_syntax == EXPLICIT_VR_BIG_ENDIAN,
        words: dataset
            .get(tags::BITS_ALLOCATED)
            .and_then(|element| element.to_int::<u16>().ok())
            .is_some_and(|bits| bits > 8),
    };
    let mut write = |out: &mut dyn Write| {
        out.write_all(&before)?;
        let digest = order.write(pixels, out)?;
        out.write_all(&after)?;
        Ok(digest)
    };
    let digest = if transfer_syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        let mut deflated = DeflateEncoder::new(&mut out, Compression::default());
        write(&mut deflated).and_then(|digest| deflated.finish().map(|_| digest))
    } else {
        write(&mut out)
    };
    let digest = digest.map_err(|source| Error::io(path, source))?;
    out.flush().map_err(|source| Error::io(path, source))?;
    Ok(digest)
}

fn part(dataset: &DataSet, belongs: impl Fn(Tag) -> bool) -> DataSet {
    let elements = dataset.iter().filter(|element| belongs(element.tag()));
    DataSet::from_element_iter(elements.cloned())
}

fn text_of(dataset: &DataSet, tag: Tag) -> String {
    dataset
        .get(tag)
        .and_then(|element| element.to_str().ok())
        .map(|text| text.into_owned())
        .unwrap_or_default()
}

/// How Pixel Data is laid out in a transfer syntax.
struct PixelOrder {
    implicit: bool,
    big_endian: bool,
    /// OW, 16-bit units; OB otherwise.
    words: bool,
}

impl PixelOrder {
    fn write(&self, pixels: &mut Pixels, out: &mut dyn Write) -> io::Result<Option<String>> {
        let mut digest = Context::new(&SHA256);
        match pixels {
            Pixels::Absent => return Ok(None),
            Pixels::Native(bytes) => {
                if bytes.len() % 2 == 1 {
                    bytes.push(0);
                }
                self.header(self.words, length(bytes.len())?, out)?;
                self.samples(bytes, &mut digest, out)?;
            }
            Pixels::Stream(stream) => {
                let total = stream.frames as usize * stream.frame_length as usize;
                self.header(self.words, length(total.next_multiple_of(2))?, out)?;
                for number in 0..stream.frames {
                    let frame = (stream.frame)(number);
                    if frame.len() != stream.frame_length as usize {
                        return Err(io::Error::other("a frame of another length than announced"));
                    }
                    self.samples(&frame, &mut digest, out)?;
                }
                if total % 2 == 1 {
                    self.samples(&[0], &mut digest, out)?;
                }
            }
            Pixels::Encapsulated { offsets, fragments } => {
                self.header(false, u32::MAX, out)?;
                let table: Vec<u8> = offsets
                    .iter()
                    .flat_map(|offset| offset.to_le_bytes())
                    .collect();
                item(&table, out)?;
                for fragment in fragments {
                    if fragment.len() % 2 == 1 {
                        fragment.push(0);
                    }
                    item(fragment, out)?;
                    digest.update(fragment);
                }
                out.write_all(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0])?;
            }
        }
        Ok(Some(hexadecimal(digest)))
    }

    fn header(&self, words: bool, length: u32, out: &mut dyn Write) -> io::Result<()> {
        let vr: &[u8] = if words { b"OW\0\0" } else { b"OB\0\0" };
        if self.big_endian {
            out.write_all(&[0x7F, 0xE0, 0x00, 0x10])?;
            out.write_all(vr)?;
            return out.write_all(&length.to_be_bytes());
        }
        out.write_all(&[0xE0, 0x7F, 0x10, 0x00])?;
        if !self.implicit {
            out.write_all(vr)?;
        }
        out.write_all(&length.to_le_bytes())
    }

    fn samples(&self, bytes: &[u8], digest: &mut Context, out: &mut dyn Write) -> io::Result<()> {
        digest.update(bytes);
        if self.big_endian && self.words {
            let swapped: Vec<u8> = bytes
                .chunks(2)
                .flat_map(|word| word.iter().rev())
                .copied()
                .collect();
            return out.write_all(&swapped);
        }
        out.write_all(bytes)
    }
}

fn item(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0xFE, 0xFF, 0x00, 0xE0])?;
    out.write_all(&length(bytes.len())?.to_le_bytes())?;
    out.write_all(bytes)
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::other("Pixel Data of 4 GiB or more"))
}

fn hexadecimal(digest: Context) -> String {
    use std::fmt::Write;
    digest
        .finish()
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
