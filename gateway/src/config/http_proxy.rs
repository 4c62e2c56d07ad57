//! The HTTP proxy through which a hospital lets its machines out.

use std::fmt;
use std::str::FromStr;

use url::Url;

use super::value::{Fault, Value};

/// Address of an outgoing proxy, `http://host:port`, with `user:password@` where it asks who comes (RFC 7617).
/// `Debug` shows host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProxy(Url);

/// Not `http://host:port`, with or without a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the address of an HTTP proxy: write http://host:port")]
pub struct NotAProxy;

impl HttpProxy {
    /// The whole address, with what must not be shown.
    #[must_use]
    pub fn url(&self) -> Url {
        self.0.clone()
    }
}

impl FromStr for HttpProxy {
    type Err = NotAProxy;

    fn from_str(text: &str) -> Result<Self, NotAProxy> {
        let url = Url::parse(text).map_err(|_| NotAProxy)?;
        let fits = url.scheme() == "http" && url.has_host() && matches!(url.path(), "" | "/");
        fits.then_some(Self(url)).ok_or(NotAProxy)
    }
}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "HttpProxy({host}:{})", self.0.port().unwrap_or(80))
    }
}

pub(super) fn http_proxy(value: &Value<'_>) -> Result<HttpProxy, Fault> {
    value.text()?.parse().map_err(|NotAProxy| {
        Fault::new(
            "ce n'est pas l'adresse d'un proxy HTTP",
            "écrire \"http://nom:port\", ou \"http://compte:motdepasse@nom:port\" : ce qui est chiffré le reste à \
             travers lui",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_shown_of_a_proxy_is_where_it_is() {
        let proxy: HttpProxy = "http://compte:secret@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "HttpProxy(proxy.example:3128)");
        assert_eq!(proxy.url().password(), Some("secret"));
        for wrong in [
            "https://proxy.example",
            "http://",
            "proxy:3128",
            "http://p/x",
        ] {
            assert_eq!(wrong.parse::<HttpProxy>(), Err(NotAProxy), "{wrong}");
        }
    }
}
