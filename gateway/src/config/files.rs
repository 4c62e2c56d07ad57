//! Files that the configuration names: that they are there, of the right kind, and that secrets are
//! closed to others.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::value::{Fault, Value};
use crate::keys::{self, Passphrase, PassphraseError, pem::KeyError};

/// Largest certificate, key or token file read, bytes.
const MAX_BYTES: u64 = 8 << 20;

/// Permission bits that open a file to anyone but its owner.
const GROUP_AND_OTHERS: u32 = 0o077;

/// A PEM file with at least one certificate.
pub(super) fn certificates(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = value.path()?;
    let (_, content) = read(&path)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&content) {
        certificate.map_err(|error| {
            Fault::new(
                format!("ce fichier PEM est abîmé ({error})"),
                "le remplacer par le fichier fourni par l'autorité de certification",
            )
        })?;
        count += 1;
    }
    if count == 0 {
        return Err(Fault::new(
            "ce fichier ne contient aucun certificat PEM",
            "y mettre le certificat (« BEGIN CERTIFICATE »), puis ses intermédiaires ; un fichier \
             DER se convertit par : openssl x509 -inform der -in FICHIER -out FICHIER.pem",
        ));
    }
    Ok(path)
}

/// A certificate of the gateway's own, with its intermediates. While certificates are asked for, it need
/// not be there yet.
pub(super) fn own_certificates(value: &Value<'_>) -> Result<PathBuf, Fault> {
    match awaited(value)? {
        Some(path) if value.secrets().awaited => Ok(path),
        _ => certificates(value),
    }
}

/// The same for one that nothing needs at the start.
pub(super) fn later_certificates(value: &Value<'_>) -> Result<PathBuf, Fault> {
    awaited(value)?.map_or_else(|| certificates(value), Ok)
}

/// The key of [`later_certificates`].
pub(super) fn later_private_key(value: &Value<'_>) -> Result<PathBuf, Fault> {
    match awaited(value)? {
        Some(path) => companions_closed(&path).map(|()| path),
        None => private_key(value),
    }
}

/// What stands beside a key, though the key itself may be still to come, is closed to others too.
fn companions_closed(key: &Path) -> Result<(), Fault> {
    for companion in keys::files::companions(key) {
        if let Ok(metadata) = std::fs::metadata(&companion) {
            closed(&companion, &metadata)?;
        }
    }
    Ok(())
}

/// The path of a file that is not there, in a folder that is.
fn awaited(value: &Value<'_>) -> Result<Option<PathBuf>, Fault> {
    let path = value.path()?;
    let folder = path.parent().is_some_and(Path::is_dir);
    Ok((folder && matches!(path.try_exists(), Ok(false))).then_some(path))
}

/// A certificate of an authority, PEM or DER; what is in it is looked at when it is used.
pub(super) fn authority(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = value.path()?;
    let (_, content) = read(&path)?;
    let is_der = content.first() == Some(&0x30);
    if is_der || CertificateDer::pem_slice_iter(&content).any(|found| found.is_ok()) {
        return Ok(path);
    }
    Err(Fault::new(
        "ce fichier ne contient aucun certificat d'autorité",
        "y mettre le fichier .cer publié par l'IGC Santé, ou le même certificat en PEM",
    ))
}

/// A PEM file with a private key, closed to group and others; one that is encrypted opens with the
/// passphrase of `[keys]`.
pub(super) fn private_key(value: &Value<'_>) -> Result<PathBuf, Fault> {
    companions_closed(&value.path()?)?;
    if let (Some(path), true) = (awaited(value)?, value.secrets().awaited) {
        return Ok(path);
    }
    let path = value.path()?;
    let (metadata, content) = read(&path)?;
    closed(&path, &metadata)?;
    let content = Zeroizing::new(content);
    keys::pem::read(&content, value.secrets().passphrase.as_ref()).map_err(
        |error| match error {
            KeyError::Locked => Fault::new(
                "cette clé privée est chiffrée, et sa phrase de passe n'est pas connue",
                "indiquer keys.passphrase_file, ou fournir le secret systemd « drimbox-keys » \
             (LoadCredential=)",
            ),
            KeyError::WrongPassphrase => Fault::new(
                "cette clé privée ne s'ouvre pas avec la phrase de passe de [keys]",
                "remettre la phrase de passe avec laquelle elle a été chiffrée",
            ),
            KeyError::OldForm => Fault::new(
                "cette clé privée est chiffrée sous une forme ancienne",
                "la convertir par : openssl pkcs8 -topk8 -scrypt -in FICHIER -out NOUVEAU",
            ),
            KeyError::Missing | KeyError::Damaged(_) | KeyError::Encoding(_) => Fault::new(
                "ce fichier ne contient aucune clé privée PEM lisible",
                "y mettre une clé PKCS#8 (en clair, ou chiffrée et [keys]), PKCS#1 ou SEC1",
            ),
        },
    )?;
    Ok(path)
}

