//! What has to be known before Pro Santé Connect can be spoken to.

use std::collections::BTreeSet;
use std::time::Duration;

use thiserror::Error;
use url::Url;

/// Which Pro Santé Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Environment {
    /// The "bac à sable" (BAS), for test identities.
    Sandbox,
    /// Production.
    Production,
    /// Another issuer with the same discovery path.
    Issuer(String),
}

impl Environment {
    fn issuer(self) -> String {
        match self {
            Self::Sandbox => {
                "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet".to_owned()
            }
            Self::Production => {
                "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet".to_owned()
            }
            Self::Issuer(issuer) => issuer,
        }
    }
}

/// Everything the library needs to know; durations that PSC does not state have the defaults named.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The issuer, compared byte for byte with what PSC sends.
    pub issuer: String,
    /// Where the discovery document is: `{issuer}/.well-known/wallet-openid-configuration`, which is
    /// not the path of OpenID Connect Discovery.
    pub discovery_url: Url,
    /// The Client ID, which is also the CN of the ORG_AUTH_CLI certificate.
    pub client_id: String,
    /// The return address, exactly as registered.
    pub redirect_uri: Url,
    /// Scopes asked for: `openid scope_all`.
    pub scopes: Vec<String>,
    /// Which authentication levels are accepted.
    pub acr: AcrPolicy,
    /// `kc_idp_hint`: a delegated identity provider, if one is to be used.
    pub identity_provider_hint: Option<String>,
    /// How far clocks may differ when an id_token or a logout token is checked: 30 s.
    pub leeway: Duration,
    /// How old an id_token may be when it arrives: 10 min.
    pub id_token_age: Duration,
    /// How long a login may take, from the redirection to the return: 10 min.
    pub login_lifetime: Duration,
    /// Longest life of a session at PSC: 4 h.
    pub session_lifetime: Duration,
    /// An access token with less life left than this is renewed before it is used: 30 s.
    pub refresh_margin: Duration,
    /// Discovery and keys are read again when they are older than this: 24 h.
    pub metadata_refresh: Duration,
    /// Discovery and keys older than this are not used when PSC cannot be read: 7 days.
    pub metadata_stale: Duration,
    /// Keys are read again for an unknown `kid` at most this often: 60 s.
    pub key_refetch: Duration,
    /// First wait after a failed read of discovery or keys: 1 s; it doubles…
    pub backoff_first: Duration,
    /// … up to this: 5 min.
    pub backoff_longest: Duration,
}

/// Which values of `acr` are good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcrPolicy {
    /// The value asked for in `acr_values`.
    pub requested: String,
    /// The values accepted in an id_token. PSC was asked for `eidas1` and answered `eidas3`.
    pub accepted: BTreeSet<String>,
    /// Whether an id_token without `acr` counts as `eidas1`, as ANS's own provider has it.
    pub missing_is_eidas1: bool,
}

impl Default for AcrPolicy {
    fn default() -> Self {
        Self {
            requested: "eidas1".to_owned(),
            accepted: ["eidas1", "eidas2", "eidas3"].map(str::to_owned).into(),
            missing_is_eidas1: true,
        }
    }
}

impl AcrPolicy {
    /// Whether a token with this `acr` is accepted.
    #[must_use]
    pub fn accepts(&self, acr: Option<&str>) -> bool {
        match acr {
            Some(value) => self.accepted.contains(value),
            None => self.missing_is_eidas1 && self.accepted.contains("eidas1"),
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// An address is not `https` or not an address.
    #[error(
        "{what} `{value}` is not an https address: give the one registered at Pro Santé Connect"
    )]
    NotHttps {
        /// Which setting.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// The return address has a fragment (RFC 6749 §3.1.2).
    #[error("redirect_uri `{0}` has a fragment: give it without `#…`")]
    Fragment(Url),
    /// The client id is empty or has characters that a CN or a form cannot carry as they are.
    #[error(
        "client_id `{0}` is not one: give the Client ID obtained by Datapass, the CN of the ORG_AUTH_CLI certificate"
    )]
    ClientId(String),
}

