//! Where the gateway uses certificates of its own.

use std::fmt;

use super::market;
use crate::config::{Acme, Config, ProxyConfig, ServerIdentity};

/// What a certificate is for (certificate set of a DRIMbox, IGC Santé guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// SERV_SSL: a `db` name, towards other DRIMboxes.
    ServSsl,
    /// ORG_AUTH_CLI: the gateway as a client of Pro Santé Connect.
    OrgAuthCliPsc,
    /// ORG_AUTH_CLI: a proxy e-santé, for one Client ID, as a client of Pro Santé Connect and of the APIs.
    OrgAuthCliProxy,
    /// ORG_AUTH_CLI: a legal structure as a client of the DMP.
    OrgAuthCliDmp,
    /// ORG_SIGN: what a legal structure signs for the DMP.
    OrgSign,
    /// The market certificate of a `vi` name, towards browsers.
    Market,
    /// The centre's own network.
    Local,
    /// The gateway's DICOM port.
    Dicom,
    /// The gateway as a client of a PACS.
    PacsClient,
    /// The gateway as a client of a syslog server.
    Syslog,
    /// What another program presents to those that reach it.
    Other,
    /// An authority by whose certificate the gateway believes others ([`super::authorities`]).
    Authority,
}

impl Role {
    /// The name in commands, metrics and tables.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ServSsl => "SERV_SSL",
            Self::OrgAuthCliPsc | Self::OrgAuthCliProxy | Self::OrgAuthCliDmp => "ORG_AUTH_CLI",
            Self::OrgSign => "ORG_SIGN",
            Self::Market => "MARKET",
            Self::Local => "LOCAL",
            Self::Dicom => "DICOM",
            Self::PacsClient => "PACS",
            Self::Syslog => "SYSLOG",
            Self::Other => "OTHER",
            Self::Authority => "AUTHORITY",
        }
    }

    /// Whether IGC Santé issues it: people must renew it, before it expires.
    #[must_use]
    pub fn is_igc(self) -> bool {
        matches!(
            self,
            Self::ServSsl
                | Self::OrgAuthCliPsc
                | Self::OrgAuthCliProxy
                | Self::OrgAuthCliDmp
                | Self::OrgSign
        )
    }

    /// What stops when it expires, a French sentence.
    #[must_use]
    pub fn effect(self) -> &'static str {
        match self {
            Self::ServSsl => {
                "les autres DRIMbox ne pourront plus demander d'images à ce PACS, ni le centre leur \
                 en demander"
            }
            Self::OrgAuthCliPsc => {
                "les professionnels ne pourront plus se connecter, et les autres DRIMbox n'auront \
                 plus d'images"
            }
            Self::OrgAuthCliProxy => {
                "les logiciels qui passent par le proxy e-santé n'auront plus accès aux API Pro Santé Connectées"
            }
            Self::OrgAuthCliDmp | Self::OrgSign => {
                "l'alimentation du DMP s'arrête pour toute cette structure"
            }
            Self::Market => "le lien des comptes rendus ne s'ouvrira plus",
            Self::Local => "les visionneuses et le RIS du centre n'auront plus d'images",
            Self::Dicom => "les PACS ne pourront plus envoyer d'images à la passerelle",
            Self::PacsClient => "la passerelle n'aura plus accès à ce PACS",
            Self::Syslog => {
                "la trace d'audit ne partira plus vers ce serveur syslog, et s'accumulera sur la passerelle"
            }
            Self::Other => "ceux qui joignent le programme qui le présente le refuseront",
            Self::Authority => {
                "les certificats que cette autorité a émis finissent au plus tard avec elle ; pour une autorité de \
                 [trust], aucune autre DRIMbox n'est plus acceptée"
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One use of a certificate, and the files that hold it.
#[derive(Debug, Clone)]
pub struct Place {
    /// How commands name it: `db:scanner`, `local`…
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// Who uses it, for people: `PACS scanner`, `[local]`.
    pub user: String,
    /// The host name that it must be for.
    pub host: Option<String>,
    /// What else its subject must say.
    pub holder: Holder,
    /// Its files.
    pub identity: ServerIdentity,
    /// In what form they are.
    pub kept: Kept,
}

/// What the subject of a certificate must say, beside a host name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// CN: the Client ID at Pro Santé Connect.
    pub common_name: Option<String>,
    /// OU: the identifier of the structure with its prefix.
    pub unit: Option<String>,
}

/// In what form a certificate and its key are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// PEM files of the administrator.
    Files,
    /// The record of [`super::market`], which the gateway obtained itself: both names are that file.
    Record,
    /// A file with certificates alone: of another program, or of an authority. The key is theirs; both names
    /// are the certificate.
    Elsewhere,
}

