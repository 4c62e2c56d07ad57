//! The clock of the machine beside that of Pro Santé Connect.

use std::fs;

use conformance::testkit::psc::{PHYSICIAN, left_out};
use serde_json::json;

use crate::site::Site;
use crate::support::{run, until};
use crate::thousand::attempt;

/// Waits until the metric says this; a second is lost between two clocks that are cut to seconds.
async fn shows(site: &Site, ahead: f64) {
    until("the metric says how far the clocks are apart", async || {
        let metrics = site.gateway.metrics().await.unwrap();
        let skew = metrics.sum("drimbox_psc_clock_skew_seconds", &[]);
        (skew - ahead).abs() < 2.0
    })
    .await;
}

fn warnings(log: &std::path::Path) -> usize {
    let log = fs::read_to_string(log).unwrap();
    log.matches("the clock of this machine is 4").count()
}

#[test]
fn half_a_minute_between_the_clocks_keeps_nobody_out_and_more_is_said() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::lock().await;
        let log = site.gateway.process().log_file().to_owned();
        let ahead = async |site: &Site, seconds: i32| {
            let knobs = json!({ "user": PHYSICIAN, "clockOffsetSeconds": seconds });
            site.provider.set(knobs).await.unwrap();
            attempt(site).await.status().as_u16()
        };
        for seconds in [25, -25] {
            assert_eq!(ahead(&site, seconds).await, 303, "{seconds}");
            shows(&site, f64::from(seconds)).await;
        }
        assert_eq!(warnings(&log), 0);
        // A token of Pro Santé Connect that is not valid yet is not taken, and the log says why.
        assert_ne!(ahead(&site, 45).await, 303);
        shows(&site, 45.0).await;
        until("it is said", async || warnings(&log) == 1).await;
        assert_ne!(ahead(&site, 45).await, 303);
        assert_eq!(ahead(&site, 0).await, 303);
        shows(&site, 0.0).await;
        assert_eq!(warnings(&log), 1, "once");
        site.provider.reset().await.unwrap();
    });
}
