//! A structured report as an HTML page (PS3.3 §A.35, §C.17.3): what a person reads of it, in the order of
//! its content tree. Everything that stands in the object is text on the page.

use std::fmt::Write as _;

use dicom_core::Tag;

use super::charset::CharacterSet;
use super::reader::Elements;

const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
const STUDY_DESCRIPTION: Tag = Tag(0x0008, 0x1030);
const COMPLETION: Tag = Tag(0x0040, 0xA491);
const VERIFICATION: Tag = Tag(0x0040, 0xA493);

const VALUE_TYPE: Tag = Tag(0x0040, 0xA040);
const CONCEPT_NAME: Tag = Tag(0x0040, 0xA043);
const CONTENT: Tag = Tag(0x0040, 0xA730);
const CODE_VALUE: Tag = Tag(0x0008, 0x0100);
const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
const CONCEPT_CODE: Tag = Tag(0x0040, 0xA168);
const MEASURED_VALUE: Tag = Tag(0x0040, 0xA300);
const NUMERIC_VALUE: Tag = Tag(0x0040, 0xA30A);
const UNITS: Tag = Tag(0x0040, 0x08EA);
const REFERENCED_SOP: Tag = Tag(0x0008, 0x1199);
const REFERENCED_INSTANCE: Tag = Tag(0x0008, 0x1155);
/// Where the value of each simple type is (PS3.3 table C.17.3-2).
const SIMPLE: [(&str, Tag); 7] = [
    ("TEXT", Tag(0x0040, 0xA160)),
    ("DATETIME", Tag(0x0040, 0xA120)),
    ("DATE", Tag(0x0040, 0xA121)),
    ("TIME", Tag(0x0040, 0xA122)),
    ("PNAME", Tag(0x0040, 0xA123)),
    ("UIDREF", Tag(0x0040, 0xA124)),
    ("TABLE", Tag(0x0040, 0xA801)),
];

const STYLE: &str = "body{font-family:sans-serif;line-height:1.4;max-width:60em;margin:1em auto;\
padding:0 1em}section{margin-left:1em}dt{font-weight:bold}p{margin:.3em 0;white-space:pre-wrap}";

/// The page of a report whose texts are in this character set.
#[must_use]
pub fn html(report: Elements<'_>, charset: &CharacterSet) -> String {
    let title = concept(report, charset).unwrap_or_else(|| "Compte rendu structuré".to_owned());
    let title = escaped(&title);
    let mut page = String::with_capacity(4096);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!DOCTYPE html><html lang=\"fr\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main><h1>{title}</h1><dl>"
    );
    for (label, tag) in [
        ("Patient", PATIENT_NAME),
        ("Identifiant", PATIENT_ID),
        ("Date de naissance", BIRTH_DATE),
        ("Date de l’examen", STUDY_DATE),
        ("Examen", STUDY_DESCRIPTION),
        ("État", COMPLETION),
        ("Validation", VERIFICATION),
    ] {
        if let Some(value) = report.text(tag, charset) {
            let value = shown(tag, &value);
            let _ = write!(page, "<dt>{label}</dt><dd>{}</dd>", escaped(&value));
        }
    }
    page.push_str("</dl>");
    children(&mut page, report, charset, 2);
    page.push_str("</main></body></html>");
    page
}

fn children(page: &mut String, node: Elements<'_>, outer: &CharacterSet, level: usize) {
    for item in node.items(CONTENT) {
        let declared = item.declared_character_set(Default::default());
        content_item(page, item, declared.as_ref().unwrap_or(outer), level);
    }
}

fn content_item(page: &mut String, item: Elements<'_>, charset: &CharacterSet, level: usize) {
    let name = concept(item, charset).map(|name| escaped(&name));
    let kind = item.text(VALUE_TYPE, charset).unwrap_or_default();
    if kind == "CONTAINER" {
        // There are six levels of headings.
        let heading = level.min(6);
        page.push_str("<section>");
        if let Some(name) = name {
            let _ = write!(page, "<h{heading}>{name}</h{heading}>");
        }
        children(page, item, charset, level + 1);
        page.push_str("</section>");
        return;
    }
    page.push_str("<section><p>");
    if let Some(name) = name {
        let _ = write!(page, "<strong>{name}\u{a0}:</strong> ");
    }
    page.push_str(&escaped(&value(item, &kind, charset)));
    page.push_str("</p>");
    children(page, item, charset, level + 1);
    page.push_str("</section>");
}

/// The name of a content item: the meaning of its code.
fn concept(item: Elements<'_>, charset: &CharacterSet) -> Option<String> {
    item.items(CONCEPT_NAME)
        .next()
        .and_then(|code| meaning(code, charset))
}

fn meaning(code: Elements<'_>, charset: &CharacterSet) -> Option<String> {
    code.text(CODE_MEANING, charset)
        .or_else(|| code.text(CODE_VALUE, charset))
}

