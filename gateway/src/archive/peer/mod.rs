//! An exam at another DRIMbox, as an [`Archive`]: what its KOS names is fetched by WADO-RS over mutual
//! TLS, with the token of the person who asks (RAD-107 of DRIM-M).
//!
//! Everything a KOS says is checked before anything is sent ([`location`]): only hosts of the verified
//! white list are asked, by name, never by address, and never where a redirection leads. What comes is
//! bounded, and is one of the instances that the KOS names, or ends the transfer ([`transfer`]). Which
//! instances there are is never asked: the KOS says it.
//!
//! A [`PeerExam`] belongs to one person, whose token it uses. Whether that person may see the exam is
//! decided by the source, and by who made the `PeerExam`.

mod dial;
mod error;
mod listing;
mod location;
mod network;
mod request;
mod series;
mod source;
mod token;
mod transfer;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use dial::{Resolve, SystemResolver, client_config};
pub use error::{Advice, Contact, PeerError};
pub use location::{Listed, LocationError, PeerDirectory, SeriesLocation};
pub use network::{AddressPolicy, is_public};
pub use request::{KOS_SOP_INSTANCE_UID, Preference, UNCOMPRESSED};
pub use source::{PeerSettings, Peers};
pub use token::{AccessToken, NoToken, TokenError, TokenFile, TokenSource};
pub use transfer::{TransferLimits, inspect};

use super::{
    Archive, ArchiveError, FindRequest, InstanceSink, Matches, OutgoingInstance, RetrieveReport,
    RetrieveRequest, Scope, StoreOutcome,
};
use crate::dicom::kos::{Kos, KosSeries};
use crate::dicom::uid::{InstanceUid, SeriesUid};
use series::Run;

/// An exam at another DRIMbox, and the person who asks for it.
pub struct PeerExam {
    kos: Arc<Kos>,
    locations: HashMap<SeriesUid, SeriesLocation>,
    peers: Arc<Peers>,
    tokens: Arc<dyn TokenSource>,
    /// Series fetched at once.
    places: Semaphore,
}

impl PeerExam {
    /// The exam that a KOS announces. Nothing is sent yet.
    ///
    /// A series without Retrieve URL is tolerated, and missed when it is asked for.
    ///
    /// # Errors
    /// [`PeerError::Location`] when one series lies where nothing may be asked, or none says where it is.
    pub fn new(
        kos: Arc<Kos>,
        peers: Arc<Peers>,
        tokens: Arc<dyn TokenSource>,
    ) -> Result<Self, PeerError> {
        let ports = &peers.settings().ports;
        let mut locations = HashMap::new();
        for series in &kos.series {
            let Some(url) = &series.retrieve_url else {
                continue;
            };
            let location =
                SeriesLocation::parse(url, &kos.study, &series.series, ports, peers.directory())?;
            locations.insert(series.series.clone(), location);
        }
        if locations.is_empty() {
            return Err(LocationError::Missing.into());
        }
        Ok(Self {
            places: Semaphore::new(peers.settings().series_at_once),
            kos,
            locations,
            peers,
            tokens,
        })
    }

    /// What announced it.
    #[must_use]
    pub fn kos(&self) -> &Kos {
        &self.kos
    }

    /// Fetches the instances of a series that are not at hand yet; `Ok` when all of them came.
    ///
    /// # Errors
    /// [`ArchiveError::Peer`]; [`ArchiveError::Incomplete`]; those of the sink.
    pub async fn fetch_series(
        &self,
        series: &SeriesUid,
        at_hand: &HashSet<InstanceUid>,
        sink: Arc<dyn InstanceSink>,
    ) -> Result<RetrieveReport, ArchiveError> {
        let series = self.kos.series(series).ok_or(LocationError::Missing);
        let series = series.map_err(PeerError::from)?;
        let missing = series.instances.iter().map(|one| &one.instance);
        let missing = missing.filter(|one| !at_hand.contains(*one)).cloned();
        self.fetch(series, missing.collect(), false, sink).await
    }

