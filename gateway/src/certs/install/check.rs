//! Whether a certificate that arrived fits its place: each thing that does not has a refusal of its own.

use acme::UnixTime;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::trial::trial;
use super::{Allowed, Candidate, InstallError, belongs, current, key_of};
use crate::certs::container::Content;
use crate::certs::facts::Facts;
use crate::certs::inventory::{Finding, Judges, Severity, dates, holder};
use crate::certs::market;
use crate::certs::place::{Place, Role};
use crate::certs::request::{pending_key, structures_of};
use crate::keys::pem::Secret;
use crate::net;
use crate::trust::{Standing, is_issued_by};

/// What a certificate is judged against, besides its place.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// All places.
    pub places: &'a [Place],
    /// Who says whether it is revoked, and of IGC Santé whether it is of the authorities of `[trust]`.
    pub judges: &'a Judges,
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
    let chain = ordered(leaf, &content.certificates)?;
    judge(place, &facts, &chain, context.now)?;
    if !context.allowed.other_structure {
        of_its_kind(place.role, &facts)?;
    }
    if let Some(before) = current(identity) {
        compare(&facts, &before, context.allowed)?;
    }
    let standing = context.judges.standing(place.role, &chain, context.now);
    standing.map_or(Ok(()), stands)?;
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
    if let (Role::Market, Some(host)) = (place.role, &place.host) {
        as_a_browser(host, &chain, &key, context.now)?;
    }
    Ok(Candidate { chain, key, facts })
}

/// The leaf, then its issuers as far as the file has them, each of which signed the one before it.
///
/// # Errors
/// [`InstallError::Chain`] when the file has one of the issuer's name that did not.
fn ordered(
    leaf: CertificateDer<'static>,
    all: &[CertificateDer<'static>],
) -> Result<Vec<CertificateDer<'static>>, InstallError> {
    let mut chain = vec![leaf];
    while let Some(last) = chain.last() {
        let others = || all.iter().filter(|one| !chain.contains(one));
        if let Some(issuer) = others().find(|one| is_issued_by(last, one)) {
            let issuer = issuer.clone();
            chain.push(issuer);
            continue;
        }
        let name = Facts::of(last).ok().map(|facts| facts.issuer);
        let is_named = |one: &CertificateDer<'_>| {
            Facts::of(one).ok().map(|f| f.common_name) == Some(name.clone())
        };
        if !is_issued_by(last, last) && others().any(is_named) {
            return Err(InstallError::Chain);
        }
        break;
    }
    Ok(chain)
}

/// A handshake whose client believes the topmost certificate of the chain alone, and verifies the others.
fn as_a_browser(
    host: &str,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    now: OffsetDateTime,
) -> Result<(), InstallError> {
    if chain.len() < 2 {
        return Err(InstallError::NoIssuer);
    }
    let failed = |error: &dyn std::fmt::Display| InstallError::Trial(error.to_string());
    let certified = CertifiedKey::from_der(chain.to_vec(), key.clone_key(), &net::tls::provider());
    let certified = certified.map_err(|error| failed(&error))?;
    let now = UnixTime::from_timestamp(now.unix_timestamp());
    market::installer::handshake(host, &certified, now).map_err(|error| failed(&error))
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
    if let Some(wrong) = holder(facts, place) {
        return Err(InstallError::WrongHolder(wrong.text()));
    }
    let one_name = matches!(place.role, Role::ServSsl | Role::Market);
    let several =
        facts.dns_names.len() > 1 || facts.dns_names.iter().any(|name| name.starts_with("*."));
    if one_name && several {
        return Err(InstallError::SeveralNames);
    }
    if !serves(place.role, facts) {
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

/// Whether the usages of a certificate allow what a role needs; one without any serves for everything.
pub(super) fn serves(role: Role, facts: &Facts) -> bool {
    let wanted = match role {
        Role::PacsClient
        | Role::Syslog
        | Role::OrgAuthCliPsc
        | Role::OrgAuthCliProxy
        | Role::OrgAuthCliDmp => "clientAuth",
        // As the ORG_SIGN certificates that are known.
        Role::OrgSign => "emailProtection",
        // What a SERV_SSL certificate carries is not known: one of the two will do.
        _ => "serverAuth",
    };
    let fits = |usage: &String| {
        usage == wanted
            || usage == "anyExtendedKeyUsage"
            || role == Role::ServSsl && usage == "clientAuth"
    };
    facts.usages.is_empty() || facts.usages.iter().any(fits)
}

/// What a certificate is compared with that replaces none: the kind of structure that its role is given to.
fn of_its_kind(role: Role, facts: &Facts) -> Result<(), InstallError> {
    let (Some(kinds), Some(found)) = (structures_of(role), facts.structure()) else {
        return Ok(());
    };
    if kinds.contains(&found.kind()) {
        return Ok(());
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    Err(InstallError::OtherKind {
        role,
        found: found.to_string(),
        wanted: names.join(" ou "),
    })
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
