//! `[psc]`: Pro Santé Connect, as a relying party and as the checker of what peers present.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::files;
use super::http_proxy::{HttpProxy, http_proxy};
use super::model::ServerIdentity;
use super::section::Section;
use super::value::{Fault, Value};

/// Where Debian and most distributions keep the public authorities.
pub(super) const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `[psc]`
#[derive(Debug, Clone)]
pub struct Psc {
    /// Which Pro Santé Connect.
    pub environment: PscEnvironment,
    /// Client ID, which is also the CN of the certificate.
    pub client_id: String,
    /// ORG_AUTH_CLI certificate and its key; read again while the service runs.
    pub identity: ServerIdentity,
    /// Authorities that the servers of PSC must chain to.
    pub ca_file: PathBuf,
    /// Outgoing HTTP proxy, asked with CONNECT.
    pub http_proxy: Option<HttpProxy>,
    /// From a request to the last byte of its answer.
    pub timeout: Duration,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// Scopes asked for, and required in presented tokens.
    pub scopes: Vec<String>,
    /// `acr_values` of a login.
    pub acr_values: String,
    /// Values of `acr` that are good enough.
    pub accepted_acr: BTreeSet<String>,
    /// Whether an id_token without `acr` counts as `eidas1`.
    pub accept_missing_acr: bool,
    /// `kc_idp_hint`: a delegated identity provider.
    pub identity_provider_hint: Option<String>,
    /// How far clocks may differ in what PSC signs for a login.
    pub clock_leeway: Duration,
    /// Values of `codeProfession` (TRE_G15) that may see images, `radiographers` included.
    pub professions: BTreeSet<String>,
    /// Values of `codeCategorieProfessionnelle` refused whatever the profession.
    pub refused_categories: BTreeSet<String>,
    /// Client IDs (`azp`) that a presented token may have been given to; empty when not known.
    pub peer_client_ids: BTreeSet<String>,
    /// Whether a token of another client is refused, or only logged.
    pub refuse_other_clients: bool,
    /// How long an active answer of introspection counts.
    pub introspection_cache: Duration,
}

/// Which Pro Santé Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PscEnvironment {
    /// The "bac à sable" (BAS), for test identities.
    Bas,
    /// Production.
    Production,
    /// Another issuer, with its discovery document where PSC has its own unless told otherwise.
    Custom {
        /// The issuer, compared byte for byte.
        issuer: String,
        /// Address of the discovery document.
        discovery_url: Option<Url>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Bas,
    Production,
    Custom,
}

/// Reads the table; `None` when it is absent, or wrong, which is then reported.
pub(super) fn read(section: Section<'_>) -> Option<Psc> {
    // Asked even when the table is absent, so that a key out of place is explained.
    let environment = environment_of(&section);
    let client_id = section.optional("client_id", client_id);
    let certificate_file = section.optional("certificate_file", files::own_certificates);
    let key_file = section.optional("key_file", files::private_key);
    let ca_file = section.or(
        "ca_file",
        PathBuf::from(SYSTEM_AUTHORITIES),
        files::certificates,
    );
    let http_proxy = section.optional("http_proxy", http_proxy);
    let seconds = |key, default: u64, low: f64, high: f64| {
        section.or(key, Duration::from_secs(default), |v| v.seconds(low..=high))
    };
    let timeout = seconds("timeout_seconds", 10, 0.1, 120.0);
    let connect_timeout = seconds("connect_timeout_seconds", 5, 0.1, 120.0);
    let clock_leeway = seconds("clock_leeway_seconds", 30, 0.0, 300.0);
    let introspection_cache = seconds("introspection_cache_seconds", 60, 0.0, 60.0);
    let words_of = |key, default: &[&str]| -> Vec<String> {
        let default = default.iter().map(|word| (*word).to_owned()).collect();
        section.or(key, default, |v| v.list(word))
    };
    let scopes = words_of("scopes", &["openid", "scope_all"]);
    let acr_values = section.or("acr_values", "eidas1".to_owned(), word);
    let accepted_acr = words_of("accepted_acr", &["eidas1", "eidas2", "eidas3"]);
    let accept_missing_acr = section.or("accept_missing_acr", true, |v| v.boolean());
    let identity_provider_hint = section.optional("identity_provider_hint", word);
    let mut professions = BTreeSet::from_iter(words_of("professions", &["10", "40", "50"]));
    if section.or("radiographers", false, |v| v.boolean()) {
        professions.insert("98".to_owned());
    }
    let refused_categories = words_of("refused_categories", &["E"]);
    let peer_client_ids = words_of("peer_client_ids", &[]);
    let refuse_other_clients = section.or("refuse_other_clients", false, |v| v.boolean());
    if refuse_other_clients && peer_client_ids.is_empty() {
        section.fault(
            "refuse_other_clients",
            Fault::new(
                "tous les jetons seraient refusés : la liste peer_client_ids est vide",
                "renseigner peer_client_ids, ou laisser refuse_other_clients = false",
            ),
        );
    }
    if section.is_present() {
        for (key, remedy) in REQUIRED {
            if !section.has(key) {
                section.fault(key, Fault::new("clé obligatoire absente", remedy));
            }
        }
    }
    section.finish();
    Some(Psc {
        environment: environment?,
        client_id: client_id?,
        identity: ServerIdentity {
            certificate_file: certificate_file?,
            key_file: key_file?,
        },
        ca_file,
        http_proxy,
        timeout,
        connect_timeout,
        scopes,
        acr_values,
        accepted_acr: accepted_acr.into_iter().collect(),
        accept_missing_acr,
        identity_provider_hint,
        clock_leeway,
        professions,
        refused_categories: refused_categories.into_iter().collect(),
        peer_client_ids: peer_client_ids.into_iter().collect(),
        refuse_other_clients,
        introspection_cache,
    })
}

