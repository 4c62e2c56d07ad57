//! `[acme]`: the market certificates of the `vi` names, obtained and renewed by the gateway.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::http_proxy::{HttpProxy, http_proxy};
use super::section::Section;
use super::value::{Fault, Value};
use super::{files, psc};

/// Let's Encrypt: the authority where no other is named.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The directory for trials of those whose own is known.
const KNOWN_STAGING: [(&str, &str); 1] = [(
    LETS_ENCRYPT,
    "https://acme-staging-v02.api.letsencrypt.org/directory",
)];

/// `[acme]`
#[derive(Debug, Clone)]
pub struct Acme {
    /// Port 80, where authorities look for their challenges and browsers are sent to https.
    pub listen: SocketAddr,
    /// Addresses that an authority may write to, as `mailto:` URLs.
    pub contact: Vec<String>,
    /// Kind of key.
    pub key_type: acme::KeyType,
    /// Whether `authorities` are those for trials, whose certificates no browser trusts.
    pub staging: bool,
    /// Authorities that the TLS certificate of a directory must chain to.
    pub ca_file: PathBuf,
    /// Outgoing proxy, asked with CONNECT.
    pub http_proxy: Option<HttpProxy>,
    /// DNS servers that see the names as the Internet does; empty: those of the machine.
    pub dns_servers: Vec<SocketAddr>,
    /// The addresses at which the `vi` names should point; empty: not compared.
    pub public_addresses: Vec<IpAddr>,
    /// The authorities, the first one preferred; at least one.
    pub authorities: Vec<AcmeAuthority>,
}

/// One of `[[acme.authority]]`
#[derive(Debug, Clone)]
pub struct AcmeAuthority {
    /// URL of the directory in use, for trials or not.
    pub directory: String,
    /// The key for an existing account there.
    pub external_account: Option<acme::ExternalAccount>,
    /// Common name of the topmost issuer of the chain wanted.
    pub preferred_chain: Option<String>,
}

/// Reads the table; `None` when it is absent, or wrong, which is then reported.
pub(super) fn read(section: &Section<'_>) -> Option<Acme> {
    let types = [
        ("p256", acme::KeyType::P256),
        ("rsa2048", acme::KeyType::Rsa2048),
    ];
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
    let listen = section.or("listen", everywhere, |v| v.address());
    let contact = section.or("contact", Vec::new(), |v| v.list(mail));
    let key_type = section.or("key_type", acme::KeyType::P256, |v| v.choice(&types));
    let staging = section.or("staging", false, |v| v.boolean());
    let authorities = PathBuf::from(psc::SYSTEM_AUTHORITIES);
    let ca_file = section.or("ca_file", authorities, files::certificates);
    let http_proxy = section.optional("http_proxy", http_proxy);
    let dns_servers = section.or("dns_servers", Vec::new(), |v| v.list(dns_server));
    let public_addresses = section.or("public_addresses", Vec::new(), |v| v.list(address));
    let accepted = section.optional("accept_terms", |v| v.boolean());
    let named: Vec<_> = section.sections("authority");
    let count = named.len();
    let mut authorities: Vec<_> = named
        .into_iter()
        .filter_map(|one| authority(one, staging))
        .collect();
    section.is_present().then_some(())?;
    if accepted != Some(true) {
        section.fault(
            "accept_terms",
            Fault::new(
                "les conditions d'utilisation des autorités de certification ne sont pas acceptées",
                "les lire, puis écrire accept_terms = true",
            ),
        );
    }
    if count == 0 {
        authorities.push(AcmeAuthority {
            directory: directory_in_use(LETS_ENCRYPT, None, staging)?,
            external_account: None,
            preferred_chain: None,
        });
    }
    (authorities.len() == count.max(1)).then_some(())?;
    Some(Acme {
        listen,
        contact,
        key_type,
        staging,
        ca_file,
        http_proxy,
        dns_servers,
        public_addresses,
        authorities,
    })
}

