//! Elements in Explicit VR Little Endian, as bytes.

use dicom_core::{Tag, VR};

use super::walk::has_short_length;

/// The length of a sequence or an item that ends with a delimiter.
pub(super) const UNDEFINED: u32 = u32::MAX;
/// Ends an item of undefined length.
pub(super) const ITEM_END: [u8; 8] = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0];
/// Ends a sequence of undefined length.
pub(super) const SEQUENCE_END: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];

/// Appends an element. The value is padded to an even length (PS3.5 §6.2); one that is too long for
/// the 16-bit length of its VR is written as UN (PS3.5 §6.2.2).
///
/// Lengths of 4 GiB and more do not exist in DICOM: such a value is cut at the last even length.
pub fn put_element(out: &mut Vec<u8>, tag: Tag, vr: VR, value: &[u8]) {
    let value = value.get(..UNDEFINED as usize - 1).unwrap_or(value);
    let odd = value.len() % 2 == 1;
    let length = u32::try_from(value.len() + usize::from(odd)).unwrap_or(UNDEFINED - 1);
    put_header(out, tag, vr, length);
    out.extend_from_slice(value);
    if odd {
        out.push(padding(vr));
    }
}

/// Appends a sequence item of defined length holding these elements.
pub fn put_item(out: &mut Vec<u8>, elements: &[u8]) {
    put_item_header(out, u32::try_from(elements.len()).unwrap_or(UNDEFINED - 1));
    out.extend_from_slice(elements);
}

/// Appends the header of an element; `length` is even or undefined.
pub(super) fn put_header(out: &mut Vec<u8>, tag: Tag, vr: VR, length: u32) {
    put_tag(out, tag);
    match u16::try_from(length) {
        Ok(short) if has_short_length(vr) => {
            out.extend_from_slice(&vr.to_bytes());
            out.extend_from_slice(&short.to_le_bytes());
        }
        _ => {
            let vr = if has_short_length(vr) { VR::UN } else { vr };
            out.extend_from_slice(&vr.to_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
}

pub(super) fn put_item_header(out: &mut Vec<u8>, length: u32) {
    put_tag(out, Tag(0xFFFE, 0xE000));
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_tag(out: &mut Vec<u8>, Tag(group, element): Tag) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&element.to_le_bytes());
}

/// The byte that makes a value of this VR even (PS3.5 §6.2).
pub(super) fn padding(vr: VR) -> u8 {
    use VR::{AE, AS, CS, DA, DS, DT, IS, LO, LT, PN, SH, ST, TM, UC, UR, UT};
    match vr {
        AE | AS | CS | DA | DS | DT | IS | LO | LT | PN | SH | ST | TM | UC | UR | UT => b' ',
        _ => 0,
    }
}
