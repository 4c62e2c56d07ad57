//! What stands in the way, as the DNS shows it.

use conformance::testkit::{Gateway, Pebble, Pki, free_port};

use toml::{Table, Value};

use crate::site::{VI, configured, drimbox, even};
use crate::support::{folder, metric, run, until};

#[test]
fn a_name_that_the_dns_sends_elsewhere_is_told_from_a_port_that_is_closed() {
    run(async {
        let root = folder("market-elsewhere");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        // Pebble looks for challenges where nobody listens.
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(free_port().unwrap()))
            .await
            .unwrap();
        // The name server has 127.0.0.1 for every name; the centre says that it is somewhere else.
        let config = configured(&root, &pki, &[pebble.directory()])
            .set("acme.dns_servers", vec![pebble.name_server().to_string()])
            .set("acme.public_addresses", vec!["203.0.113.7"]);
        let mut gateway = Gateway::start(config).await.unwrap();
        let labels = [("fqdn", VI), ("cause", "points_elsewhere")];
        until("the failure", async || {
            metric(&gateway, "drimbox_acme_failures_total", &labels).await > 0
        })
        .await;
        let log = gateway.process().tail(200);
        assert!(
            log.contains("une autre adresse que celle de la DRIMbox"),
            "{log}"
        );
        let (code, said) = drimbox(&root, &["check", "acme"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("une autre adresse que celle de la DRIMbox"),
            "{said}"
        );
        assert!(said.contains("127.0.0.1"), "{said}");
    });
}

#[test]
fn caa_records_that_allow_nobody_are_seen_before_an_order_fails() {
    run(async {
        let root = folder("market-caa");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
            .await
            .unwrap();
        let config = configured(&root, &pki, &[pebble.directory()])
            .set("acme.listen", format!("127.0.0.1:{port}"))
            .set("acme.dns_servers", vec![pebble.name_server().to_string()]);
        config.write().unwrap();
        let (_, said) = drimbox(&root, &["check", "acme"]);
        assert!(
            said.contains("aucun enregistrement ne restreint ce nom"),
            "{said}"
        );

        // Of the name above: it counts for all names below (RFC 8659 §3).
        pebble.set_caa("market.example", &[";"]).await.unwrap();
        let (code, said) = drimbox(&root, &["check", "acme"]);
        assert_eq!(code, Some(1), "{said}");
        for expected in [
            format!("CAA de {VI}"),
            "n'autorisent pas cette autorité".to_owned(),
            "Ceux de market.example n'autorisent personne.".to_owned(),
        ] {
            assert!(said.contains(&expected), "{expected}: {said}");
        }
        // Records of the name itself take their place, and Pebble does not say by which name it goes.
        pebble.set_caa(VI, &["letsencrypt.org"]).await.unwrap();
        let (_, said) = drimbox(&root, &["check", "acme"]);
        assert!(
            said.contains("Ceux de vi1.market.example autorisent letsencrypt.org."),
            "{said}"
        );
    });
}

#[test]
fn an_authority_whose_certificate_is_not_believed_is_told_from_one_that_is_away() {
    run(async {
        let root = folder("market-untrusted");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let stranger = Pki::new(&root.join("stranger"), "Stranger").unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(free_port().unwrap()))
            .await
            .unwrap();
        let config = configured(&root, &pki, &[pebble.directory()])
            .set("acme.ca_file", stranger.ca_file().display().to_string());
        let mut gateway = Gateway::start(config).await.unwrap();
        let labels = [("fqdn", VI), ("cause", "authority_untrusted")];
        until("the failure", async || {
            metric(&gateway, "drimbox_acme_failures_total", &labels).await > 0
        })
        .await;
        let log = gateway.process().tail(200);
        assert!(log.contains("équipement n'ouvre le TLS sortant"), "{log}");
    });
}

#[test]
fn a_configuration_with_which_no_certificate_would_come_is_refused() {
    let root = folder("market-configuration");
    let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
    let of = |directories: &[&str]| {
        let directories: Vec<String> = directories.iter().map(|one| (*one).to_owned()).collect();
        configured(&root, &pki, &directories)
    };
    let half = |key: &str, value: &str| {
        let mut authority = Table::new();
        authority.insert("directory".into(), "https://ca.example/dir".into());
        authority.insert(key.into(), value.into());
        of(&[]).set("acme.authority", vec![Value::Table(authority)])
    };
    let ca = "https://ca.example/dir";
    for (config, refusal) in [
        (of(&[ca]), None),
        (
            of(&[ca]).set("acme.accept_terms", false),
            Some("conditions d'utilisation"),
        ),
        (
            of(&[ca]).set("acme.staging", true),
            Some("l'annuaire d'essai de cette autorité"),
        ),
        (
            half("eab_key_id", "centre"),
            Some("il manque l'un des deux"),
        ),
        (
            half("eab_hmac_file", &root.join("hmac").display().to_string()),
            Some("il manque l'un des deux"),
        ),
        (of(&["http://ca.example/dir"]), Some("https")),
    ] {
        config.write().unwrap();
        let (code, said) = drimbox(&root, &["check", "config"]);
        match refusal {
            None => assert_eq!(code, Some(0), "{said}"),
            Some(refusal) => {
                assert_eq!(code, Some(2), "{said}");
                assert!(said.contains(refusal), "{refusal}: {said}");
            }
        }
    }
    // Without any authority it is Let's Encrypt's, whose directory for trials is known.
    let config = of(&[]).set("acme.authority", Vec::<Value>::new());
    for (staging, directory) in [
        (false, "https://acme-v02.api.letsencrypt.org/directory"),
        (
            true,
            "https://acme-staging-v02.api.letsencrypt.org/directory",
        ),
    ] {
        let file = config.clone().set("acme.staging", staging).write().unwrap();
        let loaded = drimbox::config::load(&file).unwrap();
        assert_eq!(loaded.acme.unwrap().authorities[0].directory, directory);
    }
}
