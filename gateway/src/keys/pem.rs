//! A private key in PEM: PKCS#8, PKCS#1, SEC1 in clear, or PKCS#8 encrypted (RFC 5958 §3).
//!
//! The text is decoded here: the reader of rustls-pki-types leaves the base64 of a key behind in memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Reader as _, TagNumber};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, Salt, ScryptParams};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

use super::Passphrase;
use super::record::random;

/// Label of an encrypted key (RFC 7468 §11).
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// scrypt (RFC 7914) as OpenSSL reads it within its own limit of memory: N = 2^14, r = 8, p = 1, 16 MiB.
/// Tests of this crate pay less.
const SCRYPT_COST: u64 = if cfg!(test) { 1 << 4 } else { 1 << 14 };
const SCRYPT_BLOCK: u16 = 8;
/// Greatest costs that are paid for a key somebody else encrypted.
const MAX_SCRYPT_COST: u64 = 1 << 20;
const MAX_SCRYPT_BLOCK: u16 = 16;
const MAX_ITERATIONS: u32 = 10_000_000;
/// rsaEncryption (RFC 8017 appendix A.1), id-ecPublicKey (RFC 5480 §2.1.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing of the kind in the file.
    #[error("holds no private key")]
    Missing,
    /// The text is damaged.
    #[error("not PEM: {0}")]
    Damaged(String),
    /// It is encrypted, and there is no passphrase.
    #[error(
        "the private key is encrypted and no passphrase is known: set keys.passphrase_file, or hand the \
         service the systemd credential drimbox-keys"
    )]
    Locked,
    /// It is encrypted with another passphrase.
    #[error("the private key does not open with the passphrase of [keys]")]
    WrongPassphrase,
    /// It is encrypted in a way that is not read here.
    #[error(
        "the private key is encrypted in an old form: convert it with `openssl pkcs8 -topk8 -scrypt`"
    )]
    OldForm,
    /// It cannot be encrypted.
    #[error("the private key cannot be encrypted: {0}")]
    Encoding(String),
}

/// Whether a text holds a key that needs a passphrase.
#[must_use]
pub fn is_encrypted(text: &[u8]) -> bool {
    let has = |marker: &[u8]| memchr::memmem::find(text, marker).is_some();
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

/// What a section of a text holds.
type Form = fn(Vec<u8>) -> PrivateKeyDer<'static>;

/// A private key, wiped from memory when it is dropped. What rustls is given of it ([`PrivateKeyDer::clone_key`]),
/// rustls wipes.
pub type Secret = Zeroizing<PrivateKeyDer<'static>>;

/// The first private key of a text.
///
/// # Errors
/// [`KeyError`].
pub fn read(text: &[u8], passphrase: Option<&Passphrase>) -> Result<Secret, KeyError> {
    if is_encrypted(text) {
        return read_with(text, passphrase.map(Passphrase::expose));
    }
    // RFC 7468 §10; PKCS#1 and SEC1 as OpenSSL writes them.
    let labels: [(&str, Form); 3] = [
        ("PRIVATE KEY", |der| PrivatePkcs8KeyDer::from(der).into()),
        ("RSA PRIVATE KEY", |der| {
            PrivatePkcs1KeyDer::from(der).into()
        }),
        ("EC PRIVATE KEY", |der| PrivateSec1KeyDer::from(der).into()),
    ];
    let begins = |label: &str| {
        let marker = format!("-----BEGIN {label}-----");
        memchr::memmem::find(text, marker.as_bytes())
    };
    let found = labels
        .into_iter()
        .filter_map(|(label, key)| Some((begins(label)?, label, key)));
    let (_, label, key) = found.min_by_key(|found| found.0).ok_or(KeyError::Missing)?;
    let mut der = section(text, label)
        .ok_or_else(|| KeyError::Damaged(format!("the section {label} cannot be read")))?;
    Ok(Zeroizing::new(key(std::mem::take(&mut *der))))
}

/// The encrypted key of a text, with any secret.
pub(crate) fn read_with(text: &[u8], secret: Option<&str>) -> Result<Secret, KeyError> {
    let Some(sealed) = section(text, ENCRYPTED) else {
        return Err(KeyError::OldForm);
    };
    let secret = secret.ok_or(KeyError::Locked)?;
    let sealed = EncryptedPrivateKeyInfoRef::from_der(&sealed).map_err(|error| {
        // Whole, by an algorithm that is not known here.
        match has_its_form(&sealed) {
            true => KeyError::OldForm,
            false => KeyError::Damaged(error.to_string()),
        }
    })?;
    let EncryptionScheme::Pbes2(scheme) = &sealed.encryption_algorithm else {
        return Err(KeyError::OldForm);
    };
    let is_bearable = match &scheme.kdf {
        Kdf::Scrypt(scrypt) => {
            scrypt.cost_parameter <= MAX_SCRYPT_COST && scrypt.block_size <= MAX_SCRYPT_BLOCK
        }
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= MAX_ITERATIONS,
        _ => false,
    };
    if !is_bearable {
        return Err(KeyError::OldForm);
    }
    let mut clear = match scheme.decrypt(secret, sealed.encrypted_data.as_bytes()) {
        Ok(clear) => Zeroizing::new(clear),
        Err(pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. }) => return Err(KeyError::OldForm),
        Err(_) => return Err(KeyError::WrongPassphrase),
    };
    // One wrong passphrase in some hundred leaves a padding that is right by chance.
    PrivateKeyInfoRef::from_der(&clear).map_err(|_| KeyError::WrongPassphrase)?;
    let key = PrivatePkcs8KeyDer::from(std::mem::take(&mut *clear));
    Ok(Zeroizing::new(key.into()))
}

