//! Certificates of peers, one case a test.

use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use drimbox::config::{PeerKeyUsage, TrustEnvironment};
use drimbox::trust::anchors::AnchorError;
use drimbox::trust::{Trust, TrustError};
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyUsagePurpose, PublicKeyData, SignatureAlgorithm};
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;

use super::{DAY, HOUR, START, World, date, settings};

const HOST: &str = "db3.test.example.fr";

/// What is said to a caller with this certificate.
fn said(world: &World, trust: &Trust, spec: &LeafSpec) -> Result<String, &'static str> {
    let leaf = world.igc.leaf(spec).unwrap();
    identity(trust, leaf.certificate.der())
}

fn identity(trust: &Trust, der: &CertificateDer<'_>) -> Result<String, &'static str> {
    let peer = trust.peer(std::slice::from_ref(der));
    peer.map(|peer| peer.db_host)
        .map_err(|refusal| refusal.label())
}

/// What rustls is told when this certificate is shown by a server that was called as `host`.
fn called(
    world: &World,
    trust: &Trust,
    spec: &LeafSpec,
    host: &str,
) -> Result<(), CertificateError> {
    let leaf = world.igc.leaf(spec).unwrap();
    let verified = trust.server_verifier().verify_server_cert(
        leaf.certificate.der(),
        &[],
        &host.to_owned().try_into().unwrap(),
        &[],
        world.unix(),
    );
    verified.map(|_| ()).map_err(|error| match error {
        rustls::Error::InvalidCertificate(error) => error,
        other => panic!("{other}"),
    })
}

#[test]
fn a_listed_peer_is_known_by_its_subject() {
    let world = World::new();
    let trust = world.trust(&[HOST, "db4.test.example.fr"]);
    let leaf = world.peer(HOST);
    let peer = trust.peer(&[leaf.certificate.der().clone()]).unwrap();
    assert_eq!(peer.db_host, HOST);
    assert_eq!(peer.denomination, "ANS & Cie");
    assert_eq!(peer.fingerprint.len(), 64);
    let domain = trust.domain_of_db_host("DB3.test.example.fr.").unwrap();
    assert_eq!((domain.dn, domain.vi_host), (peer.dn, None));
    assert!(trust.domain_of_db_host("db5.test.example.fr").is_none());
}

#[test]
fn the_verifier_of_callers_lets_a_good_peer_in_and_names_the_authorities() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let leaf = world.peer(HOST);
    let verifier = trust.client_verifier();
    assert!(verifier.client_auth_mandatory());
    assert_eq!(verifier.root_hint_subjects().len(), 2);
    verifier
        .verify_client_cert(leaf.certificate.der(), &[], world.unix())
        .unwrap();
}

#[test]
fn no_certificate_is_nobody() {
    let world = World::new();
    assert_eq!(
        world.trust(&[HOST]).peer(&[]).unwrap_err().label(),
        "no_certificate"
    );
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    assert_eq!(
        identity(&trust, &vec![0x30, 0x03, 1, 1, 1].into()),
        Err("malformed")
    );
    assert_eq!(
        identity(&trust, &vec![0x30; 100_000].into()),
        Err("malformed")
    );
    let mut longer = world.peer(HOST).certificate.der().to_vec();
    longer.push(0);
    assert_eq!(identity(&trust, &longer.into()), Err("malformed"));
}

