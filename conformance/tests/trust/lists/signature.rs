//! What is signed and how: one changed byte, wrapping, weak algorithms, other forms.

use conformance::testkit::whitelist::{Edit, Entry, Profile};
use drimbox::trust::whitelist::{SignatureError, WhiteListRefusal};

use super::{PROFILES, ready, refusal, spec};
use crate::World;

#[test]
fn an_unsigned_list_is_refused() {
    let world = World::new();
    let text = spec(Profile::One).unsigned();
    assert_eq!(refusal(&ready(&world), &text).label(), "unsigned");
}

#[test]
fn one_changed_byte_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    for profile in PROFILES {
        let text = spec(profile).sign(&signer).unwrap();
        for (from, to) in [
            ("<db>db3.", "<db>db7."),
            ("</Domaine>", "</Domaine> "),
            ("versionFormat=\"1.0.0\"", "versionFormat=\"1.0.1\""),
            ("ANS &amp; Cie", "ANS &amp; cie"),
            ("<vi/>", "<vi></vi><vi/>"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert_eq!(
                refusal(&trust, &changed),
                WhiteListRefusal::Signature(SignatureError::Digest),
                "{profile:?} {from}"
            );
        }
        let time = text.replacen("<xades:SigningTime>2026", "<xades:SigningTime>2025", 1);
        assert_eq!(
            refusal(&trust, &time),
            WhiteListRefusal::Signature(SignatureError::PropertiesDigest)
        );
    }
}

#[test]
fn a_removed_domain_is_refused() {
    let world = World::new();
    let text = spec(Profile::Two).sign(&world.signer()).unwrap();
    let from = text.find("\t<Domaine>").unwrap();
    let to = text.find("</Domaine>").unwrap() + "</Domaine>\r\n".len();
    let shorter = format!("{}{}", &text[..from], &text[to..]);
    assert_eq!(
        refusal(&ready(&world), &shorter),
        WhiteListRefusal::Signature(SignatureError::Digest)
    );
}

#[test]
fn a_changed_signature_value_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let text = spec(Profile::One).sign(&signer).unwrap();
    let at = text.find("SignatureValue>").unwrap() + "SignatureValue>".len();
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
    assert_eq!(
        refusal(&trust, &changed),
        WhiteListRefusal::Signature(SignatureError::Value)
    );
}

#[test]
fn a_second_signature_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    for profile in PROFILES {
        let text = spec(profile).sign(&signer).unwrap();
        let tag = if profile == Profile::One {
            "ds:Signature"
        } else {
            "Signature"
        };
        let from = text.find(&format!("<{tag} ")).unwrap();
        let end = format!("</{tag}>");
        let to = text.find(&end).unwrap() + end.len();
        let signature = text[from..to].replace("d=\"", "d=\"again-");
        for twice in [
            text.replace("<ListeDomaines>", &format!("<ListeDomaines>{signature}")),
            text.replace(
                "</ListeBlancheDRIM-M>",
                &format!("{signature}</ListeBlancheDRIM-M>"),
            ),
        ] {
            assert_eq!(
                refusal(&trust, &twice),
                WhiteListRefusal::Signature(SignatureError::Place),
                "{profile:?}"
            );
        }
        // Elsewhere than last.
        let moved = format!("{}{}", &text[..from], &text[to..]).replace(
            "<ListeDomaines>",
            &format!("{}<ListeDomaines>", &text[from..to]),
        );
        assert_eq!(
            refusal(&trust, &moved),
            WhiteListRefusal::Signature(SignatureError::Place)
        );
    }
}

