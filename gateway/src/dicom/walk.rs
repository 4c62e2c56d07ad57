//! The one place where data set bytes become elements (PS3.5 §7).
//!
//! A push parser: it is fed fragments of any size, keeps at most one element header, and tells a
//! sink what it meets. The scanner, the in-memory reader and the converter are sinks. It follows no
//! length before checking it against the container of the element, and values pass through as
//! slices of what was fed, so Pixel Data costs one comparison per fragment.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use super::error::{Limits, Problem, ReadError};
use super::syntax::Encoding;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const UNDEFINED: u32 = u32::MAX;

/// True for the three elements that hold the pixels of an image (PS3.3 §C.7.6.3, §C.7.6.24).
#[must_use]
pub fn is_pixel_data(tag: Tag) -> bool {
    tag.0 == 0x7FE0 && matches!(tag.1, 0x0008 | 0x0009 | 0x0010)
}

/// An element header as met in the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub tag: Tag,
    /// From the data, or from the dictionary where the data does not say.
    pub vr: VR,
    /// `None`: undefined.
    pub length: Option<u32>,
    /// Offset of the first byte of the header.
    pub offset: u64,
    /// Offset of the first byte of the value.
    pub value_offset: u64,
    /// How the value is written; inside a UN of undefined length it is not that of the data set.
    pub encoding: Encoding,
    /// Sequences around this element.
    pub depth: u32,
}

/// What the walker meets, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event<'b> {
    /// An element that is neither a sequence nor encapsulated; `Value` events follow until its
    /// length is reached, none when it is empty.
    Element(Header),
    /// A part of the value of the current element or fragment.
    Value(&'b [u8]),
    /// A sequence begins.
    Sequence(Header),
    /// An item begins; its header is at this offset.
    Item { offset: u64 },
    /// The item ends; `end` is the offset after its delimiter, if it has one.
    ItemEnd { end: u64 },
    /// The sequence or the encapsulated element ends; `end` is the offset after its delimiter.
    SequenceEnd { end: u64 },
    /// Encapsulated Pixel Data begins.
    Encapsulated(Header),
    /// A fragment of encapsulated Pixel Data; `Value` events follow.
    Fragment { offset: u64, length: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    Encapsulated,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    tag: Tag,
    /// Where it ends, when its length is defined.
    end: Option<u64>,
    /// The nearest defined end, its own or that of what holds it.
    bound: Option<u64>,
    encoding: Encoding,
    /// Pixel Representation (0028,0103) seen in this item: PS3.5 §A.1 makes the VR of some
    /// elements depend on it.
    signed: Option<bool>,
}

/// The first elements of a data set in Explicit VR Little Endian, and the offsets of their headers, as far as each is whole in
/// these bytes and says its length: what they hold is passed over. Ends before the first that needs the [`Walker`], to be
/// followed or to be refused.
pub(crate) fn leading_elements(bytes: &[u8]) -> impl Iterator<Item = (Tag, usize)> {
    let mut offset: usize = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(offset..)?;
        let [a, b, c, d, vr @ .., e, f] = rest.first_chunk::<8>()?;
        let tag = Tag(u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
        let vr = VR::from_binary(*vr).filter(|_| tag.0 != 0xFFFE && !is_pixel_data(tag))?;
        let (header, length) = if has_short_length(vr) {
            (8, u32::from(u16::from_le_bytes([*e, *f])))
        } else {
            let [.., e, f, g, h] = rest.first_chunk::<12>()?;
            (12, u32::from_le_bytes([*e, *f, *g, *h]))
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|_| length != UNDEFINED)?;
        let end = offset.checked_add(header)?.checked_add(length)?;
        let begins = std::mem::replace(&mut offset, end);
        (end <= bytes.len()).then_some((tag, begins))
    })
}

