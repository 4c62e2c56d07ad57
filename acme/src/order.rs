//! One order at one authority (RFC 8555 §7.4), from wherever it stands to a downloaded certificate.

use std::time::Duration;

use http::StatusCode;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType,
    Error as AcmeError, Identifier, NewOrder, Order, OrderStatus, Problem,
};

use crate::account::{Authority, Open};
use crate::certificate::{self, Issued};
use crate::failure::{Cause, Failure, NonceRounds, kind, said};
use crate::key::PrivateKey;
use crate::lifecycle::{Parts, Settings};
use crate::probe::{Port80, Seen};
use crate::record::{Pending, Record, Records, Slot};
use crate::transport::{Exchange, Noticed};

/// Waits between two looks at an order, without word from the authority.
const FIRST_POLL: Duration = Duration::from_millis(500);
const LAST_POLL: Duration = Duration::from_secs(10);
/// The longest wait for the authority's next word within an attempt, and for its decision.
const LONGEST_POLL: Duration = Duration::from_secs(60);
const DECISION: Duration = Duration::from_secs(300);

/// What an order at one authority needs.
pub(crate) struct Ordering<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) settings: &'a Settings,
    pub(crate) records: &'a Records,
    pub(crate) authority: &'a Authority,
}

impl Ordering<'_> {
    /// The certificate of the order under way at this authority, or of a new one; kept as staged when this returns.
    pub(crate) async fn obtain(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<Issued, Failure> {
        let mut rounds = NonceRounds::new();
        loop {
            match self.follow(record, current).await {
                Err(failure) if rounds.again(&failure) => {}
                outcome => {
                    return outcome.map_err(|failure| failure.by(&self.authority.directory));
                }
            }
        }
    }

    async fn follow(
        &self,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<Issued, Failure> {
        let open = self.parts.accounts.open(self.authority).await?;
        match self.advance(&open, record, current).await {
            Ok(issued) => Ok(issued),
            Err(failure) => Err(self.seen_in_dns(failure, &open.exchange).await),
        }
    }

    async fn advance(
        &self,
        open: &Open,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<Issued, Failure> {
        let mut order = match self.resume(open, record).await? {
            Some(order) => order,
            None => self.place(open, record, current).await?,
        };
        let started = self.parts.clock.now();
        let mut pause = FIRST_POLL;
        loop {
            match order.state().status {
                OrderStatus::Pending => self.authorise(open, &mut order, record).await?,
                OrderStatus::Ready => {
                    self.finalise(open, &mut order, record).await?;
                    if order.state().status == OrderStatus::Valid {
                        continue;
                    }
                }
                OrderStatus::Processing => {}
                OrderStatus::Valid => return self.download(open, order, record).await,
                OrderStatus::Invalid => {
                    let failure = self.why_invalid(open, &order, record).await;
                    self.drop_order(record).await?;
                    return Err(failure);
                }
            }
            let asked = open.exchange.take().retry_after;
            if self.parts.clock.now().since(started) >= DECISION {
                let mut failure = Failure::new(
                    Cause::Slow,
                    "the authority has not decided on the order yet; it goes on later",
                );
                failure.retry_at = asked.map(|span| self.parts.clock.now().plus(span));
                return Err(failure);
            }
            self.parts
                .clock
                .sleep(asked.unwrap_or(pause).clamp(FIRST_POLL, LONGEST_POLL))
                .await;
            pause = (pause * 2).min(LAST_POLL);
            order
                .refresh()
                .await
                .map_err(|error| self.failure(&error, &open.exchange))?;
        }
    }

    /// What the zone's CAA records say of a refusal that may come from them. Some authorities call it a refused name.
    async fn seen_in_dns(&self, mut failure: Failure, exchange: &Exchange) -> Failure {
        if !matches!(failure.cause, Cause::Caa | Cause::NameRefused) {
            return failure;
        }
        let caa = self.parts.probe.caa(&self.settings.name).await;
        if caa.allows(&exchange.identities()) == Some(false) {
            failure.cause = Cause::Caa;
        }
        failure.detail = format!("{}; seen from here: {caa}", failure.detail);
        failure
    }

    /// The order under way, as the authority sees it now. `None` when there is none here, when it is gone there, or
    /// when its key is lost after it was used.
    async fn resume(&self, open: &Open, record: &mut Record) -> Result<Option<Order>, Failure> {
        let Some(pending) = &record.order else {
            return Ok(None);
        };
        if pending.directory != self.authority.directory {
            self.drop_order(record).await?;
            return Ok(None);
        }
        match open.account.order(pending.url.clone()).await {
            Ok(mut order) => {
                let undecided = matches!(
                    order.state().status,
                    OrderStatus::Pending | OrderStatus::Ready
                );
                if undecided || self.records.key().await?.is_some() {
                    return Ok(Some(order));
                }
                self.drop_order(record).await?;
                Ok(None)
            }
            Err(error) => {
                let failure = self.failure(&error, &open.exchange);
                let passing = matches!(
                    failure.cause,
                    Cause::RateLimited | Cause::AuthorityUnreachable | Cause::AuthorityUntrusted
                );
                let broken =
                    matches!(&error, AcmeError::Api(problem) if kind(problem) == "serverInternal");
                if passing || broken || failure.nonce_refused || !matches!(error, AcmeError::Api(_))
                {
                    return Err(failure);
                }
                self.parts.accounts.confirm(self.authority).await?;
                self.drop_order(record).await?;
                Ok(None)
            }
        }
    }

    /// A new order. Its key is kept first, so that an order never waits for a key that is lost.
    async fn place(
        &self,
        open: &Open,
        record: &mut Record,
        current: Option<&Issued>,
    ) -> Result<Order, Failure> {
        let kind = self.settings.key_type;
        let key = tokio::task::spawn_blocking(move || PrivateKey::generate(kind))
            .await
            .map_err(|error| Failure::new(Cause::Store, &error.to_string()))??;
        self.records.put_key(&key).await?;

        let order = match self.send_order(open, current).await {
            Ok(order) => order,
            Err(failure) => {
                if matches!(failure.cause, Cause::Account | Cause::AuthorityFault) {
                    self.parts.accounts.confirm(self.authority).await?;
                }
                return Err(failure);
            }
        };
        record.order = Some(Pending {
            directory: self.authority.directory.clone(),
            url: order.url().to_owned(),
            tokens: Vec::new(),
            finalised: false,
        });
        self.records.save(record).await?;
        Ok(order)
    }

    async fn send_order(&self, open: &Open, current: Option<&Issued>) -> Result<Order, Failure> {
        let identifiers = [Identifier::Dns(self.settings.name.to_string())];
        let replaced = current
            .filter(|current| current.directory == self.authority.directory)
            .and_then(|current| current.chain().ok());
        let replaced = replaced
            .as_ref()
            .and_then(|chain| CertificateIdentifier::try_from(chain.first()?).ok());
        if let Some(replaced) = replaced {
            open.exchange.take();
            let order = NewOrder::new(&identifiers).replaces(replaced);
            match open.account.new_order(&order).await {
                Ok(order) => return Ok(order),
                Err(error) => {
                    let noticed = open.exchange.take();
                    // Some authorities take the order and do not repeat `replaces` (RFC 9773 §5 asks them to);
                    // others refuse it. The order that was taken serves, else one without `replaces` does.
                    if let Some(url) = &noticed.created {
                        let taken = open.account.order(url.clone()).await;
                        return taken.map_err(|error| self.failure(&error, &open.exchange));
                    }
                    let failure = Failure::of(&error, &noticed, self.parts.clock.now());
                    if !may_be_for_replaces(&failure, &noticed) {
                        return Err(failure);
                    }
                    tracing::debug!(%error, "order with replaces failed; ordering without it");
                }
            }
        }
        open.exchange.take();
        open.account
            .new_order(&NewOrder::new(&identifiers))
            .await
            .map_err(|error| self.failure(&error, &open.exchange))
    }

    /// Publishes the answer of each open authorisation's challenge, then tells the authority.
    async fn authorise(
        &self,
        open: &Open,
        order: &mut Order,
        record: &mut Record,
    ) -> Result<(), Failure> {
        let failed = |error: AcmeError| self.failure(&error, &open.exchange);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(ChallengeType::Http01) else {
                return Err(Failure::new(
                    Cause::NameRefused,
                    "the authority does not offer HTTP-01 for this name",
                ));
            };
            if challenge.status != ChallengeStatus::Pending {
                continue;
            }
            let token = challenge.token.clone();
            if let Some(pending) = &mut record.order
                && !pending.tokens.contains(&token)
            {
                pending.tokens.push(token.clone());
                self.records.save(record).await?;
            }
            let answer = challenge.key_authorization();
            self.parts.tokens.publish(&token, answer.as_str()).await?;
            open.exchange.take();
            if let Err(error) = challenge.set_ready().await {
                let noticed = open.exchange.take();
                // An answer 200 with an error in it is a challenge that failed at once: the order becomes invalid,
                // and why is read from the authorisation.
                if noticed.status != Some(http::StatusCode::OK) {
                    return Err(Failure::of(&error, &noticed, self.parts.clock.now()));
                }
            }
        }
        Ok(())
    }

    async fn finalise(
        &self,
        open: &Open,
        order: &mut Order,
        record: &mut Record,
    ) -> Result<(), Failure> {
        let Some(key) = self.records.key().await? else {
            self.drop_order(record).await?;
            return Err(Failure::new(
                Cause::Store,
                "the key of the order under way is lost; a new order is made",
            ));
        };
        let csr = certificate::request(&self.settings.name, &key).map_err(|error| {
            Failure::new(Cause::Store, &format!("no request can be made: {error}"))
        })?;
        if let Some(pending) = &mut record.order
            && !pending.finalised
        {
            pending.finalised = true;
            self.records.save(record).await?;
        }
        match order.finalize_csr(&csr).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = self.failure(&error, &open.exchange);
                // It will not issue for this order, and another authority may be asked.
                if matches!(
                    failure.cause,
                    Cause::RequestRefused | Cause::Caa | Cause::NameRefused | Cause::Account
                ) {
                    self.drop_order(record).await?;
                }
                Err(failure)
            }
        }
    }

    async fn download(
        &self,
        open: &Open,
        mut order: Order,
        record: &mut Record,
    ) -> Result<Issued, Failure> {
        let failed = |error: AcmeError| self.failure(&error, &open.exchange);
        open.exchange.take();
        let pem = order.certificate().await.map_err(failed)?;
        let mut chain_pem = pem.ok_or_else(|| {
            Failure::new(
                Cause::AuthorityFault,
                "the order is valid and has no certificate",
            )
        })?;
        let alternates = open.exchange.take().chain.map(|(_, others)| others);
        if let Some(wanted) = &self.authority.preferred_chain
            && certificate::topmost_issuer(&chain_pem).as_ref() != Some(wanted)
        {
            for url in alternates.unwrap_or_default() {
                if let Some(other) = fetch(&open.account, &open.exchange, url).await
                    && certificate::topmost_issuer(&other).as_ref() == Some(wanted)
                {
                    chain_pem = other;
                    break;
                }
            }
        }
        let issued = Issued {
            directory: self.authority.directory.clone(),
            order: order.url().to_owned(),
            chain_pem,
            key: self.records.key().await?.unwrap_or_default(),
        };
        if let Err(wrong) = issued.check(&self.settings.name, self.parts.clock.now()) {
            self.drop_order(record).await?;
            return Err(Failure::new(Cause::WrongCertificate, &wrong.to_string()));
        }
        self.records.put(Slot::Staged, &issued).await?;
        Ok(issued)
    }

    /// What made the order invalid: the error of a challenge, seen together with what a probe sees from here.
    async fn why_invalid(&self, open: &Open, order: &Order, record: &Record) -> Failure {
        let tokens = record
            .order
            .as_ref()
            .map(|pending| pending.tokens.as_slice());
        let seen = match tokens.and_then(<[String]>::first) {
            Some(token) => {
                let expected = self.parts.tokens.answer(token).await.ok().flatten();
                let expected = expected.unwrap_or_default();
                let probe = &self.parts.probe;
                Some(probe.look(&self.settings.name, token, &expected).await)
            }
            None => None,
        };
        match self.problem(open, order).await {
            Ok(Some(problem)) => diagnose(&problem, seen.as_ref()),
            Ok(None) => Failure::new(
                Cause::AuthorityFault,
                "the authority declared the order invalid and did not say why",
            ),
            Err(error) => self.failure(&error, &open.exchange),
        }
    }

    async fn problem(&self, open: &Open, order: &Order) -> Result<Option<Problem>, AcmeError> {
        // Asked afresh: what this order remembers of its authorisations is from before the validation.
        let mut order = open.account.order(order.url().to_owned()).await?;
        let general = order.state().error.clone();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization?;
            for challenge in &authorization.challenges {
                if let Some(error) = &challenge.error {
                    return Ok(Some(error.clone()));
                }
            }
        }
        Ok(general)
    }

    /// Forgets the order under way, its challenges and its key.
    async fn drop_order(&self, record: &mut Record) -> Result<(), Failure> {
        withdraw(self.parts, record).await?;
        record.order = None;
        self.records.save(record).await?;
        self.records.clear_key().await
    }

    fn failure(&self, error: &AcmeError, exchange: &Exchange) -> Failure {
        Failure::of(error, &exchange.take(), self.parts.clock.now())
    }
}

