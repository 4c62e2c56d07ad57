//! Server-side TLS from PEM files: TLS 1.3 and 1.2, ECDHE with AEAD ciphers only.
//!
//! rustls offers nothing weaker than that; what is decided here is who must show a certificate,
//! what a name's certificate is, and that a private key others can read is not used.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::replaceable::ReplaceableKey;
use crate::config::ServerIdentity;
use crate::keys::{self, pem::KeyError};

/// Bytes of ciphertext a connection may hold before its writer waits. rustls' 64 KiB makes a fast
/// reader wait for the writer at every fourth record.
pub(super) const BUFFER_LIMIT: usize = 256 * 1024;

/// Size above which a PEM file is not read: chains and lists of authorities are far smaller.
const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

/// Why a listener's TLS could not be prepared. Each text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing or not readable by the service.
    #[error(
        "{path}: cannot be read: {source}. Check that the file exists and that the service's account may read it."
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file is larger than any certificate file.
    #[error(
        "{path}: larger than {MAX_PEM_BYTES} bytes. Name a PEM file that holds only certificates or a key."
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Others than the service can read the private key.
    #[error(
        "{path}: private key readable by others (mode {mode:03o}). Run `chmod 600 {path}`, and give the file to the service's account."
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text between PEM markers is damaged.
    #[error("{path}: not PEM: {source}. Export the file again in PEM form.")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Where the text stops being PEM.
        source: pem::Error,
    },
    /// A PEM file without certificate.
    #[error(
        "{path}: holds no certificate. Put the certificate first, then its intermediates, in PEM form."
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A PEM file without private key.
    #[error("{path}: holds no private key. Name the PEM file of the key (PKCS#8, PKCS#1 or SEC1).")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key that cannot be read.
    #[error("{path}: {source}.")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// Certificate and key do not work together.
    #[error(
        "{certificate}: cannot be used with the key {key}: {source}. Check that the key is the one this certificate was issued for."
    )]
    Identity {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// What rustls found.
        source: rustls::Error,
    },
    /// An authority's certificate that cannot be used.
    #[error(
        "{path}: an authority in it cannot be used: {source}. Keep only certificates of authorities in this file."
    )]
    Authority {
        /// The file.
        path: PathBuf,
        /// What rustls found.
        source: rustls::Error,
    },
    /// The list of authorities cannot verify anyone.
    #[error(
        "{path}: cannot verify client certificates: {source}. Check the authorities in this file."
    )]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What rustls found.
        source: VerifierBuilderError,
    },
    /// Two identities for one host name.
    #[error("host name {0} comes twice. Give each PACS a `db` and a `vi` host name of its own.")]
    DuplicateHost(String),
    /// A certificate for a host name that no listener serves.
    #[error("host name {0} is not served here. Name it as `db_host` or `vi_host` of a PACS.")]
    UnknownHost(String),
    /// A certificate that its clients would refuse.
    #[error("the certificate of {host} {reason}. Install the certificate issued for {host}.")]
    Unusable {
        /// The host name.
        host: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// TLS of a listener with one certificate, whatever name the client asks for.
///
/// # Errors
/// [`TlsError`] when a file cannot be used.
pub fn server_config(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, TlsError> {
    Ok(server_config_with(ReplaceableKey::new(certified_key(
        identity,
    )?)))
}

/// The same with a certificate that can be replaced while connections are open.
#[must_use]
pub fn server_config_with(certificate: Arc<ReplaceableKey>) -> Arc<ServerConfig> {
    let mut config = builder()
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = alpn();
    config.ignore_client_order = true;
    Arc::new(config)
}

/// The certificate of a host name from its files, for [`NamedConfigs`](super::NamedConfigs).
///
/// # Errors
/// [`TlsError`] when a file cannot be used, or the key is another certificate's.
pub fn certified_key(identity: &ServerIdentity) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = read_identity(identity)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|source| mismatch(identity, source))
}

/// A verifier of client certificates that chain to an authority of a PEM file. It knows of no
/// revocation and of no list of peers.
///
/// # Errors
/// [`TlsError`] when the file cannot be used.
pub fn verifier_of(client_ca_file: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let authorities = Arc::new(read_authorities(client_ca_file)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider())
        .build()
        .map_err(|source| TlsError::Verifier {
            path: client_ca_file.to_owned(),
            source,
        })?;
    Ok(verifier)
}

pub(super) fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    #[expect(
        clippy::expect_used,
        reason = "both providers offer suites for TLS 1.3 and 1.2"
    )]
    ServerConfig::builder_with_provider(server_provider())
        .with_protocol_versions(&versions)
        .expect("the provider's own suites cover TLS 1.3 and 1.2")
}

/// The suites of [`provider`], those with AES-128-GCM first: the suite that every implementation of
/// TLS 1.3 has (RFC 8446 §9.1), and the one with which images cost the least. ANSSI's guide
/// recommends both key lengths. Servers built on it choose by this order, not by the client's.
fn server_provider() -> Arc<CryptoProvider> {
    use rustls::CipherSuite as Suite;
    let mut provider = CryptoProvider::clone(&provider());
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            Suite::TLS13_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    Arc::new(provider)
}

/// The cryptography of every TLS connection of the gateway.
#[cfg(feature = "aws_lc_rs")]
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The cryptography of every TLS connection of the gateway.
#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "aws_lc_rs", feature = "ring")))]
compile_error!("choose a cryptographic provider: feature `aws_lc_rs` or `ring`");

pub(super) fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn mismatch(identity: &ServerIdentity, source: rustls::Error) -> TlsError {
    TlsError::Identity {
        certificate: identity.certificate_file.clone(),
        key: identity.key_file.clone(),
        source,
    }
}

/// A certificate chain and its key from their files. The key is for rustls, which wipes it from memory
/// (`KeyProvider::load_private_key` of both providers).
///
/// # Errors
/// [`TlsError`] when a file cannot be read, is not PEM, or the key is readable by others.
pub fn read_identity(
    identity: &ServerIdentity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    Ok((
        read_certificates(&identity.certificate_file)?,
        read_key(&identity.key_file)?,
    ))
}

/// The authorities of a PEM file.
///
/// # Errors
/// [`TlsError`] when the file cannot be read or a certificate in it cannot be an authority.
pub fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        authorities
            .add(certificate)
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(authorities)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (text, _) = read_pem(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (text, mode) = read_pem(path)?;
    if mode & 0o077 != 0 {
        return Err(TlsError::KeyExposed {
            path: path.to_owned(),
            mode,
        });
    }
    let key = keys::pem::read(&text, keys::passphrase().as_ref());
    let key = key.map_err(|source| match source {
        KeyError::Missing => TlsError::NoKey {
            path: path.to_owned(),
        },
        source => TlsError::Key {
            path: path.to_owned(),
            source,
        },
    })?;
    Ok(key.clone_key())
}

/// The content and the permission bits of one and the same open file.
fn read_pem(path: &Path) -> Result<(zeroize::Zeroizing<Vec<u8>>, u32), TlsError> {
    let unreadable = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.size() > MAX_PEM_BYTES {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
        });
    }
    // The whole capacity at once: no copy of a key stays behind in a reallocation.
    let room = usize::try_from(metadata.size()).unwrap_or(0) + 1;
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(room));
    io::Read::read_to_end(&mut io::Read::take(file, MAX_PEM_BYTES), &mut text)
        .map_err(unreadable)?;
    Ok((text, metadata.permissions().mode() & 0o777))
}
