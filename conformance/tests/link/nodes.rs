//! Two gateways of one centre, which count refusals together.

use conformance::testkit::psc::left_out;
use serde_json::json;

use crate::patient::{CODE, gate, opened, prove};
use crate::site::{EXAM, OTHER, Site, accession_of, link, link_of, report_of};
use crate::support::{exam, folder, metric, run};
use crate::visitor::Visitor;

#[test]
fn gateways_that_share_a_folder_refuse_together() {
    if left_out() {
        return;
    }
    run(async {
        let shared = folder("link-shared").display().to_string();
        let node = async |name| {
            let site = Site::with(name, |config, pki| {
                let config = config.set("viewer.shared_dir", shared.as_str());
                gate("report-code")(config, pki)
            });
            let site = site.await;
            for name in [EXAM, OTHER] {
                site.facts(name, &json!({ "code": CODE })).await;
            }
            site
        };
        let nodes = [node("link-node-one").await, node("link-node-two").await];
        let right = format!("code={CODE}");
        // Five wrong codes at each are ten.
        for guess in 0..10 {
            let guesser = Visitor::elsewhere(&nodes[guess % 2]);
            let wrong = format!("code=KJHG-4567-{guess:04}");
            assert_eq!(prove(&guesser, &link_of(EXAM), &wrong).await.0, 403);
        }
        for site in &nodes {
            let patient = Visitor::new(site);
            assert_eq!(prove(&patient, &link_of(EXAM), &right).await.0, 403);
            assert_eq!(prove(&patient, &link_of(OTHER), &right).await, opened());
        }
        // Ten wrong links at one more, and the address has twenty refusals, most of them there.
        let unknown = link(
            "1.2.250.1.999.404",
            &accession_of(exam(EXAM)),
            &report_of(EXAM),
        );
        for _ in 0..10 {
            let guesser = Visitor::elsewhere(&nodes[0]);
            assert_eq!(prove(&guesser, &unknown, &right).await.0, 403);
        }
        for site in &nodes {
            let guesser = Visitor::elsewhere(site);
            assert_eq!(guesser.refused(&link_of(OTHER)).await.status(), 404);
            let other = Visitor::new(site);
            assert_eq!(other.status(&link_of(OTHER)).await, 303);
            for (name, labels) in [
                ("drimbox_patient_lockouts_total", [].as_slice()),
                ("drimbox_viewer_lockouts_total", &[("subject", "address")]),
            ] {
                assert_eq!(metric(&site.gateway, name, labels).await, 1, "{name}");
            }
            let study = [("subject", "study")];
            let name = "drimbox_viewer_lockouts_total";
            assert_eq!(metric(&site.gateway, name, &study).await, 0);
        }
    });
}