/// Whether an order that failed may have failed for its `replaces`, so that one without it is worth a request now.
fn may_be_for_replaces(failure: &Failure, noticed: &Noticed) -> bool {
    let of_another_kind = matches!(
        failure.cause,
        Cause::RateLimited | Cause::Account | Cause::ExternalAccount
    );
    if of_another_kind || failure.nonce_refused || noticed.retry_after.is_some() {
        return false;
    }
    match noticed.status {
        // It did not leave: the directory of this authority has no renewal information.
        None => noticed.lost.is_none(),
        Some(_) if noticed.lost.is_some() => false,
        Some(status) => status.is_client_error() || status == StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Takes back what was published for the order under way.
pub(crate) async fn withdraw(parts: &Parts, record: &Record) -> Result<(), Failure> {
    let published = record.order.iter().flat_map(|pending| &pending.tokens);
    for token in published {
        parts.tokens.withdraw(token).await?;
    }
    Ok(())
}

/// Another chain of the same certificate.
///
/// instant-acme has no call for it: its request for an order is the same signed request, and what it cannot read as an
/// order was noticed as a chain.
async fn fetch(account: &Account, exchange: &Exchange, url: String) -> Option<String> {
    exchange.take();
    let _ = account.order(url).await;
    exchange.take().chain.map(|(pem, _)| pem)
}

/// Puts together what the authority says of a validation (RFC 8555 §8.2) and what is seen from here.
fn diagnose(problem: &Problem, seen: Option<&Seen>) -> Failure {
    let port80 = seen.map(|seen| seen.port80);
    let elsewhere = seen.is_some_and(|seen| !seen.elsewhere.is_empty());
    // Whoever could not connect, or got a wrong answer, has found an address: what cannot be resolved here is then no
    // reason to doubt the name.
    let cause = match kind(problem) {
        "dns" => Cause::NameUnresolved,
        "caa" => Cause::Caa,
        "rateLimited" => Cause::RateLimited,
        "connection" | "tls" | "unauthorized" | "incorrectResponse" | "malformed" if elsewhere => {
            Cause::PointsElsewhere
        }
        "connection" | "tls" => match port80 {
            Some(Port80::Other) => Cause::AnsweredElsewhere,
            _ => Cause::PortBlocked,
        },
        "unauthorized" | "incorrectResponse" | "malformed" => match port80 {
            Some(Port80::Refused | Port80::Silent) => Cause::PortBlocked,
            _ => Cause::AnsweredElsewhere,
        },
        "rejectedIdentifier" | "unsupportedIdentifier" => Cause::NameRefused,
        _ => Cause::AuthorityFault,
    };
    let from_here = match seen {
        None => String::new(),
        Some(seen) => format!("; seen from here: {}", describe(seen)),
    };
    Failure::new(cause, &format!("{}{from_here}", said(problem)))
}

fn describe(seen: &Seen) -> String {
    let addresses: Vec<String> = seen.addresses.iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    if !seen.elsewhere.is_empty() {
        return format!("the DNS has {addresses}, which is not where this service is");
    }
    match seen.port80 {
        Port80::NotTried => "no address is found for the name".to_owned(),
        Port80::Ours => format!("{addresses} answers as it should"),
        Port80::Other => format!("{addresses} gives another answer"),
        Port80::Refused => format!("{addresses} refuses connections on port 80"),
        Port80::Silent => format!("{addresses} does not answer on port 80"),
    }
}