/// A private key as PEM: encrypted with a passphrase, in clear without any.
///
/// # Errors
/// [`KeyError::Encoding`].
pub fn write(
    key: &PrivateKeyDer<'_>,
    passphrase: Option<&Passphrase>,
) -> Result<Zeroizing<String>, KeyError> {
    let Some(passphrase) = passphrase else {
        let label = match key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        return Ok(wrapped(label, key.secret_der()));
    };
    let encoding = |error: &dyn std::fmt::Display| KeyError::Encoding(error.to_string());
    let clear = pkcs8_of(key).map_err(|error| encoding(&error))?;
    let salt = random::<16>().map_err(|error| encoding(&error))?;
    let scheme = Parameters {
        kdf: Kdf::Scrypt(ScryptParams {
            salt: Salt::new(salt).map_err(|error| encoding(&error))?,
            cost_parameter: SCRYPT_COST,
            block_size: SCRYPT_BLOCK,
            parallelization: 1,
            key_length: None,
        }),
        encryption: Cipher::Aes256Cbc {
            iv: random::<16>().map_err(|error| encoding(&error))?,
        },
    };
    let sealed = scheme
        .encrypt(passphrase.expose(), &clear)
        .map_err(|error| encoding(&error))?;
    let document = EncryptedPrivateKeyInfoRef {
        encryption_algorithm: scheme.into(),
        encrypted_data: OctetStringRef::new(&sealed).map_err(|error| encoding(&error))?,
    };
    let document = document.to_der().map_err(|error| encoding(&error))?;
    Ok(wrapped(ENCRYPTED, &document))
}

/// The same key as PKCS#8.
fn pkcs8_of(key: &PrivateKeyDer<'_>) -> der::Result<Zeroizing<Vec<u8>>> {
    let info = |oid, parameters, key: &[u8]| -> der::Result<Zeroizing<Vec<u8>>> {
        let algorithm = AlgorithmIdentifierRef {
            oid,
            parameters: Some(parameters),
        };
        PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(key)?)
            .to_der()
            .map(Zeroizing::new)
    };
    match key {
        PrivateKeyDer::Pkcs1(key) => info(RSA, AnyRef::NULL, key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => {
            let key = key.secret_sec1_der();
            let curve = curve_of(key)?;
            info(EC, AnyRef::from(&curve), key)
        }
        other => Ok(Zeroizing::new(other.secret_der().to_vec())),
    }
}

/// Whether it is an `EncryptedPrivateKeyInfo` (RFC 5958 §3), whatever the algorithm.
fn has_its_form(bytes: &[u8]) -> bool {
    let fields = der::SliceReader::new(bytes).and_then(|mut reader| {
        reader.sequence(|fields| -> der::Result<()> {
            fields.decode::<AlgorithmIdentifierRef<'_>>()?;
            fields.decode::<&OctetStringRef>()?;
            Ok(())
        })
    });
    fields.is_ok()
}

/// The curve of an `ECPrivateKey` (RFC 5915 §3).
fn curve_of(key: &[u8]) -> der::Result<ObjectIdentifier> {
    let mut reader = der::SliceReader::new(key)?;
    reader.sequence(|fields| {
        fields.decode::<u8>()?;
        fields.decode::<&OctetStringRef>()?;
        let curve = ContextSpecific::<ObjectIdentifier>::decode_explicit(fields, TagNumber(0))?;
        while !fields.is_finished() {
            fields.decode::<AnyRef<'_>>()?;
        }
        curve
            .map(|curve| curve.value)
            .ok_or_else(|| der::ErrorKind::Failed.into())
    })
}

