//! The authorities of IGC Santé that this gateway relies on, of one environment.
//!
//! Roots are trusted because their files are configured. Other authorities in those files must be
//! issued by one of the roots. Which of them may issue peers is a list of common names.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::der::Signed;
use super::dn::DistinguishedName;

/// Bytes of an authority file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Authorities in all files together.
const MAX_AUTHORITIES: usize = 32;

/// Which IGC Santé: real exams and test exams never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// IGC-SANTE.
    Production,
    /// IGC-SANTE TEST.
    Test,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Test => "test",
        })
    }
}

impl Environment {
    /// The environment that an authority's name tells: organisational unit `IGC-SANTE` or
    /// `IGC-SANTE TEST`. `None` for an authority of another family.
    #[must_use]
    pub fn of(name: &DistinguishedName) -> Option<Self> {
        name.values("OU").find_map(|unit| match unit.trim() {
            "IGC-SANTE" => Some(Self::Production),
            "IGC-SANTE TEST" => Some(Self::Test),
            _ => None,
        })
    }
}

/// Why the authorities cannot be used. Each text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// A file that cannot be read.
    #[error(
        "{path}: cannot be read: {source}. Check that the file exists and that the service's account may read it."
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A file that holds something else.
    #[error(
        "{path}: holds no certificate of an authority ({reason}). Use the PEM or DER file published by IGC Santé."
    )]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// More than [`MAX_AUTHORITIES`].
    #[error(
        "more than {MAX_AUTHORITIES} authorities. Keep the root and the issuing authority only."
    )]
    TooMany,
    /// An authority of the other environment.
    #[error(
        "{path}: {authority:?} is an authority of the {found} environment, `trust.environment` is {expected}. Use the files of one environment."
    )]
    OtherEnvironment {
        /// The file.
        path: PathBuf,
        /// Its common name.
        authority: String,
        /// Where it comes from.
        found: Environment,
        /// What is configured.
        expected: Environment,
    },
    /// Files without a root.
    #[error(
        "no root among the files of `trust.authority_files`. Add the file of the root authority."
    )]
    NoRoot,
    /// An authority that no root issued.
    #[error(
        "{path}: no root of `trust.authority_files` issued {authority:?}. Add the file of its root."
    )]
    Orphan {
        /// The file.
        path: PathBuf,
        /// Its common name.
        authority: String,
    },
    /// The authority that may issue peers is missing.
    #[error(
        "no file of `trust.authority_files` holds an authority named in `trust.issuing_authorities` ({names}). Add its file."
    )]
    NoIssuing {
        /// The names looked for.
        names: String,
    },
}

/// One authority, as its certificate says.
#[derive(Debug)]
pub struct Authority {
    /// Its common name, for messages.
    pub common_name: String,
    /// Whether it is a root.
    pub is_root: bool,
    /// Start of its validity.
    pub not_before: UnixTime,
    /// End of its validity.
    pub not_after: UnixTime,
    /// Plain HTTP addresses where its own certificate says that the list of its issuer is.
    pub crl_urls: Vec<String>,
    /// Content of its subject, DER.
    pub(super) subject: Vec<u8>,
    /// Its key, SubjectPublicKeyInfo in DER.
    pub(super) spki: Vec<u8>,
    name: DistinguishedName,
    certificate: CertificateDer<'static>,
}

/// The authorities of one environment.
#[derive(Debug)]
pub struct Anchors {
    environment: Environment,
    authorities: Vec<Arc<Authority>>,
    pub(super) roots: Vec<TrustAnchor<'static>>,
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    issuing: BTreeSet<String>,
}

