//! From the link of a report to the exam page.
//!
//! The link becomes a record on the server that a random cookie stands for, and the browser goes on to a
//! clean address. Whoever proves who they are gets the one exam that the link names; [`crate::access`]
//! decides, for the link and for every image. The page asks [`api`] what it shows, and DICOMweb of its own
//! host for the images.

mod api;
pub mod assets;
mod handlers;
mod links;
mod pages;
mod throttle;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

pub use handlers::{images, router};

use crate::access::{Granted, LinkGate, Visitor, Visitors};
use crate::audit::Audit;
use crate::dicomweb::service::Texts;
use crate::login::{Login, Sessions};
use crate::store::{AttemptStore, StoreError};
use crate::studies::Studies;
use links::Links;
use throttle::Throttle;

/// What the exam page is made of.
pub struct Parts {
    /// Who comes in, and the words of the pages.
    pub login: Arc<Login>,
    /// Decides.
    pub gate: LinkGate,
    /// Who saw what.
    pub audit: Audit,
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

/// Links, and the page they lead to.
pub struct Viewer {
    parts: Parts,
    links: Links,
    throttle: Throttle,
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
        })
    }
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Viewer").finish_non_exhaustive()
    }
}

impl Visitors for Sessions {
    fn visitor(&self, headers: &HeaderMap, host: &str) -> Option<Visitor> {
        let view = self.current(headers, host)?;
        let granted = view
            .data
            .and_then(|data| serde_json::from_str::<Granted>(&data).ok());
        Some(Visitor { granted })
    }
}
