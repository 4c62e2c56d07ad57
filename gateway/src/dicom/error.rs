//! Limits on what is read, and what is said when a data set cannot be.

use dicom_core::Tag;

/// Bounds on one data set. They hold before anything is kept or followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sequences inside one another.
    pub depth: u32,
    /// Elements and items, at all depths, fragments of pixel data not counted.
    ///
    /// The default leaves room for an enhanced CT of 5 000 frames with 80 elements each.
    pub elements: u32,
    /// Bytes before top-level Pixel Data (the whole data set where there is none).
    pub head_bytes: u64,
    /// Bytes that a deflated data set may become.
    pub inflated_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 32,
            elements: 400_000,
            head_bytes: 512 << 20,
            inflated_bytes: 4 << 30,
        }
    }
}

/// A data set that cannot be read: where, which element, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the data set{}: {problem}", element(.tag))]
pub struct ReadError {
    /// Where, in bytes of the data set (inflated, where it was deflated).
    pub offset: u64,
    /// The element being read, as far as it was known.
    pub tag: Option<Tag>,
    /// What is wrong.
    pub problem: Problem,
}

fn element(tag: &Option<Tag>) -> String {
    tag.map_or_else(String::new, |tag| format!(", element {tag}"))
}

/// What can be wrong with a data set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The bytes end inside an element, a sequence or Pixel Data.
    #[error(
        "the data set is cut short, {missing} more bytes at least were announced; ask the archive for the object again"
    )]
    Truncated {
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// Two bytes stand where a VR must be, and are not two capital letters (PS3.5 §7.1.2).
    #[error(
        "bytes {0:02x?} stand in place of a value representation; the object is damaged or its transfer syntax is not the one declared"
    )]
    NotAVr([u8; 2]),
    /// A length goes past the item, the sequence or the data set that holds the element.
    #[error(
        "a length of {length} bytes is declared where {remaining} remain; the object is damaged, ask the archive for it again"
    )]
    LengthBeyondParent {
        /// What the length field says.
        length: u64,
        /// What its container has left.
        remaining: u64,
    },
    /// Undefined length where PS3.5 §7.1 forbids it.
    #[error(
        "an undefined length is not allowed for this value representation; the object is damaged"
    )]
    UndefinedLength,
    /// Inside a sequence or encapsulated Pixel Data, something else than an item (PS3.5 §7.5).
    #[error("an item or the end of the sequence was expected; the object is damaged")]
    ItemExpected,
    /// An item or a delimiter outside a sequence.
    #[error("an item or a delimiter stands outside a sequence; the object is damaged")]
    StrayItem,
    /// More sequences inside one another than allowed.
    #[error(
        "more than {0} sequences inside one another; if the object is genuine, raise the limit on depth"
    )]
    TooDeep(u32),
    /// More elements than allowed.
    #[error("more than {0} elements; if the object is genuine, raise the limit on elements")]
    TooManyElements(u32),
    /// More bytes before Pixel Data than allowed.
    #[error(
        "more than {0} bytes before Pixel Data; if the object is genuine, raise the limit on the size of heads"
    )]
    HeadTooLarge(u64),
    /// Encapsulated Pixel Data in a transfer syntax whose Pixel Data are native.
    #[error(
        "Pixel Data are encapsulated, which the transfer syntax does not allow; the object is damaged or its transfer syntax is not the one declared"
    )]
    EncapsulatedInNative,
    /// The deflated stream is not one (RFC 1951).
    #[error(
        "the deflated data set cannot be inflated; the object is damaged, ask the archive for it again"
    )]
    Inflate,
    /// The deflated stream gives more than allowed.
    #[error(
        "the deflated data set gives more than {0} bytes; if the object is genuine, raise the limit on inflated sizes"
    )]
    InflatedTooLarge(u64),
    /// More than one padding byte after the end of the deflated stream.
    #[error("bytes follow the end of the deflated data set; the object is damaged")]
    TrailingBytes,
}