#[test]
fn a_list_wrapped_around_a_signed_one_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let signed = spec(Profile::Two).sign(&signer).unwrap();
    // The signed list moves into a corner of a false one, with its signature.
    let mut false_one = spec(Profile::Two);
    false_one.entries.push(Entry::peer("db66.evil.example"));
    let outer = false_one.unsigned();
    let outer = outer.split_once("?>").unwrap().1.trim_start();
    let inside = outer.replace(
        "</ListeBlancheDRIM-M>",
        &format!("{signed}</ListeBlancheDRIM-M>"),
    );
    assert_eq!(
        refusal(&trust, &inside),
        WhiteListRefusal::Signature(SignatureError::Place)
    );

    // The signature last in the false one, the signed list in its Object.
    let from = signed.find("<Signature ").unwrap();
    let to = signed.find("</Signature>").unwrap() + "</Signature>".len();
    let original = format!("{}{}", &signed[..from], &signed[to..]);
    let carrier =
        signed[from..to].replace("<Object>", &format!("<Object>{original}</Object><Object>"));
    let wrapped = outer.replace(
        "</ListeBlancheDRIM-M>",
        &format!("{carrier}</ListeBlancheDRIM-M>"),
    );
    assert!(matches!(
        refusal(&trust, &wrapped),
        WhiteListRefusal::Signature(SignatureError::Form(_))
    ),);
}

#[test]
fn signed_properties_elsewhere_are_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let text = spec(Profile::Two).sign(&signer).unwrap();
    let from = text.find("<xades:SignedProperties ").unwrap();
    let end = "</xades:SignedProperties>";
    let to = text.find(end).unwrap() + end.len();
    let properties = &text[from..to];
    // Both places, one identifier.
    let declared = properties.replace(
        "<xades:SignedProperties ",
        "<xades:SignedProperties xmlns:xades=\"http://uri.etsi.org/01903/v1.3.2#\" ",
    );
    let both = text.replace("<ListeDomaines>", &format!("{declared}<ListeDomaines>"));
    assert_eq!(
        refusal(&trust, &both),
        WhiteListRefusal::Signature(SignatureError::DuplicateId)
    );
    // Moved: what stands in the signature is other than what it points to.
    let moved = both.replace(
        &text[from..to],
        &properties.replace("Id=\"SignedProperties\"", "Id=\"Other\""),
    );
    let reason = refusal(&trust, &moved);
    assert!(matches!(reason, WhiteListRefusal::Signature(_)), "{reason}");
    // Moved to a second Object of the signature.
    let second = text.replace("<Object>", &format!("<Object>{declared}</Object><Object>"));
    assert!(matches!(
        refusal(&trust, &second),
        WhiteListRefusal::Signature(_)
    ));
}

#[test]
fn an_identifier_that_comes_twice_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    let mut list = spec(Profile::One);
    list.edit_list = |text| text.replace("<Domaine>", "<Domaine ID=\"id-1\">");
    let text = list.sign(&world.signer()).unwrap();
    assert_eq!(
        refusal(&trust, &text),
        WhiteListRefusal::Signature(SignatureError::DuplicateId)
    );
}

/// Lists whose signature is right, over something of another form.
fn refused_when_signed_so(profile: Profile, edit: Edit) -> WhiteListRefusal {
    let world = World::new();
    let mut list = spec(profile);
    list.edit_signed_info = edit;
    let text = list.sign(&world.signer()).unwrap();
    refusal(&ready(&world), &text)
}

fn is_form_or_algorithm(reason: &WhiteListRefusal) -> bool {
    matches!(
        reason,
        WhiteListRefusal::Signature(SignatureError::Form(_) | SignatureError::Algorithm(_))
    )
}

#[test]
fn sha_1_is_refused_wherever_it_stands() {
    let edits: [Edit; 3] = [
        |text| {
            text.replace(
                "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
                "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
            )
        },
        |text| {
            text.replacen(
                "http://www.w3.org/2001/04/xmlenc#sha256",
                "http://www.w3.org/2000/09/xmldsig#sha1",
                1,
            )
        },
        |text| {
            text.replace(
                "http://www.w3.org/2001/04/xmlenc#sha256",
                "http://www.w3.org/2000/09/xmldsig#sha1",
            )
        },
    ];
    for edit in edits {
        let reason = refused_when_signed_so(Profile::One, edit);
        assert!(
            matches!(
                reason,
                WhiteListRefusal::Signature(SignatureError::Algorithm(_))
            ),
            "{reason}"
        );
    }
    let world = World::new();
    let mut list = spec(Profile::Two);
    list.edit_properties = |text| {
        text.replace(
            "http://www.w3.org/2001/04/xmlenc#sha256",
            "http://www.w3.org/2000/09/xmldsig#sha1",
        )
    };
    let reason = refusal(&ready(&world), &list.sign(&world.signer()).unwrap());
    assert!(
        matches!(
            reason,
            WhiteListRefusal::Signature(SignatureError::Algorithm(_))
        ),
        "{reason}"
    );
}

