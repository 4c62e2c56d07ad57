//! Revocation of certificates of other authorities than those of IGC Santé: of the `vi` names, of Pro Santé Connect, of the
//! centre. Each names the list of its issuer (RFC 5280 §4.2.1.13), often one of many parts.
//!
//! For people alone: nobody is let in or refused by it. [`NamedLists::refresh`] keeps the last good list of each
//! address, one file each; [`NamedLists::standing`] reads them, also from another process.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::anchors::{Authority, distribution_points};
use super::crl::{Crl, CrlError, MAX_BYTES, Said};
use super::http::{Answer, Downloads, FetchError, Validators};
use super::own::{Standing, is_issued_by};
use super::{disk, points};
use crate::config::HttpProxy;

/// Age at which a list is fetched again. Browsers' authorities publish one at least each week (CA/Browser Forum, Baseline
/// Requirements, §4.9.7), most of them each few hours.
const REFRESH: Duration = Duration::from_secs(6 * 3_600);
/// Age at which a list that no certificate names any more is forgotten; one that cannot be read for a while keeps its own.
const FORGET: Duration = Duration::from_secs(30 * 86_400);
/// Addresses that are asked.
const MAX_ADDRESSES: usize = 64;
/// Those asked at once.
const AT_ONCE: usize = 4;
/// Certificates of which it is remembered what their list says.
const REMEMBERED: usize = 1_024;

/// Why there is no newer list of an address. The text names it.
#[derive(Debug, thiserror::Error)]
pub enum NamedListError {
    /// It was not fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not to be used.
    #[error("{url}: the revocation list cannot be used: {reason}")]
    Refused {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It could not be kept.
    #[error("{url}: the revocation list cannot be kept: {source}")]
    Disk {
        /// The address.
        url: String,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// The lists that certificates name. Clones share what they have read.
#[derive(Debug, Clone)]
pub struct NamedLists {
    folder: PathBuf,
    proxy: Option<HttpProxy>,
    /// What the lists on the disk say.
    read: Arc<Mutex<HashMap<Question, Verdict>>>,
}

/// A certificate whose list is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The certificate, and others among which its issuer is.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether its list is on the Internet, and not in the centre's own network.
    pub outside: bool,
}

/// A certificate, and a list as it stands on the disk.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Question {
    certificate: [u8; 32],
    list: PathBuf,
    written: SystemTime,
    length: u64,
}

#[derive(Debug, Clone, Copy)]
struct Verdict {
    said: Said,
    next_update: UnixTime,
}

/// A certificate, and what is asked about it.
#[derive(Clone)]
struct Named {
    fingerprint: [u8; 32],
    serial: Vec<u8>,
    issuer: Arc<Authority>,
    /// Names of its distribution points, each a GeneralName in DER.
    points: Vec<Vec<u8>>,
    urls: Vec<String>,
}

impl NamedLists {
    /// Those in a folder, which need not be there; what is on the Internet is fetched through `proxy`.
    #[must_use]
    pub fn new(folder: PathBuf, proxy: Option<HttpProxy>) -> Self {
        Self {
            folder,
            proxy,
            read: Arc::default(),
        }
    }

