//! Login on the `vi` names, built from `[login]` and Pro Santé Connect.

use std::sync::Arc;

use anyhow::Context as _;
use psc_auth::{BoxFuture, Clock, SystemClock};

use super::psc::{self, PscParts};
use crate::access::professional::{Professional, Situation};
use crate::audit::{Actor, Audit, Ending, Kind, Object, Outcome, Person};
use crate::config::Config;
use crate::login::{
    AuditUnavailable, Login, LoginAudit, LoginEvent, LoginRecord, Parts, SessionLimits, Sessions,
    Vault,
};
use crate::store::SessionStore;

/// Builds it; `None` where nobody can log in: without `[psc]` or without a `vi` name. Blocks.
pub(super) fn build(
    config: &Config,
    psc: Option<&PscParts>,
    store: Arc<dyn SessionStore>,
    audit: &Audit,
) -> anyhow::Result<Option<Arc<Login>>> {
    let Some(psc) = psc else {
        return Ok(None);
    };
    let port = psc::public_port(config);
    let hosts = config
        .pacs
        .iter()
        .filter_map(|pacs| pacs.vi_host.as_deref());
    let return_addresses = hosts
        .map(|host| {
            let host = host.to_ascii_lowercase();
            let address = psc::callback_url(&host, port)?;
            Ok((host.into(), address))
        })
        .collect::<anyhow::Result<std::collections::HashMap<Arc<str>, _>>>()?;
    if return_addresses.is_empty() {
        return Ok(None);
    }
    let settings = &config.login;
    let vault =
        Vault::open(&settings.key_file).context("key of the sessions (`login.key_file`)")?;
    let limits = SessionLimits {
        idle: settings.idle_timeout,
        absolute: settings.absolute_timeout,
        most: settings.max_sessions,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sessions = Sessions::open(limits, vault, store, Arc::clone(&clock))
        .context("the sessions of the last run cannot be read")?;
    Ok(Some(Arc::new(Login::new(Parts {
        party: psc.party.clone(),
        professions: psc.professions.clone(),
        sessions: Arc::new(sessions),
        return_addresses,
        max_pending: settings.max_pending,
        login_lifetime: psc.provider.settings().login_lifetime,
        audit: Arc::new(Trail(audit.clone())),
        clock,
        centre: settings.centre.clone(),
        contact: settings.contact.clone(),
    }))))
}

/// The audit trail of the gateway.
struct Trail(Audit);

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trail")
    }
}

impl LoginAudit for Trail {
    fn record<'a>(
        &'a self,
        record: LoginRecord<'a>,
    ) -> BoxFuture<'a, Result<(), AuditUnavailable>> {
        Box::pin(async move {
            let (kind, person, outcome) = described(record.event);
            let event = self.0.event(kind).ending(outcome);
            let event = event.by(Actor {
                address: record.remote,
                person,
                ..Actor::default()
            });
            let event = event.on(Object {
                subject: Some(record.host.into()),
                ..Object::default()
            });
            let kept = self.0.record(event).await;
            kept.map(drop).map_err(|error| {
                tracing::error!(%error, "the audit trail does not take an event");
                AuditUnavailable
            })
        })
    }
}

fn described(event: LoginEvent<'_>) -> (Kind, Option<Person>, Outcome) {
    match event {
        LoginEvent::LoggedIn { professional } => {
            let outcome = Outcome::of(Ending::Begun);
            (Kind::Login, Some(person(professional, None)), outcome)
        }
        LoginEvent::Situation {
            professional,
            situation,
        } => {
            let person = person(professional, Some(situation));
            (Kind::Login, Some(person), Outcome::of(Ending::Success))
        }
        LoginEvent::Refused {
            national_id,
            status,
            reason,
        } => {
            let person = national_id.map(|id| Person {
                national_id: Some(id.as_str().into()),
                ..Person::default()
            });
            (Kind::Login, person, Outcome::refused(status, reason))
        }
        LoginEvent::LoggedOut {
            professional,
            cause,
        } => {
            let outcome = Outcome {
                reason: Some(cause.into()),
                ..Outcome::of(Ending::Success)
            };
            (Kind::Logout, Some(person(professional, None)), outcome)
        }
    }
}

fn person(professional: &Professional, situation: Option<&Situation>) -> Person {
    let name = [&professional.given_name, &professional.family_name];
    let name: Vec<&str> = name
        .into_iter()
        .filter_map(|part| part.as_deref())
        .collect();
    Person {
        national_id: Some(professional.national_id.as_str().into()),
        name: (!name.is_empty()).then(|| name.join(" ").into()),
        profession: situation.map(|one| one.profession.as_str().into()),
        structure: situation
            .and_then(|one| one.structure_id.as_deref())
            .map(Into::into),
        session: professional.sid.as_deref().map(Into::into),
        proof: Some(Person::PSC.into()),
        ..Person::default()
    }
}
