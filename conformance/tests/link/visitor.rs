//! Somebody with a link, without a browser: cookies of one host, no redirect followed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use conformance::testkit::psc::PHYSICIAN;
use conformance::testkit::{Client, Response};
use http::Method;
use serde_json::json;

use crate::site::{HOSTS, Site, link_of};

pub const SESSION: &str = "__Host-drimbox";
pub const LINK: &str = "__Host-drimbox-link";
/// Where the exam page is.
pub const PAGE: &str = "/viewer/";

/// No refusal leaves before: a busy machine makes it later, and nothing makes it sooner.
pub const FLOOR: Duration = Duration::from_millis(500);

pub struct Visitor<'a> {
    site: &'a Site,
    pub host: &'static str,
    client: Client,
    pub cookies: RefCell<BTreeMap<String, String>>,
    /// Every address this person was sent to.
    pub sent_to: RefCell<Vec<String>>,
}

impl<'a> Visitor<'a> {
    pub fn new(site: &'a Site) -> Self {
        Self::at(site, HOSTS[0])
    }

    pub fn at(site: &'a Site, host: &'static str) -> Self {
        Self::from_address(site, host, Ipv4Addr::LOCALHOST)
    }

    /// Somebody at another address than the others.
    pub fn elsewhere(site: &'a Site) -> Self {
        Self::from_address(site, HOSTS[0], Ipv4Addr::new(127, 0, 0, 2))
    }

    fn from_address(site: &'a Site, host: &'static str, address: Ipv4Addr) -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, site.port));
        let client = Client::builder()
            .ca(site.pki.ca_file())
            .from_address(address.into())
            .resolve(host, loopback);
        Self {
            site,
            host,
            client: client.build().unwrap(),
            cookies: RefCell::default(),
            sent_to: RefCell::default(),
        }
    }

    /// Somebody to whom the exam of this sample was opened.
    pub async fn with_exam(site: &'a Site, name: &str) -> Self {
        let visitor = Self::new(site);
        assert_eq!(visitor.open(&link_of(name)).await, Ok(()));
        visitor
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[], "").await
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let url = self.site.url(self.host, path);
        let mut call = self.client.request(method, &url);
        let cookies: Vec<String> = self
            .cookies
            .borrow()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            call = call.header("cookie", &cookies.join("; "));
        }
        for (name, value) in fields {
            call = call.header(name, value);
        }
        let answer = call.body(body.to_owned()).send().await.unwrap();
        for line in answer.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.borrow_mut().remove(name);
            } else {
                let mut cookies = self.cookies.borrow_mut();
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let location = answer.header("location");
        if !location.is_empty() {
            self.sent_to.borrow_mut().push(location.to_owned());
        }
        answer
    }

    /// Follows a link and says who one is, if that is asked. `Err` has the status and text of the page it ends on.
    pub async fn open(&self, link: &str) -> Result<(), (u16, String)> {
        let mut answer = self.get(link).await;
        for _ in 0..8 {
            if answer.status() != 303 {
                break;
            }
            let location = answer.header("location").to_owned();
            answer = match location.as_str() {
                PAGE => return Ok(()),
                "/viewer/entree" => {
                    let page = self.get(&location).await;
                    assert_eq!(page.status(), 200);
                    assert!(page.text().await.unwrap().contains("href=\"/viewer/pro\""));
                    self.get("/viewer/pro").await
                }
                path if path.starts_with('/') => self.get(path).await,
                provider => {
                    let back = self.log_in(provider).await;
                    self.get(&back).await
                }
            };
        }
        let status = answer.status().as_u16();
        Err((status, answer.text().await.unwrap()))
    }

    /// Logs in at the provider; the path on this host that it leads back to.
    pub async fn log_in(&self, provider: &str) -> String {
        let psc = &self.site.provider;
        psc.set(json!({ "user": PHYSICIAN })).await.unwrap();
        let root = self.site.url(self.host, "");
        let back = psc.log_in(&self.site.pki, provider, &root).await.unwrap();
        psc.reset().await.unwrap();
        back[root.len()..].to_owned()
    }

    /// Asks for what is refused; the answer comes no sooner than any other refusal.
    pub async fn refused(&self, path: &str) -> Response {
        let asked = Instant::now();
        let answer = self.get(path).await;
        assert!(asked.elapsed() >= FLOOR, "refused in {:?}", asked.elapsed());
        answer
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.borrow().get(name).cloned()
    }

    pub fn bring(&self, name: &str, value: &str) {
        let mut cookies = self.cookies.borrow_mut();
        cookies.insert(name.to_owned(), value.to_owned());
    }
}
