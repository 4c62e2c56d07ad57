//! The PDF inside a report: a CDA document (HL7 CDA R2, CI-SIS) whose body is one, or that carries one.
//!
//! Nothing of the document is believed: its depth, its length and what its content inflates to are bounded before
//! anything is kept, a DTD is refused, and only bytes that begin as a PDF leave.

use std::io::Read as _;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Largest document, bytes.
pub const MAX_CDA: usize = 32 << 20;
/// Largest PDF, bytes, however it was packed.
pub const MAX_PDF: usize = 24 << 20;
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;
/// Events read of a document.
const MAX_EVENTS: usize = 2_000_000;
/// Longest `root` or `extension`.
const MAX_ID: usize = 256;

/// What is taken out of a document.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// Id of the document: `root`, or `root^extension`.
    pub id: Option<String>,
    /// The PDF.
    pub pdf: Vec<u8>,
}

/// Why a document gives no PDF. No text of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CdaError {
    /// Beyond a bound.
    #[error("the report is larger than any genuine one ({MAX_CDA} bytes, {MAX_PDF} bytes of PDF)")]
    TooLarge,
    /// Not well-formed, with a DTD, or too deep.
    #[error("the report is no CDA document that can be read")]
    Malformed,
    /// Another document.
    #[error("the document is not a ClinicalDocument")]
    NotCda,
    /// No PDF in it.
    #[error("the report has no PDF: register the CDA whose body is a PDF, or that carries one")]
    NoPdf,
    /// What says to be a PDF is none, or cannot be unpacked.
    #[error("the PDF in the report is damaged")]
    Damaged,
    /// A compression that is not read.
    #[error("the PDF in the report is compressed in a way that is not read (DF, GZ and ZL are)")]
    Compression,
}

/// How a value is packed before its base64 (HL7 `CompressionAlgorithm`).
#[derive(Clone, Copy)]
enum Packing {
    None,
    Deflate,
    Gzip,
    Zlib,
}

/// Reads a document.
///
/// # Errors
/// [`CdaError`].
pub fn report(document: &[u8]) -> Result<Report, CdaError> {
    if document.len() > MAX_CDA {
        return Err(CdaError::TooLarge);
    }
    let mut reader = Reader::from_reader(document);
    let mut path: Vec<Vec<u8>> = Vec::new();
    let (mut id, mut pdf) = (None, None);
    let mut value: Option<(Packing, usize, String)> = None;
    for _ in 0..MAX_EVENTS {
        match reader.read_event().map_err(|_| CdaError::Malformed)? {
            Event::DocType(_) => return Err(CdaError::Malformed),
            Event::Start(element) => {
                path.push(element.local_name().as_ref().to_vec());
                if path.len() > MAX_DEPTH {
                    return Err(CdaError::Malformed);
                }
                look(&path, &element, &mut id)?;
                if value.is_none() && pdf.is_none() && holds_value(&path) {
                    value = packing(&element)?.map(|packing| (packing, path.len(), String::new()));
                }
            }
            Event::Empty(element) => {
                path.push(element.local_name().as_ref().to_vec());
                look(&path, &element, &mut id)?;
                path.pop();
            }
            Event::Text(text) => {
                if let Some((_, depth, value)) = &mut value
                    && *depth == path.len()
                {
                    let text = std::str::from_utf8(&text).map_err(|_| CdaError::Malformed)?;
                    value.push_str(text);
                }
            }
            Event::CData(text) => {
                if let Some((_, depth, value)) = &mut value
                    && *depth == path.len()
                {
                    let text = std::str::from_utf8(&text).map_err(|_| CdaError::Malformed)?;
                    value.push_str(text);
                }
            }
            Event::End(_) => {
                let ends = value
                    .as_ref()
                    .is_some_and(|(_, depth, _)| *depth == path.len());
                if ends && let Some((packing, _, text)) = value.take() {
                    pdf = Some(unpacked(packing, &text)?);
                }
                path.pop();
            }
            Event::Eof => {
                if !path.is_empty() {
                    return Err(CdaError::Malformed);
                }
                let pdf = pdf.ok_or(CdaError::NoPdf)?;
                return Ok(Report { id, pdf });
            }
            _ => {}
        }
    }
    Err(CdaError::TooLarge)
}

