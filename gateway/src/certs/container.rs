//! The forms in which certificates arrive: PEM, DER, PKCS#7, PKCS#12.

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::{Decode as _, Encode as _};
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::keys;
use crate::keys::pem::{KeyError, Secret};

/// Bytes of a file.
pub const MAX_BYTES: usize = 4 << 20;
/// Certificates of a file.
const MAX_CERTIFICATES: usize = 64;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Content {
    /// Its certificates, in its order.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its private keys.
    pub keys: Vec<Secret>,
}

/// Why a file cannot be used. The texts are for the administrator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// Larger than any file of certificates.
    #[error("le fichier dépasse {} Mio : ce n'est pas un certificat", MAX_BYTES >> 20)]
    TooLarge,
    /// A PKCS#12 file or an encrypted key, and no password or a wrong one.
    #[error(
        "le fichier PKCS#12 (.p12, .pfx), ou la clé qu'il contient, ne s'ouvre pas avec ce mot de passe : \
         indiquer le bon avec --password-file"
    )]
    Password,
    /// A key in an encrypted PEM, and no password, or an old form of encryption.
    #[error(
        "la clé privée est protégée par un mot de passe : l'indiquer avec --password-file, ou la convertir \
         par : openssl pkey -in FICHIER -out NOUVEAU"
    )]
    EncryptedKey,
    /// Nothing that is known.
    #[error(
        "aucun certificat n'y est lisible : fournir un fichier PEM, DER (.cer, .crt), PKCS#7 (.p7b) ou \
         PKCS#12 (.p12, .pfx)"
    )]
    Unknown,
}

/// Reads a file; `password` opens PKCS#12 and an encrypted key.
///
/// # Errors
/// [`ContainerError`].
pub fn read(bytes: &[u8], password: Option<&str>) -> Result<Content, ContainerError> {
    if bytes.len() > MAX_BYTES {
        return Err(ContainerError::TooLarge);
    }
    let content = if let Some(content) = pem(bytes, password)? {
        content
    } else if is_certificate(bytes) {
        Content {
            certificates: vec![CertificateDer::from(bytes.to_vec())],
            keys: Vec::new(),
        }
    } else if let Some(certificates) = pkcs7(bytes) {
        Content {
            certificates,
            keys: Vec::new(),
        }
    } else {
        pkcs12(bytes, password)?
    };
    if content.certificates.is_empty() || content.certificates.len() > MAX_CERTIFICATES {
        return Err(ContainerError::Unknown);
    }
    Ok(content)
}

fn is_certificate(bytes: &[u8]) -> bool {
    X509Certificate::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

/// `None` when the file is not PEM.
fn pem(bytes: &[u8], password: Option<&str>) -> Result<Option<Content>, ContainerError> {
    if memchr::memmem::find(bytes, b"-----BEGIN ").is_none() {
        return Ok(None);
    }
    let mut content = Content::default();
    if keys::pem::is_encrypted(bytes) {
        let key = keys::pem::read_with(bytes, password).map_err(|error| match error {
            KeyError::WrongPassphrase => ContainerError::Password,
            _ => ContainerError::EncryptedKey,
        })?;
        content.keys.push(key);
    }
    for certificate in CertificateDer::pem_slice_iter(bytes).take(MAX_CERTIFICATES + 1) {
        let certificate = certificate.map_err(|_| ContainerError::Unknown)?;
        if !is_certificate(&certificate) {
            return Err(ContainerError::Unknown);
        }
        content.certificates.push(certificate);
    }
    for key in PrivateKeyDer::pem_slice_iter(bytes).take(2) {
        let key = key.map_err(|_| ContainerError::Unknown)?;
        content.keys.push(Zeroizing::new(key));
    }
    if content.certificates.is_empty()
        && let Some(der) =
            keys::pem::section(bytes, "PKCS7").or_else(|| keys::pem::section(bytes, "CMS"))
    {
        content.certificates = pkcs7(&der).unwrap_or_default();
    }
    Ok(Some(content))
}

/// The certificates of a PKCS#7 file (RFC 5652 §5.1, certificates only); its signature, if any, says
/// nothing about them.
fn pkcs7(bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let info = ContentInfo::from_der(bytes).ok()?;
    let data: SignedData = info.content.decode_as().ok()?;
    let certificates = data.certificates?;
    let certificates = certificates.0.iter().filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => {
            certificate.to_der().ok().map(CertificateDer::from)
        }
        CertificateChoices::Other(_) => None,
    });
    Some(certificates.take(MAX_CERTIFICATES + 1).collect())
}

