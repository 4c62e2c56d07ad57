//! Reads the identity of an object while its data set goes by.
//!
//! The scanner is fed the fragments of a C-STORE as they arrive, whatever their boundaries. It keeps
//! nothing of them but a few UIDs, follows the structure to the end, and so tells a whole object
//! from one that was cut short. Inside Pixel Data it skips from item to item.

use dicom_core::{Tag, VR};

use super::inflate::Inflater;
pub use super::reader::{Limits, ReadError};
use super::syntax::Encoding;
use super::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid, TransferSyntaxUid, Uid};
use super::walk::{Event, Header, Walker, is_pixel_data};

const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
/// A UID of 64 characters, and room to see that one is longer.
const KEPT: usize = 66;

/// What an object says of itself before its pixels.
///
/// A UID is `None` when the object does not have it or when it is not a UID.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Study Instance UID (0020,000D).
    pub study: Option<StudyUid>,
    /// Series Instance UID (0020,000E).
    pub series: Option<SeriesUid>,
    /// SOP Instance UID (0008,0018).
    pub instance: Option<InstanceUid>,
    /// SOP Class UID (0008,0016).
    pub sop_class: Option<SopClassUid>,
    /// Number of Frames (0028,0008).
    pub number_of_frames: Option<u32>,
    /// Top-level Pixel Data, Float Pixel Data or Double Float Pixel Data.
    pub pixel_data: Option<PixelElement>,
    /// Offset of the first header byte of that element, in bytes of the data set (inflated, where
    /// it is deflated): the length of the head.
    pub pixel_data_offset: Option<u64>,
    /// Offset of the first header byte of the first top-level element that stands after the pixels
    /// and holds none, counted likewise; `None` when there is none. From there to the end of the
    /// data set are whole top-level elements.
    pub tail_offset: Option<u64>,
}

/// The header of the element that holds the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelElement {
    /// (7FE0,0008), (7FE0,0009) or (7FE0,0010).
    pub tag: Tag,
    /// Its VR, from the data or the dictionary.
    pub vr: VR,
    /// Offset of the first byte of the value, in bytes of the (inflated) data set.
    pub value_offset: u64,
    /// Length of a native value in bytes; `None`: encapsulated.
    pub length: Option<u32>,
}

/// The scanner; one per object.
#[derive(Debug)]
pub struct HeadScanner {
    walker: Walker,
    inflater: Option<Inflater>,
    found: Found,
}

#[derive(Debug, Default)]
struct Found {
    head: Head,
    /// The top-level element whose value is being kept.
    keeping: Option<Tag>,
    kept: Vec<u8>,
}

impl HeadScanner {
    /// A scanner for an object in this transfer syntax.
    #[must_use]
    pub fn new(syntax: &TransferSyntaxUid, limits: Limits) -> Self {
        let encoding = Encoding::of(syntax);
        Self {
            walker: Walker::new(encoding, limits, None),
            inflater: (encoding == Encoding::DeflatedExplicitLittle)
                .then(|| Inflater::new(limits.inflated_bytes)),
            found: Found::default(),
        }
    }

    /// Takes the next bytes of the data set.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes are no data set or exceed the limits; the object is to be refused.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let Self {
            walker,
            inflater,
            found,
        } = self;
        match inflater {
            None => walker.feed(bytes, &mut |event| found.take(event)),
            Some(inflater) => inflater.feed(bytes, |bytes| {
                walker.feed(bytes, &mut |event| found.take(event))
            }),
        }
    }

    /// The head, as soon as the header of the pixels has been read.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.found
            .head
            .pixel_data
            .is_some()
            .then_some(&self.found.head)
    }

    /// What has been read so far; fields not met yet are `None`.
    #[must_use]
    pub fn seen(&self) -> &Head {
        &self.found.head
    }

    /// Bytes of the (inflated) data set taken so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.walker.offset()
    }

    /// Says that the object ends here.
    ///
    /// # Errors
    /// [`ReadError`] when the object was cut short.
    pub fn finish(self) -> Result<Head, ReadError> {
        let Self {
            mut walker,
            inflater,
            mut found,
        } = self;
        if let Some(inflater) = inflater {
            inflater.finish()?;
        }
        walker.finish(&mut |event| found.take(event))?;
        found.settle();
        Ok(found.head)
    }
}