impl Place {
    /// Whether the gateway obtains and renews it itself.
    #[must_use]
    pub fn is_from_acme(&self) -> bool {
        self.kept == Kept::Record
    }

    /// Whether it is one of `drimbox proxy`, whose commands are those of the gateway with `--proxy`.
    #[must_use]
    pub fn is_of_proxy(&self) -> bool {
        self.kept == Kept::Files && matches!(self.role, Role::OrgAuthCliProxy | Role::Other)
    }

    /// Whether its key is not on the gateway.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.kept == Kept::Elsewhere
    }
}

/// The places of a configuration, those whose certificates the gateway obtains itself, and those of other
/// programs that it watches.
#[must_use]
pub fn all_places(config: &Config) -> Vec<Place> {
    let mut all = places(config);
    if let Some(acme) = &config.acme {
        all.extend(obtained(config, acme));
    }
    all.extend(config.watched.iter().map(|watched| Place {
        id: format!("watched:{}", watched.name),
        role: match watched.of_igc_sante {
            true => Role::OrgAuthCliProxy,
            false => Role::Other,
        },
        user: format!("autre programme, {}", watched.name),
        host: None,
        holder: Holder::default(),
        identity: ServerIdentity {
            certificate_file: watched.certificate_file.clone(),
            key_file: watched.certificate_file.clone(),
        },
        kept: Kept::Elsewhere,
    }));
    all
}

/// The places whose certificates IGC Santé issues: they expire unless somebody acts.
pub fn igc_places(config: &Config) -> impl Iterator<Item = Place> + use<> {
    let places = all_places(config).into_iter();
    places.filter(|place| place.role.is_igc())
}

/// The places of a proxy e-santé.
#[must_use]
pub fn places_of_proxy(config: &ProxyConfig) -> Vec<Place> {
    let listener = config.tls.iter().map(|identity| Place {
        id: "listen".into(),
        role: Role::Other,
        user: "[listen]".into(),
        host: None,
        holder: Holder::default(),
        identity: identity.clone(),
        kept: Kept::Files,
    });
    let clients = config.clients.iter().map(|client| Place {
        id: format!("client:{}", client.client_id),
        role: Role::OrgAuthCliProxy,
        user: format!("client {}", client.client_id),
        host: None,
        holder: Holder {
            common_name: Some(client.client_id.clone()),
            unit: None,
        },
        identity: client.identity.clone(),
        kept: Kept::Files,
    });
    listener.chain(clients).collect()
}

fn obtained(config: &Config, acme: &Acme) -> Vec<Place> {
    let mut all = Vec::new();
    for pacs in &config.pacs {
        let (Some(host), None) = (&pacs.vi_host, &pacs.vi_tls) else {
            continue;
        };
        let Ok(name) = acme::DnsName::parse(host) else {
            continue;
        };
        let record = market::folder(&config.data_dir, acme).join(acme::current_record(&name));
        all.push(Place {
            id: format!("vi:{}", pacs.name),
            role: Role::Market,
            user: format!("PACS {}", pacs.name),
            host: Some(host.clone()),
            holder: Holder::default(),
            identity: ServerIdentity {
                certificate_file: record.clone(),
                key_file: record,
            },
            kept: Kept::Record,
        });
    }
    all
}