/// The parser. One per data set.
#[derive(Debug)]
pub(crate) struct Walker {
    limits: Limits,
    /// The data set itself, then what is open inside it. Never empty.
    root: Frame,
    stack: Vec<Frame>,
    offset: u64,
    header: [u8; 12],
    filled: usize,
    /// Bytes of the current value still to come.
    remaining: u64,
    /// The element of the current value or header, for errors.
    current: Option<Tag>,
    /// First byte of (0028,0103) is to be taken from the next value byte.
    pixel_representation: Option<Encoding>,
    value_seen: u64,
    elements: u32,
    depth: u32,
    pixel_data_met: bool,
}

impl Walker {
    /// A walker for a data set in this encoding (`DeflatedExplicitLittle` means: already inflated).
    /// `total` is the size of the data set where it is known.
    pub fn new(encoding: Encoding, limits: Limits, total: Option<u64>) -> Self {
        let encoding = match encoding {
            Encoding::DeflatedExplicitLittle => Encoding::ExplicitLittle,
            other => other,
        };
        let root = Frame {
            kind: Kind::Item,
            tag: ITEM,
            end: None,
            bound: total,
            encoding,
            signed: None,
        };
        Self {
            limits,
            root,
            stack: Vec::new(),
            offset: 0,
            header: [0; 12],
            filled: 0,
            remaining: 0,
            current: None,
            pixel_representation: None,
            value_seen: 0,
            elements: 0,
            depth: 0,
            pixel_data_met: false,
        }
    }