    /// How a certificate stands, the first of `chain`; its issuer is looked for among the others, and only then among
    /// `known`. By the lists kept: reads files, nothing is fetched.
    #[must_use]
    pub fn standing(
        &self,
        chain: &[CertificateDer<'_>],
        known: impl FnOnce() -> Vec<CertificateDer<'static>>,
        now: OffsetDateTime,
    ) -> Standing {
        let named = match Named::of(chain, known) {
            Ok(named) => named,
            Err(why) => return Standing::Unknown(why.to_owned()),
        };
        let now = unix(now);
        let mut doubt = "sa liste de révocation n'est pas là : pas encore lue, injoignable ou refusée ; le journal du \
                         service le dit"
            .to_owned();
        let mut is_good = false;
        for url in &named.urls {
            let Some(verdict) = self.verdict(url, &named, now) else {
                continue;
            };
            match verdict.said {
                // Revoked stays revoked, however old the list.
                Said::Revoked => return Standing::Revoked,
                Said::Good if verdict.is_in_force(now) => is_good = true,
                Said::Good => {
                    doubt =
                        format!("sa liste de révocation est périmée : vérifier l'accès à {url}");
                }
                Said::Nothing => {
                    doubt = format!("la liste de {url} ne parle pas de ce certificat");
                }
            }
        }
        match is_good {
            true => Standing::Good,
            false => Standing::Unknown(doubt),
        }
    }

    /// Fetches the lists that certificates name, those which are due at `now`, and forgets those that none has named for
    /// long. Each address that was asked, with what became of it.
    pub async fn refresh(
        &self,
        wanted: Vec<Wanted>,
        known: Vec<CertificateDer<'static>>,
        now: OffsetDateTime,
    ) -> Vec<(String, Result<(), NamedListError>)> {
        let lists = self.clone();
        let due = tokio::task::spawn_blocking(move || lists.due(&wanted, &known, now)).await;
        let fetching = due.unwrap_or_default().into_iter().map(async |due| {
            let outcome = self.fetch(&due, now).await;
            (due.url, outcome)
        });
        stream::iter(fetching)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    fn due(
        &self,
        wanted: &[Wanted],
        known: &[CertificateDer<'static>],
        now: OffsetDateTime,
    ) -> Vec<Due> {
        let mut all = BTreeMap::new();
        for one in wanted {
            let Ok(named) = Named::of(&one.chain, || known.to_vec()) else {
                continue;
            };
            for url in &named.urls {
                if all.len() < MAX_ADDRESSES {
                    let due = Due {
                        url: url.clone(),
                        named: named.clone(),
                        outside: one.outside,
                    };
                    all.insert(self.path(url, &named), due);
                }
            }
        }
        self.forget_others(&all, now);
        let at = unix(now);
        let in_force = |due: &Due| {
            let verdict = self.verdict(&due.url, &due.named, at);
            verdict.is_some_and(|verdict| verdict.is_in_force(at))
        };
        all.into_iter()
            .filter(|(path, due)| !(is_younger(path, REFRESH, now) && in_force(due)))
            .map(|(_, due)| due)
            .collect()
    }

    async fn fetch(&self, due: &Due, now: OffsetDateTime) -> Result<(), NamedListError> {
        let proxy = self.proxy.as_ref().filter(|_| due.outside);
        let downloads = Downloads::new(RootCertStore::empty(), proxy);
        let downloads = downloads.map_err(|error| FetchError::Unreachable {
            url: due.url.clone(),
            reason: error.to_string(),
        })?;
        let anything = Validators::default();
        let answer = downloads.get(&due.url, MAX_BYTES, &anything).await?;
        let Answer::Document(bytes, _) = answer else {
            return Ok(());
        };
        let (lists, of) = (self.clone(), due.clone());
        let kept = move || lists.keep(&of.url, &of.named, &bytes, unix(now));
        // Long lists take a while: not on a thread that serves.
        let kept = tokio::task::spawn_blocking(kept).await;
        kept.unwrap_or_else(|error| Err(refused(&due.url, error)))
    }

    /// Keeps a list that the issuer of a certificate signed. One that is older than the one there is no fault while that
    /// one is in force: caches hand such out.
    fn keep(
        &self,
        url: &str,
        named: &Named,
        bytes: &Bytes,
        now: UnixTime,
    ) -> Result<(), NamedListError> {
        let list = named.read(bytes, now).map_err(|error| match error {
            CrlError::UnknownIssuer => {
                refused(url, "another authority than the certificate's issued it")
            }
            error => refused(url, error),
        })?;
        if let Some(before) = self.kept(url, named, now)
            && !list.may_replace(&before)
        {
            return match before.is_expired_at(now) {
                true => Err(refused(url, CrlError::Older)),
                false => Ok(()),
            };
        }
        let failed = |source| NamedListError::Disk {
            url: url.to_owned(),
            source,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        disk::write(&self.path(url, named), bytes).map_err(failed)
    }

    /// What the list kept of an address says of a certificate; `None` without one that its issuer signed.
    fn verdict(&self, url: &str, named: &Named, now: UnixTime) -> Option<Verdict> {
        let list = self.path(url, named);
        let found = fs::metadata(&list).ok()?;
        let question = Question {
            certificate: named.fingerprint,
            list,
            written: found.modified().ok()?,
            length: found.len(),
        };
        if let Some(verdict) = self.read.lock().get(&question) {
            return Some(*verdict);
        }
        let list = self.kept(url, named, now)?;
        let points: Vec<&[u8]> = named.points.iter().map(Vec::as_slice).collect();
        let verdict = Verdict {
            said: list.says(&named.serial, false, &points),
            next_update: list.next_update,
        };
        let mut read = self.read.lock();
        if read.len() >= REMEMBERED {
            read.clear();
        }
        read.insert(question, verdict);
        Some(verdict)
    }

    /// The list kept of an address, when the issuer of this certificate signed it.
    fn kept(&self, url: &str, named: &Named, now: UnixTime) -> Option<Crl> {
        let bytes = disk::read(&self.path(url, named), MAX_BYTES)
            .ok()
            .flatten()?;
        named.read(&bytes, now).ok()
    }

    /// Removes what is not among these, once it is old; also what a crash left of a file that was being written.
    fn forget_others(&self, named: &BTreeMap<PathBuf, Due>, now: OffsetDateTime) {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for path in files.map(|entry| entry.path()) {
            if !named.contains_key(&path) && !is_younger(&path, FORGET, now) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Several authorities may have the same address.
    fn path(&self, url: &str, named: &Named) -> PathBuf {
        let digest = Sha256::new()
            .chain_update(Sha256::digest(&named.issuer.spki))
            .chain_update(url)
            .finalize();
        let name = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
        let name: String = name.collect();
        self.folder.join(name).with_extension("crl")
    }
}

/// A list to be fetched.
#[derive(Clone)]
struct Due {
    url: String,
    named: Named,
    outside: bool,
}

impl Verdict {
    fn is_in_force(&self, now: UnixTime) -> bool {
        now < self.next_update
    }
}

impl Named {
    /// # Errors
    /// Why nothing can be asked about it, in French.
    fn of(
        chain: &[CertificateDer<'_>],
        known: impl FnOnce() -> Vec<CertificateDer<'static>>,
    ) -> Result<Self, &'static str> {
        let unreadable = "le certificat est illisible";
        let (certificate, others) = chain.split_first().ok_or(unreadable)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| unreadable)?;
        let mut urls = distribution_points(&parsed);
        urls.retain(|url| points::is_plain(url));
        if urls.is_empty() {
            return Err("il ne nomme pas d'adresse de liste de révocation");
        }
        let issued = |other: &CertificateDer<'_>| is_issued_by(certificate, other);
        let beside = others.iter().find(|other| issued(other));
        let issuer = beside.map(|issuer| issuer.clone().into_owned());
        let issuer = issuer.or_else(|| known().into_iter().find(|other| issued(other)));
        let issuer = issuer.ok_or("le certificat de son émetteur n'est pas connu")?;
        let issuer =
            Authority::parse(issuer).map_err(|_| "le certificat de son émetteur est illisible")?;
        let names = points::names(&parsed).into_iter();
        Ok(Self {
            fingerprint: Sha256::digest(certificate).into(),
            serial: parsed.raw_serial().to_vec(),
            issuer: Arc::new(issuer),
            points: names.map(<[u8]>::to_vec).collect(),
            urls,
        })
    }

    fn read(&self, list: &[u8], now: UnixTime) -> Result<Crl, CrlError> {
        let known = crate::net::tls::provider().signature_verification_algorithms;
        Crl::parse(list, std::slice::from_ref(&self.issuer), &known, now)
    }
}

fn refused(url: &str, reason: impl ToString) -> NamedListError {
    NamedListError::Refused {
        url: url.to_owned(),
        reason: reason.to_string(),
    }
}

/// A file that says it was written later than `now` is not: the clock was set back.
fn is_younger(path: &Path, than: Duration, now: OffsetDateTime) -> bool {
    let written = fs::metadata(path).and_then(|file| file.modified());
    let age = written.map(|written| SystemTime::from(now).duration_since(written));
    matches!(age, Ok(Ok(age)) if age < than)
}

fn unix(at: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(at.unix_timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
        CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose, RevokedCertParams, SerialNumber,
    };
    use tempfile::TempDir;
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
    const URL: &str = "http://crl.example/1.crl";

    struct Web {
        issuer: Issuer<'static, KeyPair>,
        certificate: CertificateDer<'static>,
    }

    impl Web {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::KeyCertSign];
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(DnType::CommonName, "AC du Web");
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap().der().clone();
            let issuer = Issuer::new(params, key);
            Self {
                issuer,
                certificate,
            }
        }

        /// Certificate 7, which names these addresses, and that of its issuer.
        fn chain(&self, urls: &[&str]) -> Vec<CertificateDer<'static>> {
            let mut params = CertificateParams::new(vec!["vi.exemple.fr".to_owned()]).unwrap();
            params.serial_number = Some(SerialNumber::from(7));
            params.crl_distribution_points = urls
                .iter()
                .map(|url| CrlDistributionPoint {
                    uris: vec![(*url).to_owned()],
                })
                .collect();
            let key = KeyPair::generate().unwrap();
            let leaf = params.signed_by(&key, &self.issuer).unwrap();
            vec![leaf.der().clone(), self.certificate.clone()]
        }

        /// List `number` of seven days, with these serial numbers, for the point of that name.
        fn list(&self, number: u64, revoked: &[u64], point: Option<&str>) -> Bytes {
            let params = CertificateRevocationListParams {
                this_update: START,
                next_update: START + time::Duration::days(7),
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: point.map(|url| CrlIssuingDistributionPoint {
                    distribution_point: CrlDistributionPoint {
                        uris: vec![url.to_owned()],
                    },
                    scope: Some(CrlScope::UserCertsOnly),
                }),
                revoked_certs: revoked
                    .iter()
                    .map(|serial| RevokedCertParams {
                        serial_number: SerialNumber::from(*serial),
                        revocation_time: START,
                        reason_code: None,
                        invalidity_date: None,
                    })
                    .collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            Bytes::from(params.signed_by(&self.issuer).unwrap().der().to_vec())
        }
    }

    fn at(day: i64) -> OffsetDateTime {
        START + time::Duration::days(day)
    }

    fn doubt(standing: Standing) -> String {
        match standing {
            Standing::Unknown(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_certificate_stands_as_the_list_that_it_names_says() {
        let (web, dir) = (Web::new(), TempDir::new().unwrap());
        let lists = NamedLists::new(dir.path().join("revocation"), None);
        let chain = web.chain(&["ldap://crl.example/1", URL]);
        let named = Named::of(&chain, Vec::new).unwrap();
        let take = |list: &Bytes| lists.keep(URL, &named, list, unix(at(1)));
        let standing = |day| lists.standing(&chain, Vec::new, at(day));

        assert!(doubt(standing(1)).contains("pas encore lue"));
        take(&web.list(1, &[8], Some("http://crl.example/2.crl"))).unwrap();
        assert!(doubt(standing(1)).contains("ne parle pas"));
        take(&web.list(2, &[8], Some(URL))).unwrap();
        assert_eq!(standing(1), Standing::Good);
        assert!(doubt(standing(8)).contains("périmée"));
        take(&web.list(3, &[7], Some(URL))).unwrap();
        assert_eq!(standing(1), Standing::Revoked);
        assert_eq!(standing(8), Standing::Revoked, "however old the list");

        // A cache that lags behind.
        take(&web.list(2, &[], Some(URL))).unwrap();
        assert_eq!(standing(1), Standing::Revoked);
        let late = lists.keep(URL, &named, &web.list(2, &[], Some(URL)), unix(at(8)));
        let late = late.unwrap_err().to_string();
        assert!(late.contains("older"), "{late}");
    }

    #[test]
    fn a_list_of_another_authority_is_not_kept() {
        let (web, dir) = (Web::new(), TempDir::new().unwrap());
        let lists = NamedLists::new(dir.path().to_owned(), None);
        let chain = web.chain(&[URL]);
        let named = Named::of(&chain, Vec::new).unwrap();
        // Another key under the same name.
        let foreign = Web::new().list(1, &[7], None);
        assert!(lists.keep(URL, &named, &foreign, unix(at(1))).is_err());
        assert!(
            lists
                .keep(URL, &named, &Bytes::from("x"), unix(at(1)))
                .is_err()
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // Nor believed, should it be in the folder.
        fs::write(lists.path(URL, &named), &foreign).unwrap();
        assert!(doubt(lists.standing(&chain, Vec::new, at(1))).contains("pas encore lue"));
    }

    #[test]
    fn two_authorities_of_one_address_have_a_list_each() {
        let (one, other, dir) = (Web::new(), Web::new(), TempDir::new().unwrap());
        let lists = NamedLists::new(dir.path().to_owned(), None);
        for (web, revoked) in [(&one, [7]), (&other, [8])] {
            let chain = web.chain(&[URL]);
            let named = Named::of(&chain, Vec::new).unwrap();
            lists
                .keep(URL, &named, &web.list(1, &revoked, None), unix(at(1)))
                .unwrap();
        }
        let standing = |web: &Web| lists.standing(&web.chain(&[URL]), Vec::new, at(1));
        assert_eq!(standing(&one), Standing::Revoked);
        assert_eq!(standing(&other), Standing::Good);
    }

    #[test]
    fn without_address_or_issuer_it_cannot_be_told_and_why_is_said() {
        let (web, dir) = (Web::new(), TempDir::new().unwrap());
        let lists = NamedLists::new(dir.path().to_owned(), None);
        for urls in [
            &[][..],
            &["ldap://crl.example/1", "http://u:p@crl.example/"],
        ] {
            let said = doubt(lists.standing(&web.chain(urls), Vec::new, at(1)));
            assert!(said.contains("ne nomme pas d'adresse"), "{said}");
        }
        let alone = web.chain(&[URL]).into_iter().take(1).collect::<Vec<_>>();
        assert!(doubt(lists.standing(&alone, Vec::new, at(1))).contains("émetteur"));
        // An authority of the configuration.
        let known = || vec![web.certificate.clone()];
        assert!(doubt(lists.standing(&alone, known, at(1))).contains("pas encore lue"));
    }

    #[test]
    fn an_address_is_due_when_its_list_is_missing_old_or_over_and_forgotten_when_no_longer_named() {
        let (web, dir) = (Web::new(), TempDir::new().unwrap());
        let lists = NamedLists::new(dir.path().to_owned(), None);
        let chain = web.chain(&[URL]);
        let named = Named::of(&chain, Vec::new).unwrap();
        let wanted = [Wanted {
            chain,
            outside: true,
        }];
        let due = |wanted: &[Wanted], now| lists.due(wanted, &[], now).len();
        let path = lists.path(URL, &named);
        let write = |at: OffsetDateTime| {
            let list = web.list(1, &[], None);
            lists.keep(URL, &named, &list, unix(START)).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at.into()).unwrap();
        };
        assert_eq!(due(&wanted, START), 1, "missing");
        write(START);
        assert_eq!(due(&wanted, START + time::Duration::hours(5)), 0);
        assert_eq!(due(&wanted, START + time::Duration::hours(7)), 1, "old");
        assert_eq!(
            due(&wanted, START - time::Duration::hours(1)),
            1,
            "the clock was set back"
        );
        write(at(7));
        assert_eq!(due(&wanted, at(7)), 1, "over");
        write(START);
        assert_eq!(due(&[], at(29)), 0);
        assert!(path.exists(), "what cannot be read now may come back");
        assert_eq!(due(&wanted, at(31)), 1);
        assert!(path.exists());
        assert_eq!(due(&[], at(31)), 0);
        assert!(!path.exists(), "named by none for long");
    }
}
