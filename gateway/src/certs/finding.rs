//! What may be wrong with a certificate, how grave it is, and what to do about it.

use std::path::PathBuf;

use time::OffsetDateTime;

use super::place::Role;

/// How grave a finding is, in the words of Nagios plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, and something is to be done.
    Warning,
    /// Does not work, or will stop within days.
    Critical,
}

/// Something wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The gateway is to obtain it, and has not yet.
    NotObtained,
    /// It is to come: nothing is there yet.
    Awaited {
        /// Whether its key waits for it: a request was made.
        requested: bool,
    },
    /// Revoked by its authority.
    Revoked,
    /// Not one of the authorities that other DRIMboxes believe.
    NotOfAuthority(String),
    /// Its subject says another thing than the configuration.
    WrongHolder {
        /// `CN` or `OU`.
        attribute: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        wanted: String,
    },
    /// The private key is in clear, where keys are to be encrypted.
    KeyInClear,
    /// Others than the service may read the private key.
    KeyExposed {
        /// The file.
        file: PathBuf,
    },
    /// The key is another certificate's.
    KeyMismatch,
    /// For other names than the host it is used for.
    WrongHost(String),
    /// For several names: forbidden for SERV_SSL and market certificates (one certificate, one FQDN).
    SeveralNames,
    /// A later certificate of the file did not issue the one before it.
    ChainBroken,
    /// A market certificate without that of its issuer: not every browser finds its way to an authority it knows.
    NoIssuer,
    /// An intermediate authority ends before the certificate does.
    ChainExpiresFirst(OffsetDateTime),
    /// RSA below 2048 bits.
    WeakKey,
    /// Before its time.
    NotYetValid(OffsetDateTime),
    /// After its time.
    Expired(OffsetDateTime),
    /// An authority after its time, where that refuses nobody.
    AuthorityEnded(OffsetDateTime),
    /// To be renewed.
    Expiring {
        /// Whole days left.
        days: i64,
        /// Whether days count.
        urgent: bool,
    },
    /// The same certificate is at another place.
    AlsoAt(String),
}

