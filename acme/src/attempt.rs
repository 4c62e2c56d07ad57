//! One attempt: the authorities in their order, and the way of a certificate into service.

use crate::account::Authority;
use crate::certificate::Issued;
use crate::failure::{Cause, Failure};
use crate::lifecycle::{Occasion, Parts, Settings};
use crate::order::{Ordering, withdraw};
use crate::record::{Record, Records, Slot};
use crate::schedule::Age;

/// What an attempt needs.
pub(crate) struct Attempt<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) settings: &'a Settings,
    pub(crate) records: &'a Records,
}

impl Attempt<'_> {
    /// Gets a certificate and puts it in service; `met` collects what stood in the way of each authority.
    pub(crate) async fn run(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
        met: &mut Vec<Failure>,
    ) -> Result<Issued, Failure> {
        let outcome = match self.staged().await? {
            Some(staged) => Ok(staged),
            None => self.order(record, current, met).await,
        };
        let issued = outcome?;
        let installed = self.install(&issued, current, record).await;
        if let Err(failure) = &installed {
            met.push(failure.clone());
        }
        installed.map(|()| issued)
    }

    /// Ends an order whose certificate is already in service: the last steps of an attempt that was cut short.
    pub(crate) async fn tidy(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<(), Failure> {
        let done = match (&record.order, current) {
            (Some(pending), Some(current)) => pending.url == current.order,
            _ => false,
        };
        if done {
            self.records.clear(Slot::Staged).await?;
            self.settle(record).await?;
        }
        Ok(())
    }

    /// A certificate that was downloaded and not yet put in service.
    async fn staged(&self) -> Result<Option<Issued>, Failure> {
        let Some(staged) = self.records.certificate(Slot::Staged).await? else {
            return Ok(None);
        };
        if staged
            .check(&self.settings.name, self.parts.clock.now())
            .is_ok()
        {
            return Ok(Some(staged));
        }
        self.records.clear(Slot::Staged).await?;
        Ok(None)
    }

    async fn order(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
        met: &mut Vec<Failure>,
    ) -> Result<Issued, Failure> {
        let now = self.parts.clock.now();
        record.blocked.retain(|_, until| *until > now);
        let mut first = None;
        for authority in self.authorities(record) {
            if let Some(until) = record.blocked.get(&authority.directory) {
                let mut failure = Failure::new(
                    Cause::RateLimited,
                    "the authority asked to be left alone for a while",
                );
                failure.retry_at = Some(*until);
                first.get_or_insert(failure.by(&authority.directory));
                continue;
            }
            let ordering = Ordering {
                parts: self.parts,
                settings: self.settings,
                records: self.records,
                authority,
            };
            let failure = match ordering.obtain(record, current).await {
                Ok(issued) => return Ok(issued),
                Err(failure) => failure,
            };
            if let Some(until) = failure.retry_at {
                record.blocked.insert(authority.directory.clone(), until);
            }
            met.push(failure.clone());
            let another_may = failure.cause.is_of_one_authority();
            first.get_or_insert(failure);
            if !another_may || !self.may_leave(record, current) {
                break;
            }
        }
        Err(first.unwrap_or_else(|| {
            Failure::new(Cause::AuthorityUnreachable, "no authority is configured")
        }))
    }

    /// The authorities in their order, that of the order under way first.
    fn authorities(&self, record: &Record) -> Vec<&Authority> {
        let under_way = record.order.as_ref().map(|pending| &pending.directory);
        let mut authorities: Vec<&Authority> = self.settings.authorities.iter().collect();
        authorities.sort_by_key(|authority| Some(&authority.directory) != under_way);
        authorities
    }

    /// Whether another authority may be asked although this one has the request for a certificate: it may issue yet,
    /// and two certificates where one is enough count against limits. Without a certificate to serve there is no
    /// choice.
    fn may_leave(&self, record: &Record, current: Option<&Issued>) -> bool {
        let finalised = record
            .order
            .as_ref()
            .is_some_and(|pending| pending.finalised);
        let now = self.parts.clock.now();
        let age = current
            .and_then(|current| current.validity().ok())
            .map_or(Age::Expired, |validity| validity.age(now));
        !finalised || age >= Age::Emergency
    }

    async fn install(
        &self,
        issued: &Issued,
        current: Option<&Issued>,
        record: &mut Record,
    ) -> Result<(), Failure> {
        let installer = &self.parts.installer;
        installer
            .install(&self.settings.name, issued, Occasion::New(current))
            .await
            .map_err(|error| Failure::new(Cause::Install, &error.0))?;
        self.records.put(Slot::Current, issued).await?;
        self.records.clear(Slot::Staged).await?;
        self.settle(record).await
    }

    /// Nothing is under way any more, and nothing of the old certificate's schedule counts: both in one write, or the
    /// new certificate would be renewed when the old one was due. What is to be revoked still is.
    async fn settle(&self, record: &mut Record) -> Result<(), Failure> {
        withdraw(self.parts, record).await?;
        *record = Record {
            blocked: std::mem::take(&mut record.blocked),
            revocation: record.revocation.take(),
            installed: Some(self.parts.clock.now()),
            ..Record::default()
        };
        self.records.save(record).await?;
        self.records.clear_key().await
    }
}
