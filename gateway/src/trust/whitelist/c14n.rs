//! Exclusive XML Canonicalization 1.0 without comments and without `InclusiveNamespaces` (W3C
//! xml-exc-c14n, and Canonical XML 1.0 for how nodes are written).

use std::collections::BTreeMap;

use super::xml::{Child, Document, Element, Id};

/// Writes an element and what is in it, but for the subtree of `without`.
pub(super) fn canonical(document: &Document, apex: Id, without: Option<Id>) -> Vec<u8> {
    let mut out = Vec::new();
    element(document, apex, without, &BTreeMap::new(), &mut out);
    out
}

/// Prefixes and the namespaces that the output around stands for; the default is the empty prefix.
type Rendered<'a> = BTreeMap<&'a str, &'a str>;

// As deep as the document, which is bounded.
fn element<'a>(
    document: &'a Document,
    id: Id,
    without: Option<Id>,
    around: &Rendered<'a>,
    out: &mut Vec<u8>,
) {
    let Some(element) = document.get(id).filter(|_| without != Some(id)) else {
        return;
    };
    let mut rendered = around.clone();
    out.push(b'<');
    name(element, out);
    for (prefix, namespace) in visibly_used(document, id, element) {
        // Nothing is said of the default namespace while there is none around.
        let known = around.get(prefix).copied();
        if known == Some(namespace)
            || (known.is_none() && prefix.is_empty() && namespace.is_empty())
        {
            continue;
        }
        rendered.insert(prefix, namespace);
        out.extend_from_slice(b" xmlns");
        if !prefix.is_empty() {
            out.push(b':');
            out.extend_from_slice(prefix.as_bytes());
        }
        quoted(namespace, out);
    }
    let mut attributes: Vec<_> = element.attributes.iter().collect();
    attributes.sort_by_key(|attribute| (&attribute.namespace, &attribute.local));
    for attribute in attributes {
        out.push(b' ');
        if !attribute.prefix.is_empty() {
            out.extend_from_slice(attribute.prefix.as_bytes());
            out.push(b':');
        }
        out.extend_from_slice(attribute.local.as_bytes());
        quoted(&attribute.value, out);
    }
    out.push(b'>');
    for child in &element.children {
        match child {
            Child::Element(child) => self::element(document, *child, without, &rendered, out),
            Child::Text(content) => text(content, out),
        }
    }
    out.extend_from_slice(b"</");
    name(element, out);
    out.push(b'>');
}

/// The namespaces that an element or its attributes use, by prefix in order (xml-exc-c14n §3).
fn visibly_used<'a>(document: &'a Document, id: Id, element: &'a Element) -> Rendered<'a> {
    let of_attributes = element.attributes.iter().map(|a| a.prefix.as_str());
    let prefixes = of_attributes
        .filter(|prefix| !prefix.is_empty())
        .chain([element.prefix.as_str()]);
    prefixes
        .filter(|prefix| *prefix != "xml")
        .filter_map(|prefix| Some((prefix, document.namespace_at(id, prefix)?)))
        .collect()
}

fn name(element: &Element, out: &mut Vec<u8>) {
    if !element.prefix.is_empty() {
        out.extend_from_slice(element.prefix.as_bytes());
        out.push(b':');
    }
    out.extend_from_slice(element.local.as_bytes());
}

fn quoted(value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"=\"");
    for byte in value.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\t' => out.extend_from_slice(b"&#x9;"),
            b'\n' => out.extend_from_slice(b"&#xA;"),
            b'\r' => out.extend_from_slice(b"&#xD;"),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