/// The places of a configuration whose files the administrator gives, in the order of the file.
#[must_use]
pub fn places(config: &Config) -> Vec<Place> {
    let mut places = Vec::new();
    if let Some(local) = &config.local
        && let Some(identity) = &local.tls
    {
        places.push(Place {
            id: "local".into(),
            role: Role::Local,
            user: "[local]".into(),
            host: local.public_url.as_deref().and_then(host_of),
            holder: Holder::default(),
            identity: identity.clone(),
            kept: Kept::Files,
        });
    }
    if let Some(identity) = &config.dimse.tls {
        places.push(Place {
            id: "dicom".into(),
            role: Role::Dicom,
            user: "[dimse]".into(),
            host: None,
            holder: Holder::default(),
            identity: identity.clone(),
            kept: Kept::Files,
        });
    }
    if let Some(psc) = &config.psc {
        places.push(Place {
            id: "psc".into(),
            role: Role::OrgAuthCliPsc,
            user: "[psc]".into(),
            host: None,
            holder: Holder {
                common_name: Some(psc.client_id.clone()),
                unit: None,
            },
            identity: psc.identity.clone(),
            kept: Kept::Files,
        });
    }
    for structure in &config.dmp {
        let of = [
            ("auth", Role::OrgAuthCliDmp, &structure.auth),
            ("sign", Role::OrgSign, &structure.sign),
        ];
        for (part, role, identity) in of {
            let Some(identity) = identity else { continue };
            places.push(Place {
                id: format!("dmp-{part}:{}", structure.name),
                role,
                user: format!("DMP, structure {}", structure.name),
                host: None,
                holder: Holder {
                    common_name: None,
                    unit: Some(structure.structure.clone()),
                },
                identity: identity.clone(),
                kept: Kept::Files,
            });
        }
    }
    for pacs in &config.pacs {
        let user = format!("PACS {}", pacs.name);
        if let Some(identity) = &pacs.db_tls {
            places.push(Place {
                id: format!("db:{}", pacs.name),
                role: Role::ServSsl,
                user: user.clone(),
                host: pacs.db_host.clone(),
                holder: Holder::default(),
                identity: identity.clone(),
                kept: Kept::Files,
            });
        }
        if let Some(identity) = &pacs.vi_tls {
            places.push(Place {
                id: format!("vi:{}", pacs.name),
                role: Role::Market,
                user: user.clone(),
                host: pacs.vi_host.clone(),
                holder: Holder::default(),
                identity: identity.clone(),
                kept: Kept::Files,
            });
        }
        if let Some(identity) = pacs.tls().and_then(|tls| tls.identity.as_ref()) {
            places.push(Place {
                id: format!("pacs:{}", pacs.name),
                role: Role::PacsClient,
                user,
                host: None,
                holder: Holder::default(),
                identity: identity.clone(),
                kept: Kept::Files,
            });
        }
    }
    if let Some(consumer) = &config.consumer {
        // Unless chosen it is that of a `db` name, which has its place.
        let has_place = places
            .iter()
            .any(|place| place.identity == consumer.identity);
        if !has_place {
            places.push(Place {
                id: "consumer".into(),
                role: Role::ServSsl,
                user: "[consumer]".into(),
                host: None,
                holder: Holder::default(),
                identity: consumer.identity.clone(),
                kept: Kept::Files,
            });
        }
    }
    for server in &config.audit.syslog {
        let Some(identity) = &server.tls.identity else {
            continue;
        };
        places.push(Place {
            id: format!("syslog:{}", server.name),
            role: Role::Syslog,
            user: format!("serveur syslog {}", server.name),
            host: None,
            holder: Holder::default(),
            identity: identity.clone(),
            kept: Kept::Files,
        });
    }
    places
}

fn host_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url)
        .ok()
        .filter(|url| url.scheme() == "https")?;
    let host = url.host_str()?;
    Some(host.trim_matches(['[', ']']).to_owned())
}