impl Anchors {
    /// Reads the files of the authorities, PEM or DER.
    ///
    /// # Errors
    /// [`AnchorError`] when a file cannot be used, or the authorities do not hang together.
    pub fn load(
        environment: Environment,
        files: &[PathBuf],
        issuing: &[String],
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<Self, AnchorError> {
        let mut found: Vec<(PathBuf, Authority)> = Vec::new();
        for path in files {
            for certificate in read(path)? {
                let authority = Authority::parse(certificate).map_err(|reason| {
                    AnchorError::NotAnAuthority {
                        path: path.clone(),
                        reason,
                    }
                })?;
                if let Some(other) = Environment::of(&authority.name).filter(|e| *e != environment)
                {
                    return Err(AnchorError::OtherEnvironment {
                        path: path.clone(),
                        authority: authority.common_name,
                        found: other,
                        expected: environment,
                    });
                }
                if found.len() == MAX_AUTHORITIES {
                    return Err(AnchorError::TooMany);
                }
                let is_new =
                    |(_, other): &(_, Authority)| other.certificate != authority.certificate;
                if found.iter().all(is_new) {
                    found.push((path.clone(), authority));
                }
            }
        }
        if !found.iter().any(|(_, authority)| authority.is_root) {
            return Err(AnchorError::NoRoot);
        }
        let orphan = found.iter().find(|(_, authority)| {
            !authority.is_root
                && !found
                    .iter()
                    .any(|(_, above)| authority.comes_from(above, known))
        });
        if let Some((path, authority)) = orphan {
            return Err(AnchorError::Orphan {
                path: path.clone(),
                authority: authority.common_name.clone(),
            });
        }
        let issuing: BTreeSet<_> = issuing.iter().cloned().collect();
        if !found
            .iter()
            .any(|(_, authority)| issuing.contains(&authority.common_name))
        {
            let names: Vec<_> = issuing.into_iter().collect();
            return Err(AnchorError::NoIssuing {
                names: names.join(", "),
            });
        }
        let authorities: Vec<_> = found.into_iter().map(|(_, a)| Arc::new(a)).collect();
        let roots = authorities.iter().filter(|authority| authority.is_root);
        let roots = roots.filter_map(|authority| {
            let anchor = webpki::anchor_from_trusted_cert(&authority.certificate).ok()?;
            Some(anchor.to_owned())
        });
        let roots = roots.collect();
        let others = authorities.iter().filter(|authority| !authority.is_root);
        let intermediates = others
            .map(|authority| authority.certificate.clone())
            .collect();
        Ok(Self {
            environment,
            authorities,
            roots,
            intermediates,
            issuing,
        })
    }

    /// Its environment.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// Every authority.
    #[must_use]
    pub fn authorities(&self) -> &[Arc<Authority>] {
        &self.authorities
    }

    /// Authorities with this subject (content, DER); several when a key was renewed.
    pub(super) fn with_subject(&self, subject: &[u8]) -> impl Iterator<Item = &Arc<Authority>> {
        self.authorities
            .iter()
            .filter(move |a| a.subject == subject)
    }

    /// Whether an authority with this common name may issue peers and the signer of the white list.
    pub(super) fn may_issue(&self, common_name: &str) -> bool {
        self.issuing.contains(common_name)
    }

    /// Subjects of the authorities, for clients that choose a certificate by them.
    pub(super) fn subjects(&self) -> Vec<rustls::DistinguishedName> {
        let all = self.authorities.iter();
        all.map(|authority| rustls::DistinguishedName::in_sequence(&authority.subject))
            .collect()
    }
}

impl Authority {
    /// Reads the certificate of an authority.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(certificate: CertificateDer<'static>) -> Result<Self, String> {
        let (rest, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("bytes after the certificate".to_owned());
        }
        if !parsed.is_ca() {
            return Err("it is the certificate of no authority".to_owned());
        }
        let name = DistinguishedName::from_x509(parsed.subject()).map_err(|e| e.to_string())?;
        let common_name = name
            .common_name()
            .ok_or("it has no common name")?
            .to_owned();
        let subject = content_of_name(parsed.subject().as_raw());
        let is_root = parsed.subject().as_raw() == parsed.issuer().as_raw();
        let spki = parsed.public_key().raw.to_vec();
        let seconds = |time: i64| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(time.try_into().unwrap_or(0)))
        };
        let not_before = seconds(parsed.validity().not_before.timestamp());
        let not_after = seconds(parsed.validity().not_after.timestamp());
        let crl_urls = distribution_points(&parsed);
        Ok(Self {
            common_name,
            is_root,
            not_before,
            not_after,
            crl_urls,
            subject,
            spki,
            name,
            certificate,
        })
    }

    fn comes_from(&self, above: &Self, known: &WebPkiSupportedAlgorithms) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(&self.certificate) else {
            return false;
        };
        above.certificate != self.certificate
            && content_of_name(parsed.issuer().as_raw()) == above.subject
            && Signed::parse(&self.certificate)
                .is_some_and(|signed| signed.is_signed_by(&above.spki, known))
    }

    /// Whether it is in its validity.
    pub(super) fn is_valid_at(&self, now: UnixTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Addresses of revocation lists in a certificate (RFC 5280 §4.2.1.13), those in plain HTTP.
pub(super) fn distribution_points(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut urls = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else {
            continue;
        };
        for point in points.iter() {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else {
                continue;
            };
            urls.extend(names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("http://") => Some((*uri).to_owned()),
                _ => None,
            }));
        }
    }
    urls
}

/// What is in the SEQUENCE of a name, as webpki shows names.
fn content_of_name(raw: &[u8]) -> Vec<u8> {
    let element = super::der::Elements(raw).next();
    element.map(|e| e.content).unwrap_or_default().to_vec()
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, AnchorError> {
    let unreadable = |source| AnchorError::Read {
        path: path.to_owned(),
        source,
    };
    let unusable = |reason: String| AnchorError::NotAnAuthority {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(unusable("it is too large".to_owned()));
    }
    if bytes.first() == Some(&super::der::SEQUENCE) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(unusable("it is neither PEM nor DER".to_owned())),
        Err(error) => Err(unusable(error.to_string())),
    }
}
