//! The signed white list: good ones of both profiles, and every kind of bad one.

use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use conformance::testkit::whitelist::{Edit, Entry, ListSpec, Profile};
use drimbox::trust::Trust;
use drimbox::trust::whitelist::{ListError, Outcome, SignatureError, WhiteListRefusal, XmlError};
use rcgen::KeyUsagePurpose;

use super::{DAY, HOUR, START, World, date};

const PROFILES: [Profile; 2] = [Profile::One, Profile::Two];
const HOSTS: [&str; 3] = [
    "db3.test.example.fr",
    "db4.test.example.fr",
    "db154.test.example.fr",
];

fn spec(profile: Profile) -> ListSpec {
    let mut entries: Vec<_> = HOSTS.iter().map(|host| Entry::peer(host)).collect();
    entries[1].vi = "vi4.test.example.fr".to_owned();
    entries[2].dn = entries[2].dn.replace("Paris (75)", "Côte-d'Or (21)");
    ListSpec::new(profile, entries, date(START - DAY))
}

/// A gateway with revocation lists and no white list.
fn ready(world: &World) -> Trust {
    let trust = world.bare();
    world.give_crls(&trust, &CrlSpec::default(), &CrlSpec::default());
    trust
}

fn verified(trust: &Trust, text: &str) -> Result<usize, WhiteListRefusal> {
    trust
        .verify_list(text.as_bytes())
        .map(|list| list.domains().len())
}

fn refusal(trust: &Trust, text: &str) -> WhiteListRefusal {
    verified(trust, text).expect_err("the list must be refused")
}

fn taken(trust: &Trust, text: &str) -> Result<Outcome, &'static str> {
    trust
        .take_list(text.as_bytes(), "test", false)
        .map_err(|error| match error {
            ListError::Refused(refusal) => refusal.label(),
            other => panic!("{other}"),
        })
}

#[test]
fn both_profiles_are_verified() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    for profile in PROFILES {
        let text = spec(profile).sign(&signer).unwrap();
        assert_eq!(verified(&trust, &text), Ok(3), "{profile:?}: {text}");
        let list = trust.verify_list(text.as_bytes()).unwrap();
        let domain = list.domain("db4.test.example.fr").unwrap();
        assert_eq!(domain.vi_host.as_deref(), Some("vi4.test.example.fr"));
        assert_eq!(domain.denomination, "ANS & Cie");
        assert_eq!(list.signing_time, date(START - DAY));
        // Line ends, a byte order mark and comments are not part of what is signed.
        for same in [
            text.replace("\r\n", "\n"),
            text.replace("\r\n", "\r"),
            format!("\u{feff}{text}"),
            text.replace("<ListeDomaines>", "<!-- x --><ListeDomaines>"),
            text.replace("<db>db4", "<db>d<!-- x -->b4"),
        ] {
            assert_eq!(verified(&trust, &same), Ok(3), "{profile:?}");
        }
    }
}

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

#[test]
fn the_certificate_of_somebody_else_is_refused() {
    let world = World::new();
    let (trust, signer, other) = (ready(&world), world.signer(), world.signer());
    for profile in PROFILES {
        let text = spec(profile).sign_as(&signer, &other).unwrap();
        assert_eq!(
            refusal(&trust, &text),
            WhiteListRefusal::Signature(SignatureError::Value),
            "{profile:?}"
        );
    }
    // The same key under another certificate: the value fits, the digest in the properties does not.
    let again = LeafSpec {
        serial: 0x52,
        ..LeafSpec::signer()
    };
    let certificate = world.igc.leaf_for(&again, &signer.key).unwrap();
    for profile in PROFILES {
        let shown = spec(profile).sign(&signer).unwrap().replace(
            &encoded(signer.certificate.der()),
            &encoded(certificate.der()),
        );
        assert_eq!(
            refusal(&trust, &shown),
            WhiteListRefusal::Signature(SignatureError::OtherCertificate),
            "{profile:?}"
        );
    }
}

fn encoded(der: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(der)
}

