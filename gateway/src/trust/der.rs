//! The little DER (X.690) needed around signatures: elements one after the other, and signatures
//! over the exact bytes that were signed.

use rustls::crypto::WebPkiSupportedAlgorithms;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;

/// One element: its tag, what is in it, and all of its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) whole: &'a [u8],
}

/// Elements one after the other; ends at the first that is not DER.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    /// The next element, when it has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element)
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, after_tag) = self.0.split_first()?;
        let (&first, after_first) = after_tag.split_first()?;
        // Tags above 30 do not occur in what is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, body) = match first {
            0..=0x7f => (usize::from(first), after_first),
            0x81..=0x84 => {
                let (digits, body) = after_first.split_at_checked(usize::from(first & 0x0f))?;
                let length = digits
                    .iter()
                    .fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
                // The shortest form is the only one (X.690 §10.1).
                let shortest = digits.first() != Some(&0) && length > 0x7f;
                shortest.then_some((length, body))?
            }
            _ => return None,
        };
        let (content, rest) = body.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Element {
            tag,
            content,
            whole,
        })
    }
}

/// `SIGNED { … }` (RFC 5280 §4.1, §5.1): the bytes that were signed, how, and the signature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    /// Content of what was signed.
    pub(super) content: &'a [u8],
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Elements(der);
        let mut parts = Elements(outer.expect(SEQUENCE)?.content);
        let message = parts.expect(SEQUENCE)?;
        let algorithm = parts.expect(SEQUENCE)?;
        let signature = bits(parts.expect(BIT_STRING)?.content)?;
        (outer.is_done() && parts.is_done()).then_some(Self {
            content: message.content,
            message: message.whole,
            algorithm: algorithm.content,
            signature,
        })
    }

    /// Whether the holder of this key (SubjectPublicKeyInfo, DER) signed it.
    pub(super) fn is_signed_by(&self, spki: &[u8], known: &WebPkiSupportedAlgorithms) -> bool {
        is_signature(spki, self.algorithm, self.message, self.signature, known)
    }
}

/// Whether `signature` is one of `message` by the key in `spki` (SubjectPublicKeyInfo, DER), made
/// with `algorithm` (content of an AlgorithmIdentifier, DER), one of those that are `known`.
pub(super) fn is_signature(
    spki: &[u8],
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
    known: &WebPkiSupportedAlgorithms,
) -> bool {
    let Some((key_algorithm, key)) = public_key(spki) else {
        return false;
    };
    known.all.iter().any(|known| {
        known.signature_alg_id().as_ref() == algorithm
            && known.public_key_alg_id().as_ref() == key_algorithm
            && known.verify_signature(key, message, signature).is_ok()
    })
}

/// Content of the AlgorithmIdentifier of a key (SubjectPublicKeyInfo, DER), and the key itself.
pub(super) fn public_key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = Elements(Elements(spki).expect(SEQUENCE)?.content);
    let algorithm = parts.expect(SEQUENCE)?.content;
    Some((algorithm, bits(parts.expect(BIT_STRING)?.content)?))
}

/// A BIT STRING of whole bytes.
pub(super) fn bits(content: &[u8]) -> Option<&[u8]> {
    let (unused, bytes) = content.split_first()?;
    (*unused == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_in_order_and_end_at_what_is_no_der() {
        let mut elements = Elements(&[0x02, 0x01, 0x05, 0x30, 0x00, 0x04, 0x02, 0x01]);
        assert_eq!(elements.expect(INTEGER).map(|e| e.content), Some(&[5][..]));
        assert!(elements.expect(INTEGER).is_none(), "a sequence comes next");
        assert_eq!(
            elements.expect(SEQUENCE).map(|e| e.whole),
            Some(&[0x30, 0][..])
        );
        assert!(elements.next().is_none(), "one byte is missing");
    }

    #[test]
    fn a_length_that_is_not_in_its_shortest_form_is_no_der() {
        assert!(Elements(&[0x04, 0x81, 0x01, 0x00]).next().is_none());
        assert!(Elements(&[0x04, 0x80, 0x00, 0x00]).next().is_none());
        assert!(
            Elements(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff])
                .next()
                .is_none()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let read: usize = Elements(&bytes).map(|element| element.whole.len()).sum();
            proptest::prop_assert!(read <= bytes.len());
            let _ = Signed::parse(&bytes);
        }
    }
}
