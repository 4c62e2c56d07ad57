//! `[alerts]`: who is told that a certificate is about to expire, and by what way.

use std::path::PathBuf;

use super::http_proxy::{HttpProxy, http_proxy};
use super::section::Section;
use super::value::{Fault, Value};
use super::{files, names, psc};

/// Recipients by mail at most, and webhooks at most.
const MAX_RECIPIENTS: usize = 16;
/// Longest text shown in messages, characters.
const MAX_TEXT: usize = 200;

/// Roles of certificates, as in the inventory: those of the gateway, then those that others present.
pub const ROLES: [&str; 13] = [
    "SERV_SSL",
    "ORG_AUTH_CLI",
    "ORG_SIGN",
    "MARKET",
    "LOCAL",
    "DICOM",
    "PACS",
    "SYSLOG",
    "OTHER",
    "AUTHORITY",
    "PSC",
    "DMP",
    "WHITE_LIST_SIGNER",
];

/// `[alerts]`
#[derive(Debug, Clone)]
pub struct Alerts {
    /// Who is told by mail: all addresses are different, and each role has at least two.
    pub recipients: Vec<AlertRecipient>,
    /// Name of the centre in messages.
    pub centre: Option<String>,
    /// Start of the links by which recipients acknowledge the monthly test, without final `/`.
    pub link_url: String,
    /// How mail leaves.
    pub smtp: Smtp,
    /// `[[alerts.webhook]]`, with distinct names.
    pub webhooks: Vec<Webhook>,
}

/// One of `recipients`, or `[[alerts.recipient]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRecipient {
    /// Mail address.
    pub address: String,
    /// Roles of the certificates it is told of, of [`ROLES`]; `None`: all.
    pub roles: Option<Vec<&'static str>>,
}

/// `[alerts.smtp]`
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Host name or address of the server.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How TLS begins.
    pub security: SmtpSecurity,
    /// Authorities that the server's certificate must chain to.
    pub ca_file: PathBuf,
    /// Account and the file with its password.
    pub account: Option<(String, PathBuf)>,
    /// Sender of the messages.
    pub from: String,
}

/// How TLS begins on a connection to a mail server. There is no way without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// STARTTLS, refused when the server does not offer it (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
}

/// `[[alerts.webhook]]`
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Short name (`[a-z0-9-]{1,32}`), for the log and what is kept.
    pub name: String,
    /// Where the JSON goes.
    pub url: String,
    /// Authorities that the certificate of the server must chain to.
    pub ca_file: PathBuf,
    /// File with the bearer token to send.
    pub token_file: Option<PathBuf>,
    /// Outgoing proxy, asked with CONNECT.
    pub http_proxy: Option<HttpProxy>,
}

/// Reads the table; `None` when it is absent, or wrong, which is then reported. `vi_url` is where the
/// first `vi` name answers, if there is one.
pub(super) fn read(section: Section<'_>, vi_url: Option<String>) -> Option<Alerts> {
    let remedy = "indiquer au moins deux adresses, par exemple recipients = [\"informatique@…\", \
                  \"direction@…\"]";
    let (server, hooks) = (section.section("smtp"), section.sections("webhook"));
    let tables = section.sections("recipient");
    let flat = match section.is_present() && tables.is_empty() {
        true => section.required("recipients", remedy, addresses),
        false => section
            .optional("recipients", addresses)
            .or(Some(Vec::new())),
    };
    let limited: Option<Vec<_>> = tables.into_iter().map(recipient).collect();
    let recipients = flat.zip(limited).map(|(mut all, limited)| {
        all.extend(limited);
        all
    });
    if let Some(fault) = recipients.as_deref().and_then(too_few)
        && section.is_present()
    {
        section.fault("recipients", fault);
    }
    let centre = section.optional("centre", text);
    let link_url = section.optional("link_url", |v| psc::https(v).map(|(_, text)| text));
    let link_url = link_url.or(vi_url);
    let smtp = smtp(server, section.is_present());
    let webhooks: Vec<_> = hooks.into_iter().map(webhook).collect();
    let mut known = std::collections::BTreeSet::new();
    for hook in webhooks.iter().flatten() {
        if !known.insert(&hook.name) {
            section.fault(
                "webhook",
                Fault::new(
                    format!("deux webhooks s'appellent « {} »", hook.name),
                    "donner à chacun un nom qui lui est propre",
                ),
            );
        }
    }
    if webhooks.len() > MAX_RECIPIENTS {
        section.fault("webhook", Fault::new("trop de webhooks", "en retirer"));
    }
    if section.is_present() && link_url.is_none() {
        section.fault(
            "link_url",
            Fault::new(
                "aucun nom vi_host ne peut porter le lien d'accusé de réception",
                "indiquer l'adresse https par laquelle les destinataires atteignent cette passerelle",
            ),
        );
    }
    let present = section.is_present();
    section.finish();
    present.then_some(())?;
    Some(Alerts {
        recipients: recipients?,
        centre,
        link_url: link_url?.trim_end_matches('/').to_owned(),
        smtp: smtp?,
        webhooks: webhooks.into_iter().collect::<Option<_>>()?,
    })
}

