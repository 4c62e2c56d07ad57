//! Who may come in, as the configuration says.

use conformance::testkit::psc::{
    DENTIST, MANIPULATOR, MIDWIFE, NURSE, PHYSICIAN, SECRETARY, STUDENT, left_out,
};
use serde_json::json;

use crate::site::Site;
use crate::support::run;
use crate::thousand::attempt;

/// The status of a login of each.
async fn statuses(site: &Site, users: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for user in users {
        site.provider.set(json!({ "user": user })).await.unwrap();
        statuses.push(attempt(site).await.status().as_u16());
    }
    site.provider.reset().await.unwrap();
    statuses
}

#[test]
fn physicians_dentists_and_midwives_come_in_and_radiographers_where_the_centre_says_so() {
    if left_out() {
        return;
    }
    run(async {
        let admitted = [PHYSICIAN, DENTIST, MIDWIFE];
        let refused = [NURSE, STUDENT, SECRETARY];
        let site = Site::lock().await;
        assert_eq!(statuses(&site, &admitted).await, [303; 3]);
        assert_eq!(statuses(&site, &refused).await, [403; 3]);
        assert_eq!(statuses(&site, &[MANIPULATOR]).await, [403]);
        drop(site);

        let site = Site::start("login-radiographers", |config| {
            config.set("psc.radiographers", true)
        });
        let site = site.await;
        assert_eq!(statuses(&site, &admitted).await, [303; 3]);
        assert_eq!(statuses(&site, &refused).await, [403; 3]);
        assert_eq!(statuses(&site, &[MANIPULATOR]).await, [303]);

        let site = Site::start("login-dentists", |config| {
            config.set("psc.professions", vec!["40"])
        });
        let site = site.await;
        assert_eq!(statuses(&site, &admitted).await, [403, 303, 403]);
    });
}