fn text(content: &str, out: &mut Vec<u8>) {
    for byte in content.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'\r' => out.extend_from_slice(b"&#xD;"),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn whole(xml: &str) -> String {
        let document = Document::parse(xml.as_bytes()).unwrap();
        String::from_utf8(canonical(&document, document.root(), None)).unwrap()
    }

    fn part(xml: &str, local: &str) -> String {
        let document = Document::parse(xml.as_bytes()).unwrap();
        let (id, _) = document.all().find(|(_, e)| e.local == local).unwrap();
        String::from_utf8(canonical(&document, id, None)).unwrap()
    }

    #[test]
    fn an_element_without_content_gets_an_end_tag_and_attributes_get_their_order() {
        assert_eq!(
            whole("<?xml version='1.0'?><a  z = '1' b=\"2\"  xmlns='u' ><c /></a >\n"),
            "<a xmlns=\"u\" b=\"2\" z=\"1\"><c></c></a>"
        );
        // Canonical XML 1.0, example 3.3: by namespace name, then by local name.
        assert_eq!(
            whole(
                "<e a:attr='out' b:attr='sorted' attr2='all' attr='I' xmlns:b='http://www.ietf.org' xmlns:a='http://www.w3.org' xmlns='http://example.org'/>"
            ),
            "<e xmlns=\"http://example.org\" xmlns:a=\"http://www.w3.org\" xmlns:b=\"http://www.ietf.org\" attr=\"I\" attr2=\"all\" b:attr=\"sorted\" a:attr=\"out\"></e>"
        );
    }

    #[test]
    fn characters_are_written_as_the_standard_says() {
        // Canonical XML 1.0, example 3.4, for what does not need a DTD.
        assert_eq!(
            whole(
                "<d><t>First line&#x0d;&#10;Second line</t><v>&#x32;</v><v><![CDATA[value>\"0\" && value<\"10\" ?\"valid\":\"error\"]]></v><c expr='value>\"0\" &amp;&amp; value&lt;\"10\"'>valid</c></d>"
            ),
            "<d><t>First line&#xD;\nSecond line</t><v>2</v><v>value&gt;\"0\" &amp;&amp; value&lt;\"10\" ?\"valid\":\"error\"</v><c expr=\"value>&quot;0&quot; &amp;&amp; value&lt;&quot;10&quot;\">valid</c></d>"
        );
        assert_eq!(
            whole("<n a=' &#x9;\n&#xd; b'/>"),
            "<n a=\" &#x9; &#xD; b\"></n>"
        );
    }

    #[test]
    fn line_ends_are_line_feeds_and_comments_are_gone() {
        assert_eq!(
            whole("<a>\r\n<b>x<!-- y -->z</b>\r</a>"),
            "<a>\n<b>xz</b>\n</a>"
        );
    }

    #[test]
    fn only_the_namespaces_in_use_are_written_where_they_are_used() {
        // xml-exc-c14n §2.2, the first example.
        let xml = "<n0:local xmlns:n0='foo:bar' xmlns:n3='ftp://example.org'><n1:elem2 xmlns:n1='http://example.net' xml:lang='en'><n3:stuff xmlns:n3='ftp://example.org'/></n1:elem2></n0:local>";
        assert_eq!(
            part(xml, "elem2"),
            "<n1:elem2 xmlns:n1=\"http://example.net\" xml:lang=\"en\"><n3:stuff xmlns:n3=\"ftp://example.org\"></n3:stuff></n1:elem2>"
        );
        assert_eq!(
            whole("<a xmlns='u' xmlns:p='v'><b xmlns=''><p:c><p:d/></p:c></b><p:e/></a>"),
            "<a xmlns=\"u\"><b xmlns=\"\"><p:c xmlns:p=\"v\"><p:d></p:d></p:c></b><p:e xmlns:p=\"v\"></p:e></a>"
        );
    }

    #[test]
    fn what_is_left_out_leaves_the_blanks_around_it() {
        let document = Document::parse(b"<a> <b>1</b> <c/> </a>").unwrap();
        let (b, _) = document.all().find(|(_, e)| e.local == "b").unwrap();
        assert_eq!(
            canonical(&document, document.root(), Some(b)),
            b"<a>  <c></c> </a>"
        );
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(xml in "(<a xmlns='u'>([a-z &<>\"]{0,3}|<b c='&#x9;[a-z]'>[x-z]</b>|<p:q xmlns:p='[uv]' p:r='1'/>|\r\n){0,6}</a>)") {
            if let Ok(document) = Document::parse(xml.as_bytes()) {
                let once = canonical(&document, document.root(), None);
                let again = Document::parse(&once).unwrap();
                proptest::prop_assert_eq!(canonical(&again, again.root(), None), once);
            }
        }
    }
}