#[test]
fn the_issuer_named_in_the_properties_must_be_that_of_the_certificate() {
    let world = World::new();
    let edits: [Edit; 2] = [
        |text| text.replace("ORGANISATIONS,", "PERSONNES,"),
        |text| {
            text.replace(
                "SerialNumber xmlns=\"http://www.w3.org/2000/09/xmldsig#\">",
                "SerialNumber xmlns=\"http://www.w3.org/2000/09/xmldsig#\">1",
            )
        },
    ];
    for edit in edits {
        let mut list = spec(Profile::Two);
        list.edit_properties = edit;
        let text = list.sign(&world.signer()).unwrap();
        assert_eq!(
            refusal(&ready(&world), &text),
            WhiteListRefusal::Signature(SignatureError::OtherCertificate)
        );
    }
}

#[test]
fn a_signer_with_another_name_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    for signer in [
        LeafSpec {
            common_name: "Liste Blanche DRIM-N".to_owned(),
            ..LeafSpec::signer()
        },
        LeafSpec {
            common_name: "db3.test.example.fr".to_owned(),
            ..LeafSpec::signer()
        },
        LeafSpec {
            unit: "318751275100021".to_owned(),
            ..LeafSpec::signer()
        },
    ] {
        let signer = world.igc.leaf(&signer).unwrap();
        let text = spec(Profile::One).sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "other_signer");
    }
}

#[test]
fn a_signer_out_of_its_dates_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    for days in [(-100, -1), (1, 100)] {
        let signer = world
            .igc
            .leaf(&LeafSpec {
                days,
                ..LeafSpec::signer()
            })
            .unwrap();
        let text = spec(Profile::One).sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "signer_date");
    }
}

#[test]
fn a_signer_of_another_authority_is_refused() {
    let world = World::new();
    let trust = ready(&world);
    let forged = Igc::new(true, date(START)).unwrap();
    let persons = LeafSpec {
        by: Authority::Persons,
        ..LeafSpec::signer()
    };
    for signer in [
        forged.leaf(&LeafSpec::signer()).unwrap(),
        world.igc.leaf(&persons).unwrap(),
    ] {
        let text = spec(Profile::One).sign(&signer).unwrap();
        assert_eq!(refusal(&trust, &text).label(), "signer_chain");
    }
}

#[test]
fn a_signer_whose_key_is_for_something_else_is_refused() {
    let world = World::new();
    let key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let signer = world
        .igc
        .leaf(&LeafSpec {
            key_usages,
            ..LeafSpec::signer()
        })
        .unwrap();
    let text = spec(Profile::One).sign(&signer).unwrap();
    assert_eq!(refusal(&ready(&world), &text).label(), "signer_chain");
}

#[test]
fn a_revoked_signer_is_refused_and_so_is_one_of_unknown_status() {
    let world = World::new();
    let (trust, text) = (
        ready(&world),
        spec(Profile::One).sign(&world.signer()).unwrap(),
    );
    assert_eq!(taken(&trust, &text), Ok(Outcome::Accepted));
    let revoked = CrlSpec {
        number: 11,
        revoked: vec![0x51],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &CrlSpec::default(), &revoked);
    assert_eq!(refusal(&trust, &text).label(), "signer_revoked");
    trust.read_again();
    assert!(
        trust.list_status().is_none(),
        "what a revoked signer signed is not kept in use"
    );

    std::fs::remove_dir_all(world.folder.path().join("trust")).unwrap();
    assert_eq!(
        refusal(&world.bare(), &text).label(),
        "signer_unknown_status"
    );
}

#[test]
fn a_list_that_was_signed_tomorrow_is_refused() {
    let world = World::new();
    let mut list = spec(Profile::One);
    list.signing_time = date(START + 2 * DAY);
    let text = list.sign(&world.signer()).unwrap();
    assert_eq!(refusal(&ready(&world), &text).label(), "future");
}

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

#[test]
fn a_list_that_was_signed_before_the_one_in_use_is_refused() {
    let world = World::new();
    let (trust, signer) = (ready(&world), world.signer());
    let newer = spec(Profile::Two).sign(&signer).unwrap();
    let mut older = spec(Profile::Two);
    older.signing_time = date(START - DAY - 1);
    let older = older.sign(&signer).unwrap();
    assert_eq!(taken(&trust, &older), Ok(Outcome::Accepted));
    assert_eq!(taken(&trust, &newer), Ok(Outcome::Accepted));
    assert_eq!(taken(&trust, &older), Err("older"));
    assert_eq!(taken(&trust, &newer), Ok(Outcome::Unchanged));
    let outcomes: Vec<_> = trust
        .list_history()
        .into_iter()
        .map(|v| v.outcome)
        .collect();
    assert_eq!(outcomes, ["accepted", "accepted", "older", "unchanged"]);
    let former = std::fs::read_dir(world.folder.path().join("trust/whitelist/former")).unwrap();
    assert_eq!(former.count(), 1);
}

