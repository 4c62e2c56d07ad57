//! A copy in small of IGC Santé: a root, the authority that issues peers, another that must not,
//! certificates and revocation lists of every right and wrong kind. Names as the real ones have;
//! keys of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, CustomExtension,
    DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData, RevokedCertParams,
    SanType, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::{Duration, OffsetDateTime};

use super::KitError;

/// Which of its authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// AC RACINE IGC-SANTE ELEMENTAIRE.
    Root,
    /// AC IGC-SANTE ELEMENTAIRE ORGANISATIONS: issues peers and the signer of the white list.
    Organisations,
    /// AC IGC-SANTE ELEMENTAIRE PERSONNES: issues people.
    Persons,
}

/// The authorities of one environment.
#[derive(Debug)]
pub struct Igc {
    now: OffsetDateTime,
    root: Ca,
    organisations: Ca,
    persons: Ca,
}

#[derive(Debug)]
struct Ca {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says; [`LeafSpec::peer`] is a good one.
#[derive(Debug, Clone)]
pub struct LeafSpec {
    /// Common name.
    pub common_name: String,
    /// Organisational unit.
    pub unit: String,
    /// State or province.
    pub state: String,
    /// DNS names; none by default.
    pub dns_names: Vec<String>,
    /// Extended key usages; none leaves the extension out.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Key usages.
    pub key_usages: Vec<KeyUsagePurpose>,
    /// Days from now, start and end of validity.
    pub days: (i64, i64),
    /// Serial number.
    pub serial: u64,
    /// Whether texts are encoded as PrintableString where they can be.
    pub printable: bool,
    /// Who issues it.
    pub by: Authority,
    /// Whether the key is RSA, the same for the same serial number; EC P-256 otherwise.
    pub rsa: bool,
    /// An extension that nobody knows, marked critical.
    pub strange_critical_extension: bool,
    /// Extensions besides, each with its content, not critical.
    pub extensions: Vec<(Vec<u64>, Vec<u8>)>,
    /// Where it says that the revocation list of its authority is.
    pub crl_url: String,
    /// The OCSP responder that it names.
    pub ocsp_url: Option<String>,
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key.
    pub key: KeyPair,
    /// Its serial number.
    pub serial: u64,
}

/// What a revocation list says.
#[derive(Debug, Clone)]
pub struct CrlSpec {
    /// CRL number.
    pub number: u64,
    /// Hours from now: `thisUpdate` and `nextUpdate`.
    pub hours: (i64, i64),
    /// Serial numbers on it.
    pub revoked: Vec<u64>,
    /// The only distribution point that it is for: its address, and which kind of certificate.
    pub point: Option<(String, Option<CrlScope>)>,
}

impl Default for CrlSpec {
    fn default() -> Self {
        Self {
            number: 10,
            hours: (-1, 144),
            revoked: Vec::new(),
            point: None,
        }
    }
}

impl LeafSpec {
    /// A SERV_SSL certificate for a `db` host: common name without SAN, both usages.
    #[must_use]
    pub fn peer(db_host: &str) -> Self {
        Self {
            common_name: db_host.to_owned(),
            unit: "318751275100020".to_owned(),
            state: "Paris (75)".to_owned(),
            dns_names: Vec::new(),
            usages: vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ],
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            days: (-10, 700),
            serial: 0x1234,
            printable: false,
            by: Authority::Organisations,
            rsa: false,
            strange_critical_extension: false,
            extensions: Vec::new(),
            crl_url: "http://crl.test/ACI-EL-ORG.crl".to_owned(),
            ocsp_url: None,
        }
    }

    /// The signer of white lists, as the real ones are.
    #[must_use]
    pub fn signer() -> Self {
        Self {
            usages: vec![ExtendedKeyUsagePurpose::EmailProtection],
            key_usages: vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::ContentCommitment,
            ],
            serial: 0x51,
            rsa: true,
            ..Self::peer("Liste Blanche DRIM-M")
        }
    }
}

