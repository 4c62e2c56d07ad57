//! What a transfer syntax says about the bytes of a data set (PS3.5 §10, PS3.6 table A-1).

use super::uid::TransferSyntaxUid;

/// Implicit VR Little Endian, the default of DICOM (PS3.5 §A.1).
pub const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian (PS3.5 §A.2).
pub const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
/// Deflated Explicit VR Little Endian (PS3.5 §A.5).
pub const DEFLATED_EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1.99";
/// Explicit VR Big Endian, retired (PS3.5 §A.3 of the 2016 edition).
pub const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
/// RLE Lossless (PS3.5 §A.4.2).
pub const RLE: &str = "1.2.840.10008.1.2.5";

/// The transfer syntaxes a storage association proposes, most usual first: those that DRIM-M names.
pub const STORAGE_TRANSFER_SYNTAXES: &[&str] = &[
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    "1.2.840.10008.1.2.4.80",  // JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  // JPEG 2000 lossless
    "1.2.840.10008.1.2.4.70",  // JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.50",  // JPEG baseline
    "1.2.840.10008.1.2.4.91",  // JPEG 2000
    "1.2.840.10008.1.2.4.81",  // JPEG-LS near-lossless
    RLE,                       //
    "1.2.840.10008.1.2.4.57",  // JPEG lossless
    "1.2.840.10008.1.2.4.51",  // JPEG extended
    "1.2.840.10008.1.2.4.102", // MPEG-4 AVC/H.264 high profile
    "1.2.840.10008.1.2.4.103", // MPEG-4 AVC/H.264 BD-compatible
    "1.2.840.10008.1.2.4.100", // MPEG-2 main profile, main level
    "1.2.840.10008.1.2.4.101", // MPEG-2 main profile, high level
    "1.2.840.10008.1.2.4.104", // MPEG-4 AVC/H.264 4.2 for 2D
    "1.2.840.10008.1.2.4.105", // MPEG-4 AVC/H.264 4.2 for 3D
    "1.2.840.10008.1.2.4.106", // MPEG-4 AVC/H.264 stereo
    "1.2.840.10008.1.2.4.107", // HEVC/H.265 main profile
    "1.2.840.10008.1.2.4.108", // HEVC/H.265 main 10 profile
    "1.2.840.10008.1.2.4.201", // HTJ2K lossless
    "1.2.840.10008.1.2.4.202", // HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.203", // HTJ2K
    "1.2.840.10008.1.2.4.110", // JPEG XL lossless
    "1.2.840.10008.1.2.4.111", // JPEG XL JPEG recompression
    "1.2.840.10008.1.2.4.112", // JPEG XL
    DEFLATED_EXPLICIT_LITTLE,
    EXPLICIT_BIG,
];

/// How the elements of a data set are written (PS3.5 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Implicit VR, little endian.
    ImplicitLittle,
    /// Explicit VR, little endian.
    ExplicitLittle,
    /// Explicit VR, big endian.
    ExplicitBig,
    /// Explicit VR, little endian, the whole data set deflated (RFC 1951).
    DeflatedExplicitLittle,
}

impl Encoding {
    /// The encoding of data sets in this transfer syntax. Every syntax that is not one of the four
    /// named by PS3.5, private ones included, is taken as Explicit VR Little Endian (PS3.5 §A.4).
    #[must_use]
    pub fn of(syntax: &TransferSyntaxUid) -> Self {
        match syntax.as_str() {
            IMPLICIT_LITTLE => Self::ImplicitLittle,
            EXPLICIT_BIG => Self::ExplicitBig,
            // Deflated, and the two JPIP syntaxes that deflate.
            DEFLATED_EXPLICIT_LITTLE | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205" => {
                Self::DeflatedExplicitLittle
            }
            _ => Self::ExplicitLittle,
        }
    }

    /// True when numbers are written most significant byte first.
    #[must_use]
    pub fn is_big_endian(self) -> bool {
        self == Self::ExplicitBig
    }

    /// True when the VR is not in the data and comes from the dictionary.
    #[must_use]
    pub fn is_implicit(self) -> bool {
        self == Self::ImplicitLittle
    }
}

/// How a transfer syntax writes top-level Pixel Data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelForm {
    /// A value of defined length (PS3.5 §8.2 native format).
    Native,
    /// Fragments in items (PS3.5 §A.4).
    Encapsulated,
    /// The syntax is unknown: the element's length field tells.
    Unknown,
}

impl PixelForm {
    /// The form of Pixel Data in this transfer syntax.
    #[must_use]
    pub fn of(syntax: &TransferSyntaxUid) -> Self {
        match syntax.as_str() {
            IMPLICIT_LITTLE | EXPLICIT_LITTLE | EXPLICIT_BIG | DEFLATED_EXPLICIT_LITTLE => {
                Self::Native
            }
            RLE | "1.2.840.10008.1.2.1.98" | "1.2.840.10008.1.2.8.1" => Self::Encapsulated,
            // JPIP: the pixels are elsewhere, nothing is encapsulated here.
            "1.2.840.10008.1.2.4.94"
            | "1.2.840.10008.1.2.4.95"
            | "1.2.840.10008.1.2.4.204"
            | "1.2.840.10008.1.2.4.205" => Self::Unknown,
            uid if uid.starts_with("1.2.840.10008.1.2.4.") => Self::Encapsulated,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn uid(text: &str) -> TransferSyntaxUid {
        TransferSyntaxUid::parse(text).unwrap()
    }

    #[test]
    fn each_syntax_has_its_encoding_and_pixel_form() {
        for (text, encoding, form) in [
            (IMPLICIT_LITTLE, Encoding::ImplicitLittle, PixelForm::Native),
            (EXPLICIT_LITTLE, Encoding::ExplicitLittle, PixelForm::Native),
            (EXPLICIT_BIG, Encoding::ExplicitBig, PixelForm::Native),
            (
                DEFLATED_EXPLICIT_LITTLE,
                Encoding::DeflatedExplicitLittle,
                PixelForm::Native,
            ),
            (
                "1.2.840.10008.1.2.4.80",
                Encoding::ExplicitLittle,
                PixelForm::Encapsulated,
            ),
            (RLE, Encoding::ExplicitLittle, PixelForm::Encapsulated),
            ("1.2.3.4", Encoding::ExplicitLittle, PixelForm::Unknown),
        ] {
            assert_eq!(Encoding::of(&uid(text)), encoding, "{text}");
            assert_eq!(PixelForm::of(&uid(text)), form, "{text}");
        }
    }

    #[test]
    fn no_syntax_is_proposed_twice_and_all_are_known() {
        for (i, text) in STORAGE_TRANSFER_SYNTAXES.iter().enumerate() {
            assert!(
                !STORAGE_TRANSFER_SYNTAXES[..i].contains(text),
                "{text} is there twice"
            );
            assert_ne!(PixelForm::of(&uid(text)), PixelForm::Unknown, "{text}");
        }
    }
}