#[test]
fn an_expired_certificate_is_refused() {
    let world = World::new();
    let spec = LeafSpec {
        days: (-30, -1),
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(said(&world, &world.trust(&[HOST]), &spec), Err("expired"));
}

#[test]
fn a_certificate_of_tomorrow_is_refused() {
    let world = World::new();
    let spec = LeafSpec {
        days: (1, 30),
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(
        said(&world, &world.trust(&[HOST]), &spec),
        Err("not_yet_valid")
    );
}

#[test]
fn an_expired_authority_makes_its_certificates_expire() {
    // webpki looks at the dates of intermediates, and takes the root as it is.
    for days in [(-3_650, 5), (-3_650, 3_650)] {
        let world = World::with(Igc::with_dates(true, date(START), days).unwrap());
        let trust = world.trust(&[HOST]);
        let leaf = world
            .igc
            .leaf(&LeafSpec {
                days: (-10, 2_000),
                ..LeafSpec::peer(HOST)
            })
            .unwrap();
        let der = leaf.certificate.der();
        assert!(identity(&trust, der).is_ok());
        world.at(START + 5 * DAY - HOUR);
        assert!(identity(&trust, der).is_ok());
        world.at(START + 5 * DAY + HOUR);
        let expected = if days.1 == 5 {
            Err("expired")
        } else {
            Ok(HOST.to_owned())
        };
        assert_eq!(identity(&trust, der), expected);
    }
}

#[test]
fn another_authority_with_the_same_names_is_not_believed() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let forged = Igc::new(true, date(START)).unwrap();
    let leaf = forged.leaf(&LeafSpec::peer(HOST)).unwrap();
    assert_eq!(
        identity(&trust, leaf.certificate.der()),
        Err("bad_signature")
    );
}

#[test]
fn an_authority_of_another_family_is_not_believed() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let own = own.self_signed(&key).unwrap();
    assert_eq!(identity(&trust, own.der()), Err("unknown_issuer"));
}

