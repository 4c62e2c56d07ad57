//! Certificates for tests, made on the spot.

#![allow(clippy::unwrap_used)]

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls_pki_types::CertificateDer;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

/// First instant of every certificate here.
pub const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

/// What a certificate is to look like.
#[derive(Debug, Clone)]
pub struct Profile<'a> {
    pub common_name: &'a str,
    pub unit: Option<&'a str>,
    pub names: &'a [&'a str],
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub days: i64,
    pub issuer: &'a str,
    /// Bytes of an extension that nobody knows, in it and in its issuer.
    pub padding: usize,
}

impl Default for Profile<'_> {
    fn default() -> Self {
        Self {
            common_name: "db.exemple.fr",
            unit: None,
            names: &[],
            usages: Vec::new(),
            days: 1095,
            issuer: "AC IGC-SANTE ELEMENTAIRE ORGANISATIONS",
            padding: 0,
        }
    }
}

/// A certificate of that profile, and the PEM of its key.
pub fn certificate(profile: &Profile<'_>) -> (CertificateDer<'static>, String) {
    let key = KeyPair::generate().unwrap();
    let chain = chain_for(profile, &key);
    (chain.into_iter().next().unwrap(), key.serialize_pem())
}

fn padding(profile: &Profile<'_>) -> Vec<CustomExtension> {
    let oid = [1, 3, 6, 1, 4, 1, 99_999];
    let padding = || CustomExtension::from_oid_content(&oid, vec![0; profile.padding]);
    (profile.padding > 0).then(padding).into_iter().collect()
}

/// A certificate of that profile for a key, and its issuer's.
pub fn chain_for(profile: &Profile<'_>, key: &KeyPair) -> Vec<CertificateDer<'static>> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, profile.issuer);
    authority.not_before = START - Duration::DAY;
    authority.not_after = START + Duration::DAY * 7300;
    authority.custom_extensions = padding(profile);
    let authority_key = KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);

    let names: Vec<String> = profile.names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "FR");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "CENTRE EXEMPLE");
    if let Some(unit) = profile.unit {
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, unit);
    }
    params
        .distinguished_name
        .push(DnType::CommonName, profile.common_name);
    params.extended_key_usages.clone_from(&profile.usages);
    params.custom_extensions = padding(profile);
    params.not_before = START;
    params.not_after = START + Duration::DAY * i32::try_from(profile.days).unwrap();
    let leaf = params.signed_by(key, &issuer).unwrap();
    vec![leaf.der().clone(), authority_certificate.der().clone()]
}
