//! A test PKI: authorities, server certificates per host name, client certificates, and the
//! wrong ones (foreign, expired, not yet valid). PEM files; keys are readable by their owner alone.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use super::KitError;

/// A certificate authority of the tests, with its files in one folder.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    ca_file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM, the certificate.
    pub certificate_file: PathBuf,
    /// PEM, PKCS#8.
    pub key_file: PathBuf,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday, for a year.
    Now,
    /// Ended yesterday.
    Expired,
    /// Starts tomorrow.
    NotYet,
}

/// What a certificate may be used for (extended key usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// `serverAuth`
    Server,
    /// `clientAuth`
    Client,
    /// Both, as the certificates of health establishments have.
    Both,
}

impl Pki {
    /// Makes an authority called `name`; its certificate is `FOLDER/ca.pem`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self, KitError> {
        fs::create_dir_all(folder).map_err(KitError::io("create", folder))?;
        let mut params = subject(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, Validity::Now);
        let failed = |source| KitError::Certificate {
            name: name.to_owned(),
            source,
        };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let ca_file = folder.join("ca.pem");
        fs::write(&ca_file, certificate.pem()).map_err(KitError::io("write", &ca_file))?;
        Ok(Self {
            folder: folder.to_owned(),
            ca_file,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A server certificate for these names (host names or addresses); the first names its files.
    ///
    /// # Errors
    /// When a name is not one, or the files cannot be written.
    pub fn server(&self, names: &[&str]) -> Result<Identity, KitError> {
        let first = names.first().copied().unwrap_or("server");
        self.issue(first, names, Usage::Server, Validity::Now)
    }

    /// A client certificate with this common name.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn client(&self, name: &str) -> Result<Identity, KitError> {
        self.issue(name, &[], Usage::Client, Validity::Now)
    }

    /// A client certificate as IGC Santé gives it to an organisation: CN = `name`, OU = `unit`, the national id
    /// of its structure.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn organisation(&self, name: &str, unit: &str) -> Result<Identity, KitError> {
        let mut params = subject(name);
        let named = &mut params.distinguished_name;
        named.push(DnType::OrganizationalUnitName, unit);
        self.finish(params, name, &[], Usage::Client, Validity::Now)
    }

    /// A certificate with every choice open.
    ///
    /// # Errors
    /// When a name is not one, or the files cannot be written.
    pub fn issue(
        &self,
        common_name: &str,
        names: &[&str],
        usage: Usage,
        validity: Validity,
    ) -> Result<Identity, KitError> {
        self.finish(subject(common_name), common_name, names, usage, validity)
    }

    fn finish(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        names: &[&str],
        usage: Usage,
        validity: Validity,
    ) -> Result<Identity, KitError> {
        let failed = |source| KitError::Certificate {
            name: common_name.to_owned(),
            source,
        };
        params.use_authority_key_identifier_extension = true;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().map_err(failed)?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        set_validity(&mut params, validity);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;

        let stem = match validity {
            Validity::Now => common_name.to_owned(),
            Validity::Expired => format!("{common_name}-expired"),
            Validity::NotYet => format!("{common_name}-not-yet"),
        };
        let identity = Identity {
            certificate_file: self.folder.join(format!("{stem}.pem")),
            key_file: self.folder.join(format!("{stem}.key")),
        };
        fs::write(&identity.certificate_file, certificate.pem())
            .map_err(KitError::io("write", &identity.certificate_file))?;
        write_private(&identity.key_file, &key.serialize_pem())?;
        Ok(identity)
    }
}

fn subject(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "FR");
    name.push(DnType::OrganizationName, "Test");
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let now = OffsetDateTime::now_utc();
    let (from, until) = match validity {
        Validity::Now => (now - Duration::DAY, now + Duration::days(365)),
        Validity::Expired => (now - Duration::days(30), now - Duration::DAY),
        Validity::NotYet => (now + Duration::DAY, now + Duration::days(30)),
    };
    params.not_before = from;
    params.not_after = until;
}

/// Writes a file that its owner alone may read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), KitError> {
    let _ = fs::remove_file(path);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(KitError::io("write", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::new(folder.path(), "Test CA").unwrap();
        let identity = pki.server(&["db1.test.example", "127.0.0.1"]).unwrap();
        let mode = fs::metadata(&identity.key_file)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
