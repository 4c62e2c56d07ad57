//! What it says, and the XML that it says it in.

use conformance::testkit::whitelist::{Edit, Profile};
use drimbox::trust::whitelist::{WhiteListRefusal, XmlError};

use super::{ready, refusal, spec};
use crate::World;

/// Lists that are signed as they should be, with a content that is not sound.
#[test]
fn a_content_that_is_not_sound_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let edits: [(&str, Edit); 9] = [
        ("another major version", |t| {
            t.replace("versionFormat=\"1.0.0\"", "versionFormat=\"2.0.0\"")
        }),
        ("db twice", |t| t.replace("db4.test", "db3.test")),
        ("another common name", |t| {
            t.replace("CN=db4.test", "CN=db5.test")
        }),
        ("an address for a host", |t| {
            t.replace("db4.test.example.fr", "10.0.0.4")
        }),
        ("a port", |t| {
            t.replace("<db>db4.test.example.fr", "<db>db4.test.example.fr:443")
        }),
        ("no host", |t| t.replace("<db>db4.test.example.fr</db>", "")),
        ("two hosts in an entry", |t| {
            t.replace("<vi></vi>", "<vi></vi><db>db8.test.example.fr</db>")
        }),
        ("no subject", |t| {
            t.replace("CN=db4.test.example.fr,", "db4.test.example.fr,")
        }),
        ("an element in a value", |t| {
            t.replace(
                "db4.test.example.fr</db>",
                "db4<b></b>.test.example.fr</db>",
            )
        }),
    ];
    for (what, edit) in edits {
        let mut list = spec(Profile::Two);
        list.edit_list = edit;
        let text = list.sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "content", "{what}");
    }
}

#[test]
fn xml_that_is_not_needed_is_not_read() {
    let world = World::new();
    let trust = ready(&world);
    let text = spec(Profile::Two).sign(&world.signer()).unwrap();
    let xml = |text: &str| match refusal(&trust, text) {
        WhiteListRefusal::Xml(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(xml(&format!("<!DOCTYPE a>{text}")), XmlError::Dtd);
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\"><!ENTITY c \"&b;&b;\">]>";
    assert_eq!(xml(&format!("{bomb}{text}")), XmlError::Dtd);
    assert_eq!(xml(&text.replace("ANS &amp;", "ANS &x;")), XmlError::Entity);
    assert_eq!(xml(&format!("<?php x?>{text}")), XmlError::Instruction);
    let deep = format!("<a>{}{}", "<b>".repeat(30), "</b>".repeat(30));
    assert_eq!(xml(&deep), XmlError::TooDeep);
    let many: String = (0..20).map(|n| format!(" a{n}=''")).collect();
    assert_eq!(xml(&format!("<a{many}/>")), XmlError::TooMany("attributes"));
    assert_eq!(
        xml(&format!("<a>{}</a>", "<b/>".repeat(200_001))),
        XmlError::TooMany("elements")
    );
    assert_eq!(
        xml(&format!("<a{}/>", "a".repeat(300))),
        XmlError::TooMany("characters in a name")
    );
    assert_eq!(
        xml(&format!(
            "{text}{}",
            " ".repeat(drimbox::trust::whitelist::MAX_BYTES)
        )),
        XmlError::TooLarge
    );
    for broken in [
        "",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>x",
        "<a b='1' b='2'/>",
        "<p:a/>",
        "<a b='<'/>",
        "<a>\u{1}</a>",
        "<a>&#0;</a>",
        "<a:b:c xmlns:a='u'/>",
        "x<a/>",
    ] {
        let error = xml(broken);
        assert!(
            matches!(error, XmlError::NotWellFormed(_)),
            "{broken}: {error}"
        );
    }
}
