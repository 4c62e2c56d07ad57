//! Where the service stands on each listener: which PACS a path names, and the URLs in answers.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::net::{Connection, ListenerKind};

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
            ListenerKind::Viewer | ListenerKind::Admin | ListenerKind::Clear => None,
        }
    }

    /// Whether a request in clear text names this machine: a web page that makes a browser resolve
    /// its own name to loopback (DNS rebinding) does not. With TLS the certificate tells.
    pub fn is_addressed_to_us(&self, headers: &HeaderMap) -> bool {
        if self.local_tls {
            return true;
        }
        let Some(field) = headers.get(HOST) else {
            return true;
        };
        let Some(authority) = field
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Authority>().ok())
        else {
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
    pub fn of(&self, connection: &Connection, headers: &HeaderMap, named: Option<&str>) -> String {
        match connection.listener {
            ListenerKind::Local => {
                let origin = self.local_public.clone().unwrap_or_else(|| {
                    let scheme = if self.local_tls { "https" } else { "http" };
                    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
                    format!("{scheme}://{}", host.unwrap_or("localhost"))
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
                format!("https://{host}{port}{}", self.peer)
            }
        }
    }
}

fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    path.strip_prefix(root)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
}
