//! What happens in the middle of a transfer.

use conformance::testkit::{Client, Protocol};
use futures_util::future::join_all;

use crate::pair::{Pair, arrived, pair, text, under_way};
use crate::support::{AS_STORED, folder, run};

#[test]
fn a_token_that_is_renewed_between_two_series_is_used_from_then_on() {
    run(async {
        let pair = pair().await;
        let (north, south) = (&pair.north, &pair.south);
        let file = folder("renewed-token").join("token");
        let (first, session) = pair.token().await;
        std::fs::write(&file, first).unwrap();
        let before = south.trail().len();
        let out = folder("with-two-tokens");
        south.hold();
        let fetch = north.begin_fetch(&south.kos, &out, Some(&file));
        under_way(&out).await;
        std::fs::write(&file, pair.token().await.0).unwrap();
        let ended = pair.network.provider.end_session(&session).await;
        assert!(ended.unwrap());
        south.release();
        let done = fetch.await.unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        south.study.assert_in(&out);
        let begun = south.events(before, "request-started");
        let tokens = begun
            .iter()
            .map(|event| event["actor"]["person"]["token"].as_str());
        let tokens: Vec<_> = tokens.map(Option::unwrap).collect();
        assert_eq!(tokens.len(), 3);
        assert_ne!(tokens[0], tokens[1]);
        assert_eq!(tokens[1], tokens[2]);
    });
}

#[test]
fn a_certificate_that_is_renewed_during_a_transfer_drops_nothing() {
    run(async {
        let mut pair = pair().await;
        let token = pair.token_file("renewed-certificate").await;
        let Pair {
            network,
            north,
            south,
            ..
        } = &mut *pair;
        let before = south.trail().len();
        let out = folder("through-a-renewal");
        south.hold();
        let fetch = north.begin_fetch(&south.kos, &out, Some(&token));
        under_way(&out).await;
        Pair::renew(network, south).await;
        south.release();
        let done = fetch.await.unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
        south.study.assert_in(&out);
        let replaced = south.events(before, "certificate-replaced");
        assert_eq!(replaced.len(), 1);
        assert_eq!(replaced[0]["object"]["subject"], south.host);
        // One request a series, and none again.
        assert_eq!(south.events(before, "request-started").len(), 3);
    });
}

#[test]
fn a_certificate_that_is_revoked_during_a_transfer_gets_no_further_series() {
    run(async {
        let mut pair = pair().await;
        let token = pair.token_file("revoked-token").await;
        let before = pair.south.trail().len();
        let out = folder("until-revocation");
        let kos = pair.south.kos.clone();
        pair.south.hold();
        let fetch = pair.north.begin_fetch(&kos, &out, Some(&token));
        under_way(&out).await;
        pair.revoke_north().await;
        pair.south.release();
        let done = fetch.await.unwrap();
        assert_eq!(done.status.code(), Some(1));
        let served = pair.south.events(before, "request-started");
        assert_eq!(served.len(), 1, "only the series that was under way");
        // The fetch learned of the new list too, and came by a new connection.
        let refused = pair.south.events(before, "connection-refused");
        assert!(!refused.is_empty());
        assert!(
            refused
                .iter()
                .all(|event| event["outcome"]["reason"] == "revoked")
        );
        let had = pair.series_arrived_whole(&out, before).await;

        // Neither by a new connection.
        let done = pair.north.fetch(&kos, &out, Some(&token)).await;
        assert_eq!(done.status.code(), Some(1));
        assert_eq!(arrived(&out), had);
        pair.south.assert_trail().await;

        // With a new certificate, what is missing comes.
        let token = pair.token_file("after-revocation").await;
        let Pair {
            network,
            north,
            south,
            ..
        } = &mut *pair;
        Pair::renew(network, north).await;
        let done = north.fetch(&kos, &out, Some(&token)).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains(&format!("({had} déjà là)")));
        south.study.assert_in(&out);
    });
}

