//! For which place a certificate arrived: whoever imports it need not say.

use rustls_pki_types::CertificateDer;

use super::check::serves;
use super::{belongs, current, key_of};
use crate::certs::container::Content;
use crate::certs::facts::Facts;
use crate::certs::inventory::holder;
use crate::certs::place::{Place, Role};
use crate::certs::request::pending_key;
use crate::trust::is_issued_by;

/// Why no place was found.
#[derive(Debug)]
pub struct NotFound<'a> {
    /// Whose certificate it is; empty when it cannot be read.
    pub subject: String,
    /// Places that it may be for; none when nothing here has its key or its name.
    pub candidates: Vec<&'a Place>,
}

/// The place of what a file holds: where the key of a request that waits is that of a certificate of the file, else the
/// key in use, else, when the file has a key of its own, the place whose name or holder the certificate is for. The first
/// of these that knows any place decides. Reads files: blocks.
///
/// # Errors
/// [`NotFound`] when that is no place, or several.
pub fn find<'a>(content: &Content, places: &'a [Place]) -> Result<&'a Place, NotFound<'a>> {
    let has_key_of = |file: &std::path::Path| {
        key_of(file).is_some_and(|key| {
            let mut all = content.certificates.iter();
            all.any(|certificate| belongs(certificate, &key))
        })
    };
    let among = |fits: &dyn Fn(&Place) -> bool| -> Vec<&'a Place> {
        places.iter().filter(|place| fits(place)).collect()
    };
    let mut candidates = among(&|place| has_key_of(&pending_key(&place.identity.key_file)));
    if candidates.is_empty() {
        candidates = among(&|place| has_key_of(&place.identity.key_file));
    }
    let own = content.certificates.iter().find(|certificate| {
        let mut keys = content.keys.iter();
        keys.any(|key| belongs(certificate, key))
    });
    if candidates.is_empty()
        && let Some(facts) = own.and_then(|own| Facts::of(own).ok())
    {
        candidates = among(&|place| is_for(&facts, place));
    }
    if let [place] = candidates.as_slice() {
        return Ok(place);
    }
    let leaf = own.or_else(|| leaf(&content.certificates));
    let facts = leaf.and_then(|leaf| Facts::of(leaf).ok());
    Err(NotFound {
        subject: facts.map(|facts| facts.subject).unwrap_or_default(),
        candidates,
    })
}

/// Whether the subject of a certificate is that of a place: the one of the configuration, else of the one in use.
fn is_for(facts: &Facts, place: &Place) -> bool {
    if !serves(place.role, facts) {
        return false;
    }
    if let Some(host) = &place.host {
        let is_named = place.role != Role::ServSsl || facts.common_name.as_ref() == Some(host);
        return is_named && facts.covers(host);
    }
    if place.holder.common_name.is_some() || place.holder.unit.is_some() {
        return holder(facts, place).is_none();
    }
    current(&place.identity).is_some_and(|before| before.subject == facts.subject)
}

/// The certificate of the file that issued none of the others.
fn leaf<'a>(all: &'a [CertificateDer<'static>]) -> Option<&'a CertificateDer<'static>> {
    let issued_none = |one: &&CertificateDer<'static>| {
        let mut others = all.iter().filter(|other| other != one);
        !others.any(|other| is_issued_by(other, one))
    };
    all.iter().find(issued_none).or(all.first())
}