    /// Bytes taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes of the data set.
    pub fn feed<S>(&mut self, mut input: &[u8], sink: &mut S) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        loop {
            if self.remaining > 0 {
                let take = usize::try_from(self.remaining)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                if take == 0 {
                    return Ok(());
                }
                let (value, rest) = input.split_at(take);
                self.note_pixel_representation(value);
                sink(Event::Value(value))?;
                self.offset += take as u64;
                self.remaining -= take as u64;
                input = rest;
                continue;
            }
            self.close_ended(sink)?;
            if input.is_empty() {
                return Ok(());
            }
            if self.take_header(&mut input)? {
                self.enter(sink)?;
            }
        }
    }

    /// Says that the data set ends here.
    pub fn finish<S>(&mut self, sink: &mut S) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        if self.remaining > 0 {
            return self.fail(Problem::Truncated {
                missing: self.remaining,
            });
        }
        self.close_ended(sink)?;
        if self.filled > 0 {
            return self.fail(Problem::Truncated {
                missing: 8_u64.saturating_sub(self.filled as u64).max(1),
            });
        }
        if let Some(frame) = self.stack.last() {
            let missing = frame
                .end
                .map_or(8, |end| end.saturating_sub(self.offset))
                .max(1);
            self.current = Some(frame.tag);
            return self.fail(Problem::Truncated { missing });
        }
        Ok(())
    }

    fn frame(&self) -> &Frame {
        self.stack.last().unwrap_or(&self.root)
    }

    fn fail<T>(&self, problem: Problem) -> Result<T, ReadError> {
        Err(ReadError {
            offset: self.offset,
            tag: self.current,
            problem,
        })
    }

    /// Closes what has a defined length and ends here.
    fn close_ended<S>(&mut self, sink: &mut S) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        if self.filled > 0 {
            return Ok(());
        }
        while self
            .stack
            .last()
            .is_some_and(|frame| frame.end == Some(self.offset))
        {
            self.pop(sink)?;
        }
        Ok(())
    }

    fn pop<S>(&mut self, sink: &mut S) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        let end = self.offset;
        match self.stack.pop().map(|frame| frame.kind) {
            Some(Kind::Item) => sink(Event::ItemEnd { end }),
            Some(Kind::Sequence) => {
                self.depth -= 1;
                sink(Event::SequenceEnd { end })
            }
            Some(Kind::Encapsulated) => sink(Event::SequenceEnd { end }),
            None => Ok(()),
        }
    }

    /// Fills the header buffer; true when it holds a whole header.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<bool, ReadError> {
        loop {
            let need = self.header_length()?;
            let Some(space) = self.header.get_mut(self.filled..need) else {
                return Ok(true);
            };
            if space.is_empty() {
                return Ok(true);
            }
            let take = space.len().min(input.len());
            if take == 0 {
                return Ok(false);
            }
            let (bytes, rest) = input.split_at(take);
            if let Some(space) = space.get_mut(..take) {
                space.copy_from_slice(bytes);
            }
            self.filled += take;
            self.offset += take as u64;
            *input = rest;
            if self.filled >= 8 && need == 8 {
                self.current = Some(self.read_tag());
            }
        }
    }

    /// How many bytes the header has, as far as the bytes at hand tell: 8, or 12 for the VRs that
    /// have two reserved bytes and a 32-bit length (PS3.5 §7.1.2).
    fn header_length(&self) -> Result<usize, ReadError> {
        let frame = self.frame();
        if self.filled < 8 || frame.kind != Kind::Item || frame.encoding.is_implicit() {
            return Ok(8);
        }
        let tag = self.read_tag();
        if tag.0 == 0xFFFE {
            return Ok(8);
        }
        let vr = self.vr_bytes();
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(ReadError {
                offset: self.offset - self.filled as u64 + 4,
                tag: Some(tag),
                problem: Problem::NotAVr(vr),
            });
        }
        // A VR this code does not know is a new one, and those have the long form.
        Ok(if VR::from_binary(vr).is_some_and(has_short_length) {
            8
        } else {
            12
        })
    }

    fn vr_bytes(&self) -> [u8; 2] {
        let [_, _, _, _, a, b, ..] = self.header;
        [a, b]
    }

    fn read_tag(&self) -> Tag {
        let [a, b, c, d, ..] = self.header;
        if self.frame().encoding.is_big_endian() {
            Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        } else {
            Tag(u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
        }
    }

    /// Acts on the whole header in the buffer.
    fn enter<S>(&mut self, sink: &mut S) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        let tag = self.read_tag();
        let frame = *self.frame();
        let (vr, length) = self.read_vr_and_length(tag, &frame);
        let header_length = self.filled as u64;
        self.filled = 0;
        self.current = Some(tag);
        if let Some(bound) = frame.bound
            && self.offset > bound
        {
            let remaining = bound.saturating_sub(self.offset - header_length);
            return self.fail(Problem::LengthBeyondParent {
                length: header_length,
                remaining,
            });
        }
        match frame.kind {
            Kind::Sequence => self.enter_item(tag, length, &frame, sink),
            Kind::Encapsulated => self.enter_fragment(tag, length, &frame, sink),
            Kind::Item if tag == ITEM_END && !self.stack.is_empty() && frame.end.is_none() => {
                self.pop(sink)
            }
            Kind::Item if tag == ITEM_END && frame.end == Some(self.offset) => Ok(()),
            Kind::Item if tag.0 == 0xFFFE => self.fail(Problem::StrayItem),
            Kind::Item => {
                let header = Header {
                    tag,
                    vr,
                    length: (length != UNDEFINED).then_some(length),
                    offset: self.offset - header_length,
                    value_offset: self.offset,
                    encoding: frame.encoding,
                    depth: self.depth,
                };
                self.enter_element(header, &frame, sink)
            }
        }
    }

    fn enter_item<S>(
        &mut self,
        tag: Tag,
        length: u32,
        frame: &Frame,
        sink: &mut S,
    ) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        match tag {
            ITEM => {
                self.count_element()?;
                let end = self.end_of(length, frame)?;
                self.stack.push(Frame {
                    kind: Kind::Item,
                    tag: frame.tag,
                    end,
                    bound: end.or(frame.bound),
                    encoding: frame.encoding,
                    signed: None,
                });
                sink(Event::Item {
                    offset: self.offset - 8,
                })
            }
            SEQUENCE_END if frame.end.is_none() => self.pop(sink),
            // Some systems write a delimiter even at the end of what has a defined length.
            SEQUENCE_END if frame.end == Some(self.offset) => Ok(()),
            _ => self.fail(Problem::ItemExpected),
        }
    }

    fn enter_fragment<S>(
        &mut self,
        tag: Tag,
        length: u32,
        frame: &Frame,
        sink: &mut S,
    ) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        match tag {
            ITEM if length == UNDEFINED => self.fail(Problem::UndefinedLength),
            ITEM => {
                self.end_of(length, frame)?;
                self.begin_value(length);
                sink(Event::Fragment {
                    offset: self.offset - 8,
                    length,
                })
            }
            SEQUENCE_END => self.pop(sink),
            _ => self.fail(Problem::ItemExpected),
        }
    }

    fn enter_element<S>(
        &mut self,
        header: Header,
        frame: &Frame,
        sink: &mut S,
    ) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        self.count_element()?;
        if self.stack.is_empty() && is_pixel_data(header.tag) {
            self.pixel_data_met = true;
        }
        let end = self.end_of(header.length.unwrap_or(UNDEFINED), frame)?;
        match (header.vr, header.length) {
            (_, None) if header.tag == Tag(0x7FE0, 0x0010) => {
                self.begin_fragments(header, frame, sink)
            }
            (VR::SQ, _) => self.begin_sequence(header, end, frame, frame.encoding, sink),
            // PS3.5 §6.2.2 note 4: a UN of undefined length is a sequence in Implicit VR Little Endian.
            (VR::UN, None) => {
                self.begin_sequence(header, end, frame, Encoding::ImplicitLittle, sink)
            }
            // In implicit VR only a sequence can have an undefined length, whatever the dictionary says.
            (_, None) if frame.encoding.is_implicit() => {
                self.begin_sequence(header, end, frame, frame.encoding, sink)
            }
            (VR::OB | VR::OW, None) => self.begin_fragments(header, frame, sink),
            (_, None) => self.fail(Problem::UndefinedLength),
            (_, Some(length)) => {
                self.begin_value(length);
                if header.tag == PIXEL_REPRESENTATION {
                    self.pixel_representation = Some(header.encoding);
                }
                sink(Event::Element(header))
            }
        }
    }

    fn begin_sequence<S>(
        &mut self,
        header: Header,
        end: Option<u64>,
        frame: &Frame,
        encoding: Encoding,
        sink: &mut S,
    ) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        if self.depth >= self.limits.depth {
            return self.fail(Problem::TooDeep(self.limits.depth));
        }
        self.depth += 1;
        self.stack.push(Frame {
            kind: Kind::Sequence,
            tag: header.tag,
            end,
            bound: end.or(frame.bound),
            encoding,
            signed: None,
        });
        sink(Event::Sequence(header))
    }

    fn begin_fragments<S>(
        &mut self,
        header: Header,
        frame: &Frame,
        sink: &mut S,
    ) -> Result<(), ReadError>
    where
        S: FnMut(Event<'_>) -> Result<(), ReadError>,
    {
        self.stack.push(Frame {
            kind: Kind::Encapsulated,
            tag: header.tag,
            end: None,
            bound: frame.bound,
            encoding: frame.encoding,
            signed: None,
        });
        sink(Event::Encapsulated(header))
    }

    fn begin_value(&mut self, length: u32) {
        self.remaining = u64::from(length);
        self.value_seen = 0;
        self.pixel_representation = None;
    }

    /// Where something of this length ends, checked against what holds it and against the limits.
    fn end_of(&self, length: u32, frame: &Frame) -> Result<Option<u64>, ReadError> {
        if length == UNDEFINED {
            self.check_head(self.offset)?;
            return Ok(None);
        }
        let end = self.offset + u64::from(length);
        if let Some(bound) = frame.bound
            && end > bound
        {
            return self.fail(Problem::LengthBeyondParent {
                length: u64::from(length),
                remaining: bound.saturating_sub(self.offset),
            });
        }
        self.check_head(end)?;
        Ok(Some(end))
    }

    fn check_head(&self, end: u64) -> Result<(), ReadError> {
        if !self.pixel_data_met && end > self.limits.head_bytes {
            return self.fail(Problem::HeadTooLarge(self.limits.head_bytes));
        }
        Ok(())
    }

    fn count_element(&mut self) -> Result<(), ReadError> {
        if self.elements >= self.limits.elements {
            return self.fail(Problem::TooManyElements(self.limits.elements));
        }
        self.elements += 1;
        Ok(())
    }

    fn read_vr_and_length(&self, tag: Tag, frame: &Frame) -> (VR, u32) {
        let [_, _, _, _, a, b, c, d, e, f, g, h] = self.header;
        let big = frame.encoding.is_big_endian();
        let long = |bytes: [u8; 4]| {
            if big {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        if frame.kind != Kind::Item || tag.0 == 0xFFFE {
            return (VR::UN, long([a, b, c, d]));
        }
        if frame.encoding.is_implicit() {
            return (implicit_vr(tag, self.signed()), long([a, b, c, d]));
        }
        let vr = VR::from_binary([a, b]).unwrap_or(VR::UN);
        if self.filled == 12 {
            return (vr, long([e, f, g, h]));
        }
        let short = if big {
            u16::from_be_bytes([c, d])
        } else {
            u16::from_le_bytes([c, d])
        };
        (vr, u32::from(short))
    }

    /// Pixel Representation of the nearest item that has it.
    fn signed(&self) -> bool {
        self.stack
            .iter()
            .rev()
            .find_map(|frame| frame.signed)
            .or(self.root.signed)
            .unwrap_or(false)
    }

    fn note_pixel_representation(&mut self, value: &[u8]) {
        let Some(encoding) = self.pixel_representation else {
            return;
        };
        let wanted = u64::from(encoding.is_big_endian());
        if let Some(byte) = wanted
            .checked_sub(self.value_seen)
            .and_then(|at| value.get(usize::try_from(at).ok()?))
        {
            let signed = Some(*byte & 1 == 1);
            match self.stack.last_mut() {
                Some(frame) => frame.signed = signed,
                None => self.root.signed = signed,
            }
            self.pixel_representation = None;
        }
        self.value_seen += value.len() as u64;
    }
}

/// The VR of an element whose data does not say it (PS3.5 §A.1, PS3.6). `signed` is Pixel
/// Representation; private elements are UN, their creators LO.
#[must_use]
pub fn implicit_vr(tag: Tag, signed: bool) -> VR {
    if tag.1 == 0 {
        return VR::UL;
    }
    if tag.0 & 1 == 1 {
        return if (0x0010..=0x00FF).contains(&tag.1) {
            VR::LO
        } else {
            VR::UN
        };
    }
    match StandardDataDictionary
        .by_tag(tag)
        .map(DataDictionaryEntry::vr)
    {
        Some(VirtualVr::Exact(vr)) => vr,
        Some(VirtualVr::Xs) => {
            if signed {
                VR::SS
            } else {
                VR::US
            }
        }
        Some(VirtualVr::Ox | VirtualVr::Px | VirtualVr::Lt) => VR::OW,
        _ => VR::UN,
    }
}

/// True for the VRs whose explicit form has a 16-bit length (PS3.5 table 7.1-2).
#[must_use]
pub fn has_short_length(vr: VR) -> bool {
    use VR::{OB, OD, OF, OL, OV, OW, SQ, SV, UC, UN, UR, UT, UV};
    !matches!(
        vr,
        OB | OD | OF | OL | OV | OW | SQ | SV | UC | UN | UR | UT | UV
    )
}

/// Bytes of the numbers in values of this VR, 1 where bytes are the unit (PS3.5 §7.3).
#[must_use]
pub fn word_size(vr: VR) -> usize {
    use VR::{AT, FD, FL, OD, OF, OL, OV, OW, SL, SS, SV, UL, US, UV};
    match vr {
        US | SS | OW | AT => 2,
        UL | SL | FL | OF | OL => 4,
        FD | OD | SV | UV | OV => 8,
        _ => 1,
    }
}
