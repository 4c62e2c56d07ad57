//! A new certificate takes the place of the old one: checked, tried, swapped, and back again.
//!
//! Beside the files of a place stand `.nouvelle` (the key of a request), `.arrivant` (what is being
//! installed) and `.ancien` (what was replaced). At no time is the pair in use lost, nor the one before it: after a
//! crash at any step of a swap [`recover`] finishes or undoes it.

mod check;
mod find;
mod swap;
#[cfg(test)]
mod tests;
mod trial;

use std::io;
use std::path::{Path, PathBuf};

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::facts::Facts;
use super::place::Role;
use crate::config::ServerIdentity;
use crate::keys::pem::{KeyError, Secret};
use crate::keys::{self, files};
use crate::net;
pub use check::{Context, check};
pub use find::{NotFound, find};
pub use swap::{recover, rollback, swap};

/// Why a certificate is refused. The texts are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No key at hand is that of a certificate of the file.
    #[error(
        "aucune des clés connues (demande en cours, clé en service, clé du fichier) n'est celle de ce \
         certificat : importer le certificat obtenu avec la demande faite sur cette machine"
    )]
    NoKey,
    /// For another name.
    #[error("le certificat est au nom de {found}, et non de {wanted}")]
    WrongHost {
        /// Its name.
        found: String,
        /// The name of the place.
        wanted: String,
    },
    /// Its subject says another thing than the configuration.
    #[error("le certificat ne convient pas : {0}")]
    WrongHolder(String),
    /// For several names or a wildcard.
    #[error("le certificat porte plusieurs noms ou un joker : en demander un pour ce seul nom")]
    SeveralNames,
    /// Given to another structure than the one it replaces.
    #[error(
        "le certificat est celui d'une autre structure ({found}, et non {wanted}) ; si c'est voulu, \
         ajouter --other-structure"
    )]
    OtherStructure {
        /// Its structure.
        found: String,
        /// That of the certificate in use.
        wanted: String,
    },
    /// Given to a structure of another kind than those that its role is given to.
    #[error(
        "un certificat {role} est au nom d'un {wanted}, et non de {found} ; si c'est voulu, ajouter --other-structure"
    )]
    OtherKind {
        /// The role of the place.
        role: Role,
        /// Its structure.
        found: String,
        /// The kinds there are.
        wanted: String,
    },
    /// From the test branch in production, or the reverse.
    #[error(
        "le certificat vient de « {found} », celui en service de « {wanted} » : ne pas mêler test et production"
    )]
    OtherBranch {
        /// Its issuer.
        found: String,
        /// The issuer of the one in use.
        wanted: String,
    },
    /// Not usable for what the place needs.
    #[error("le certificat ne peut pas servir à cet usage : il est limité à {0}")]
    WrongUsage(String),
    /// Not valid at this time.
    #[error("le certificat n'est pas utilisable : {0}")]
    Dates(String),
    /// Ends before the one in use.
    #[error("le certificat expire le {found}, avant celui en service ({wanted})")]
    EndsEarlier {
        /// Its end.
        found: time::Date,
        /// End of the one in use.
        wanted: time::Date,
    },
    /// Its issuers in the file do not belong to it.
    #[error("les certificats qui l'accompagnent ne sont pas ses émetteurs, ou expirent avant lui")]
    Chain,
    /// Browsers could not follow it to an authority that they know.
    #[error(
        "aucun certificat de son émetteur ne l'accompagne : ajouter au fichier les certificats intermédiaires de \
         l'autorité"
    )]
    NoIssuer,
    /// No authority of `[trust]` issued it.
    #[error("le certificat n'est pas d'une autorité de la section [trust] : {0}")]
    NotOfAuthority(String),
    /// Revoked.
    #[error("le certificat est révoqué par son autorité : en demander un autre")]
    Revoked,
    /// In use at another place already.
    #[error("ce certificat, ou sa clé, sert déjà à {0} : en demander un par usage")]
    InUse(String),
    /// The trial handshake failed.
    #[error("l'essai de connexion avec ce certificat a échoué : {0}")]
    Trial(String),
    /// Nothing to go back to.
    #[error("aucun ancien certificat à reprendre : {0} n'existe pas")]
    NothingBefore(PathBuf),
    /// What was replaced is not a certificate with its key.
    #[error(
        "{0} : ce certificat et la clé gardée avec lui ne vont pas ensemble ; il ne peut pas être repris"
    )]
    NotAPair(PathBuf),
    /// The key cannot be read or written.
    #[error("{path} : {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// A file cannot be written or read.
    #[error("{path} : {source} ; vérifier les droits du compte du service")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// What may differ from the certificate in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// Another structure.
    pub other_structure: bool,
}

/// A certificate that was checked and tried, not yet in use.
#[derive(Debug)]
pub struct Candidate {
    chain: Vec<CertificateDer<'static>>,
    key: Secret,
    /// What it says.
    pub facts: Facts,
}

fn failed(path: &Path, source: io::Error) -> InstallError {
    InstallError::File {
        path: path.to_owned(),
        source,
    }
}

/// The key of a file that is there and opens.
fn key_of(file: &Path) -> Option<Secret> {
    keys::pem::read(&files::read(file).ok()?, keys::passphrase().as_ref()).ok()
}

fn current(identity: &ServerIdentity) -> Option<Facts> {
    let certificate = CertificateDer::from_pem_file(&identity.certificate_file).ok()?;
    Facts::of(&certificate).ok()
}

fn belongs(leaf: &CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> bool {
    let provider = net::tls::provider();
    CertifiedKey::from_der(vec![leaf.clone()], key.clone_key(), &provider).is_ok()
}
