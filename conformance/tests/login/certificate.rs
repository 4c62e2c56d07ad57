//! The certificate towards the provider, while the gateway runs.

use std::fs;

use conformance::testkit::Identity;
use conformance::testkit::pki::{Usage, Validity};
use conformance::testkit::psc::{PHYSICIAN, left_out};
use drimbox::certs::facts::Facts;
use rustix::process::Signal;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;

use crate::site::Site;
use crate::support::{metric, run, trail, until};
use crate::thousand::attempt;

#[test]
fn a_certificate_towards_the_provider_is_renewed_without_a_restart() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::lock().await;
        site.provider.reset().await.unwrap();
        let knobs = json!({ "user": PHYSICIAN });
        site.provider.set(knobs).await.unwrap();
        assert_eq!(attempt(&site).await.status(), 303);
        let good = contents(&site.identity);
        let name = Facts::of(&CertificateDer::from_pem_slice(&good[0]).unwrap()).unwrap();
        let name = name.common_name.unwrap();
        let other = site.pki.client("someone-else").unwrap();
        let [_, key] = contents(&other);
        let mixed = [good[0].clone(), key];
        let ended = contents(
            &site
                .pki
                .issue(&name, &[], Usage::Client, Validity::Expired)
                .unwrap(),
        );
        // Another Client ID's; a key that is of no certificate here; out of date.
        for refused in [contents(&other), mixed, ended] {
            let before = reloads(&site, "refused").await;
            write(&site.identity, &refused);
            site.gateway.process().signal(Signal::HUP);
            until("it is refused", async || {
                reloads(&site, "refused").await > before
            })
            .await;
            assert_eq!(attempt(&site).await.status(), 303, "logins go on");
        }

        let renewed = contents(&site.pki.client(&name).unwrap());
        assert_ne!(renewed[0], good[0]);
        let before = reloads(&site, "loaded").await;
        write(&site.identity, &renewed);
        site.gateway.process().signal(Signal::HUP);
        until("the renewed certificate is presented", async || {
            reloads(&site, "loaded").await > before
        })
        .await;
        assert_eq!(attempt(&site).await.status(), 303);
        let shown = shown(&site).await;
        assert_eq!(shown.last(), Some(&serial(&renewed[0])));
        assert_eq!(shown.first(), Some(&serial(&good[0])));
        assert_ne!(serial(&renewed[0]), serial(&good[0]));
        let events = trail::events(&site.data.join("audit"));
        let replaced: Vec<_> = events
            .iter()
            .filter(|event| event["kind"] == "certificate-replaced")
            .filter(|event| event["object"]["resource"] == "ORG_AUTH_CLI")
            .collect();
        assert_eq!(replaced.len(), 1, "{replaced:?}");
        assert_eq!(replaced[0]["object"]["subject"], name);
        let prints = ["certificate", "certificate_before"].map(|key| &replaced[0]["object"][key]);
        assert!(prints[0].is_string() && prints[1].is_string() && prints[0] != prints[1]);
        site.provider.reset().await.unwrap();
    });
}

/// The serial numbers of the certificates that the token endpoint was shown.
async fn shown(site: &Site) -> Vec<String> {
    let seen = site.provider.report().await.unwrap().seen.into_iter();
    let shown = seen.filter(|one| one.endpoint == "token");
    shown.map(|one| digits(&one.serial.unwrap())).collect()
}

fn serial(certificate: &[u8]) -> String {
    let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
    digits(&Facts::of(&certificate).unwrap().serial)
}

/// A number as its hexadecimal digits, however it is written.
fn digits(number: &str) -> String {
    let digits = number.chars().filter(char::is_ascii_hexdigit);
    let digits: String = digits.collect();
    digits.trim_start_matches('0').to_ascii_uppercase()
}

async fn reloads(site: &Site, outcome: &str) -> u64 {
    let labels = [("outcome", outcome)];
    metric(
        &site.gateway,
        "drimbox_psc_certificate_reloads_total",
        &labels,
    )
    .await
}

fn contents(identity: &Identity) -> [Vec<u8>; 2] {
    [&identity.certificate_file, &identity.key_file].map(|file| fs::read(file).unwrap())
}

fn write(identity: &Identity, contents: &[Vec<u8>; 2]) {
    let [certificate, key] = contents;
    fs::write(&identity.certificate_file, certificate).unwrap();
    fs::write(&identity.key_file, key).unwrap();
}
