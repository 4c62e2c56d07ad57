//! `[pacs.dicomweb]`: a PACS reached by DICOMweb.

use std::net::IpAddr;
use std::time::Duration;

use url::{Host, Url};

use super::model::{Authentication, ClientTls, PacsDicomweb};
use super::section::Section;
use super::value::{Fault, Value};
use super::{files, read as tables};

/// Reads the table; `None` when it is absent, or wrong, which is then reported.
pub(super) fn read(section: Section<'_>) -> Option<PacsDicomweb> {
    if !section.is_present() {
        return None;
    }
    let root = section.required(
        "url",
        "indiquer l'adresse du service DICOMweb du PACS, par exemple \
         \"https://pacs.centre-exemple.fr/dicom-web\"",
        parse_root,
    );
    let tls = tls(&section, root.as_ref());
    clear_is_wanted(&section, root.as_ref());
    let authentication = authentication(&section);
    let seconds = |key, default| {
        section.or(key, Duration::from_secs(default), |v| {
            v.seconds(0.01..=3_600.0)
        })
    };
    let max_requests = section.or("max_requests", 8, |v| v.integer(1..=256));
    let idle_timeout = seconds("idle_timeout_seconds", 30);
    let connect_timeout = seconds("connect_timeout_seconds", 5);
    let response_timeout = seconds("response_timeout_seconds", 60);
    let max_waiting = section.or("max_waiting", 64, |v| v.integer(0..=100_000));
    section.finish();
    let root = root?;
    Some(PacsDicomweb {
        host: root.host,
        port: root.port,
        root: root.text,
        tls: tls?,
        authentication: authentication?,
        max_requests,
        idle_timeout,
        connect_timeout,
        response_timeout,
        max_waiting,
    })
}

/// The root of a service.
struct Root {
    text: String,
    host: String,
    port: u16,
    is_https: bool,
    is_loopback: bool,
}

fn parse_root(value: &Value<'_>) -> Result<Root, Fault> {
    let wrong = || {
        Fault::new(
            "ce n'est pas l'adresse d'un service DICOMweb",
            "écrire le protocole, le nom, au besoin le port, et le chemin, sans mot de passe, par \
             exemple \"https://pacs.centre-exemple.fr:8443/dicom-web\"",
        )
    };
    let url = Url::parse(value.text()?).map_err(|_| wrong())?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain {
        return Err(wrong());
    }
    let (host, is_loopback) = match url.host().ok_or_else(wrong)? {
        Host::Domain(name) => (name.to_owned(), name == "localhost"),
        Host::Ipv4(address) => (address.to_string(), address.is_loopback()),
        Host::Ipv6(address) => (
            address.to_string(),
            IpAddr::from(address).to_canonical().is_loopback(),
        ),
    };
    Ok(Root {
        port: url.port_or_known_default().ok_or_else(wrong)?,
        is_https: url.scheme() == "https",
        is_loopback,
        host,
        text: url.as_str().trim_end_matches('/').to_owned(),
    })
}

/// TLS that the root asks for; `None` when something of it is wrong.
#[expect(clippy::option_option, reason = "wrong, without, with")]
fn tls(section: &Section<'_>, root: Option<&Root>) -> Option<Option<ClientTls>> {
    let ca_file = section.optional("ca_file", files::certificates);
    let identity = tables::identity(section.section("identity"));
    let root = root?;
    if root.is_https {
        if !section.has("ca_file") {
            section.fault(
                "ca_file",
                Fault::new(
                    "les autorités qui signent le certificat du PACS manquent",
                    "indiquer leur fichier PEM ; pour une autorité publique, celui du système, par \
                     exemple \"/etc/ssl/certs/ca-certificates.crt\"",
                ),
            );
        }
        if section.has("identity") && identity.is_none() {
            return None;
        }
        return Some(Some(ClientTls {
            ca_file: ca_file?,
            server_name: root.host.clone(),
            identity,
        }));
    }
    for key in ["ca_file", "identity"] {
        if section.has(key) {
            section.fault(
                key,
                Fault::new(
                    "l'adresse du PACS commence par http:// : il n'y a pas de certificat à \
                     vérifier ni à présenter",
                    "écrire url en https://, ou retirer cette clé",
                ),
            );
        }
    }
    Some(None)
}

/// Images in clear on a network are a decision, not an oversight.
fn clear_is_wanted(section: &Section<'_>, root: Option<&Root>) {
    let wanted = section.or("allow_clear", false, |v| v.boolean());
    let Some(root) = root else { return };
    if !root.is_https && !root.is_loopback && !wanted {
        section.fault(
            "url",
            Fault::new(
                "les images et les mots de passe passeraient en clair sur le réseau",
                "écrire l'adresse en https://, ou, si le réseau est protégé autrement, ajouter \
                 allow_clear = true dans la même section",
            ),
        );
    }
}

fn authentication(section: &Section<'_>) -> Option<Authentication> {
    let username = section.optional("username", |v| user_name(v));
    let password_file = section.optional("password_file", files::secret);
    let token_file = section.optional("token_file", files::secret);
    let has = |key| section.has(key);
    let missing = |key: &'static str, what: &str, remedy: &str| {
        section.fault(key, Fault::new(what, remedy));
    };
    match (has("username"), has("password_file"), has("token_file")) {
        (false, false, false) => return Some(Authentication::None),
        (false, false, true) => {
            return token_file.map(|token_file| Authentication::Bearer { token_file });
        }
        (true, true, false) => {
            return Some(Authentication::Basic {
                username: username?,
                password_file: password_file?,
            });
        }
        (true, false, false) => missing(
            "password_file",
            "ce compte n'a pas de mot de passe",
            "ajouter password_file, un fichier dont la première ligne est le mot de passe",
        ),
        (false, true, false) => missing(
            "username",
            "ce mot de passe n'est celui d'aucun compte",
            "ajouter username",
        ),
        (_, _, true) => missing(
            "token_file",
            "un jeton et un compte sont donnés à la fois",
            "garder token_file, ou username et password_file",
        ),
    }
    None
}

/// A user name that Basic authentication can carry (RFC 7617 §2).
fn user_name(value: &Value<'_>) -> Result<String, Fault> {
    let name = value.text()?;
    if name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Fault::new(
            "ce nom de compte n'est pas admis",
            "écrire un nom sans deux-points ni caractère de contrôle",
        ));
    }
    Ok(name.to_owned())
}