    async fn fetch(
        &self,
        series: &KosSeries,
        missing: HashSet<InstanceUid>,
        one_by_one: bool,
        sink: Arc<dyn InstanceSink>,
    ) -> Result<RetrieveReport, ArchiveError> {
        if missing.is_empty() {
            return Ok(RetrieveReport::default());
        }
        let Some(location) = self.locations.get(&series.series) else {
            let count = missing.len() as u64;
            return Err(ArchiveError::Incomplete {
                missing: count,
                expected: count,
            });
        };
        let place = self.places.acquire().await;
        let _place = place.map_err(|_| ArchiveError::Cancelled)?;
        let mut run = Run::new(self, location, series, missing, sink);
        run.run(one_by_one).await
    }

    async fn retrieve_scope(
        &self,
        scope: &Scope,
        sink: Arc<dyn InstanceSink>,
    ) -> Result<RetrieveReport, ArchiveError> {
        if *scope.study() != self.kos.study {
            return Ok(RetrieveReport::default());
        }
        let mut fetches: Vec<BoxFuture<'_, Result<RetrieveReport, ArchiveError>>> = Vec::new();
        for series in &self.kos.series {
            if scope.series().is_some_and(|uid| *uid != series.series) {
                continue;
            }
            let all = series.instances.iter().map(|one| one.instance.clone());
            let wanted = all.filter(|one| scope.instance().is_none_or(|only| only == one));
            let one_by_one = scope.instance().is_some();
            let fetch = self.fetch(series, wanted.collect(), one_by_one, Arc::clone(&sink));
            fetches.push(fetch.boxed());
        }
        let mut fetches = stream::iter(fetches).buffer_unordered(self.places_at_most());
        let mut delivered = 0;
        let mut failed = None;
        let mut missing = (0, 0);
        while let Some(outcome) = fetches.next().await {
            match outcome {
                Ok(report) => delivered += report.delivered,
                Err(ArchiveError::Incomplete {
                    missing: one,
                    expected,
                }) => missing = (missing.0 + one, missing.1 + expected),
                // The other series are fetched all the same: they need not be asked for again.
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        match (failed, missing) {
            (Some(error), _) => Err(error),
            (None, (0, _)) => Ok(RetrieveReport { delivered }),
            (None, (missing, expected)) => Err(ArchiveError::Incomplete { missing, expected }),
        }
    }

    fn places_at_most(&self) -> usize {
        self.peers.settings().series_at_once.max(1)
    }
}

impl Archive for PeerExam {
    /// Whether the white list still has every host of the exam; nothing is sent.
    fn verify(&self) -> BoxFuture<'_, Result<(), ArchiveError>> {
        let checked = self.locations.values().try_for_each(|location| {
            let host = location.host();
            location::check_listed(self.peers.directory(), host).map_err(PeerError::from)
        });
        async move { Ok(checked?) }.boxed()
    }

    /// Answered from the KOS.
    fn find(&self, request: FindRequest) -> BoxFuture<'_, Result<Matches, ArchiveError>> {
        let matches = listing::find(&self.kos, &request);
        async move { Ok(matches) }.boxed()
    }

    fn retrieve(
        &self,
        request: RetrieveRequest,
        sink: Arc<dyn InstanceSink>,
        cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<RetrieveReport, ArchiveError>> {
        async move {
            // Dropping the exchanges closes their connections, which tells the source to stop.
            let outcome = cancel.run_until_cancelled(self.retrieve_scope(&request.scope, sink));
            outcome.await.unwrap_or(Err(ArchiveError::Cancelled))
        }
        .boxed()
    }

    fn store(
        &self,
        _: Vec<OutgoingInstance>,
    ) -> BoxFuture<'_, Result<Vec<StoreOutcome>, ArchiveError>> {
        async move {
            Err(ArchiveError::NotOffered {
                address: "another DRIMbox".into(),
                service: "storage",
            })
        }
        .boxed()
    }
}