/// Reads a table that says how mail leaves; what it lacks is reported when it is needed.
pub(super) fn smtp(section: Section<'_>, needed: bool) -> Option<Smtp> {
    let ways = [
        ("starttls", SmtpSecurity::StartTls),
        ("tls", SmtpSecurity::Tls),
    ];
    let required = |key, remedy, parse: fn(&Value<'_>) -> Result<String, Fault>| match needed {
        true => section.required(key, remedy, parse),
        false => section.optional(key, parse),
    };
    let host = required(
        "host",
        "indiquer le nom du serveur de messagerie",
        names::host,
    );
    let from = required(
        "from",
        "indiquer l'adresse qui envoie les messages",
        address,
    );
    let security = section.or("security", SmtpSecurity::StartTls, |v| v.choice(&ways));
    let usual = match security {
        SmtpSecurity::StartTls => 587,
        SmtpSecurity::Tls => 465,
    };
    let port = section.or("port", usual, |v| v.integer(1..=u16::MAX));
    let authorities = PathBuf::from(psc::SYSTEM_AUTHORITIES);
    let ca_file = section.or("ca_file", authorities, files::certificates);
    let user = section.optional("user", text);
    let password = section.optional("password_file", files::secret);
    for (key, other) in [("user", "password_file"), ("password_file", "user")] {
        if section.has(key) && !section.has(other) {
            section.fault(
                other,
                Fault::new(
                    "un compte a un nom et un mot de passe, il manque l'un des deux",
                    "renseigner user et password_file, ou retirer les deux",
                ),
            );
        }
    }
    section.finish();
    Some(Smtp {
        host: host?,
        port,
        security,
        ca_file,
        account: user.zip(password),
        from: from?,
    })
}

fn webhook(section: Section<'_>) -> Option<Webhook> {
    let name = section.required(
        "name",
        "donner un nom court à ce webhook, par exemple name = \"supervision\"",
        |v| {
            names::pacs_name(v).map_err(|_| {
                Fault::new(
                    "ce nom de webhook n'est pas admis",
                    "écrire 1 à 32 caractères parmi a-z, 0-9 et le tiret",
                )
            })
        },
    );
    let url = section.required("url", "indiquer l'adresse https du webhook", |v| {
        psc::https(v).map(|(_, text)| text)
    });
    let authorities = PathBuf::from(psc::SYSTEM_AUTHORITIES);
    let ca_file = section.or("ca_file", authorities, files::certificates);
    let token_file = section.optional("token_file", files::secret);
    let http_proxy = section.optional("http_proxy", http_proxy);
    section.finish();
    Some(Webhook {
        name: name?,
        url: url?,
        ca_file,
        token_file,
        http_proxy,
    })
}

fn addresses(value: &Value<'_>) -> Result<Vec<AlertRecipient>, Fault> {
    let all: Vec<String> = value.list(address)?;
    let told_of_all = |address| AlertRecipient {
        address,
        roles: None,
    };
    Ok(all.into_iter().map(told_of_all).collect())
}

fn recipient(section: Section<'_>) -> Option<AlertRecipient> {
    let remedy = "indiquer l'adresse de ce destinataire";
    let address = section.required("address", remedy, address);
    let ways = ROLES.map(|role| (role, role));
    let roles = section.optional("roles", |v| v.choices(&ways));
    let is_wrong = section.has("roles") && roles.is_none();
    section.finish();
    let address = address.filter(|_| !is_wrong)?;
    Some(AlertRecipient { address, roles })
}

/// What is wrong with the recipients taken together.
fn too_few(all: &[AlertRecipient]) -> Option<Fault> {
    let distinct: std::collections::BTreeSet<String> = all
        .iter()
        .map(|one| one.address.to_ascii_lowercase())
        .collect();
    if distinct.len() < 2 || distinct.len() != all.len() || all.len() > MAX_RECIPIENTS {
        return Some(Fault::new(
            "il faut au moins deux adresses différentes : une alerte que personne ne lit ne sert à rien",
            format!("indiquer de 2 à {MAX_RECIPIENTS} adresses, chacune une fois"),
        ));
    }
    let told = |role: &str| {
        let is_told =
            |one: &&AlertRecipient| one.roles.as_ref().is_none_or(|roles| roles.contains(&role));
        all.iter().filter(is_told).count()
    };
    let lacking: Vec<&str> = ROLES.into_iter().filter(|role| told(role) < 2).collect();
    if lacking.is_empty() {
        return None;
    }
    Some(Fault::new(
        format!(
            "il faut au moins deux adresses pour chaque rôle de certificat ; il en manque pour {}",
            lacking.join(", ")
        ),
        "ajouter ces rôles à un destinataire, ou un destinataire sans roles, qui reçoit tout",
    ))
}

fn address(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let parsed = text.parse::<lettre::Address>().ok();
    parsed
        .filter(|_| text.len() <= 254 && text.is_ascii())
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            Fault::new(
                "ce n'est pas une adresse de messagerie",
                "écrire par exemple \"informatique@centre-exemple.fr\"",
            )
        })
}

fn text(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?.trim();
    let fits = text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce texte est trop long ou contient un caractère de contrôle",
            format!("écrire une seule ligne de {MAX_TEXT} caractères au plus"),
        )
    })
}