/// The root, and the id of the document: the `id` directly below it.
fn look(
    path: &[Vec<u8>],
    element: &BytesStart<'_>,
    id: &mut Option<String>,
) -> Result<(), CdaError> {
    let names: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
    match names.as_slice() {
        [b"ClinicalDocument", ..] => {}
        _ => return Err(CdaError::NotCda),
    }
    if let [_, b"id"] = names.as_slice()
        && id.is_none()
    {
        let root = attribute(element, b"root")?.ok_or(CdaError::Malformed)?;
        *id = Some(match attribute(element, b"extension")? {
            Some(extension) => format!("{root}^{extension}"),
            None => root,
        });
    }
    Ok(())
}

/// `nonXMLBody/text`, or the value of an `observationMedia` of a structured body.
fn holds_value(path: &[Vec<u8>]) -> bool {
    let mut last = path.iter().rev().map(Vec::as_slice);
    matches!(
        (last.next(), last.next()),
        (Some(b"text"), Some(b"nonXMLBody")) | (Some(b"value"), Some(b"observationMedia"))
    )
}

/// How the PDF that begins here is packed; `None` when it is no PDF.
fn packing(element: &BytesStart<'_>) -> Result<Option<Packing>, CdaError> {
    let kind = attribute(element, b"mediaType")?.unwrap_or_default();
    let form = attribute(element, b"representation")?.unwrap_or_default();
    if kind != "application/pdf" || form != "B64" {
        return Ok(None);
    }
    Ok(Some(match attribute(element, b"compression")?.as_deref() {
        None => Packing::None,
        Some("DF") => Packing::Deflate,
        Some("GZ") => Packing::Gzip,
        Some("ZL") => Packing::Zlib,
        Some(_) => return Err(CdaError::Compression),
    }))
}

fn attribute(element: &BytesStart<'_>, name: &[u8]) -> Result<Option<String>, CdaError> {
    let found = element
        .try_get_attribute(name)
        .map_err(|_| CdaError::Malformed)?;
    let Some(found) = found else {
        return Ok(None);
    };
    let value = found.unescape_value().map_err(|_| CdaError::Malformed)?;
    if value.len() > MAX_ID || value.chars().any(char::is_control) {
        return Err(CdaError::Malformed);
    }
    Ok(Some(value.into_owned()))
}