const REQUIRED: [(&str, &str); 4] = [
    (
        "environment",
        "choisir \"bas\" (bac à sable) ou \"production\"",
    ),
    (
        "client_id",
        "indiquer le Client ID obtenu par Datapass : c'est le CN du certificat ORG_AUTH_CLI",
    ),
    (
        "certificate_file",
        "indiquer le fichier PEM du certificat ORG_AUTH_CLI, suivi de ses intermédiaires",
    ),
    (
        "key_file",
        "indiquer le fichier PEM de la clé privée du certificat ORG_AUTH_CLI",
    ),
];

/// Reads `environment`, and `issuer` and `discovery_url` where it is `custom`.
pub(super) fn environment_of(section: &Section<'_>) -> Option<PscEnvironment> {
    let words = [
        ("bas", Word::Bas),
        ("production", Word::Production),
        ("custom", Word::Custom),
    ];
    let word = section.optional("environment", |v| v.choice(&words));
    let issuer = section.optional("issuer", |v| Ok(https(v)?.1));
    let discovery_url = section.optional("discovery_url", |v| Ok(https(v)?.0));
    let word = word?;
    if word != Word::Custom {
        for key in ["issuer", "discovery_url"] {
            if section.has(key) {
                section.fault(
                    key,
                    Fault::new(
                        "les adresses de Pro Santé Connect sont connues, celle-ci ne servirait pas",
                        "la retirer, ou écrire environment = \"custom\"",
                    ),
                );
            }
        }
    }
    match word {
        Word::Bas => Some(PscEnvironment::Bas),
        Word::Production => Some(PscEnvironment::Production),
        Word::Custom => {
            if !section.has("issuer") {
                section.fault(
                    "issuer",
                    Fault::new(
                        "clé obligatoire absente avec environment = \"custom\"",
                        "indiquer l'adresse du fournisseur d'identité, sans barre finale",
                    ),
                );
            }
            Some(PscEnvironment::Custom {
                issuer: issuer?,
                discovery_url,
            })
        }
    }
}

pub(super) fn https(value: &Value<'_>) -> Result<(Url, String), Fault> {
    let text = value.text()?;
    let url = Url::parse(text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        url.scheme() == "https" && url.has_host() && plain && url.fragment().is_none()
    });
    let url = url.ok_or_else(|| {
        Fault::new(
            "ce n'est pas une adresse https",
            "écrire une adresse complète, par exemple \"https://auth.exemple.fr/realms/sante\"",
        )
    })?;
    Ok((url, text.to_owned()))
}

pub(super) fn client_id(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let fits = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce n'est pas un Client ID",
            "recopier celui obtenu par Datapass, sans espace",
        )
    })
}

fn word(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let fits = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce n'est pas un mot",
            "écrire des caractères ASCII sans espace",
        )
    })
}
