//! A thousand people at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use conformance::testkit::psc::{PHYSICIAN, left_out};
use conformance::testkit::{Client, Response};
use serde_json::json;
use tokio::task::JoinSet;

use crate::site::{HOSTS, Site};
use crate::support::run;

const LOGINS: usize = 1000;
const AT_ONCE: usize = 8;
/// What one session may take of memory: tokens, situations, and the room of the allocator.
const BYTES_EACH: u64 = 64 * 1024;

#[test]
fn a_thousand_sessions_take_bounded_memory_and_all_live() {
    if left_out() {
        return;
    }
    run(async {
        let site = Arc::new(Site::lock().await);
        site.provider
            .set(json!({ "user": PHYSICIAN }))
            .await
            .unwrap();
        let first = log_in(&site).await;
        let before = site.gateway.memory().unwrap().now;
        let mut cookies = vec![first];
        let mut left = LOGINS;
        let mut under_way = JoinSet::new();
        while left > 0 || !under_way.is_empty() {
            while left > 0 && under_way.len() < AT_ONCE {
                let site = Arc::clone(&site);
                left -= 1;
                under_way.spawn(async move { log_in(&site).await });
            }
            cookies.extend(under_way.join_next().await.map(Result::unwrap));
        }
        let after = site.gateway.memory().unwrap().now;
        let each = after.saturating_sub(before) / LOGINS as u64;
        println!("{LOGINS} sessions: {each} bytes each");
        assert!(each < BYTES_EACH, "{each} bytes for each session");

        let metrics = site.gateway.metrics().await.unwrap();
        assert!(metrics.sum("drimbox_login_sessions", &[]) > LOGINS as f64);
        let client = browser(&site);
        for cookie in cookies.iter().step_by(97) {
            let url = format!("https://{}:{}/auth/session.json", HOSTS[0], site.port);
            let answer = client
                .get(&url)
                .header("cookie", cookie)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.json().await.unwrap()["loggedIn"], true);
        }
        site.provider.reset().await.unwrap();
    });
}

fn browser(site: &Site) -> Client {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, site.port));
    Client::builder()
        .ca(site.pki.ca_file())
        .resolve(HOSTS[0], loopback)
        .build()
        .unwrap()
}

/// Logs in as a browser of its own; the session's cookie.
async fn log_in(site: &Site) -> String {
    let finish = attempt(site).await;
    assert_eq!(finish.status(), 303);
    pair(finish.header("set-cookie"))
}

/// The gateway's answer to a browser that comes back from the provider.
pub async fn attempt(site: &Site) -> Response {
    let client = browser(site);
    let root = format!("https://{}:{}", HOSTS[0], site.port);
    let start = client
        .get(&format!("{root}/auth/psc/login"))
        .send()
        .await
        .unwrap();
    assert_eq!(start.status(), 303);
    let binding = pair(start.header("set-cookie"));
    let location = start.header("location").to_owned();
    let back = site
        .provider
        .log_in(&site.pki, &location, &root)
        .await
        .unwrap();
    let finish = client.get(&back).header("cookie", &binding);
    finish.send().await.unwrap()
}

fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap_or_default().to_owned()
}