fn authority(section: Section<'_>, staging: bool) -> Option<AcmeAuthority> {
    let remedy = "indiquer l'adresse de l'annuaire ACME donnée par l'autorité";
    let directory = section.required("directory", remedy, https);
    let trial = section.optional("staging_directory", https);
    let key_id = section.optional("eab_key_id", |v| v.text().map(str::to_owned));
    let hmac = section.optional("eab_hmac_file", |v| {
        let path = files::secret(v)?;
        hmac_text(&path).ok_or_else(|| {
            Fault::new(
                "ce fichier ne contient pas une clé HMAC en base64url",
                "y copier sur une seule ligne la clé HMAC donnée par l'autorité",
            )
        })
    });
    let preferred_chain = section.optional("preferred_chain", |v| v.text().map(str::to_owned));
    for (key, other) in [
        ("eab_key_id", "eab_hmac_file"),
        ("eab_hmac_file", "eab_key_id"),
    ] {
        if section.has(key) && !section.has(other) {
            section.fault(
                other,
                Fault::new(
                    "l'autorité donne un identifiant et une clé, il manque l'un des deux",
                    "renseigner eab_key_id et eab_hmac_file, ou retirer les deux",
                ),
            );
        }
    }
    let in_use = directory
        .as_deref()
        .and_then(|directory| directory_in_use(directory, trial, staging));
    if directory.is_some() && in_use.is_none() {
        section.fault(
            "staging_directory",
            Fault::new(
                "staging = true, et l'annuaire d'essai de cette autorité n'est pas connu",
                "ajouter staging_directory, retirer cette autorité, ou écrire staging = false",
            ),
        );
    }
    section.finish();
    let external_account = key_id
        .zip(hmac)
        .and_then(|(id, hmac)| acme::ExternalAccount::new(&id, &hmac));
    Some(AcmeAuthority {
        directory: in_use?,
        external_account,
        preferred_chain,
    })
}

fn directory_in_use(directory: &str, trial: Option<String>, staging: bool) -> Option<String> {
    if !staging {
        return Some(directory.to_owned());
    }
    trial.or_else(|| {
        let known = KNOWN_STAGING.iter().find(|(own, _)| *own == directory);
        known.map(|(_, trial)| (*trial).to_owned())
    })
}

fn hmac_text(path: &Path) -> Option<zeroize::Zeroizing<String>> {
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).ok()?);
    let line = zeroize::Zeroizing::new(text.lines().next()?.trim().to_owned());
    acme::ExternalAccount::new("", &line).map(|_| line)
}

fn https(value: &Value<'_>) -> Result<String, Fault> {
    psc::https(value).map(|(_, text)| text)
}

/// An address, with the port of DNS unless it has one.
fn dns_server(value: &Value<'_>) -> Result<SocketAddr, Fault> {
    let text = value.text()?;
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    let whole = text.parse::<SocketAddr>();
    whole.or_else(|_| bare()).map_err(|_| {
        Fault::new(
            "ce n'est pas l'adresse IP d'un serveur DNS",
            "écrire par exemple \"192.0.2.53\", ou \"192.0.2.53:5353\" pour un autre port que 53",
        )
    })
}

fn address(value: &Value<'_>) -> Result<IpAddr, Fault> {
    value.text()?.parse().map_err(|_| {
        Fault::new(
            "ce n'est pas une adresse IP",
            "écrire l'adresse publique du centre, par exemple \"203.0.113.7\"",
        )
    })
}

fn mail(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"<>,?&#%@".contains(&b))
    };
    match text.split_once('@') {
        Some((local, domain)) if text.len() <= 254 && plain(local) && plain(domain) => {
            Ok(format!("mailto:{text}"))
        }
        _ => Err(Fault::new(
            "ce n'est pas une adresse de messagerie",
            "écrire par exemple \"informatique@centre-exemple.fr\"",
        )),
    }
}
