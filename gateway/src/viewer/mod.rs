//! From the link of a report to the exam page.
//!
//! The link becomes a record on the server that a random cookie stands for, and the browser goes on to a
//! clean address. Whoever proves who they are gets the one exam that the link names; [`crate::access`]
//! decides, for the link and for every image. The page asks [`api`] what it shows, and DICOMweb of its own
//! host for the images.

mod api;
mod archive;
pub mod assets;
mod handlers;
mod links;
mod pages;
pub mod patient;
mod report;
mod throttle;
pub mod weasis;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub use handlers::{images, router};

use crate::access::professional::{Professional, Situation};
use crate::access::{Comer, Granted, LinkGate, Through, Visitor, Visitors};
use crate::audit::Audit;
use crate::dicom::compose::Reading;
use crate::dicomweb::service::Texts;
use crate::dicomweb::trail::Trail;
use crate::login::{Login, SessionView};
use crate::source::Exams;
use crate::store::{AttemptStore, StoreError};
use crate::studies::Studies;
use links::Links;
use patient::{CodeSender, PatientSessions};
use throttle::Throttle;
use weasis::{Shown, Tickets};

/// How often sessions of patients that are over are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// What the exam page is made of.
pub struct Parts {
    /// Who comes in, and the words of the pages.
    pub login: Arc<Login>,
    /// Decides.
    pub gate: LinkGate,
    /// Who saw what.
    pub audit: Audit,
    /// What was looked at.
    pub trail: Arc<Trail>,
    /// What is published, with its reports.
    pub exams: Exams,
    /// Sessions of patients.
    pub patients: Arc<PatientSessions>,
    /// How one-time codes leave, where the gate of patients has them.
    pub codes: Option<CodeSender>,
    /// Whether the exam may be downloaded.
    pub download: bool,
    /// Whether the INS of the KOS is added to the images that are downloaded, as a retrieval does.
    pub add_ins: bool,
    /// What professionals open in Weasis; `None` where it is not offered.
    pub weasis: Option<Arc<Tickets>>,
    /// Where refused links are counted.
    pub attempts: Arc<dyn AttemptStore>,
    /// Each `vi` name with its PACS.
    pub hosts: HashMap<Arc<str>, ViewedPacs>,
}

/// The PACS behind a `vi` name.
pub struct ViewedPacs {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its images.
    pub studies: Arc<Studies>,
    /// How its texts are to be read.
    pub texts: Texts,
}

impl ViewedPacs {
    fn reading(&self) -> Reading<'_> {
        Reading {
            fallback: self.texts.fallback,
            replaces: self.texts.replaces.as_ref(),
        }
    }
}

/// Links, and the page they lead to.
pub struct Viewer {
    parts: Parts,
    links: Links,
    throttle: Throttle,
    downloads: Mutex<archive::Downloads>,
}

impl Viewer {
    /// No link is open yet; what was refused before the start still counts. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the counters cannot be read.
    pub fn new(parts: Parts) -> Result<Self, StoreError> {
        let throttle = Throttle::open(Arc::clone(&parts.attempts), parts.login.now())?;
        Ok(Self {
            parts,
            links: Links::default(),
            throttle,
            downloads: Mutex::default(),
        })
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").finish_non_exhaustive()
    }
}

/// Everybody who comes in on a `vi` name: patients, and professionals.
#[derive(Debug)]
pub struct Comers {
    /// Professionals.
    pub login: Arc<Login>,
    /// Patients.
    pub patients: Arc<PatientSessions>,
    /// Weasis, in the name of professionals; `None` where it is not offered.
    pub weasis: Option<Arc<Tickets>>,
}

impl Comers {
    /// Ends sessions of patients that are over and writes uses down, forgets what Weasis was given, until `stop`.
    pub async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.sweep().await,
            }
        }
    }

    async fn sweep(&self) {
        let now = self.login.now();
        self.patients.sweep(now).await;
        if let Some(weasis) = &self.weasis {
            let sessions = self.login.sessions();
            let lives = |session, host: &str| sessions.behind(session, host).is_some();
            weasis.sweep(now, lives).await;
        }
    }
}

impl Visitors for Comers {
    fn visitor(&self, headers: &HeaderMap, host: &str) -> Option<Visitor> {
        // Weasis has no cookies. Where a key is shown, nothing else counts.
        match weasis::shown(headers) {
            Shown::Nothing => {}
            Shown::Unreadable => return None,
            Shown::Key(key) => {
                return weasis::visitor(&self.login, self.weasis.as_ref()?, &key, host);
            }
        }
        // A browser has one of the two: opening an exam one way ends what was open the other.
        let patient = self.patients.current(headers, host, self.login.now(), true);
        if let Some(view) = patient {
            return Some(view.visitor());
        }
        let view = self.login.sessions().current(headers, host)?;
        Some(professional(&view))
    }
}

/// What `access` is told of a professional.
fn professional(view: &SessionView) -> Visitor {
    Visitor {
        session: view.key.bytes(),
        who: comer(&view.professional, &view.situation),
        granted: granted(view.data.as_deref()),
        through: Through::Page,
    }
}

fn comer(professional: &Professional, situation: &Situation) -> Comer {
    Comer::Professional {
        national_id: professional.national_id.as_str().into(),
        profession: situation.profession.as_str().into(),
        structure: situation.structure_id.as_deref().map(Into::into),
    }
}

/// The exam that was opened to a session, from what the session keeps.
fn granted(data: Option<&str>) -> Option<Granted> {
    data.and_then(|data| serde_json::from_str(data).ok())
}