impl Settings {
    /// Settings with the defaults of this library.
    ///
    /// # Errors
    /// When an address is not `https`, the return address has a fragment or the client id is no id.
    pub fn new(
        environment: Environment,
        client_id: &str,
        redirect_uri: &str,
    ) -> Result<Self, SettingsError> {
        let issuer = environment.issuer();
        https("issuer", &issuer)?;
        let discovery_url = https(
            "discovery_url",
            &format!("{issuer}/.well-known/wallet-openid-configuration"),
        )?;
        let redirect_uri = https("redirect_uri", redirect_uri)?;
        if redirect_uri.fragment().is_some() {
            return Err(SettingsError::Fragment(redirect_uri));
        }
        let printable = client_id.bytes().all(|byte| byte.is_ascii_graphic());
        if client_id.is_empty() || client_id.len() > 256 || !printable {
            return Err(SettingsError::ClientId(client_id.to_owned()));
        }
        Ok(Self {
            issuer,
            discovery_url,
            client_id: client_id.to_owned(),
            redirect_uri,
            scopes: vec!["openid".to_owned(), "scope_all".to_owned()],
            acr: AcrPolicy::default(),
            identity_provider_hint: None,
            leeway: Duration::from_secs(30),
            id_token_age: Duration::from_secs(600),
            login_lifetime: Duration::from_secs(600),
            session_lifetime: Duration::from_secs(4 * 3600),
            refresh_margin: Duration::from_secs(30),
            metadata_refresh: Duration::from_secs(24 * 3600),
            metadata_stale: Duration::from_secs(7 * 24 * 3600),
            key_refetch: Duration::from_secs(60),
            backoff_first: Duration::from_secs(1),
            backoff_longest: Duration::from_secs(300),
        })
    }
}

fn https(what: &'static str, value: &str) -> Result<Url, SettingsError> {
    let refused = || SettingsError::NotHttps {
        what,
        value: value.to_owned(),
    };
    let url = Url::parse(value).map_err(|_| refused())?;
    let plain = url.username().is_empty() && url.password().is_none();
    if url.scheme() == "https" && url.has_host() && plain {
        Ok(url)
    } else {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn issuer_and_discovery_are_those_of_the_environment() {
        for (environment, issuer) in [
            (
                Environment::Sandbox,
                "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet",
            ),
            (
                Environment::Production,
                "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet",
            ),
        ] {
            let settings =
                Settings::new(environment, "client", "https://box.example/retour").unwrap();
            assert_eq!(settings.issuer, issuer);
            assert_eq!(
                settings.discovery_url.as_str(),
                format!("{issuer}/.well-known/wallet-openid-configuration")
            );
        }
    }

    #[test]
    fn clear_text_addresses_fragments_and_empty_ids_are_refused() {
        let with = |issuer: &str, client: &str, redirect: &str| {
            Settings::new(Environment::Issuer(issuer.to_owned()), client, redirect).is_ok()
        };
        assert!(with("https://i.example/r", "c", "https://b.example/r"));
        assert!(!with("http://i.example/r", "c", "https://b.example/r"));
        assert!(!with("https://i.example/r", "c", "http://b.example/r"));
        assert!(!with("https://i.example/r", "c", "https://b.example/r#x"));
        assert!(!with("https://i.example/r", "", "https://b.example/r"));
        assert!(!with("https://i.example/r", "c d", "https://b.example/r"));
        assert!(!with("https://u:p@i.example/r", "c", "https://b.example/r"));
    }

    #[test]
    fn a_level_outside_the_set_is_refused_and_a_missing_one_follows_the_choice() {
        let policy = AcrPolicy::default();
        assert!(policy.accepts(Some("eidas1")) && policy.accepts(Some("eidas3")));
        assert!(!policy.accepts(Some("0")) && !policy.accepts(Some("1")));
        assert!(policy.accepts(None));
        let strict = AcrPolicy {
            missing_is_eidas1: false,
            ..policy
        };
        assert!(!strict.accepts(None));
    }
}