#[test]
fn a_list_that_loses_half_of_its_domains_needs_a_confirmation() {
    let world = World::new();
    let trust = world.trust(&[
        "a.example.fr",
        "b.example.fr",
        "c.example.fr",
        "d.example.fr",
    ]);
    let signer = world.signer();
    let half = world
        .list(&["a.example.fr", "b.example.fr"])
        .sign(&signer)
        .unwrap();
    let one = world.list(&["a.example.fr"]).sign(&signer).unwrap();
    assert_eq!(taken(&trust, &one), Err("shrunk"));
    assert_eq!(trust.list_status().unwrap().list.domains().len(), 4);
    assert_eq!(taken(&trust, &half), Ok(Outcome::Accepted));
    let none = world.list(&[]).sign(&signer).unwrap();
    assert_eq!(taken(&trust, &none), Err("shrunk"));
    trust.take_list(none.as_bytes(), "test", true).unwrap();
    assert_eq!(trust.list_status().unwrap().list.domains().len(), 0);
}

#[test]
fn a_refused_list_leaves_the_one_in_use() {
    let world = World::new();
    let trust = world.trust(&HOSTS);
    world.at(START + HOUR);
    assert_eq!(
        taken(&trust, &world.list(&HOSTS).unsigned()),
        Err("unsigned")
    );
    assert_eq!(taken(&trust, "<html/>"), Err("unsigned"));
    let status = trust.list_status().unwrap();
    assert_eq!(
        (status.confirmed_at, status.list.domains().len()),
        (START, 3)
    );
}

#[test]
fn the_list_outlives_a_restart_with_the_moment_it_was_confirmed() {
    let world = World::new();
    world.trust(&HOSTS);
    world.at(START + 3 * DAY);
    let status = world.bare().list_status().unwrap();
    assert_eq!((status.age, status.in_force), (3 * DAY, true));
}

#[test]
fn a_kept_list_outlives_the_certificate_of_its_signer_for_a_while() {
    let world = World::new();
    let trust = ready(&world);
    let signer = world
        .igc
        .leaf(&LeafSpec {
            days: (-10, 1),
            ..LeafSpec::signer()
        })
        .unwrap();
    let text = spec(Profile::One).sign(&signer).unwrap();
    assert_eq!(taken(&trust, &text), Ok(Outcome::Accepted));
    world.at(START + 3 * DAY);
    assert_eq!(taken(&trust, &text), Err("signer_date"));
    let status = world.bare().list_status().unwrap();
    assert_eq!((status.confirmed_at, status.in_force), (START, true));
}

#[test]
fn a_kept_list_that_was_tampered_with_is_not_used() {
    let world = World::new();
    world.trust(&HOSTS);
    let file = world.folder.path().join("trust/whitelist/active.xml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("db154", "db155")).unwrap();
    assert!(world.bare().list_status().is_none());
    std::fs::write(&file, b"").unwrap();
    assert!(world.bare().list_status().is_none());
}

#[test]
fn without_its_state_a_kept_list_must_verify_as_a_new_one() {
    let world = World::new();
    world.trust(&HOSTS);
    std::fs::write(world.folder.path().join("trust/whitelist/state.json"), b"{").unwrap();
    world.at(START + HOUR);
    assert_eq!(
        world.bare().list_status().unwrap().confirmed_at,
        START + HOUR
    );
    world.at(START + 7 * DAY);
    assert!(
        world.bare().list_status().is_none(),
        "the revocation lists have expired"
    );
}

#[test]
fn what_a_command_took_is_used_by_the_service_after_reading_again() {
    let world = World::new();
    let service = world.trust(&HOSTS);
    let mut more = spec(Profile::Two);
    more.entries.push(Entry::peer("db200.test.example.fr"));
    let text = more.sign(&world.signer()).unwrap();
    assert_eq!(taken(&world.bare(), &text), Ok(Outcome::Accepted));
    assert!(service.domain_of_db_host("db200.test.example.fr").is_none());
    service.read_again();
    assert!(service.domain_of_db_host("db200.test.example.fr").is_some());
}
