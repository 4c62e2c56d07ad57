//! What stands in the way, as the DNS shows it.

use conformance::testkit::{Gateway, Pebble, Pki, free_port};

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
