//! Data sets written by hand, for tests: nothing here uses the code under test.

#![allow(clippy::unwrap_used)]

use dicom_core::{Tag, VR};

use super::syntax::Encoding;

/// Writes elements in one encoding.
pub struct Writer {
    pub encoding: Encoding,
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            bytes: Vec::new(),
        }
    }

    /// An element; the value is written as given, padded to an even length.
    pub fn put(mut self, tag: (u16, u16), vr: VR, value: &[u8]) -> Self {
        let length = u32::try_from(value.len() + value.len() % 2).unwrap();
        self.header(tag, vr, length);
        self.bytes.extend_from_slice(value);
        if value.len() % 2 == 1 {
            self.bytes
                .push(if vr == VR::UI || vr == VR::OB || vr == VR::UN {
                    0
                } else {
                    b' '
                });
        }
        self
    }

    /// A sequence of these items, with defined or undefined lengths.
    pub fn sequence(mut self, tag: (u16, u16), defined: bool, items: &[Vec<u8>]) -> Self {
        let delimiters = if defined { 0 } else { 8 };
        let content: usize = items.iter().map(|item| 8 + item.len() + delimiters).sum();
        let length = |n: usize| {
            if defined {
                u32::try_from(n).unwrap()
            } else {
                u32::MAX
            }
        };
        self.header(tag, VR::SQ, length(content));
        for item in items {
            self.raw_item((0xFFFE, 0xE000), length(item.len()));
            self.bytes.extend_from_slice(item);
            if !defined {
                self.raw_item((0xFFFE, 0xE00D), 0);
            }
        }
        if !defined {
            self.raw_item((0xFFFE, 0xE0DD), 0);
        }
        self
    }

    /// Encapsulated Pixel Data with these fragments.
    pub fn fragments(mut self, fragments: &[&[u8]]) -> Self {
        self.header((0x7FE0, 0x0010), VR::OB, u32::MAX);
        for fragment in fragments {
            self.raw_item((0xFFFE, 0xE000), u32::try_from(fragment.len()).unwrap());
            self.bytes.extend_from_slice(fragment);
        }
        self.raw_item((0xFFFE, 0xE0DD), 0);
        self
    }

    pub fn header(&mut self, tag: (u16, u16), vr: VR, length: u32) {
        self.u16(tag.0);
        self.u16(tag.1);
        if self.encoding == Encoding::ImplicitLittle {
            self.u32(length);
            return;
        }
        self.bytes.extend_from_slice(&vr.to_bytes());
        let long = [
            "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV",
        ];
        if long.contains(&vr.to_string()) {
            self.u16(0);
            self.u32(length);
        } else {
            self.u16(u16::try_from(length).unwrap());
        }
    }

    pub fn raw_item(&mut self, tag: (u16, u16), length: u32) {
        self.u16(tag.0);
        self.u16(tag.1);
        self.u32(length);
    }

    fn u16(&mut self, number: u16) {
        let big = self.encoding == Encoding::ExplicitBig;
        self.bytes.extend(if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        });
    }

    fn u32(&mut self, number: u32) {
        let big = self.encoding == Encoding::ExplicitBig;
        self.bytes.extend(if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        });
    }

    pub fn number(&self, number: u16) -> [u8; 2] {
        if self.encoding == Encoding::ExplicitBig {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }
}

/// An image: identity, a nested sequence of each form, private elements, 16-bit pixels.
pub fn image(encoding: Encoding) -> Vec<u8> {
    let w = Writer::new(encoding);
    let two = w.number(2);
    let zero = w.number(0);
    let inner = Writer::new(encoding)
        .put((0x0008, 0x0100), VR::SH, b"CODE")
        .bytes;
    let item = Writer::new(encoding)
        .put((0x0008, 0x1150), VR::UI, b"1.2.840.10008.5.1.4.1.1.2")
        .sequence((0x0040, 0xA170), true, &[inner.clone(), Vec::new()])
        .bytes;
    w.put((0x0008, 0x0005), VR::CS, b"ISO_IR 100")
        .put((0x0008, 0x0016), VR::UI, b"1.2.840.10008.5.1.4.1.1.2")
        .put((0x0008, 0x0018), VR::UI, b"1.2.3.4.5")
        .sequence((0x0008, 0x1140), false, &[item.clone(), inner])
        .put((0x0009, 0x0010), VR::LO, b"MAKER")
        .put((0x0009, 0x1001), VR::UN, b"\x01\x02\x03\x04")
        .put((0x0010, 0x0010), VR::PN, b"Buc^J\xe9r\xf4me")
        .sequence((0x0010, 0x1002), true, &[item])
        .put((0x0020, 0x000D), VR::UI, b"1.2.3")
        .put((0x0020, 0x000E), VR::UI, b"1.2.3.4")
        .put((0x0028, 0x0010), VR::US, &two)
        .put((0x0028, 0x0011), VR::US, &two)
        .put((0x0028, 0x0103), VR::US, &zero)
        .put((0x7FE0, 0x0010), VR::OW, &[1, 2, 3, 4, 5, 6, 7, 8])
        .put((0xFFFC, 0xFFFC), VR::OB, &[0; 4])
        .bytes
}

/// The offset of the first header byte of Pixel Data, found by its bytes.
pub fn pixel_offset(bytes: &[u8], encoding: Encoding) -> usize {
    let mark: [u8; 4] = match encoding {
        Encoding::ExplicitBig => [0x7F, 0xE0, 0x00, 0x10],
        _ => [0xE0, 0x7F, 0x10, 0x00],
    };
    bytes.windows(4).position(|window| window == mark).unwrap()
}

pub fn tag(text: u32) -> Tag {
    Tag((text >> 16) as u16, (text & 0xFFFF) as u16)
}

/// The three encodings that are read as they are.
pub const ENCODINGS: [(Encoding, &str); 3] = [
    (Encoding::ImplicitLittle, "1.2.840.10008.1.2"),
    (Encoding::ExplicitLittle, "1.2.840.10008.1.2.1"),
    (Encoding::ExplicitBig, "1.2.840.10008.1.2.2"),
];