/// A file whose first line is the passphrase of keys.
pub(super) fn passphrase(value: &Value<'_>) -> Result<Passphrase, Fault> {
    let path = value.path()?;
    let remedy = |error: &PassphraseError| match error {
        PassphraseError::File { .. } => "corriger le chemin, ou les droits du compte du service",
        PassphraseError::Exposed { .. } => "exécuter la commande indiquée",
        PassphraseError::Short(_) => {
            "y mettre une longue phrase de passe, par exemple : openssl rand -base64 32"
        }
    };
    Passphrase::from_file(&path).map_err(|error| Fault::new(error.to_string(), remedy(&error)))
}

/// A file of secrets, closed to group and others, not empty.
pub(super) fn secrets(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = value.path()?;
    let (metadata, content) = read(&path)?;
    closed(&path, &metadata)?;
    if content.trim_ascii().is_empty() {
        return Err(Fault::new(
            "ce fichier est vide",
            "y mettre une ligne par client : son nom, une espace, son jeton",
        ));
    }
    Ok(path)
}

/// A file whose first line is a secret, closed to group and others.
pub(super) fn secret(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = value.path()?;
    let (metadata, content) = read(&path)?;
    closed(&path, &metadata)?;
    let line = content.split(|byte| *byte == b'\n').next();
    if line.unwrap_or_default().trim_ascii().is_empty() {
        return Err(Fault::new(
            "la première ligne de ce fichier est vide",
            "y mettre le mot de passe ou le jeton, seul sur la première ligne",
        ));
    }
    Ok(path)
}

/// A text file of reasonable size that the service may read.
pub(super) fn readable(value: &Value<'_>) -> Result<PathBuf, Fault> {
    let path = value.path()?;
    read(&path)?;
    Ok(path)
}

fn read(path: &Path) -> Result<(Metadata, Vec<u8>), Fault> {
    let unreadable = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "créer {}, ou corriger le chemin (relatif : à partir du dossier de la configuration)",
                path.display()
            ),
            std::io::ErrorKind::PermissionDenied => format!(
                "donner {} au compte du service, et lancer cette commande sous ce compte \
                 (sudo -u drimbox …)",
                path.display()
            ),
            _ => "vérifier ce fichier et son support".to_owned(),
        };
        Fault::new(format!("lecture impossible ({error})"), remedy)
    };
    // A folder or a FIFO must not be opened for reading: the latter would block.
    let kind = std::fs::metadata(path).map_err(unreadable)?;
    if !kind.is_file() || kind.len() > MAX_BYTES {
        return Err(Fault::new(
            "ce n'est pas un fichier ordinaire de taille raisonnable",
            "indiquer un fichier PEM ou de jetons",
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // The whole capacity at once: no copy of a key stays behind in a reallocation.
    let length = metadata.len().min(MAX_BYTES);
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    let mut limited = file.take(MAX_BYTES);
    limited.read_to_end(&mut content).map_err(unreadable)?;
    Ok((metadata, content))
}

fn closed(path: &Path, metadata: &Metadata) -> Result<(), Fault> {
    if metadata.mode() & GROUP_AND_OTHERS == 0 {
        return Ok(());
    }
    Err(Fault::new(
        format!(
            "ce fichier secret est ouvert à d'autres comptes (droits {:o})",
            metadata.mode() & 0o777
        ),
        format!("exécuter : chmod 600 {}", path.display()),
    ))
}
