//! File Meta Information (PS3.10 §7.1): what stands before a data set in a file and in the parts of
//! a WADO-RS response.

use dicom_core::{Tag, VR};

use super::reader::{DataSet, Limits, ReadError};
use super::syntax::Encoding;
use super::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use super::walk::has_short_length;
use super::write::put_element;

/// Implementation Class UID (0002,0012) of this gateway, made from a UUID (PS3.5 §B.2).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.250096512462516454396695376310629125092";
/// Implementation Version Name (0002,0013), at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = "DRIMBOX_0.1";

const PREAMBLE: usize = 128;
const META_START: usize = PREAMBLE + 4;
/// The group is a few hundred bytes in every real file; private information may be added to it.
const META_MAX: usize = 64 << 10;

const SOP_CLASS: Tag = Tag(0x0002, 0x0002);
const SOP_INSTANCE: Tag = Tag(0x0002, 0x0003);
const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);

/// Preamble, prefix and group 0002 of an object: the bytes to put before its data set.
#[must_use]
pub fn file_meta(
    sop_class: &SopClassUid,
    instance: &InstanceUid,
    syntax: &TransferSyntaxUid,
) -> Vec<u8> {
    let mut group = Vec::with_capacity(256);
    put_element(&mut group, Tag(0x0002, 0x0001), VR::OB, &[0, 1]);
    put_element(&mut group, SOP_CLASS, VR::UI, sop_class.as_str().as_bytes());
    put_element(
        &mut group,
        SOP_INSTANCE,
        VR::UI,
        instance.as_str().as_bytes(),
    );
    put_element(
        &mut group,
        TRANSFER_SYNTAX,
        VR::UI,
        syntax.as_str().as_bytes(),
    );
    put_element(
        &mut group,
        Tag(0x0002, 0x0012),
        VR::UI,
        IMPLEMENTATION_CLASS_UID.as_bytes(),
    );
    put_element(
        &mut group,
        Tag(0x0002, 0x0013),
        VR::SH,
        IMPLEMENTATION_VERSION_NAME.as_bytes(),
    );

    let mut out = Vec::with_capacity(META_START + 12 + group.len());
    out.resize(PREAMBLE, 0);
    out.extend_from_slice(b"DICM");
    // A few hundred bytes: six short values.
    let length = u32::try_from(group.len()).unwrap_or(0);
    put_element(&mut out, Tag(0x0002, 0x0000), VR::UL, &length.to_le_bytes());
    out.extend_from_slice(&group);
    out
}

/// What the File Meta Information of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Offset of the data set in the file.
    pub data_set_offset: usize,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax: TransferSyntaxUid,
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class: Option<SopClassUid>,
    /// Media Storage SOP Instance UID (0002,0003).
    pub instance: Option<InstanceUid>,
}

/// Why bytes are not the beginning of a DICOM file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Part10Error {
    /// No `DICM` after 128 bytes.
    #[error(
        "this is no DICOM file: the prefix DICM is missing after the 128 bytes of the preamble"
    )]
    NotPart10,
    /// The bytes end inside group 0002.
    #[error("the file meta information is cut short; give more of the file, or ask for it again")]
    Truncated,
    /// Group 0002 is longer than any genuine one.
    #[error("the file meta information has more than {META_MAX} bytes; the file is damaged")]
    TooLong,
    /// (0002,0010) is missing or is not a UID.
    #[error("the file does not say its transfer syntax (0002,0010); the file is damaged")]
    NoTransferSyntax,
    /// Group 0002 is no Explicit VR Little Endian.
    #[error("the file meta information cannot be read: {0}")]
    Read(#[from] ReadError),
}

/// Reads the beginning of a DICOM file. The end of group 0002 is found by its elements: its length
/// element is wrong in too many files.
///
/// # Errors
/// [`Part10Error`] when the bytes are not the beginning of a file that can be read.
pub fn parse(file: &[u8]) -> Result<FileMeta, Part10Error> {
    if file.get(PREAMBLE..META_START) != Some(b"DICM") {
        return Err(Part10Error::NotPart10);
    }
    let end = meta_end(file)?;
    let group = file.get(META_START..end).ok_or(Part10Error::Truncated)?;
    let set = DataSet::parse(group, Encoding::ExplicitLittle, Limits::default())?;
    let uid = |tag| set.elements().uid(tag);
    Ok(FileMeta {
        data_set_offset: end,
        transfer_syntax: uid(TRANSFER_SYNTAX)
            .ok_or(Part10Error::NoTransferSyntax)?
            .into(),
        sop_class: uid(SOP_CLASS).map(SopClassUid::from),
        instance: uid(SOP_INSTANCE).map(InstanceUid::from),
    })
}