#[test]
fn another_transform_is_refused() {
    const XPATH: &str = "<Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><XPath>self::none</XPath></Transform>";
    let edits: [Edit; 4] = [
        |text| text.replacen("<Transforms>", &format!("<Transforms>{XPATH}"), 1),
        |text| {
            text.replacen(
                "http://www.w3.org/2001/10/xml-exc-c14n#\"></Transform>",
                "http://www.w3.org/2001/10/xml-exc-c14n#WithComments\"></Transform>",
                1,
            )
        },
        |text| {
            text.replacen(
                "http://www.w3.org/2001/10/xml-exc-c14n#\"></Canonical",
                "http://www.w3.org/TR/2001/REC-xml-c14n-20010315\"></Canonical",
                1,
            )
        },
        |text| {
            text.replacen("xml-exc-c14n#\"></Transform>", "xml-exc-c14n#\"><ec:InclusiveNamespaces xmlns:ec=\"http://www.w3.org/2001/10/xml-exc-c14n#\" PrefixList=\"x\"></ec:InclusiveNamespaces></Transform>", 1)
        },
    ];
    for (rank, edit) in edits.into_iter().enumerate() {
        let reason = refused_when_signed_so(Profile::Two, edit);
        assert!(is_form_or_algorithm(&reason), "{rank}: {reason}");
    }
}

#[test]
fn another_filter_than_that_of_the_signature_is_refused() {
    let edits: [Edit; 4] = [
        |text| {
            text.replace(
                "/descendant::ds:Signature",
                "/descendant::ds:Signature | //*",
            )
        },
        |text| text.replace("/descendant::ds:Signature", "/descendant::Domaine"),
        |text| text.replace("Filter=\"subtract\"", "Filter=\"intersect\""),
        |text| {
            text.replace(
                "/descendant::ds:Signature",
                "/descendant::dsig-filter2:Signature",
            )
        },
    ];
    for (rank, edit) in edits.into_iter().enumerate() {
        let reason = refused_when_signed_so(Profile::One, edit);
        assert!(is_form_or_algorithm(&reason), "{rank}: {reason}");
    }
}

#[test]
fn references_other_than_the_two_are_refused() {
    let third: Edit = |text| {
        let from = text.find("<Reference ").unwrap();
        let end = "</Reference>";
        let to = text.find(end).unwrap() + end.len();
        let again = text[from..to].replace("r-1", "r-2");
        text.replace("</SignedInfo>", &format!("{again}</SignedInfo>"))
    };
    let only_one: Edit = |text| {
        let from = text.rfind("<Reference ").unwrap();
        let to = text.find("</SignedInfo>").unwrap();
        format!("{}{}", &text[..from], &text[to..])
    };
    let elsewhere: Edit = |text| text.replace("URI=\"\"", "URI=\"#x\"");
    let remote: Edit = |text| text.replace("URI=\"\"", "URI=\"http://evil.example/list\"");
    let no_type: Edit =
        |text| text.replace("Type=\"http://uri.etsi.org/01903#SignedProperties\" ", "");
    for (rank, edit) in [third, only_one, elsewhere, remote, no_type]
        .into_iter()
        .enumerate()
    {
        let reason = refused_when_signed_so(Profile::Two, edit);
        assert!(is_form_or_algorithm(&reason), "{rank}: {reason}");
    }
}