/// The bytes of the first section with that label.
pub(crate) fn section(text: &[u8], label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let (_, after) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = after.split_once(&format!("-----END {label}-----"))?;
    // The whole capacity at once: no copy of a key stays behind in a reallocation.
    let mut plain = Zeroizing::new(String::with_capacity(body.len()));
    plain.extend(body.split_ascii_whitespace());
    let body = plain;
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

fn wrapped(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(bytes));
    // The whole capacity at once: no copy of a key stays behind in a reallocation.
    let length = body.len() + body.len() / 64 + 2 * label.len() + 64;
    let mut text = Zeroizing::new(String::with_capacity(length));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::keys::for_tests;

    /// What OpenSSL makes of files of a folder.
    fn openssl(folder: &Path, arguments: &str) -> bool {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output();
        done.unwrap().status.success()
    }

    #[test]
    fn every_form_of_key_is_encrypted_so_that_openssl_reads_it_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let passphrase = for_tests("une phrase de passe");
        for make in [
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem",
            "ecparam -name secp384r1 -genkey -noout -out k.pem",
            "genrsa -traditional -out k.pem 2048",
            "genpkey -algorithm RSA -out k.pem",
        ] {
            assert!(openssl(dir, make), "{make}");
            let key = read(&std::fs::read(dir.join("k.pem")).unwrap(), None).unwrap();
            let sealed = write(&key, Some(&passphrase)).unwrap();
            assert!(sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
            std::fs::write(dir.join("sealed.pem"), sealed.as_bytes()).unwrap();
            let opened = "pkcs8 -in sealed.pem -out clear.pem -passin";
            let password = "une phrase de passe";
            let done = Command::new("openssl")
                .args(opened.split(' '))
                .arg(format!("pass:{password}"))
                .current_dir(dir)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{make}: {said}");
            for name in ["k", "clear"] {
                assert!(openssl(
                    dir,
                    &format!("pkey -in {name}.pem -pubout -out {name}.pub")
                ));
            }
            let public = |name: &str| std::fs::read(dir.join(name)).unwrap();
            assert_eq!(public("k.pub"), public("clear.pub"), "{make}");

            let back = read(sealed.as_bytes(), Some(&passphrase)).unwrap();
            assert_eq!(back.secret_der(), &pkcs8_of(&key).unwrap()[..]);
            assert_eq!(read(sealed.as_bytes(), None).unwrap_err(), KeyError::Locked);
            let wrong = read(sealed.as_bytes(), Some(&for_tests("une autre phrase")));
            assert_eq!(wrong.unwrap_err(), KeyError::WrongPassphrase);
        }
    }

    #[test]
    fn a_key_that_openssl_encrypted_is_read_and_an_old_form_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let secret = for_tests("secret-de-douze");
        assert!(openssl(
            dir,
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem"
        ));
        for (form, read_here) in [
            ("", true),
            (" -scrypt", true),
            (" -v2 aes128", true),
            (" -v1 PBE-SHA1-3DES", false),
        ] {
            let command =
                format!("pkcs8 -topk8 -in k.pem -out s.pem -passout pass:secret-de-douze{form}");
            assert!(openssl(dir, &command), "{form}");
            let found = read(&std::fs::read(dir.join("s.pem")).unwrap(), Some(&secret));
            match read_here {
                true => assert!(found.is_ok(), "{form}: {found:?}"),
                false => assert_eq!(found.unwrap_err(), KeyError::OldForm, "{form}"),
            }
        }
        assert!(
            openssl(dir, "rsa -in k.pem -out x")
                || openssl(
                    dir,
                    "ec -in k.pem -aes128 -passout pass:secret-de-douze -out t.pem"
                )
        );
        let traditional = std::fs::read(dir.join("t.pem")).unwrap();
        assert_eq!(
            read(&traditional, Some(&secret)).unwrap_err(),
            KeyError::OldForm
        );
    }

    #[test]
    fn what_holds_no_key_is_said() {
        assert_eq!(read(b"", None).unwrap_err(), KeyError::Missing);
        let damaged =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let found = read(damaged, Some(&for_tests("une phrase de passe")));
        assert!(matches!(found, Err(KeyError::Damaged(_))), "{found:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let text = wrapped(ENCRYPTED, &bytes);
            proptest::prop_assert!(read(text.as_bytes(), Some(&for_tests("une phrase de passe"))).is_err());
            let _ = curve_of(&bytes);
        }
    }
}
