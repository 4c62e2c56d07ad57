//! Certificates change while clients work: nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use conformance::testkit::{Client, FaultyPacs, Gateway, PacsConfig, Pebble, Pki, free_port};

use crate::site::{DB, VI, another, drimbox, even, gateway_of, healthcheck, settled};
use crate::support::{folder, run, until};

const REQUESTS: usize = 10_000;
const SWAPS: usize = 10;
const WORKERS: usize = 8;
/// Requests that a worker sends over one connection.
const EACH: usize = 5;

/// What the workers have done.
#[derive(Default)]
struct Done {
    requests: AtomicUsize,
    failed: AtomicUsize,
    enough: AtomicBool,
}

#[test]
fn ten_certificates_are_swapped_under_ten_thousand_requests_and_none_fails() {
    run(async {
        let root = folder("market-load");
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let port = free_port().unwrap();
        let pebble = Pebble::start(&root.join("pebble"), &pki, &even(port))
            .await
            .unwrap();
        let roots = pebble.root_file().await.unwrap();
        let images = FaultyPacs::start("PACS", &[], &[]).await.unwrap();
        let pacs = PacsConfig::new("ct", "PACS", images.port())
            .db_host(DB, &pki.server(&[DB]).unwrap())
            .set("vi_host", VI);
        let config = gateway_of(&root, &pki, &[pebble.directory()], [pacs])
            .set("acme.listen", format!("127.0.0.1:{port}"));
        let gateway = Gateway::start(config).await.unwrap();
        let mut leaf = another(&gateway, &roots, VI, None).await;
        let url = healthcheck(&gateway);
        let first = browser(&gateway, &roots);
        until("the PACS up", async || {
            first
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 200)
        })
        .await;

        let done = Arc::new(Done::default());
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let work = work(browser(&gateway, &roots), url.clone(), Arc::clone(&done));
                tokio::spawn(work)
            })
            .collect();
        for swap in 1..=SWAPS {
            // Spread over the whole of the requests.
            let so_far = REQUESTS * swap / (SWAPS + 1);
            until("requests before the swap", async || {
                done.requests.load(Ordering::Relaxed) >= so_far
            })
            .await;
            settled(&root).await;
            let (code, said) = drimbox(&root, &["acme", "renew", VI]);
            assert_eq!(code, Some(0), "{said}");
            leaf = another(&gateway, &roots, VI, Some(leaf)).await;
        }
        until("the last requests", async || {
            done.requests.load(Ordering::Relaxed) >= REQUESTS
        })
        .await;
        done.enough.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(done.failed.load(Ordering::Relaxed), 0);
        settled(&root).await;
        let obtained = gateway.metrics().await.unwrap();
        let obtained = obtained.sum("drimbox_acme_certificates_total", &[("fqdn", VI)]);
        assert_eq!(obtained as usize, SWAPS + 1);
    });
}

fn browser(gateway: &Gateway, roots: &std::path::Path) -> Client {
    Client::builder()
        .ca(roots)
        .resolve(VI, gateway.address("peer"))
        .build()
        .unwrap()
}

/// Asks again and again, over connections that are kept and over new ones.
async fn work(client: Client, url: String, done: Arc<Done>) {
    let mut sent = 0;
    while !done.enough.load(Ordering::Relaxed) {
        if sent % EACH == 0 {
            client.forget_connections();
        }
        sent += 1;
        let well = match client.get(&url).send().await {
            Ok(answer) => answer.status() == 200 && answer.text().await.is_ok(),
            Err(_) => false,
        };
        done.failed.fetch_add(usize::from(!well), Ordering::Relaxed);
        done.requests.fetch_add(1, Ordering::Relaxed);
    }
}