fn value(item: Elements<'_>, kind: &str, charset: &CharacterSet) -> String {
    if let Some((_, tag)) = SIMPLE.iter().find(|(simple, _)| *simple == kind) {
        let text = item.text(*tag, charset).unwrap_or_default();
        return match kind {
            "PNAME" => person(&text),
            "DATE" => date(&text),
            _ => text,
        };
    }
    let first = |sequence| item.items(sequence).next();
    let found = match kind {
        "CODE" => first(CONCEPT_CODE).and_then(|code| meaning(code, charset)),
        "NUM" => first(MEASURED_VALUE).and_then(|measured| {
            let number = measured.text(NUMERIC_VALUE, charset)?;
            let units = measured.items(UNITS).next();
            let units = units.and_then(|code| meaning(code, charset));
            Some(match units {
                Some(units) => format!("{number} {units}"),
                None => number,
            })
        }),
        _ => first(REFERENCED_SOP).and_then(|sop| sop.text(REFERENCED_INSTANCE, charset)),
    };
    found.unwrap_or_else(|| "—".to_owned())
}

fn shown(tag: Tag, value: &str) -> String {
    match tag {
        PATIENT_NAME => person(value),
        BIRTH_DATE | STUDY_DATE => date(value),
        _ => value.to_owned(),
    }
}

/// The first group of a name, its components apart (PS3.5 §6.2.1).
fn person(name: &str) -> String {
    let group = name.split('=').find(|group| !group.is_empty());
    let parts = group.unwrap_or_default().split('^');
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// A date as it is written in France; anything else as it is.
fn date(text: &str) -> String {
    match (text.get(..4), text.get(4..6), text.get(6..8)) {
        (Some(year), Some(month), Some(day)) if text.len() == 8 => format!("{day}/{month}/{year}"),
        _ => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            '\r' => {}
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dicom_core::VR;

    use super::*;
    use crate::dicom::reader::{DataSet, Limits};
    use crate::dicom::syntax::Encoding;
    use crate::dicom::testdata::Writer;

    fn writer() -> Writer {
        Writer::new(Encoding::ExplicitLittle)
    }

    fn code(value: &str) -> Vec<u8> {
        writer()
            .put((0x0008, 0x0104), VR::LO, value.as_bytes())
            .bytes
    }

    fn item(kind: &str, name: &str) -> Writer {
        writer()
            .put((0x0040, 0xA040), VR::CS, kind.as_bytes())
            .sequence((0x0040, 0xA043), true, &[code(name)])
    }

    fn page(report: &[u8]) -> String {
        let set = DataSet::parse(report, Encoding::ExplicitLittle, Limits::default()).unwrap();
        html(set.elements(), &CharacterSet::default())
    }

    #[test]
    fn the_tree_is_read_in_its_order_with_names_and_values() {
        let text = item("TEXT", "Conclusion").put((0x0040, 0xA160), VR::UT, b"Normal.");
        let measured = writer()
            .put((0x0040, 0xA30A), VR::DS, b"12.5")
            .sequence((0x0040, 0x08EA), true, &[code("mm")])
            .bytes;
        let number = item("NUM", "Diametre").sequence((0x0040, 0xA300), true, &[measured]);
        let inner = item("CONTAINER", "Mesures").sequence((0x0040, 0xA730), true, &[number.bytes]);
        let report = writer()
            .put((0x0010, 0x0010), VR::PN, b"ESSAI^AMELIE")
            .put((0x0010, 0x0030), VR::DA, b"19700131")
            .put((0x0040, 0xA040), VR::CS, b"CONTAINER")
            .sequence((0x0040, 0xA043), true, &[code("Echographie")])
            .sequence((0x0040, 0xA730), true, &[inner.bytes, text.bytes])
            .bytes;
        let page = page(&report);
        assert!(page.contains("<h1>Echographie</h1>"), "{page}");
        assert!(page.contains("<dd>ESSAI AMELIE</dd>"), "{page}");
        assert!(page.contains("<dd>31/01/1970</dd>"), "{page}");
        let measures = page.find("<h2>Mesures</h2>").unwrap();
        let diameter = page
            .find("<strong>Diametre\u{a0}:</strong> 12.5 mm")
            .unwrap();
        let conclusion = page
            .find("<strong>Conclusion\u{a0}:</strong> Normal.")
            .unwrap();
        assert!(measures < diameter && diameter < conclusion);
    }

    #[test]
    fn what_stands_in_the_object_is_never_markup() {
        let attack = "<script>alert(1)</script>\"'&";
        let text = item("TEXT", attack).put((0x0040, 0xA160), VR::UT, attack.as_bytes());
        let report = item("CONTAINER", attack).sequence((0x0040, 0xA730), true, &[text.bytes]);
        let page = page(&report.bytes);
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 4);
    }
}
