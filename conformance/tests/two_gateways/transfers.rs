//! What two DRIMboxes give each other, and what they refuse.

use std::path::Path;

use conformance::testkit::psc::RADIOLOGIST;
use serde_json::Value as Json;

use crate::pair::{Pair, Site, pair, text};
use crate::support::{folder, run, until};

#[test]
fn two_drimboxes_fetch_1300_images_from_each_other_and_both_trails_say_so() {
    run(async {
        let pair = pair().await;
        let (north, south) = (&pair.north, &pair.south);
        let before = [north.trail().len(), south.trail().len()];
        let token = pair.token_file("exchange-token").await;
        let out = [folder("to-north"), folder("to-south")];
        let (to_north, to_south) = tokio::join!(
            north.fetch(&south.kos, &out[0], Some(&token)),
            south.fetch(&north.kos, &out[1], Some(&token)),
        );
        for done in [&to_north, &to_south] {
            assert!(done.status.success(), "{}", text(&done.stderr));
            assert!(text(&done.stdout).contains("1300 images (0 déjà là)"));
        }
        south.study.assert_in(&out[0]);
        north.study.assert_in(&out[1]);

        for (site, other, from) in [(north, south, before[0]), (south, north, before[1])] {
            assert_served(site, other, from).await;
            assert_fetched(site, other, from);
            site.assert_trail().await;
            let known = site.run(&["certs", "show", other.host]).await;
            let known = text(&known.stdout);
            assert!(known.contains("DRIMbox appelée"), "{known}");
        }
    });
}

/// The trail has what the other was sent.
async fn assert_served(site: &Site, to: &Site, from: usize) {
    let begun = site.events(from, "request-started");
    assert_eq!(begun.len(), 3, "one request a series");
    for event in begun {
        assert_eq!(event["actor"]["peer"]["host"], to.host);
        assert_eq!(event["actor"]["person"]["national_id"], RADIOLOGIST);
        assert_eq!(event["object"]["kos"], site.study.kos.instance.as_str());
    }
    until("three ends are on record", async || {
        let ended = site.events(from, "request-ended");
        let whole = |event: &&Json| event["outcome"]["ending"] == "success";
        ended.iter().filter(whole).count() >= 3
    })
    .await;
}

/// The trail has what came from the other.
fn assert_fetched(site: &Site, other: &Site, from: usize) {
    let begun = site.events(from, "fetch-started");
    assert_eq!(begun.len(), 3, "one record a series");
    for event in begun {
        assert_eq!(event["object"]["subject"], other.host);
        assert_eq!(event["object"]["study"], other.study.kos.study.as_str());
        assert_eq!(event["object"]["kos"], other.study.kos.instance.as_str());
    }
    let ended = site.events(from, "fetch-ended");
    let images: u64 = ended
        .iter()
        .map(|event| event["outcome"]["instances"].as_u64().unwrap())
        .sum();
    assert_eq!(images, 1300);
}

/// Fetches from the south to the north, which must fail for this reason there, and say this here.
async fn refused(pair: &Pair, kos: &Path, token: Option<&Path>, reason: &str, said: &str) {
    let before = pair.south.trail().len();
    let out = folder("refused");
    let done = pair.north.fetch(kos, &out, token).await;
    assert_eq!(done.status.code(), Some(1), "{reason}");
    let stderr = text(&done.stderr);
    assert!(stderr.contains(said), "{reason}: {stderr}");
    let refusals = pair.south.events(before, "request-refused");
    assert!(!refusals.is_empty(), "{reason} is not on record");
    for refusal in refusals {
        assert_eq!(refusal["outcome"]["reason"], reason);
    }
    assert_eq!(pair.south.events(before, "request-started").len(), 0);
}

/// Fetches from the south to the north, which must go well.
async fn fetched(pair: &Pair, name: &str) {
    let token = pair.token_file(&format!("{name}-token")).await;
    let out = folder(name);
    let done = pair.north.fetch(&pair.south.kos, &out, Some(&token)).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    pair.south.study.assert_in(&out);
}

#[test]
fn without_a_token_with_another_kos_or_after_its_removal_nothing_comes() {
    run(async {
        let pair = pair().await;
        let kos = &pair.south.kos;
        refused(&pair, kos, None, "no_token", "Remède").await;

        let token = pair.token_file("wrong-kos").await;
        let mut other = pair.south.study.kos.clone();
        other.instance += ".1";
        let file = folder("other-kos").join("kos.dcm");
        other.write(&file).unwrap();
        let gone = "n'est plus publié";
        refused(&pair, &file, Some(&token), "other_kos", gone).await;

        pair.south.withdraw().await;
        refused(&pair, kos, Some(&token), "not_published", gone).await;
        pair.south.publish().await;
        fetched(&pair, "published-again").await;
    });
}

#[test]
fn who_leaves_the_white_list_neither_gets_nor_is_asked_for_images() {
    run(async {
        let mut pair = pair().await;
        let token = pair.token_file("unlisted").await;
        let north = pair.north.host;
        pair.list_without(north).await;
        let kos = &pair.south.kos;
        refused(&pair, kos, Some(&token), "not_listed", "Remède").await;

        let south = pair.south.host;
        pair.list_without(south).await;
        let asked = pair.south.line.connections();
        let out = folder("not-asked");
        let done = pair.north.fetch(&pair.south.kos, &out, Some(&token)).await;
        assert_eq!(done.status.code(), Some(1));
        assert!(text(&done.stderr).contains("liste blanche"));
        assert_eq!(pair.south.line.connections(), asked);

        pair.list_without("").await;
        fetched(&pair, "listed-again").await;
    });
}