impl Igc {
    /// New authorities, valid around `now`; `test` puts TEST in their names.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn new(test: bool, now: OffsetDateTime) -> Result<Self, KitError> {
        Self::with_dates(test, now, (-3_650, 3_650))
    }

    /// As [`Igc::new`], with the validity of the authorities in days from now.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn with_dates(test: bool, now: OffsetDateTime, days: (i64, i64)) -> Result<Self, KitError> {
        Self::build(test, now, days, None)
    }

    /// As [`Igc::new`], of the test environment; the authorities below the root say that its revocation
    /// list is at this address.
    ///
    /// # Errors
    /// When a key or certificate cannot be made.
    pub fn with_point(now: OffsetDateTime, crl_url: &str) -> Result<Self, KitError> {
        Self::build(true, now, (-3_650, 3_650), Some(crl_url))
    }

    fn build(
        test: bool,
        now: OffsetDateTime,
        days: (i64, i64),
        crl_url: Option<&str>,
    ) -> Result<Self, KitError> {
        let prefix = if test { "TEST " } else { "" };
        let mark = if test { "IGC-SANTE TEST" } else { "IGC-SANTE" };
        let params = |name: &str, depth, serial: u8| {
            let mut params = CertificateParams::default();
            params.distinguished_name = authority_name(&format!("{prefix}{name}"), mark);
            params.is_ca = IsCa::Ca(depth);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
            params.not_before = now + Duration::days(days.0);
            params.not_after = now + Duration::days(days.1);
            params
        };
        let name = "AC RACINE IGC-SANTE ELEMENTAIRE";
        let own = params(name, BasicConstraints::Unconstrained, 1);
        let key = key(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = own.self_signed(&key).map_err(failed(name))?;
        let root = Ca {
            certificate,
            issuer: Issuer::new(own, key),
        };
        let below = |name: &str, serial| -> Result<Ca, KitError> {
            let mut own = params(name, BasicConstraints::Constrained(0), serial);
            let uris = crl_url.map(|url| vec![url.to_owned()]);
            own.crl_distribution_points = uris
                .map(|uris| CrlDistributionPoint { uris })
                .into_iter()
                .collect();
            let key = self::key(&PKCS_ECDSA_P256_SHA256)?;
            let certificate = own.signed_by(&key, &root.issuer).map_err(failed(name))?;
            Ok(Ca {
                certificate,
                issuer: Issuer::new(own, key),
            })
        };
        let organisations = below("AC IGC-SANTE ELEMENTAIRE ORGANISATIONS", 2)?;
        let persons = below("AC IGC-SANTE ELEMENTAIRE PERSONNES", 3)?;
        Ok(Self {
            now,
            root,
            organisations,
            persons,
        })
    }

    /// Serial number of the certificate of an authority.
    #[must_use]
    pub fn serial_of(which: Authority) -> u64 {
        match which {
            Authority::Root => 1,
            Authority::Organisations => 2,
            Authority::Persons => 3,
        }
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self, which: Authority) -> &Certificate {
        &self.ca(which).certificate
    }

    /// The key of an authority, in PEM: for programs that sign in its name.
    #[must_use]
    pub fn key_pem(&self, which: Authority) -> String {
        self.ca(which).issuer.key().serialize_pem()
    }

    /// Writes the certificates of some authorities to a folder, in DER.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, folder: &Path, which: &[Authority]) -> Result<Vec<PathBuf>, KitError> {
        fs::create_dir_all(folder).map_err(KitError::io("create", folder))?;
        let mut files = Vec::new();
        for authority in which {
            let path = folder.join(format!("{authority:?}.cer"));
            fs::write(&path, self.certificate(*authority).der())
                .map_err(KitError::io("write", &path))?;
            files.push(path);
        }
        Ok(files)
    }

    /// Issues a certificate.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn leaf(&self, spec: &LeafSpec) -> Result<Leaf, KitError> {
        let key = match spec.rsa {
            true => rsa_key(spec.serial)?,
            false => key(&PKCS_ECDSA_P256_SHA256)?,
        };
        let certificate = self.leaf_for(spec, &key)?;
        Ok(Leaf {
            certificate,
            key,
            serial: spec.serial,
        })
    }

    /// Issues a certificate for whatever key.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn leaf_for(
        &self,
        spec: &LeafSpec,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, KitError> {
        let failed = failed(&spec.common_name);
        let mut params = CertificateParams::default();
        params.distinguished_name = leaf_name(spec)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial(spec.serial)));
        params.not_before = self.now + Duration::days(spec.days.0);
        params.not_after = self.now + Duration::days(spec.days.1);
        params.key_usages.clone_from(&spec.key_usages);
        params.extended_key_usages.clone_from(&spec.usages);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = vec![CrlDistributionPoint {
            uris: vec![spec.crl_url.clone()],
        }];
        if let Some(url) = &spec.ocsp_url {
            params.custom_extensions.push(responder(url));
        }
        for name in &spec.dns_names {
            let name = name.as_str().try_into().map_err(&failed)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        if spec.strange_critical_extension {
            let mut extension =
                CustomExtension::from_oid_content(&[1, 2, 250, 1, 71, 9, 9], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }
        for (oid, content) in &spec.extensions {
            let extension = CustomExtension::from_oid_content(oid, content.clone());
            params.custom_extensions.push(extension);
        }
        params
            .signed_by(key, &self.ca(spec.by).issuer)
            .map_err(failed)
    }

    /// An authority below [`Authority::Organisations`], which its path length forbids, and a
    /// certificate of it.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn forbidden_below(&self, spec: &LeafSpec) -> Result<(Certificate, Leaf), KitError> {
        let failed = failed("below");
        let mut own = CertificateParams::default();
        own.distinguished_name = authority_name("AC SOUS-ORGANISATIONS", "IGC-SANTE TEST");
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        own.not_before = self.now - Duration::days(1);
        own.not_after = self.now + Duration::days(100);
        let key = key(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = own
            .signed_by(&key, &self.organisations.issuer)
            .map_err(&failed)?;
        let below = Issuer::new(own, key);
        let mut params = CertificateParams::default();
        params.distinguished_name = leaf_name(spec)?;
        params.not_before = self.now - Duration::days(1);
        params.not_after = self.now + Duration::days(100);
        let key = self::key(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = Leaf {
            certificate: params.signed_by(&key, &below).map_err(failed)?,
            key,
            serial: 0,
        };
        Ok((certificate, leaf))
    }

    /// The revocation list of an authority, DER.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn crl(&self, which: Authority, spec: &CrlSpec) -> Result<Vec<u8>, KitError> {
        let revoked = spec.revoked.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial(*number)),
            revocation_time: self.now - Duration::days(2),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: self.now + Duration::hours(spec.hours.0),
            next_update: self.now + Duration::hours(spec.hours.1),
            crl_number: SerialNumber::from_slice(&serial(spec.number)),
            issuing_distribution_point: spec.point.clone().map(|(url, scope)| {
                CrlIssuingDistributionPoint {
                    distribution_point: CrlDistributionPoint { uris: vec![url] },
                    scope,
                }
            }),
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.ca(which).issuer);
        Ok(list.map_err(failed("revocation list"))?.der().to_vec())
    }

    fn ca(&self, which: Authority) -> &Ca {
        match which {
            Authority::Root => &self.root,
            Authority::Organisations => &self.organisations,
            Authority::Persons => &self.persons,
        }
    }
}