fn unpacked(packing: Packing, text: &str) -> Result<Vec<u8>, CdaError> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&STANDARD, config);
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = engine.decode(packed).map_err(|_| CdaError::Damaged)?;
    // Of what inflates, one byte more than may be is read at most.
    let most = MAX_PDF as u64 + 1;
    let mut pdf = Vec::new();
    let read = match packing {
        Packing::None => {
            pdf = bytes;
            Ok(0)
        }
        Packing::Deflate => flate2::read::DeflateDecoder::new(bytes.as_slice())
            .take(most)
            .read_to_end(&mut pdf),
        Packing::Gzip => flate2::read::GzDecoder::new(bytes.as_slice())
            .take(most)
            .read_to_end(&mut pdf),
        Packing::Zlib => flate2::read::ZlibDecoder::new(bytes.as_slice())
            .take(most)
            .read_to_end(&mut pdf),
    };
    read.map_err(|_| CdaError::Damaged)?;
    if pdf.len() > MAX_PDF {
        return Err(CdaError::TooLarge);
    }
    if !pdf.starts_with(b"%PDF-") {
        return Err(CdaError::Damaged);
    }
    Ok(pdf)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write as _;

    use base64::engine::general_purpose::STANDARD as BASE64;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const PDF: &[u8] = b"%PDF-1.4\n1 0 obj\n%%EOF";

    fn cda(body: &str) -> Vec<u8> {
        format!(
            "<?xml version=\"1.0\"?><ClinicalDocument xmlns=\"urn:hl7-org:v3\">\
             <id root=\"1.2.250.1.999.7\" extension=\"CR-1\"/><title>x</title>\
             <recordTarget><id root=\"9.9\"/></recordTarget><component>{body}</component></ClinicalDocument>"
        )
        .into_bytes()
    }

    fn body(compression: &str, bytes: &[u8]) -> Vec<u8> {
        let text = BASE64.encode(bytes);
        let (first, rest) = text.split_at(8.min(text.len()));
        cda(&format!(
            "<nonXMLBody><text mediaType=\"application/pdf\" representation=\"B64\"{compression}>\n{first}\n{rest}</text></nonXMLBody>"
        ))
    }

    #[test]
    fn the_pdf_comes_out_however_it_is_packed() {
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
        deflate.write_all(PDF).unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(PDF).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(PDF).unwrap();
        for document in [
            body("", PDF),
            body(" compression=\"DF\"", &deflate.finish().unwrap()),
            body(" compression=\"GZ\"", &gzip.finish().unwrap()),
            body(" compression=\"ZL\"", &zlib.finish().unwrap()),
            cda(&format!(
                "<structuredBody><component><section><text>R</text><entry><observationMedia>\
                 <value mediaType=\"application/pdf\" representation=\"B64\">{}</value>\
                 </observationMedia></entry></section></component></structuredBody>",
                BASE64.encode(PDF)
            )),
        ] {
            let found = report(&document)
                .map_err(|error| error.to_string())
                .unwrap();
            assert_eq!(found.pdf, PDF);
            assert_eq!(found.id.as_deref(), Some("1.2.250.1.999.7^CR-1"));
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_in_memory() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(b"%PDF-").unwrap();
        for _ in 0..(4 * MAX_PDF / (1 << 20)) {
            zlib.write_all(&[0; 1 << 20]).unwrap();
        }
        let bomb = zlib.finish().unwrap();
        assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
        let refused = report(&body(" compression=\"ZL\"", &bomb));
        assert_eq!(refused.err(), Some(CdaError::TooLarge));
        let deep = "<a>".repeat(100_000);
        assert_eq!(report(&cda(&deep)).err(), Some(CdaError::Malformed));
        assert_eq!(
            report(&vec![b' '; MAX_CDA + 1]).err(),
            Some(CdaError::TooLarge)
        );
        let laughs = "<!DOCTYPE l [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;\">]><ClinicalDocument>&b;</ClinicalDocument>";
        assert_eq!(report(laughs.as_bytes()).err(), Some(CdaError::Malformed));
    }

    #[test]
    fn nothing_but_a_pdf_comes_out() {
        let html = b"<html><script>alert(1)</script></html>";
        assert_eq!(report(&body("", html)).err(), Some(CdaError::Damaged));
        let other = String::from_utf8(body("", PDF)).unwrap();
        let other = other.replace("application/pdf", "text/html");
        assert_eq!(report(other.as_bytes()).err(), Some(CdaError::NoPdf));
        assert_eq!(
            report(&body(" compression=\"Z7\"", PDF)).err(),
            Some(CdaError::Compression)
        );
        assert_eq!(
            report(&body(" compression=\"GZ\"", PDF)).err(),
            Some(CdaError::Damaged)
        );
        assert_eq!(report(b"<html/>").err(), Some(CdaError::NotCda));
        assert_eq!(
            report(b"<ClinicalDocument><id root=\"1\"/>").err(),
            Some(CdaError::Malformed)
        );
        let whole = body("", PDF);
        for end in (0..whole.len()).step_by(7) {
            assert!(report(whole.get(..end).unwrap()).is_err(), "{end}");
        }
    }
}
