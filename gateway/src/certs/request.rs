//! A new key and the request for its certificate (PKCS#10, RFC 2986), made on the box.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::place::{Place, Role};
use super::structure::{StructureId, StructureKind};
use crate::keys::{self, files, pem::KeyError};

/// What the subject of a request says. IGC Santé takes what it knows of the structure itself; the
/// request carries what its forms ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN: the FQDN of a SERV_SSL certificate, the client id of an ORG_AUTH_CLI one.
    pub common_name: String,
    /// OU: the identifier of the structure with its prefix.
    pub organizational_unit: Option<String>,
    /// O: name of the structure.
    pub organization: Option<String>,
    /// ST: department, such as `Paris (75)`.
    pub state: Option<String>,
    /// Host name as an alternative name: public authorities ask for it, IGC Santé does not.
    pub dns_name: Option<String>,
}

impl Subject {
    /// What is said here, and for the rest what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let own = Some(self.common_name).filter(|name| !name.is_empty());
        Self {
            common_name: own.unwrap_or(other.common_name),
            organizational_unit: self.organizational_unit.or(other.organizational_unit),
            organization: self.organization.or(other.organization),
            state: self.state.or(other.state),
            dns_name: self.dns_name.or(other.dns_name),
        }
    }

    /// The form that the authority of a role expects: what does not belong there is left out, what is
    /// missing or wrong is an error. (Guide de commande des certificats IGC Santé; CA/Browser Forum,
    /// Baseline Requirements §7.1.4.2 for public authorities.)
    ///
    /// # Errors
    /// [`RequestError::Form`], with the option that mends it.
    pub fn in_form_of(mut self, place: &Place) -> Result<Self, RequestError> {
        let wrong = |text: String| Err(RequestError::Form(text));
        if self.common_name.is_empty() {
            return wrong(
                "le nom du certificat n'est pas connu : l'indiquer avec --common-name".into(),
            );
        }
        if let Some(host) = &place.host
            && !self.common_name.eq_ignore_ascii_case(host)
        {
            return wrong(format!(
                "le CN doit être {host}, le nom de cet emplacement, et non {} : retirer --common-name",
                self.common_name
            ));
        }
        if place.role == Role::Market {
            self.organizational_unit = None;
        }
        self.dns_name = match place.role {
            Role::Market | Role::Local => place.host.clone(),
            _ => None,
        };
        let Some(kinds) = structures_of(place.role) else {
            return Ok(self);
        };
        let Some(unit) = &self.organizational_unit else {
            return wrong(format!(
                "un certificat {} porte l'identifiant de la structure : l'indiquer avec --unit, préfixe \
                 compris (3 SIRET, 4 RPPS-rang, 5 FINESS juridique)",
                place.role
            ));
        };
        let wanted = place.holder.unit.as_ref();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != unit) {
            return wrong(format!(
                "l'OU doit être {wanted}, la structure de la configuration, et non {unit} : retirer --unit"
            ));
        }
        match StructureId::parse(unit) {
            Some(id) if kinds.contains(&id.kind()) => Ok(self),
            Some(id) => {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                wrong(format!(
                    "un certificat {} est au nom d'un {}, et non d'un {} : corriger --unit",
                    place.role,
                    kinds.join(" ou "),
                    id.kind().name()
                ))
            }
            None => wrong(format!(
                "{unit} n'est pas l'identifiant d'une structure : corriger --unit (préfixe, puis numéro)"
            )),
        }
    }
}

/// Whom IGC Santé gives the certificates of a role; `None`: another authority issues them.
pub(super) fn structures_of(role: Role) -> Option<&'static [StructureKind]> {
    use StructureKind::{Finess, FinessGeographique, FinessJuridique, RppsRang, Siret};
    match role {
        Role::ServSsl => Some(&[Siret]),
        Role::OrgAuthCliPsc | Role::OrgAuthCliProxy => {
            Some(&[Siret, Finess, FinessJuridique, FinessGeographique, RppsRang])
        }
        Role::OrgAuthCliDmp | Role::OrgSign => Some(&[FinessJuridique, Siret, RppsRang]),
        _ => None,
    }
}

/// What key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// RSA, 2048 bits, as the certificates of IGC Santé that are known.
    #[default]
    Rsa2048,
    /// ECDSA on P-256.
    P256,
}

/// Why there is no request. The texts are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A key of an earlier request waits.
    #[error(
        "une clé attend déjà son certificat dans {0} : importer ce certificat, ou reprendre la même \
         demande avec --again, ou supprimer ce fichier pour recommencer"
    )]
    Pending(PathBuf),
    /// There is no key to ask again with.
    #[error("aucune demande n'est en cours : {0} n'existe pas ; relancer sans --again")]
    NonePending(PathBuf),
    /// A file cannot be written or read.
    #[error("{path} : {source} ; vérifier les droits du compte du service")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The subject is not what the authority asks of this role.
    #[error("{0}")]
    Form(String),
    /// The key that waits cannot be read, or a new one not written.
    #[error("{path} : {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The subject cannot be encoded, or the key not made.
    #[error("la demande ne peut pas être faite : {0}")]
    Encoding(#[from] rcgen::Error),
}