fn pkcs12(bytes: &[u8], password: Option<&str>) -> Result<Content, ContainerError> {
    let Some((_, first)) = bytes.split_first().filter(|(first, _)| **first == 0x30) else {
        return Err(ContainerError::Unknown);
    };
    if first.is_empty() {
        return Err(ContainerError::Unknown);
    }
    let opened = KeyStore::from_pkcs12(
        bytes,
        password.unwrap_or_default(),
        Pkcs12ImportPolicy::Relaxed,
    );
    let store = match opened {
        Ok(store) => store,
        // Both a wrong password and a file of another kind end here.
        Err(_) if is_pfx(bytes) => return Err(ContainerError::Password),
        Err(_) => return Err(ContainerError::Unknown),
    };
    let mut content = Content::default();
    for (_, entry) in store.entries() {
        match entry {
            KeyStoreEntry::PrivateKeyChain(chain) => {
                let key = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
                content.keys.push(Zeroizing::new(key.into()));
                let chain = chain.certs().iter();
                content
                    .certificates
                    .extend(chain.map(|c| CertificateDer::from(c.as_der().to_vec())));
            }
            KeyStoreEntry::Certificate(certificate) => content
                .certificates
                .push(CertificateDer::from(certificate.as_der().to_vec())),
            _ => {}
        }
    }
    Ok(content)
}

/// Whether it starts as a PFX (RFC 7292 §4): a sequence with the version 3.
fn is_pfx(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes.get(..16).unwrap_or(bytes), &[0x02, 0x01, 0x03]).is_some()
}

/// A chain as PEM, its first certificate first.
#[must_use]
pub fn to_pem(chain: &[CertificateDer<'_>]) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let body = base64::engine::general_purpose::STANDARD.encode(certificate);
        for line in body.as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap_or_default());
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::path::Path;
    use std::process::Command;

    use rcgen::KeyPair;
    use tempfile::TempDir;

    use super::*;
    use crate::certs::testdata::{Profile, chain_for};

    struct Files {
        dir: TempDir,
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
    }

    fn files() -> Files {
        let key = KeyPair::generate().unwrap();
        let chain = chain_for(&Profile::default(), &key);
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("c.pem"), to_pem(&chain)).unwrap();
        std::fs::write(dir.path().join("k.pem"), key.serialize_pem()).unwrap();
        Files { dir, chain, key }
    }

    /// What OpenSSL makes of them.
    fn openssl(dir: &Path, arguments: &str) -> Vec<u8> {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        std::fs::read(dir.join("out")).unwrap()
    }

    #[test]
    fn every_form_gives_the_same_certificates() {
        let files = files();
        let dir = files.dir.path();
        let pem = read(to_pem(&files.chain).as_bytes(), None).unwrap();
        assert_eq!(pem.certificates, files.chain);
        let der = read(&files.chain[0], None).unwrap();
        assert_eq!(der.certificates, files.chain[..1]);
        for form in ["DER", "PEM"] {
            let command = format!("crl2pkcs7 -nocrl -certfile c.pem -outform {form} -out out");
            let mut found = read(&openssl(dir, &command), None).unwrap().certificates;
            let mut wanted = files.chain.clone();
            found.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
            wanted.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
            assert_eq!(found, wanted, "PKCS#7 {form}");
        }
    }

    #[test]
    fn a_pkcs12_file_opens_with_new_and_old_ciphers() {
        let files = files();
        let wanted = files.key.serialize_der();
        for ciphers in ["", " -legacy"] {
            let command = format!(
                "pkcs12 -export -in c.pem -inkey k.pem -passout pass:secret{ciphers} -out out"
            );
            let file = openssl(files.dir.path(), &command);
            let content = read(&file, Some("secret")).unwrap();
            assert_eq!(content.keys.len(), 1, "{ciphers}");
            assert_eq!(content.keys[0].secret_der(), wanted, "{ciphers}");
            assert!(content.certificates.contains(&files.chain[0]), "{ciphers}");
            for wrong in [None, Some("autre")] {
                assert_eq!(read(&file, wrong).unwrap_err(), ContainerError::Password);
            }
        }
    }

    #[test]
    fn a_key_goes_to_pem_and_back() {
        let files = files();
        let key = PrivateKeyDer::try_from(files.key.serialize_der()).unwrap();
        let text = keys::pem::write(&key, None).unwrap();
        let text = format!("{}{}", to_pem(&files.chain), *text);
        let content = read(text.as_bytes(), None).unwrap();
        assert_eq!(content.keys[0].secret_der(), key.secret_der());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let files = files();
        let encrypted = openssl(
            files.dir.path(),
            "pkcs8 -topk8 -in k.pem -passout pass:x -out out",
        );
        let with = |password| {
            let file = [to_pem(&files.chain).as_bytes(), &encrypted].concat();
            read(&file, password)
        };
        assert_eq!(with(None).unwrap_err(), ContainerError::EncryptedKey);
        assert_eq!(with(Some("y")).unwrap_err(), ContainerError::Password);
        assert_eq!(with(Some("x")).unwrap().keys.len(), 1);
        let cut = &files.chain[0][..100];
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bytes in [b"" as &[u8], b"hello", &[0x30], cut, bad.as_bytes()] {
            assert_eq!(read(bytes, None).unwrap_err(), ContainerError::Unknown);
        }
        let long = vec![0; MAX_BYTES + 1];
        assert_eq!(read(&long, None).unwrap_err(), ContainerError::TooLarge);
    }
}