/// Reads the beginning of a file that is still arriving; `None` while the first element after the
/// meta information has not begun.
///
/// # Errors
/// [`Part10Error`], never [`Part10Error::Truncated`].
pub fn parse_arriving(file: &[u8]) -> Result<Option<FileMeta>, Part10Error> {
    if file.len() < META_START {
        return Ok(None);
    }
    if file.get(PREAMBLE..META_START) != Some(b"DICM") {
        return Err(Part10Error::NotPart10);
    }
    match meta_end(file) {
        Ok(end) if end < file.len() => parse(file).map(Some),
        Ok(_) | Err(Part10Error::Truncated) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the first element that is not of group 0002 begins.
fn meta_end(file: &[u8]) -> Result<usize, Part10Error> {
    let mut at = META_START;
    loop {
        if at - META_START > META_MAX {
            return Err(Part10Error::TooLong);
        }
        let rest = file.get(at..).ok_or(Part10Error::Truncated)?;
        match rest.first_chunk::<2>() {
            None if rest.is_empty() => return Ok(at),
            None => return Err(Part10Error::Truncated),
            Some([0x02, 0x00]) => {}
            Some(_) => return Ok(at),
        }
        let [_, _, _, _, a, b, c, d] = *rest.first_chunk::<8>().ok_or(Part10Error::Truncated)?;
        let (header, length) = match VR::from_binary([a, b]) {
            Some(vr) if has_short_length(vr) => (8, usize::from(u16::from_le_bytes([c, d]))),
            _ => {
                let long = rest.get(8..).and_then(|rest| rest.first_chunk::<4>());
                let long = u32::from_le_bytes(*long.ok_or(Part10Error::Truncated)?);
                (12, usize::try_from(long).map_err(|_| Part10Error::TooLong)?)
            }
        };
        if length > META_MAX {
            return Err(Part10Error::TooLong);
        }
        at += header + length;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::reader::Problem;
    use super::super::testdata::Writer;
    use super::*;

    fn meta() -> Vec<u8> {
        file_meta(
            &SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
            &InstanceUid::parse("1.2.3.4.5").unwrap(),
            &TransferSyntaxUid::parse("1.2.840.10008.1.2.4.80").unwrap(),
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let mut file = meta();
        let offset = file.len();
        let group = u32::from_le_bytes(file[140..144].try_into().unwrap());
        assert_eq!(group as usize, offset - 144);
        file.extend_from_slice(b"\x08\x00\x05\x00CS\x00\x00");
        let read = parse(&file).unwrap();
        assert_eq!(read.data_set_offset, offset);
        assert_eq!(read.transfer_syntax.as_str(), "1.2.840.10008.1.2.4.80");
        assert_eq!(
            read.sop_class.unwrap().as_str(),
            "1.2.840.10008.5.1.4.1.1.2"
        );
        assert_eq!(read.instance.unwrap().as_str(), "1.2.3.4.5");
    }

    #[test]
    fn dicom_object_reads_what_is_written() {
        let meta = meta();
        let table = dicom_object::FileMetaTable::from_reader(&meta[128..]).unwrap();
        assert_eq!(table.transfer_syntax(), "1.2.840.10008.1.2.4.80");
        assert_eq!(table.media_storage_sop_instance_uid(), "1.2.3.4.5");
        assert_eq!(table.implementation_class_uid(), IMPLEMENTATION_CLASS_UID);
    }

    #[test]
    fn a_wrong_group_length_is_not_believed_and_a_missing_one_not_missed() {
        let mut file = meta();
        let offset = file.len();
        file[140..144].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&file).unwrap().data_set_offset, offset);
        file.drain(132..144);
        assert_eq!(parse(&file).unwrap().data_set_offset, offset - 12);
    }

    #[test]
    fn what_is_cut_or_no_file_is_refused() {
        let file = meta();
        for end in 0..132 {
            assert_eq!(parse(&file[..end]), Err(Part10Error::NotPart10));
        }
        for end in 132..file.len() - 2 {
            // Between two elements it is whole as far as bytes tell.
            assert!(!matches!(parse(&file[..end]), Ok(meta) if meta.data_set_offset != end));
        }
        let mut long = file[..132].to_vec();
        let mut w = Writer::new(Encoding::ExplicitLittle);
        w.header((0x0002, 0x0102), VR::OB, 0x6169_6465);
        long.extend_from_slice(&w.bytes);
        assert_eq!(parse(&long), Err(Part10Error::TooLong));
    }

    #[test]
    fn a_file_that_arrives_byte_by_byte_is_read_once_its_data_set_begins() {
        let mut file = meta();
        let offset = file.len();
        file.extend_from_slice(b"\x08\x00\x05\x00CS\x00\x00");
        for end in 0..=file.len() {
            let read = parse_arriving(&file[..end]).unwrap();
            assert_eq!(
                read.map(|meta| meta.data_set_offset),
                (end >= offset + 2).then_some(offset),
                "{end} bytes"
            );
        }
        assert_eq!(parse_arriving(&[0; 132]), Err(Part10Error::NotPart10));
    }

    /// A file whose data set goes out of step after (0008,0032): text of a PDF spells a length of
    /// 1 634 296 933 bytes. It made a parser allocate them.
    #[test]
    fn the_small_file_that_announces_gigabytes_ends_in_an_error() {
        let mut file = meta();
        let start = file.len();
        let w = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.104.1")
            .put((0x0008, 0x0032), VR::TM, b"120000");
        file.extend_from_slice(&w.bytes);
        file.extend_from_slice(b" 2 0 R/Media");
        file.resize(1426, b' ');
        assert_eq!(parse(&file).unwrap().data_set_offset, start);
        let error = DataSet::parse(&file[start..], Encoding::ExplicitLittle, Limits::default())
            .unwrap_err();
        assert_eq!(error.problem, Problem::NotAVr(*b" R"));
    }
}
