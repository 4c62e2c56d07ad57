//! The discovery document (OpenID Connect Discovery §3, RFC 8414 §2), as far as it is used.

use serde_json::Value;
use url::Url;

use crate::error::{Endpoint, PscError, Said};

/// The addresses of Pro Santé Connect. Where a certificate is presented, the address in
/// `mtls_endpoint_aliases` (RFC 8705 §5) is the one used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) authorization: Url,
    pub(crate) token: Url,
    pub(crate) jwks_uri: Url,
    /// RFC 9207 §3: whether `iss` must come back with the code.
    pub(crate) sends_iss: bool,
    user_info: Option<Url>,
    introspection: Option<Url>,
    revocation: Option<Url>,
    end_session: Option<Url>,
    ciba: Option<Url>,
}

impl Metadata {
    pub(crate) fn parse(json: &[u8], issuer: &str) -> Result<Self, PscError> {
        let malformed = |what| PscError::Malformed {
            endpoint: Endpoint::Discovery,
            what,
        };
        let document: Value = serde_json::from_slice(json).map_err(|_| malformed("not JSON"))?;
        let found = document
            .get("issuer")
            .and_then(Value::as_str)
            .ok_or_else(|| malformed("`issuer` is missing"))?;
        if found != issuer {
            return Err(PscError::WrongIssuer {
                expected: issuer.to_owned(),
                found: Said::new(found),
            });
        }
        let front = |name: &'static str| address(&document, name);
        let aliases = document.get("mtls_endpoint_aliases");
        let back = |name: &'static str| match aliases.map(|aliases| address(aliases, name)) {
            Some(Ok(Some(alias))) => Ok(Some(alias)),
            Some(Err(error)) => Err(error),
            Some(Ok(None)) | None => address(&document, name),
        };
        Ok(Self {
            authorization: front("authorization_endpoint")?
                .ok_or(PscError::NoEndpoint(Endpoint::Authorization))?,
            token: back("token_endpoint")?.ok_or(PscError::NoEndpoint(Endpoint::Token))?,
            jwks_uri: front("jwks_uri")?.ok_or(PscError::NoEndpoint(Endpoint::Keys))?,
            sends_iss: document
                .get("authorization_response_iss_parameter_supported")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            user_info: back("userinfo_endpoint")?,
            introspection: back("introspection_endpoint")?,
            revocation: back("revocation_endpoint")?,
            end_session: front("end_session_endpoint")?,
            ciba: back("backchannel_authentication_endpoint")?,
        })
    }

    pub(crate) fn needs(&self, endpoint: Endpoint) -> Result<&Url, PscError> {
        match endpoint {
            Endpoint::UserInfo => self.user_info.as_ref(),
            Endpoint::Introspection => self.introspection.as_ref(),
            Endpoint::Revocation => self.revocation.as_ref(),
            Endpoint::Logout => self.end_session.as_ref(),
            Endpoint::Ciba => self.ciba.as_ref(),
            Endpoint::Authorization => Some(&self.authorization),
            Endpoint::Token => Some(&self.token),
            Endpoint::Keys => Some(&self.jwks_uri),
            Endpoint::Discovery => None,
        }
        .ok_or(PscError::NoEndpoint(endpoint))
    }
}

fn address(object: &Value, name: &'static str) -> Result<Option<Url>, PscError> {
    let text = match object.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_str(),
    };
    let url = text
        .and_then(|text| Url::parse(text).ok())
        .filter(|url| url.scheme() == "https" && url.has_host());
    match url {
        Some(url) => Ok(Some(url)),
        None => Err(PscError::Malformed {
            endpoint: Endpoint::Discovery,
            what: "an address is not https",
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "issuer": "https://i.example/r",
            "authorization_endpoint": "https://wallet.example/auth",
            "token_endpoint": "https://i.example/token",
            "jwks_uri": "https://i.example/certs",
            "userinfo_endpoint": "https://i.example/userinfo",
            "acr_values_supported": ["0", "0"],
            "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.example/token"},
        })
    }

    fn parse(document: &Value) -> Result<Metadata, PscError> {
        Metadata::parse(document.to_string().as_bytes(), "https://i.example/r")
    }

    #[test]
    fn the_mtls_alias_of_an_address_is_preferred() {
        let metadata = parse(&document()).unwrap();
        assert_eq!(metadata.token.as_str(), "https://mtls.example/token");
        let user_info = metadata.needs(Endpoint::UserInfo).unwrap();
        assert_eq!(user_info.as_str(), "https://i.example/userinfo");
        assert_eq!(
            metadata.needs(Endpoint::Ciba),
            Err(PscError::NoEndpoint(Endpoint::Ciba))
        );
    }

    #[test]
    fn the_document_of_another_issuer_is_refused() {
        let mut other = document();
        other["issuer"] = json!("https://i.example/r/");
        assert!(matches!(parse(&other), Err(PscError::WrongIssuer { .. })));
    }

    #[test]
    fn an_address_in_clear_text_is_refused_also_as_an_alias() {
        let mut clear = document();
        clear["userinfo_endpoint"] = json!("http://i.example/userinfo");
        assert!(matches!(parse(&clear), Err(PscError::Malformed { .. })));
        let mut alias = document();
        alias["mtls_endpoint_aliases"]["token_endpoint"] = json!("http://mtls.example/token");
        assert!(matches!(parse(&alias), Err(PscError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Metadata::parse(&bytes, "https://i.example/r");
        }
    }
}
