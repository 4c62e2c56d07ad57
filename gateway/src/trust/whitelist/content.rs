//! What a white list says: the domains of the trust space.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::super::dn::{DistinguishedName, DnError};
use super::signature::instant;
use super::xml::{Document, Id};

/// The version of the form that is read.
const VERSION: &str = "1";
/// Bytes of a label shown to people.
const MAX_LABEL: usize = 512;

/// One DRIMbox of the trust space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Number; several domains of one operator may share it.
    pub identifier: String,
    /// Host name for peers, in lower case.
    pub db_host: String,
    /// Host name of the viewer, in lower case; never a peer.
    pub vi_host: Option<String>,
    /// Operator or editor.
    pub denomination: String,
    /// Subject of the certificate of the DRIMbox.
    pub dn: DistinguishedName,
    /// When the entry was last changed, as the list says.
    pub updated: Option<OffsetDateTime>,
}

/// Why the content of a list is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// Another kind of document.
    #[error("it is no white list: its outermost element is {0:?}")]
    OtherDocument(String),
    /// A form that this version does not read.
    #[error("its form is {0:?}, this version of drimbox reads 1.x: update drimbox")]
    Version(String),
    /// A part that a list has is missing, or there twice.
    #[error("{0:?} is missing, or there more than once")]
    Missing(&'static str),
    /// An entry that names no host.
    #[error("entry {entry}: {value:?} is no host name")]
    Host {
        /// Rank from 1.
        entry: usize,
        /// What stands there.
        value: String,
    },
    /// An entry whose subject cannot be read.
    #[error("entry {entry}: {source}")]
    Dn {
        /// Rank from 1.
        entry: usize,
        /// What is wrong.
        source: DnError,
    },
    /// An entry whose subject is not that of its host.
    #[error("entry {entry}: the common name of the certificate is not {host:?}")]
    OtherName {
        /// Rank from 1.
        entry: usize,
        /// Its `db`.
        host: String,
    },
    /// Two entries for one host.
    #[error("entry {entry}: {host:?} is there twice")]
    Duplicate {
        /// Rank from 1 of the second.
        entry: usize,
        /// The `db` of both.
        host: String,
    },
}

/// The content of a list.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) generated: Option<OffsetDateTime>,
    pub(super) domains: Vec<Domain>,
}

impl Content {
    /// Reads the same tree that was digested.
    pub(super) fn read(document: &Document) -> Result<Self, ContentError> {
        let root = document.root();
        let element = document
            .get(root)
            .ok_or(ContentError::Missing("ListeBlancheDRIM-M"))?;
        if element.local != "ListeBlancheDRIM-M" {
            let name = element.local.chars().take(64).collect();
            return Err(ContentError::OtherDocument(name));
        }
        let version = element.attribute("versionFormat").unwrap_or_default();
        if version.split('.').next() != Some(VERSION) {
            return Err(ContentError::Version(version.chars().take(16).collect()));
        }
        let place = Place {
            document,
            namespace: &element.namespace,
        };
        let generated = place.text(root, "DateDeGeneration");
        let list = place
            .only(root, "ListeDomaines")?
            .ok_or(ContentError::Missing("ListeDomaines"))?;
        let mut domains = Vec::new();
        let mut hosts = HashMap::new();
        for (rank, (id, entry)) in document.children(list).enumerate() {
            let entry_rank = rank + 1;
            if !entry.is(&element.namespace, "Domaine") {
                return Err(ContentError::Missing("Domaine"));
            }
            let domain = place.domain(id, entry_rank)?;
            if hosts.insert(domain.db_host.clone(), entry_rank).is_some() {
                return Err(ContentError::Duplicate {
                    entry: entry_rank,
                    host: domain.db_host,
                });
            }
            domains.push(domain);
        }
        Ok(Self {
            generated: generated.ok().flatten().and_then(|text| instant(&text)),
            domains,
        })
    }
}

struct Place<'a> {
    document: &'a Document,
    namespace: &'a str,
}

impl Place<'_> {
    fn domain(&self, id: Id, entry: usize) -> Result<Domain, ContentError> {
        let db = self.text(id, "db")?.ok_or(ContentError::Missing("db"))?;
        let db_host = host(&db, entry)?;
        let vi = self.text(id, "vi")?.filter(|vi| !vi.is_empty());
        let vi_host = vi.map(|vi| host(&vi, entry)).transpose()?;
        let dn = self
            .text(id, "DNCertificatOperateur")?
            .ok_or(ContentError::Missing("DNCertificatOperateur"))?;
        let dn: DistinguishedName = dn
            .parse()
            .map_err(|source| ContentError::Dn { entry, source })?;
        let named = dn.common_name().map(|name| name.trim().to_lowercase());
        if named.as_ref() != Some(&db_host) {
            return Err(ContentError::OtherName {
                entry,
                host: db_host,
            });
        }
        let label = |name| -> Result<String, ContentError> {
            let text = self.text(id, name)?.unwrap_or_default();
            Ok(text
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_LABEL)
                .collect())
        };
        let updated = self.text(id, "DateMAJ")?;
        Ok(Domain {
            identifier: label("Identifiant")?,
            denomination: label("Denomination")?,
            updated: updated.and_then(|text| instant(&text)),
            db_host,
            vi_host,
            dn,
        })
    }

    /// The text of a child, without blanks around it; `None` when there is no such child.
    fn text(&self, of: Id, local: &'static str) -> Result<Option<String>, ContentError> {
        let Some(id) = self.only(of, local)? else {
            return Ok(None);
        };
        let text = self.document.text(id).ok_or(ContentError::Missing(local))?;
        Ok(Some(text.trim().to_owned()))
    }

    fn only(&self, of: Id, local: &'static str) -> Result<Option<Id>, ContentError> {
        let mut found = self
            .document
            .children(of)
            .filter(|(_, e)| e.is(self.namespace, local));
        let first = found.next().map(|(id, _)| id);
        match found.next() {
            None => Ok(first),
            Some(_) => Err(ContentError::Missing(local)),
        }
    }
}

/// A host name in lower case (RFC 1123 §2.1), with a dot, and no address.
fn host(text: &str, entry: usize) -> Result<String, ContentError> {
    let name = text.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let fits = name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && name.parse::<std::net::IpAddr>().is_err();
    if fits {
        return Ok(name);
    }
    Err(ContentError::Host {
        entry,
        value: text.chars().take(64).collect(),
    })
}