impl Found {
    #[allow(clippy::unnecessary_wraps)] // the shape of a sink
    fn take(&mut self, event: Event<'_>) -> Result<(), ReadError> {
        if let Event::Value(bytes) = event {
            if self.keeping.is_some() {
                let room = KEPT.saturating_sub(self.kept.len()).min(bytes.len());
                self.kept
                    .extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
            return Ok(());
        }
        self.settle();
        match event {
            Event::Element(header) | Event::Encapsulated(header) if header.depth == 0 => {
                self.element(&header);
            }
            Event::Sequence(header) if header.depth == 0 => self.note_tail(&header),
            _ => {}
        }
        Ok(())
    }

    fn note_tail(&mut self, header: &Header) {
        let after = self.head.pixel_data.is_some() && self.head.tail_offset.is_none();
        if after && !is_pixel_data(header.tag) {
            self.head.tail_offset = Some(header.offset);
        }
    }

    fn element(&mut self, header: &Header) {
        self.note_tail(header);
        if is_pixel_data(header.tag) && self.head.pixel_data.is_none() {
            self.head.pixel_data_offset = Some(header.offset);
            self.head.pixel_data = Some(PixelElement {
                tag: header.tag,
                vr: header.vr,
                value_offset: header.value_offset,
                length: header.length,
            });
        }
        if matches!(
            header.tag,
            SOP_CLASS | SOP_INSTANCE | STUDY | SERIES | NUMBER_OF_FRAMES
        ) {
            self.keeping = Some(header.tag);
        }
    }

    /// The value being kept is whole.
    fn settle(&mut self) {
        let Some(tag) = self.keeping.take() else {
            return;
        };
        let text = std::str::from_utf8(&self.kept).unwrap_or_default();
        let uid = Uid::parse(text.trim_start_matches(' ')).ok();
        match tag {
            SOP_CLASS => self.head.sop_class = uid.map(SopClassUid::from),
            SOP_INSTANCE => self.head.instance = uid.map(InstanceUid::from),
            STUDY => self.head.study = uid.map(StudyUid::from),
            SERIES => self.head.series = uid.map(SeriesUid::from),
            _ => self.head.number_of_frames = text.trim_matches([' ', '\0']).parse().ok(),
        }
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]
    use std::io::Write as _;

    use super::super::reader::Problem;
    use super::super::testdata::{ENCODINGS, Writer, image, pixel_offset};
    use super::*;

    fn scan(syntax: &str, chunks: &[&[u8]]) -> Result<Head, ReadError> {
        let mut scanner = scanner(syntax);
        for chunk in chunks {
            scanner.feed(chunk)?;
        }
        scanner.finish()
    }

    fn scanner(syntax: &str) -> HeadScanner {
        HeadScanner::new(
            &TransferSyntaxUid::parse(syntax).unwrap(),
            Limits::default(),
        )
    }

    #[test]
    fn the_identity_and_the_pixels_are_found_in_every_encoding() {
        for (encoding, syntax) in ENCODINGS {
            let bytes = image(encoding);
            let head = scan(syntax, &[&bytes]).unwrap();
            assert_eq!(head.study, StudyUid::parse("1.2.3").ok(), "{syntax}");
            assert_eq!(head.series, SeriesUid::parse("1.2.3.4").ok());
            assert_eq!(head.instance, InstanceUid::parse("1.2.3.4.5").ok());
            assert_eq!(
                head.sop_class,
                SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").ok()
            );
            assert_eq!(
                head.pixel_data_offset,
                Some(pixel_offset(&bytes, encoding) as u64)
            );
            let pixels = head.pixel_data.unwrap();
            assert_eq!(
                (pixels.tag, pixels.vr, pixels.length),
                (Tag(0x7FE0, 0x0010), VR::OW, Some(8))
            );
        }
    }

    #[test]
    fn byte_by_byte_gives_what_the_whole_gives() {
        for (encoding, syntax) in ENCODINGS {
            let bytes = image(encoding);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(scan(syntax, &single), scan(syntax, &[&bytes]));
        }
    }

    #[test]
    fn the_head_is_there_with_the_header_of_the_pixels_and_not_before() {
        let (encoding, syntax) = ENCODINGS[1];
        let bytes = image(encoding);
        let value = pixel_offset(&bytes, encoding) + 12;
        let mut scanner = scanner(syntax);
        scanner.feed(&bytes[..value - 1]).unwrap();
        assert_eq!(scanner.head(), None);
        assert!(scanner.seen().study.is_some());
        scanner.feed(&bytes[value - 1..value]).unwrap();
        assert_eq!(
            scanner.head().unwrap().pixel_data.unwrap().value_offset,
            value as u64
        );
    }

    #[test]
    fn an_object_cut_anywhere_but_between_top_level_elements_is_an_error() {
        for (encoding, syntax) in ENCODINGS {
            let bytes = image(encoding);
            let between: Vec<usize> = (0..=bytes.len())
                .filter(|end| scan(syntax, &[&bytes[..*end]]).is_ok())
                .collect();
            // 15 top-level elements end somewhere, the last one with the data; and nothing at all.
            assert_eq!(between.len(), 16, "{syntax}: {between:?}");
        }
    }

    #[test]
    fn encapsulated_pixels_are_followed_to_their_delimiter() {
        let syntax = "1.2.840.10008.1.2.4.80";
        let bytes = Writer::new(Encoding::ExplicitLittle)
            .put((0x0020, 0x000D), VR::UI, b"1.2.3")
            .fragments(&[&[], &[7; 100], &[9; 33]])
            .bytes;
        let head = scan(syntax, &[&bytes]).unwrap();
        assert_eq!(head.pixel_data.unwrap().length, None);
        let start = usize::try_from(head.pixel_data_offset.unwrap()).unwrap();
        for end in start + 1..bytes.len() {
            assert!(
                scan(syntax, &[&bytes[..end]]).is_err(),
                "cut at {end} of {}",
                bytes.len()
            );
        }
        let mut garbled = bytes.clone();
        garbled[start + 12] = 0x11; // no longer an item
        assert_eq!(
            scan(syntax, &[&garbled]).unwrap_err().problem,
            Problem::ItemExpected
        );
    }

    /// Pixels, then a private element, a sequence and padding; and where the private element begins.
    fn with_tail(encoding: Encoding, encapsulated: bool) -> (Vec<u8>, usize) {
        let start = Writer::new(encoding)
            .put((0x0020, 0x000D), VR::UI, b"1.2.3")
            .put((0x7FE0, 0x0001), VR::OV, &[0; 8]);
        let pixels = if encapsulated {
            start.fragments(&[&[], &[7; 10]])
        } else {
            start.put((0x7FE0, 0x0010), VR::OW, &[7; 8])
        };
        let at = pixels.bytes.len();
        let item = Writer::new(encoding)
            .put((0x0400, 0x0115), VR::OB, &[1; 4])
            .bytes;
        let bytes = pixels
            .put((0x7FE1, 0x0010), VR::LO, b"MAKER")
            .sequence((0xFFFA, 0xFFFA), false, &[item])
            .put((0xFFFC, 0xFFFC), VR::OB, &[0; 4])
            .bytes;
        (bytes, at)
    }

    #[test]
    fn what_stands_after_the_pixels_begins_where_they_end() {
        let mut cases = ENCODINGS
            .map(|(encoding, syntax)| (encoding, syntax, false))
            .to_vec();
        cases.push((Encoding::ExplicitLittle, "1.2.840.10008.1.2.4.80", true));
        for (encoding, syntax, encapsulated) in cases {
            let (bytes, at) = with_tail(encoding, encapsulated);
            let head = scan(syntax, &[&bytes]).unwrap();
            assert_eq!(head.tail_offset, Some(at as u64), "{syntax}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(scan(syntax, &single), Ok(head), "{syntax}");
            let without = scan(syntax, &[&bytes[..at]]).unwrap();
            assert_eq!(without.tail_offset, None, "{syntax}");
            // Cut within the tail: whole elements, or no object.
            for end in at + 1..bytes.len() {
                if let Ok(cut) = scan(syntax, &[&bytes[..end]]) {
                    assert_eq!(cut.tail_offset, Some(at as u64), "{syntax} cut at {end}");
                }
            }
            assert!(scan(syntax, &[&bytes[..at + 4]]).is_err(), "{syntax}");
        }
    }

    #[test]
    fn a_sequence_can_be_the_first_after_the_pixels() {
        for (encoding, syntax) in ENCODINGS {
            let pixels = Writer::new(encoding).put((0x7FE0, 0x0010), VR::OW, &[7; 8]);
            let at = pixels.bytes.len() as u64;
            let bytes = pixels.sequence((0xFFFA, 0xFFFA), true, &[Vec::new()]).bytes;
            let head = scan(syntax, &[&bytes]).unwrap();
            assert_eq!(head.tail_offset, Some(at), "{syntax}");
        }
    }

    #[test]
    fn pixels_after_pixels_are_no_tail_and_neither_is_what_a_sequence_holds() {
        let icon = Writer::new(Encoding::ExplicitLittle)
            .put((0x7FE0, 0x0010), VR::OW, &[1; 4])
            .put((0x7FE1, 0x0010), VR::LO, b"MAKER")
            .bytes;
        let bytes = Writer::new(Encoding::ExplicitLittle)
            .sequence((0x0088, 0x0200), false, &[icon])
            .put((0x0089, 0x0010), VR::LO, b"MAKER")
            .put((0x7FE0, 0x0008), VR::OF, &[1; 4])
            .put((0x7FE0, 0x0010), VR::OW, &[1; 4])
            .bytes;
        let head = scan("1.2.840.10008.1.2.1", &[&bytes]).unwrap();
        assert_eq!(head.pixel_data.unwrap().tag, Tag(0x7FE0, 0x0008));
        assert_eq!(head.tail_offset, None);
    }

    #[test]
    fn a_deflated_object_is_read_inflated_within_its_limit() {
        let bytes = image(Encoding::ExplicitLittle);
        let mut deflater =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflater.write_all(&bytes).unwrap();
        let deflated = deflater.finish().unwrap();
        let syntax = "1.2.840.10008.1.2.1.99";
        let single: Vec<&[u8]> = deflated.chunks(1).collect();
        let head = scan(syntax, &single).unwrap();
        assert_eq!(Ok(head), scan("1.2.840.10008.1.2.1", &[&bytes]));
        let mut padded = deflated.clone();
        padded.push(0);
        assert!(scan(syntax, &[&padded]).is_ok());
        padded.push(0);
        assert_eq!(
            scan(syntax, &[&padded]).unwrap_err().problem,
            Problem::TrailingBytes
        );
        let cut = &deflated[..deflated.len() - 1];
        assert!(matches!(
            scan(syntax, &[cut]).unwrap_err().problem,
            Problem::Truncated { .. }
        ));
        assert_eq!(
            scan(syntax, &[b"no deflate at all"]).unwrap_err().problem,
            Problem::Inflate
        );

        let limits = Limits {
            inflated_bytes: 100,
            ..Limits::default()
        };
        let mut scanner = HeadScanner::new(&TransferSyntaxUid::parse(syntax).unwrap(), limits);
        let error = scanner.feed(&deflated).unwrap_err();
        assert_eq!(error.problem, Problem::InflatedTooLarge(100));
    }

    #[test]
    fn an_object_without_pixels_has_a_head_at_its_end() {
        let bytes = Writer::new(Encoding::ExplicitLittle)
            .put((0x0020, 0x000D), VR::UI, b"1.2.3")
            .bytes;
        let head = scan("1.2.840.10008.1.2.1", &[&bytes]).unwrap();
        assert_eq!(head.study, StudyUid::parse("1.2.3").ok());
        assert_eq!(head.pixel_data, None);
    }

    #[test]
    fn what_is_not_a_uid_is_not_taken_for_one() {
        let long = [b'1'; 80];
        let bytes = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x0018), VR::UI, b"../../etc")
            .put((0x0020, 0x000D), VR::UI, &long)
            .bytes;
        let head = scan("1.2.840.10008.1.2.1", &[&bytes]).unwrap();
        assert_eq!((head.instance, head.study), (None, None));
    }
}