#[test]
fn the_branch_of_persons_may_not_issue_peers() {
    let world = World::new();
    let spec = LeafSpec {
        by: Authority::Persons,
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(
        said(&world, &world.trust(&[HOST]), &spec),
        Err("unknown_issuer")
    );

    // Even with its file among the authorities: its name is not among those that may issue.
    let mut settings = world.settings();
    let files = world
        .igc
        .write(world.folder.path(), &[Authority::Persons])
        .unwrap();
    settings.authority_files.extend(files);
    let trust = world.trust_with(settings, &[HOST]);
    assert_eq!(said(&world, &trust, &spec), Err("issuer_not_allowed"));
}

#[test]
fn the_root_itself_may_not_issue_peers() {
    let world = World::new();
    let spec = LeafSpec {
        by: Authority::Root,
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(
        said(&world, &world.trust(&[HOST]), &spec),
        Err("issuer_not_allowed")
    );
}

#[test]
fn test_and_production_never_meet() {
    let (test, production) = (
        World::new(),
        World::with(Igc::new(false, date(START)).unwrap()),
    );
    let trust = test.trust(&[HOST]);
    assert_eq!(
        said(&production, &trust, &LeafSpec::peer(HOST)),
        Err("other_environment")
    );

    let files = production
        .igc
        .write(
            production.folder.path(),
            &[Authority::Root, Authority::Organisations],
        )
        .unwrap();
    let real = settings(
        production.folder.path(),
        TrustEnvironment::Production,
        files.clone(),
    );
    let real = Trust::open(real, production.clock()).unwrap();
    production.give_crls(&real, &CrlSpec::default(), &CrlSpec::default());
    assert_eq!(
        said(&test, &real, &LeafSpec::peer(HOST)),
        Err("other_environment")
    );
    assert_eq!(
        said(&production, &real, &LeafSpec::peer(HOST)),
        Err("no_white_list")
    );

    let mixed = settings(production.folder.path(), TrustEnvironment::Test, files);
    let refused = Trust::open(mixed, test.clock());
    assert!(
        matches!(
            refused,
            Err(TrustError::Anchors(AnchorError::OtherEnvironment { .. }))
        ),
        "{refused:?}"
    );
}

#[test]
fn authorities_that_do_not_hang_together_are_refused() {
    let world = World::new();
    let open = |which: &[Authority]| {
        let files = world.igc.write(world.folder.path(), which).unwrap();
        let settings = settings(world.folder.path(), TrustEnvironment::Test, files);
        match Trust::open(settings, world.clock()) {
            Err(TrustError::Anchors(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(
        open(&[Authority::Organisations]),
        AnchorError::NoRoot
    ));
    assert!(matches!(
        open(&[Authority::Root, Authority::Persons]),
        AnchorError::NoIssuing { .. }
    ));
    let forged = Igc::new(true, date(START)).unwrap();
    let own = world
        .igc
        .write(world.folder.path(), &[Authority::Root])
        .unwrap();
    let other = forged
        .write(
            &world.folder.path().join("forged"),
            &[Authority::Organisations],
        )
        .unwrap();
    let settings = settings(
        world.folder.path(),
        TrustEnvironment::Test,
        [own, other].concat(),
    );
    let refused = Trust::open(settings, world.clock());
    assert!(
        matches!(
            refused,
            Err(TrustError::Anchors(AnchorError::Orphan { .. }))
        ),
        "{refused:?}"
    );
}

#[test]
fn a_chain_without_its_intermediate_is_enough_and_what_is_sent_is_not_used() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let leaf = world.peer(HOST);
    let foreign = Igc::new(true, date(START)).unwrap();
    let sent = foreign.certificate(Authority::Organisations).der().clone();
    trust
        .client_verifier()
        .verify_client_cert(leaf.certificate.der(), &[sent], world.unix())
        .unwrap();
}

#[test]
fn an_authority_below_the_issuing_one_is_refused() {
    let world = World::new();
    let (below, leaf) = world.igc.forbidden_below(&LeafSpec::peer(HOST)).unwrap();
    let trust = world.trust(&[HOST]);
    let shown = trust.client_verifier().verify_client_cert(
        leaf.certificate.der(),
        &[below.der().clone()],
        world.unix(),
    );
    assert!(
        shown.is_err(),
        "an authority that is only sent counts for nothing"
    );

    // Configured, its path length forbids it.
    let file = world.folder.path().join("below.cer");
    std::fs::write(&file, below.der()).unwrap();
    let mut settings = world.settings();
    settings.authority_files.push(file);
    settings
        .issuing_authorities
        .push("AC SOUS-ORGANISATIONS".to_owned());
    let trust = world.trust_with(settings, &[HOST]);
    assert_eq!(identity(&trust, leaf.certificate.der()), Err("constraint"));
}

#[test]
fn the_extended_key_usage_is_judged_by_the_policy() {
    let world = World::new();
    let either = world.trust(&[HOST]);
    let mut settings = world.settings();
    settings.key_usage = PeerKeyUsage::Strict;
    let strict = world.trust_with(settings, &[HOST]);
    let ok = || Ok(HOST.to_owned());
    let refused = Err("usage");
    let cases = [
        (vec![Usage::ClientAuth, Usage::ServerAuth], ok(), ok()),
        (vec![Usage::ClientAuth], ok(), ok()),
        (vec![Usage::ServerAuth], ok(), refused.clone()),
        (vec![], ok(), ok()),
        (vec![Usage::EmailProtection], refused.clone(), refused),
    ];
    for (usages, lenient, severe) in cases {
        let spec = LeafSpec {
            usages: usages.clone(),
            ..LeafSpec::peer(HOST)
        };
        assert_eq!(said(&world, &either, &spec), lenient, "{usages:?}");
        assert_eq!(said(&world, &strict, &spec), severe, "{usages:?}");
    }
    let client_only = LeafSpec {
        usages: vec![Usage::ClientAuth],
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(called(&world, &either, &client_only, HOST), Ok(()));
    assert_eq!(
        called(&world, &strict, &client_only, HOST),
        Err(CertificateError::InvalidPurpose)
    );
}

#[test]
fn a_key_that_may_not_sign_is_refused() {
    let world = World::new();
    let spec = LeafSpec {
        key_usages: vec![KeyUsagePurpose::KeyEncipherment],
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(said(&world, &world.trust(&[HOST]), &spec), Err("usage"));
}

#[test]
fn an_extension_that_must_be_understood_and_is_not_is_refused() {
    let world = World::new();
    let spec = LeafSpec {
        strange_critical_extension: true,
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(said(&world, &world.trust(&[HOST]), &spec), Err("malformed"));
}

/// RFC 5280 §4.2; a reader that takes the first and one that takes the last would not see the same certificate.
#[test]
fn an_extension_that_is_there_twice_is_refused() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let judged = |extensions: &[&(Vec<u64>, Vec<u8>)]| {
        let spec = LeafSpec {
            extensions: extensions.iter().map(|&one| one.clone()).collect(),
            ..LeafSpec::peer(HOST)
        };
        said(&world, &trust, &spec)
    };
    let unknown = (vec![1, 2, 250, 1, 71, 9, 9], vec![5, 0]);
    let policies = (vec![2, 5, 29, 32], vec![0x30, 0]);
    for one in [&unknown, &policies] {
        assert_eq!(judged(&[one]), Ok(HOST.to_owned()));
        assert_eq!(judged(&[one, one]), Err("malformed"), "{:?}", one.0);
    }
    // The certificate has one of its own.
    let client_auth = [&[0x30, 10, 6, 8][..], &[0x2b, 6, 1, 5, 5, 7, 3, 2]].concat();
    assert_eq!(
        judged(&[&(vec![2, 5, 29, 37], client_auth)]),
        Err("malformed")
    );
}

/// A key of 1024 bits; nobody needs its private half.
struct ShortRsa(Vec<u8>);

impl ShortRsa {
    fn new() -> Self {
        let mut key = vec![0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
        key.extend([0xc5; 128]);
        key.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
        Self(key)
    }
}

impl PublicKeyData for ShortRsa {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

#[test]
fn a_short_key_is_refused() {
    let world = World::new();
    let leaf = world
        .igc
        .leaf_for(&LeafSpec::peer(HOST), &ShortRsa::new())
        .unwrap();
    assert_eq!(identity(&world.trust(&[HOST]), leaf.der()), Err("weak_key"));
    let long = LeafSpec {
        rsa: true,
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(
        said(&world, &world.trust(&[HOST]), &long),
        Ok(HOST.to_owned())
    );
}

#[test]
fn a_signature_with_sha_1_is_refused() {
    let world = World::new();
    let der = world.peer(HOST).certificate.der().to_vec();
    // ecdsa-with-SHA256 (1.2.840.10045.4.3.2) becomes ecdsa-with-SHA1 (1.2.840.10045.4.1).
    let good = [0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let weak = [0x30, 0x09, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    let mut changed = Vec::new();
    let mut times = 0;
    let mut rest = der.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if rest.starts_with(&good) {
            changed.extend(weak);
            rest = &rest[good.len()..];
            times += 1;
        } else {
            changed.push(*first);
            rest = after;
        }
    }
    assert_eq!(times, 2, "the algorithm stands inside and outside");
    // Both lengths are in two bytes: the whole is shorter by two, what is signed by one.
    assert_eq!((changed[1], changed[5]), (0x82, 0x82));
    for (at, less) in [(2, 2), (6, 1)] {
        let length = u16::from_be_bytes([changed[at], changed[at + 1]]) - less;
        changed[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    assert_eq!(
        identity(&world.trust(&[HOST]), &changed.into()),
        Err("weak_signature")
    );
}

#[test]
fn a_changed_certificate_is_refused() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let mut der = world.peer(HOST).certificate.der().to_vec();
    let at = der.windows(5).position(|w| w == b"Paris").unwrap();
    der[at] = b'p';
    assert_eq!(identity(&trust, &der.into()), Err("bad_signature"));
}

#[test]
fn a_subject_without_common_name_is_nobody() {
    let world = World::new();
    let spec = LeafSpec::peer("");
    assert_eq!(said(&world, &world.trust(&[HOST]), &spec), Err("no_name"));
}

#[test]
fn a_subject_that_is_not_listed_is_refused() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    assert_eq!(
        said(&world, &trust, &LeafSpec::peer("db9.test.example.fr")),
        Err("not_listed")
    );
    let other_unit = LeafSpec {
        unit: "300000000000000".to_owned(),
        ..LeafSpec::peer(HOST)
    };
    assert_eq!(said(&world, &trust, &other_unit), Err("not_listed"));
}

#[test]
fn accents_order_and_encoding_of_the_subject_do_not_count() {
    let world = World::new();
    let trust = world.bare();
    world.give_crls(&trust, &CrlSpec::default(), &CrlSpec::default());
    let mut list = world.list(&[HOST]);
    list.entries[0].dn = format!(
        "C=FR, ST=Côte-d'Or (21), O=AGENCE DU NUMERIQUE EN SANTE,OU=318751275100020,CN={}",
        HOST.to_uppercase()
    );
    trust
        .take_list(
            list.sign(&world.signer()).unwrap().as_bytes(),
            "test",
            false,
        )
        .unwrap();
    for printable in [false, true] {
        let spec = LeafSpec {
            state: "Côte-d'Or (21)".to_owned(),
            printable,
            ..LeafSpec::peer(HOST)
        };
        assert_eq!(
            said(&world, &trust, &spec),
            Ok(HOST.to_owned()),
            "printable: {printable}"
        );
    }
}

#[test]
fn a_server_needs_no_san_but_the_right_name() {
    let world = World::new();
    let trust = world.trust(&[HOST, "db4.test.example.fr"]);
    assert_eq!(called(&world, &trust, &LeafSpec::peer(HOST), HOST), Ok(()));
    assert_eq!(
        called(&world, &trust, &LeafSpec::peer(HOST), "DB3.test.example.fr"),
        Ok(())
    );
    assert_eq!(
        called(&world, &trust, &LeafSpec::peer(HOST), "db4.test.example.fr"),
        Err(CertificateError::NotValidForName)
    );
    let mut wildcard = LeafSpec::peer("db5.test.example.fr");
    wildcard.dns_names = vec!["*.test.example.fr".to_owned()];
    assert_eq!(
        called(&world, &trust, &wildcard, HOST),
        Err(CertificateError::NotValidForName)
    );
}

#[test]
fn a_server_must_be_the_one_of_the_white_list() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let refusal = |spec: &LeafSpec, host: &str| match called(&world, &trust, spec, host) {
        Err(CertificateError::Other(reason)) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    let unlisted = "db9.test.example.fr";
    assert!(refusal(&LeafSpec::peer(unlisted), unlisted).contains("not in the white list"));
    // The name of the host, but the structure of another.
    let other = LeafSpec {
        unit: "300000000000000".to_owned(),
        ..LeafSpec::peer(HOST)
    };
    assert!(refusal(&other, HOST).contains("another subject"));
    // The SAN of one domain under the subject of another.
    let mut borrowed = LeafSpec::peer(unlisted);
    borrowed.dns_names = vec![HOST.to_owned()];
    assert!(refusal(&borrowed, HOST).contains("another subject"));
}

#[test]
fn without_white_list_nobody_is_a_peer() {
    let world = World::new();
    let trust = world.bare();
    world.give_crls(&trust, &CrlSpec::default(), &CrlSpec::default());
    assert_eq!(
        said(&world, &trust, &LeafSpec::peer(HOST)),
        Err("no_white_list")
    );
}

#[test]
fn a_white_list_that_is_not_confirmed_for_too_long_counts_for_nothing() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let leaf = world.peer(HOST);
    world.at(START + 7 * DAY);
    world
        .igc
        .crl(Authority::Organisations, &CrlSpec::default())
        .unwrap();
    let long = CrlSpec {
        number: 11,
        hours: (-1, 24 * 30),
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &long, &long);
    assert_eq!(
        identity(&trust, leaf.certificate.der()),
        Ok(HOST.to_owned())
    );
    world.at(START + 7 * DAY + 1);
    assert_eq!(
        identity(&trust, leaf.certificate.der()),
        Err("white_list_too_old")
    );
    assert!(trust.domain_of_db_host(HOST).is_none());
    assert!(!trust.list_status().unwrap().in_force);
}

#[test]
fn new_authorities_count_from_the_next_handshake_on() {
    let world = World::new();
    let trust = world.trust(&[HOST]);
    let verifier = trust.client_verifier();
    let leaf = world.peer(HOST);
    let old = leaf.certificate.der();
    assert!(verifier.verify_client_cert(old, &[], world.unix()).is_ok());

    std::fs::write(world.folder.path().join("Organisations.cer"), b"nothing").unwrap();
    trust.reload_authorities().unwrap_err();
    assert!(
        verifier.verify_client_cert(old, &[], world.unix()).is_ok(),
        "what was read stays"
    );

    let renewed = Igc::new(true, date(START)).unwrap();
    renewed
        .write(
            world.folder.path(),
            &[Authority::Root, Authority::Organisations],
        )
        .unwrap();
    trust.reload_authorities().unwrap();
    assert!(verifier.verify_client_cert(old, &[], world.unix()).is_err());
}