/// Where the key of a request waits for its certificate.
#[must_use]
pub fn pending_key(key_file: &Path) -> PathBuf {
    files::beside(key_file, "nouvelle")
}

/// Makes a key, keeps it beside `key_file`, and returns the request as PEM. With `again` the key of the
/// request under way is used.
///
/// # Errors
/// [`RequestError`]; no key is lost, none is replaced.
pub fn make(
    key_file: &Path,
    subject: &Subject,
    kind: KeyKind,
    again: bool,
) -> Result<String, RequestError> {
    let pending = pending_key(key_file);
    let file = |source| RequestError::File {
        path: pending.clone(),
        source,
    };
    let unusable = |source| RequestError::Key {
        path: pending.clone(),
        source,
    };
    let exists = pending.try_exists().map_err(file)?;
    let key = match (again, exists) {
        (false, true) => return Err(RequestError::Pending(pending)),
        (true, false) => return Err(RequestError::NonePending(pending)),
        (true, true) => {
            let text = files::read(&pending).map_err(file)?;
            let key = keys::pem::read(&text, keys::passphrase().as_ref());
            KeyPair::try_from(&*key.map_err(unusable)?)?
        }
        (false, false) => generate(kind)?,
    };
    let key = zeroize::Zeroizing::new(key);
    let request = encode(subject, &key)?;
    if !again {
        let der = zeroize::Zeroizing::new(key.serialize_der());
        let der = PrivatePkcs8KeyDer::from(der.as_slice()).into();
        let text = keys::pem::write(&der, keys::passphrase().as_ref()).map_err(unusable)?;
        files::write_new(&pending, text.as_bytes()).map_err(file)?;
    }
    Ok(request)
}

#[cfg(feature = "aws_lc_rs")]
fn generate(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyKind::Rsa2048 => {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        }
        KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
    }
}

/// ring makes no RSA keys.
#[cfg(not(feature = "aws_lc_rs"))]
fn generate(kind: KeyKind) -> Result<KeyPair, rcgen::Error> {
    match kind {
        KeyKind::Rsa2048 => Err(rcgen::Error::KeyGenerationUnavailable),
        KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
    }
}

fn encode(subject: &Subject, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "FR");
    let attributes = [
        (DnType::StateOrProvinceName, &subject.state),
        (DnType::OrganizationName, &subject.organization),
        (DnType::OrganizationalUnitName, &subject.organizational_unit),
    ];
    for (kind, value) in attributes {
        if let Some(value) = value {
            name.push(kind, value.as_str());
        }
    }
    name.push(DnType::CommonName, subject.common_name.as_str());
    params.distinguished_name = name;
    if let Some(host) = &subject.dns_name {
        let name = rcgen::string::Ia5String::try_from(host.as_str())?;
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    }
    params.serialize_request(key)?.pem()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn subject() -> Subject {
        Subject {
            common_name: "db.exemple.fr".into(),
            organizational_unit: Some("318751275100020".into()),
            organization: Some("CENTRE D'IMAGERIE".into()),
            state: Some("Côte-d'Or (21)".into()),
            dns_name: None,
        }
    }

    #[test]
    fn a_request_carries_the_subject_and_its_key_stays_on_the_box() {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("db.key");
        for (kind, bits) in [(KeyKind::Rsa2048, "2048 bit"), (KeyKind::P256, "256 bit")] {
            let request = make(&key_file, &subject(), kind, false).unwrap();
            let pending = pending_key(&key_file);
            let mode = std::fs::metadata(&pending).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let csr = dir.path().join("csr.pem");
            std::fs::write(&csr, &request).unwrap();
            let shown = Command::new("openssl")
                .args([
                    "req", "-noout", "-text", "-verify", "-utf8", "-nameopt", "utf8",
                ])
                .arg("-in")
                .arg(&csr)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(shown.status.success(), "{text}");
            for part in ["db.exemple.fr", "318751275100020", "Côte-d'Or (21)", bits] {
                assert!(text.contains(part), "{part} in {text}");
            }
            assert!(
                !text.contains("Subject Alternative Name"),
                "one name: {text}"
            );
            assert!(matches!(
                make(&key_file, &subject(), kind, false),
                Err(RequestError::Pending(_))
            ));
            let kept = std::fs::read(&pending).unwrap();
            make(&key_file, &subject(), kind, true).unwrap();
            assert_eq!(
                std::fs::read(&pending).unwrap(),
                kept,
                "the same key is asked for again"
            );
            std::fs::remove_file(&pending).unwrap();
        }
        assert!(matches!(
            make(&key_file, &subject(), KeyKind::P256, true),
            Err(RequestError::NonePending(_))
        ));
    }
}