impl Finding {
    /// How grave it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unreadable { .. }
            | Self::NotObtained
            | Self::KeyExposed { .. }
            | Self::KeyMismatch
            | Self::WrongHost(_)
            | Self::WrongHolder { .. }
            | Self::Revoked
            | Self::NotYetValid(_)
            | Self::Expired(_)
            | Self::Expiring { urgent: true, .. } => Severity::Critical,
            Self::Awaited { .. }
            | Self::NotOfAuthority(_)
            | Self::KeyInClear
            | Self::SeveralNames
            | Self::ChainBroken
            | Self::NoIssuer
            | Self::ChainExpiresFirst(_)
            | Self::WeakKey
            | Self::AuthorityEnded(_)
            | Self::Expiring { urgent: false, .. }
            | Self::AlsoAt(_) => Severity::Warning,
        }
    }

    /// What is wrong, a French sentence.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Unreadable { file, why } => format!("{} : {why}", file.display()),
            Self::KeyExposed { file } => {
                format!("la clé {} est lisible par d'autres comptes", file.display())
            }
            Self::KeyMismatch => "le certificat et la clé ne vont pas ensemble".into(),
            Self::WrongHost(host) => format!("le certificat n'est pas au nom de {host}"),
            Self::SeveralNames => "le certificat porte plusieurs noms, ou un joker".into(),
            Self::ChainBroken => {
                "les certificats qui suivent dans le fichier ne sont pas ses émetteurs".into()
            }
            Self::NoIssuer => {
                "aucun certificat intermédiaire ne le suit dans son fichier : des navigateurs le refusent"
                    .into()
            }
            Self::ChainExpiresFirst(at) => {
                format!(
                    "une autorité intermédiaire expire avant lui, le {}",
                    at.date()
                )
            }
            Self::Awaited { requested: false } => "pas encore demandé".into(),
            Self::Awaited { requested: true } => "demandé, pas encore reçu".into(),
            Self::Revoked => "révoqué par son autorité".into(),
            Self::NotOfAuthority(why) => {
                format!("aucun partenaire ne l'accepterait : {why}")
            }
            Self::WrongHolder {
                attribute,
                found,
                wanted,
            } => format!("son {attribute} est « {found} », et non « {wanted} »"),
            Self::KeyInClear => "sa clé n'est pas chiffrée".into(),
            Self::NotObtained => "pas encore obtenu de l'autorité (ACME)".into(),
            Self::WeakKey => "la clé RSA a moins de 2048 bits".into(),
            Self::NotYetValid(from) => format!("valable seulement à partir du {}", from.date()),
            Self::Expired(at) | Self::AuthorityEnded(at) => {
                format!("expiré depuis le {}", at.date())
            }
            Self::Expiring { days, .. } => match days {
                0 => "expire aujourd'hui".into(),
                1 => "expire demain".into(),
                days => format!("expire dans {days} jours"),
            },
            Self::AlsoAt(other) => format!("le même certificat sert aussi à {other}"),
        }
    }

    /// What to do, a French sentence.
    #[must_use]
    pub fn remedy(&self, role: Role) -> String {
        match self {
            Self::Unreadable { .. } => "remplacer ce fichier, ou corriger ses droits".into(),
            Self::NotObtained => {
                "démarrer le service, puis lancer drimbox check acme, qui dit ce qui manque".into()
            }
            Self::Awaited { requested: false } => {
                "drimbox certs request, puis déposer la demande à l'autorité".into()
            }
            Self::Awaited { requested: true } => {
                "retirer le certificat sur la plateforme IGC Santé, puis drimbox certs import"
                    .into()
            }
            Self::Revoked if role == Role::Market => {
                "celui que la passerelle a obtenu est renouvelé d'office (drimbox check acme dit où elle en est) ; pour un \
                 certificat acheté : drimbox certs request ; chercher pourquoi il a été révoqué"
                    .into()
            }
            Self::Revoked => "le remplacer aujourd'hui : drimbox certs request, et une nouvelle \
                              demande à l'autorité ; chercher pourquoi il a été révoqué"
                .into(),
            Self::NotOfAuthority(_) => {
                "installer un certificat de l'IGC Santé du même environnement que [trust]".into()
            }
            Self::WrongHolder { .. } => {
                "corriger la configuration, ou demander un certificat à ce nom".into()
            }
            Self::KeyInClear => "drimbox keys encrypt".into(),
            Self::KeyExposed { file } => format!("chmod 600 {}", file.display()),
            Self::KeyMismatch => "indiquer la clé avec laquelle ce certificat a été demandé ; le \
                                  certificat vient en premier dans son fichier, puis ses \
                                  intermédiaires"
                .into(),
            Self::WrongHost(_) => {
                "corriger le nom, ou indiquer le certificat demandé pour ce nom".into()
            }
            Self::SeveralNames => "demander un certificat pour ce seul nom".into(),
            Self::ChainBroken => {
                "ne laisser après le certificat que ses autorités intermédiaires, dans l'ordre"
                    .into()
            }
            Self::NoIssuer => {
                "ajouter à son fichier les certificats intermédiaires de l'autorité".into()
            }
            Self::ChainExpiresFirst(_) => {
                "demander à l'autorité ses certificats intermédiaires en vigueur".into()
            }
            Self::WeakKey => "demander un nouveau certificat avec une clé RSA de 2048 bits".into(),
            Self::NotYetValid(_) => {
                "vérifier l'horloge de la machine, ou attendre cette date".into()
            }
            Self::Expired(_) if role.is_igc() => {
                "le renouvellement n'est plus possible : faire une nouvelle demande sur la \
                 plateforme IGC Santé"
                    .into()
            }
            Self::AuthorityEnded(_) => {
                "l'ôter de son fichier, si rien ne présente plus de certificat qu'elle a émis".into()
            }
            Self::Expired(_) | Self::Expiring { .. } if role == Role::Authority => {
                "demander à cette autorité son nouveau certificat, l'ajouter à son fichier ou à authority_files, ou ôter \
                 celui-ci si rien ne présente plus de certificat qu'elle a émis, puis redémarrer le service"
                    .into()
            }
            Self::Expired(_) => "demander un nouveau certificat".into(),
            Self::Expiring { .. } if role.is_igc() => {
                "renouveler sur la plateforme IGC Santé ; renouvelable jusqu'à expiration seulement"
                    .into()
            }
            Self::Expiring { .. } => "demander dès maintenant un nouveau certificat".into(),
            Self::AlsoAt(_) => "demander un certificat par usage et par serveur".into(),
        }
    }
}