/// Two organisational units, as the real authorities have.
fn authority_name(common_name: &str, mark: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "FR");
    name.push(DnType::OrganizationName, "ASIP-SANTE");
    name.push(DnType::OrganizationalUnitName, "0002 187512751");
    name.push(DnType::CustomDnType(vec![2, 5, 4, 11]), mark);
    name.push(DnType::CommonName, common_name);
    name
}

fn leaf_name(spec: &LeafSpec) -> Result<DistinguishedName, KitError> {
    let text = |text: &str| -> Result<DnValue, KitError> {
        if spec.printable && text.is_ascii() {
            let printable = text.try_into().map_err(failed(&spec.common_name))?;
            return Ok(DnValue::PrintableString(printable));
        }
        Ok(DnValue::Utf8String(text.to_owned()))
    };
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "FR");
    name.push(DnType::StateOrProvinceName, text(&spec.state)?);
    name.push(
        DnType::OrganizationName,
        text("AGENCE DU NUMERIQUE EN SANTE")?,
    );
    name.push(DnType::OrganizationalUnitName, text(&spec.unit)?);
    if !spec.common_name.is_empty() {
        name.push(DnType::CommonName, text(&spec.common_name)?);
    }
    Ok(name)
}

/// Authority Information Access (RFC 5280 §4.2.2.1) with an OCSP responder.
fn responder(url: &str) -> CustomExtension {
    let element = |tag: u8, content: &[u8]| {
        let mut der = vec![tag, u8::try_from(content.len()).unwrap_or(u8::MAX)];
        der.extend_from_slice(content);
        der
    };
    let ocsp = element(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1]);
    let place = element(0x86, url.as_bytes());
    let description = element(0x30, &[ocsp, place].concat());
    let access = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    CustomExtension::from_oid_content(&access, element(0x30, &description))
}

/// Big endian, as short as it can be, positive.
fn serial(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(7);
    bytes.get(first..).unwrap_or_default().to_vec()
}

/// The RSA key of a serial number: making one takes long, so it is made once in a process.
fn rsa_key(serial: u64) -> Result<KeyPair, KitError> {
    static MADE: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(der) = made.get(&serial) {
        let der = PrivatePkcs8KeyDer::from(der.as_slice());
        return KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)
            .map_err(failed("key"));
    }
    let key = key(&PKCS_RSA_SHA256)?;
    made.insert(serial, key.serialize_der());
    Ok(key)
}

fn key(algorithm: &'static SignatureAlgorithm) -> Result<KeyPair, KitError> {
    KeyPair::generate_for(algorithm).map_err(failed("key"))
}

fn failed(name: &str) -> impl Fn(rcgen::Error) -> KitError {
    let name = name.to_owned();
    move |source| KitError::Certificate {
        name: name.clone(),
        source,
    }
}
