//! Whether a certificate that arrived fits its place: each thing that does not has a refusal of its own.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::trial::trial;
use super::{Allowed, Candidate, InstallError, belongs, current, key_of};
use crate::certs::container::Content;
use crate::certs::facts::Facts;
use crate::certs::inventory::{Finding, Severity, dates, holder};
use crate::certs::place::{Place, Role};
use crate::certs::request::pending_key;
use crate::keys::pem::Secret;
use crate::trust::{Standing, Trust};

/// What a certificate is judged against, besides its place.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// All places.
    pub places: &'a [Place],
    /// The authorities of IGC Santé and their revocation lists, where `[trust]` is configured.
    pub trust: Option<&'a Trust>,
    /// What may differ from the certificate in use.
    pub allowed: Allowed,
    /// The time.
    pub now: OffsetDateTime,
}

/// Checks what a file holds for a place, and tries it. Reads files: blocks.
///
/// # Errors
/// [`InstallError`]: exactly what does not fit.
pub fn check(
    place: &Place,
    content: Content,
    context: &Context<'_>,
) -> Result<Candidate, InstallError> {
    let identity = &place.identity;
    let mut keys = content.keys;
    keys.extend(key_of(&pending_key(&identity.key_file)));
    keys.extend(key_of(&identity.key_file));
    let (leaf, key) = content
        .certificates
        .iter()
        .find_map(|leaf| {
            let fits = |key: &&Secret| belongs(leaf, key);
            let key = keys.iter().find(fits)?.clone_key();
            Some((leaf.clone(), Zeroizing::new(key)))
        })
        .ok_or(InstallError::NoKey)?;
    let facts = Facts::of(&leaf).map_err(|_| InstallError::NoKey)?;
    let chain = ordered(leaf, &facts, &content.certificates);
    judge(place, &facts, &chain, context.now)?;
    if let Some(before) = current(identity) {
        compare(&facts, &before, context.allowed)?;
    }
    if let (true, Some(trust), Some(leaf)) = (place.role.is_igc(), context.trust, chain.first()) {
        stands(trust.standing(leaf, context.now))?;
    }
    for other in context.places.iter().filter(|other| other.id != place.id) {
        let same_certificate =
            current(&other.identity).is_some_and(|f| f.fingerprint == facts.fingerprint);
        let same_key = key_of(&other.identity.key_file)
            .is_some_and(|other| other.secret_der() == key.secret_der());
        if same_certificate || same_key {
            return Err(InstallError::InUse(other.id.clone()));
        }
    }
    trial(&chain, &key, place.host.as_deref()).map_err(InstallError::Trial)?;
    Ok(Candidate { chain, key, facts })
}

/// The leaf, then its issuers as far as the file has them.
fn ordered(
    leaf: CertificateDer<'static>,
    facts: &Facts,
    all: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let known: Vec<(Facts, &CertificateDer<'static>)> = all
        .iter()
        .filter(|certificate| **certificate != leaf)
        .filter_map(|certificate| Some((Facts::of(certificate).ok()?, certificate)))
        .collect();
    let mut chain = vec![leaf];
    let mut issuer = facts.issuer.clone();
    while chain.len() <= known.len() {
        let found = known
            .iter()
            .find(|(facts, _)| facts.common_name.as_deref() == Some(issuer.as_str()));
        let Some((facts, certificate)) = found else {
            break;
        };
        if chain.contains(certificate) {
            break;
        }
        chain.push((*certificate).clone());
        if facts.issuer == issuer {
            break;
        }
        issuer.clone_from(&facts.issuer);
    }
    chain
}

fn judge(
    place: &Place,
    facts: &Facts,
    chain: &[CertificateDer<'_>],
    now: OffsetDateTime,
) -> Result<(), InstallError> {
    if let Some(host) = &place.host
        && !facts.covers(host)
    {
        let found = facts.dns_names.first().or(facts.common_name.as_ref());
        return Err(InstallError::WrongHost {
            found: found.cloned().unwrap_or_else(|| facts.subject.clone()),
            wanted: host.clone(),
        });
    }
    if let Some(wrong) = holder(facts, &place.holder) {
        return Err(InstallError::WrongHolder(wrong.text()));
    }
    let one_name = matches!(place.role, Role::ServSsl | Role::Market);
    let several =
        facts.dns_names.len() > 1 || facts.dns_names.iter().any(|name| name.starts_with("*."));
    if one_name && several {
        return Err(InstallError::SeveralNames);
    }
    let wanted = match place.role {
        Role::PacsClient | Role::OrgAuthCliPsc | Role::OrgAuthCliDmp => "clientAuth",
        // As the ORG_SIGN certificates that are known.
        Role::OrgSign => "emailProtection",
        // What a SERV_SSL certificate carries is not known: one of the two will do.
        _ => "serverAuth",
    };
    let fits = |usage: &String| {
        usage == wanted
            || usage == "anyExtendedKeyUsage"
            || place.role == Role::ServSsl && usage == "clientAuth"
    };
    if !facts.usages.is_empty() && !facts.usages.iter().any(fits) {
        return Err(InstallError::WrongUsage(facts.usages.join(", ")));
    }
    if let Some(finding @ (Finding::Expired(_) | Finding::NotYetValid(_))) =
        dates(facts, place.role, now)
    {
        debug_assert_eq!(finding.severity(), Severity::Critical);
        return Err(InstallError::Dates(finding.text()));
    }
    let ends = chain.iter().skip(1).filter_map(|c| Facts::of(c).ok());
    if ends
        .map(|facts| facts.not_after)
        .any(|end| end < facts.not_after)
    {
        return Err(InstallError::Chain);
    }
    Ok(())
}

fn stands(standing: Standing) -> Result<(), InstallError> {
    match standing {
        // Without a revocation list of today there is nothing to hold against it.
        Standing::Good | Standing::Unknown(_) => Ok(()),
        Standing::Revoked => Err(InstallError::Revoked),
        Standing::Refused(refusal) => Err(InstallError::NotOfAuthority(refusal.in_french())),
    }
}

fn compare(facts: &Facts, before: &Facts, allowed: Allowed) -> Result<(), InstallError> {
    if facts.is_test() != before.is_test() {
        return Err(InstallError::OtherBranch {
            found: facts.issuer.clone(),
            wanted: before.issuer.clone(),
        });
    }
    if let (Some(found), Some(wanted)) = (facts.structure(), before.structure())
        && found != wanted
        && !allowed.other_structure
    {
        return Err(InstallError::OtherStructure {
            found: found.to_string(),
            wanted: wanted.to_string(),
        });
    }
    if facts.not_after < before.not_after {
        return Err(InstallError::EndsEarlier {
            found: facts.not_after.date(),
            wanted: before.not_after.date(),
        });
    }
    Ok(())
}
