//! A PACS that does on demand what real ones do on bad days.
//!
//! It answers C-ECHO, C-FIND, C-GET and C-MOVE from DICOM files and behaves well until a test
//! changes its [`Behaviour`], which takes effect at once, also in the middle of a retrieval. What
//! it is asked it records, and a test can wait for it.

mod behaviour;
mod command;
mod object;
mod query;
mod retrieve;
mod scp;
mod wire;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub use behaviour::{Abilities, Behaviour, FindFault, Rejection, StoreFault};
pub use object::Object;

use super::KitError;

/// What the PACS was asked, in the order in which it saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// An association was requested.
    Association {
        /// Calling AE title.
        calling: String,
        /// Called AE title.
        called: String,
        /// Number of presentation contexts proposed.
        contexts: usize,
        /// Largest PDU that the caller takes; 0: any.
        max_pdu: u32,
    },
    /// C-ECHO
    Echo,
    /// C-FIND
    Find(Identifier),
    /// C-GET
    Get(Identifier),
    /// C-MOVE
    Move {
        /// AE title that the images are to be sent to.
        destination: String,
        /// What is asked for.
        identifier: Identifier,
    },
    /// C-CANCEL
    Cancel,
    /// A C-STORE was answered with this status.
    Stored(u16),
    /// An association was released in good order.
    Released,
    /// An association was aborted by the other side.
    Aborted,
    /// The other side closed the connection without a word.
    Closed,
}

/// The identifier of a request: its query/retrieve level and its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identifier {
    /// (0008,0052): `PATIENT`, `STUDY`, `SERIES` or `IMAGE`.
    pub level: String,
    /// The keys as `(tag, value)`, in the order of their tags, (0008,0052) left out.
    pub keys: Vec<(dicom_core::Tag, String)>,
}

impl Identifier {
    /// The value of a key; `None` when it was not sent.
    #[must_use]
    pub fn key(&self, tag: dicom_core::Tag) -> Option<&str> {
        let key = self.keys.iter().find(|(key, _)| *key == tag);
        key.map(|(_, value)| value.as_str())
    }
}

/// A running simulator; it ends, with its associations, when dropped.
#[derive(Debug)]
pub struct FaultyPacs {
    address: SocketAddr,
    behaviour: Arc<watch::Sender<Behaviour>>,
    asked: Arc<watch::Sender<Vec<Asked>>>,
    open: Arc<Open>,
    accept: AbortHandle,
}

/// What every association of a simulator shares.
#[derive(Debug, Clone)]
struct Shared {
    ae_title: String,
    objects: Arc<Vec<Object>>,
    destinations: Arc<HashMap<String, SocketAddr>>,
    behaviour: Arc<watch::Sender<Behaviour>>,
    asked: Arc<watch::Sender<Vec<Asked>>>,
    open: Arc<Open>,
}

/// How many associations are open, those that are about to be refused included.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// An open association, as long as the other side may believe that it is.
#[derive(Debug)]
struct OpenOne(Arc<Open>);

impl Open {
    /// One more; with it, how many there were before it.
    fn one_more(self: &Arc<Self>) -> (OpenOne, usize) {
        let before = self.now.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(before + 1, Ordering::SeqCst);
        (OpenOne(Arc::clone(self)), before)
    }
}

impl Drop for OpenOne {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn behaviour(&self) -> Behaviour {
        self.behaviour.borrow().clone()
    }

    fn record(&self, event: Asked) {
        self.asked.send_modify(|asked| asked.push(event));
    }
}

impl FaultyPacs {
    /// Starts one on a free port of loopback with the objects of these files. `destinations` are
    /// the AE titles it sends images to when asked by C-MOVE.
    ///
    /// # Errors
    /// When a file is not DICOM, or no port is free.
    pub async fn start(
        ae_title: &str,
        files: &[PathBuf],
        destinations: &[(&str, SocketAddr)],
    ) -> Result<Self, KitError> {
        let objects = files
            .iter()
            .map(|file| Object::load(file))
            .collect::<Result<Vec<_>, _>>()?;
        let failed = |source| KitError::Io {
            what: "listen on loopback".into(),
            source,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let destinations = destinations
            .iter()
            .map(|(title, address)| ((*title).to_owned(), *address));
        let shared = Shared {
            ae_title: ae_title.to_owned(),
            objects: Arc::new(objects),
            destinations: Arc::new(destinations.collect()),
            behaviour: Arc::new(watch::Sender::new(Behaviour::default())),
            asked: Arc::new(watch::Sender::new(Vec::new())),
            open: Arc::default(),
        };
        let behaviour = shared.behaviour.clone();
        let asked = shared.asked.clone();
        let open = shared.open.clone();
        let accept = tokio::spawn(async move {
            let mut associations = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while associations.try_join_next().is_some() {}
                associations.spawn(scp::serve(shared.clone(), stream));
            }
        });
        Ok(Self {
            address,
            behaviour,
            asked,
            open,
            accept: accept.abort_handle(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes how it behaves. Who is stalled looks again and goes on if the stall is gone.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        self.behaviour.send_modify(change);
    }

    /// Lets it behave well again.
    pub fn recover(&self) {
        self.behaviour.send_replace(Behaviour::default());
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// How many times it was asked something of this kind.
    pub fn count(&self, kind: impl Fn(&Asked) -> bool) -> usize {
        self.asked
            .borrow()
            .iter()
            .filter(|event| kind(event))
            .count()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        self.asked.send_replace(Vec::new());
    }

    /// The most associations that were open at a time so far, those that it refused included.
    #[must_use]
    pub fn most_associations(&self) -> usize {
        self.open.most.load(Ordering::SeqCst)
    }

    /// Waits until it was asked something of this kind.
    ///
    /// # Errors
    /// When that does not happen within 30 s; the error lists what it was asked.
    pub async fn wait_for(&self, kind: impl Fn(&Asked) -> bool) -> Result<(), KitError> {
        let mut asked = self.asked.subscribe();
        let limit = Duration::from_secs(30);
        let seen = asked.wait_for(|events| events.iter().any(&kind));
        let result = tokio::time::timeout(limit, seen).await.is_ok();
        if result {
            return Ok(());
        }
        Err(KitError::Invalid {
            what: "what the PACS was asked".into(),
            reason: format!("not what the test waits for: {:?}", self.asked()),
        })
    }
}

impl Drop for FaultyPacs {
    fn drop(&mut self) {
        self.accept.abort();
    }
}
