//! Where the service stands on each listener: which PACS a path names, and the URLs in answers.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::net::{Connection, ListenerKind};

/// Path of the service on `vi` names, which the exam page knows.
const VIEWER: &str = "/dicom-web";

/// Where the service of each listener stands, for the URLs in answers.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// Path on the local listener, for example `/dicom-web`.
    pub local: String,
    /// Public scheme and authority of the local listener; `None`: those of the request.
    pub local_public: Option<String>,
    /// Whether the local listener has TLS.
    pub local_tls: bool,
    /// Path on the listener for peers.
    pub peer: String,
    /// Port of the listener for peers in URLs; `None` for 443.
    pub peer_port: Option<u16>,
}

impl Roots {
    /// The PACS that a path names, if it does, and the path below the root of the service.
    pub fn split<'a>(
        &self,
        connection: &Connection,
        path: &'a str,
    ) -> Option<(Option<&'a str>, &'a str)> {
        match connection.listener {
            ListenerKind::Peer => Some((None, below(path, &self.peer)?)),
            ListenerKind::Local => {
                if let Some(rest) = path.strip_prefix("/pacs/") {
                    let at = rest.find('/')?;
                    let (name, rest) = rest.split_at_checked(at)?;
                    return Some((Some(name), below(rest, &self.local)?));
                }
                Some((None, below(path, &self.local)?))
            }
            ListenerKind::Viewer => Some((None, below(path, VIEWER)?)),
            ListenerKind::Admin | ListenerKind::Clear => None,
        }
    }

    /// Whether a request in clear text names this machine: a web page that makes a browser resolve
    /// its own name to loopback (DNS rebinding) does not. With TLS the certificate tells.
    pub fn is_addressed_to_us(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        if self.local_tls {
            return true;
        }
        let Some(host) = host_of(uri, headers) else {
            return !headers.contains_key(HOST);
        };
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let host = authority.host();
        let public = self
            .local_public
            .as_deref()
            .and_then(|url| url.parse::<Uri>().ok());
        host.eq_ignore_ascii_case("localhost")
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok()
            || public
                .is_some_and(|url| url.host().is_some_and(|own| own.eq_ignore_ascii_case(host)))
    }

    /// The root of the service as the client reaches it.
    pub fn of(
        &self,
        connection: &Connection,
        (uri, headers): (&Uri, &HeaderMap),
        named: Option<&str>,
    ) -> String {
        match connection.listener {
            ListenerKind::Local => {
                let origin = self.local_public.clone().unwrap_or_else(|| {
                    let scheme = if self.local_tls { "https" } else { "http" };
                    let host = host_of(uri, headers).unwrap_or("localhost");
                    format!("{scheme}://{host}")
                });
                let pacs = named
                    .map(|name| format!("/pacs/{name}"))
                    .unwrap_or_default();
                format!("{origin}{pacs}{}", self.local)
            }
            ListenerKind::Peer
            | ListenerKind::Viewer
            | ListenerKind::Admin
            | ListenerKind::Clear => {
                let host = connection.host.as_deref().unwrap_or_default();
                let port = self
                    .peer_port
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default();
                let path = match connection.listener {
                    ListenerKind::Viewer => VIEWER,
                    _ => &self.peer,
                };
                format!("https://{host}{port}{path}")
            }
        }
    }
}

/// Whom a request is addressed to: `Host`, or the authority of HTTP/2 (RFC 9113 §8.3.1).
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match headers.get(HOST) {
        Some(field) => field.to_str().ok(),
        None => uri.authority().map(Authority::as_str),
    }
}

fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    path.strip_prefix(root)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