#[test]
fn a_source_that_leaves_the_white_list_during_a_fetch_is_sent_no_further_token() {
    run(async {
        let mut pair = pair().await;
        let token = pair.token_file("delisted-source").await;
        let before = pair.south.trail().len();
        let out = folder("until-delisting");
        let kos = pair.south.kos.clone();
        pair.south.hold();
        let fetch = pair.north.begin_fetch(&kos, &out, Some(&token));
        under_way(&out).await;
        let south = pair.south.host;
        pair.list_without(south).await;
        pair.south.release();
        let done = fetch.await.unwrap();
        assert_eq!(done.status.code(), Some(1));
        let said = text(&done.stderr);
        assert!(said.contains("liste blanche"), "{said}");
        // The series that was under way; the source would have given the others.
        assert_eq!(pair.south.events(before, "request-started").len(), 1);
        assert!(pair.south.events(before, "request-refused").is_empty());
        pair.series_arrived_whole(&out, before).await;
        pair.list_without("").await;
    });
}

#[test]
fn a_source_whose_certificate_is_revoked_during_a_fetch_is_sent_no_further_token() {
    run(async {
        let mut pair = pair().await;
        let token = pair.token_file("revoked-source").await;
        let before = pair.south.trail().len();
        let out = folder("until-the-source-is-revoked");
        let kos = pair.south.kos.clone();
        pair.south.hold();
        let fetch = pair.north.begin_fetch(&kos, &out, Some(&token));
        under_way(&out).await;
        pair.revoke_south().await;
        pair.south.release();
        let done = fetch.await.unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
        assert_eq!(pair.south.events(before, "request-started").len(), 1);
        assert!(pair.south.events(before, "request-refused").is_empty());
        pair.series_arrived_whole(&out, before).await;
        let Pair { network, south, .. } = &mut *pair;
        Pair::renew(network, south).await;
    });
}

#[test]
fn a_power_cut_in_the_middle_of_100_transfers_loses_no_record_and_the_fetch_resumes() {
    run(async {
        let mut pair = pair().await;
        let token_file = pair.token_file("power-cut").await;
        let token = std::fs::read_to_string(&token_file).unwrap();
        let before = pair.south.trail().len();
        let out = folder("before-the-cut");
        let kos = pair.south.kos.clone();
        pair.south.hold();
        let fetch = pair.north.begin_fetch(&kos, &out, Some(&token_file));
        under_way(&out).await;

        // And a hundred more, whose answers have begun.
        let south = &pair.south;
        let client = Client::builder()
            .ca(&pair.network.root_file().unwrap())
            .identity(&pair.north.identity)
            .protocol(Protocol::Http1)
            .resolve(south.host, south.line.address())
            .build()
            .unwrap();
        let url = south.study.kos.series[0].retrieve_url.clone().unwrap();
        let port = south.line.address().port();
        let url = url.replace(south.host, &format!("{}:{port}", south.host));
        let answers = join_all((0..100).map(|_| {
            client
                .get(&url)
                .accept(AS_STORED)
                .header("authorization", &format!("Bearer {token}"))
                .header("kos-sopinstanceuid", &south.study.kos.instance)
                .send()
        }));
        let answers = answers.await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().unwrap().status() == 200)
        );

        pair.south.gateway.kill();
        pair.south.release();
        pair.south.line.cut_all();
        drop(answers);
        let done = fetch.await.unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
        let had = arrived(&out);
        assert!((1..1300).contains(&had), "{had} images came");

        pair.south.gateway.restart().await.unwrap();
        pair.south.assert_trail().await;
        let begun = pair.south.events(before, "request-started");
        assert_eq!(begun.len(), 101);

        let done = pair.north.fetch(&kos, &out, Some(&token_file)).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(text(&done.stdout).contains(&format!("({had} déjà là)")));
        pair.south.study.assert_in(&out);
        pair.south.assert_trail().await;
    });
}
