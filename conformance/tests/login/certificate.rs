//! The certificate towards the provider, while the gateway runs.

use std::fs;

use conformance::testkit::Identity;
use conformance::testkit::psc::{PHYSICIAN, left_out};
use rustix::process::Signal;
use serde_json::json;

use crate::site::Site;
use crate::support::{run, until};
use crate::thousand::attempt;

#[test]
fn a_certificate_towards_the_provider_is_renewed_without_a_restart() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::lock().await;
        let knobs = json!({ "user": PHYSICIAN });
        site.provider.set(knobs).await.unwrap();
        assert_eq!(attempt(&site).await.status(), 303);
        let good = contents(&site.identity);
        let other = site.pki.client("someone-else").unwrap();

        write(&site.identity, &contents(&other));
        site.gateway.process().signal(Signal::HUP);
        until("the provider refuses another's certificate", async || {
            attempt(&site).await.status() == 502
        })
        .await;
        // A key that is of no certificate here is not presented.
        let [certificate, _] = &good;
        let [_, key] = contents(&other);
        write(&site.identity, &[certificate.clone(), key]);
        site.gateway.process().signal(Signal::HUP);
        assert_eq!(attempt(&site).await.status(), 502);

        write(&site.identity, &good);
        site.gateway.process().signal(Signal::HUP);
        until("the renewed certificate is presented", async || {
            attempt(&site).await.status() == 303
        })
        .await;
        site.provider.reset().await.unwrap();
    });
}

fn contents(identity: &Identity) -> [Vec<u8>; 2] {
    [&identity.certificate_file, &identity.key_file].map(|file| fs::read(file).unwrap())
}

fn write(identity: &Identity, contents: &[Vec<u8>; 2]) {
    let [certificate, key] = contents;
    fs::write(&identity.certificate_file, certificate).unwrap();
    fs::write(&identity.key_file, key).unwrap();
}
