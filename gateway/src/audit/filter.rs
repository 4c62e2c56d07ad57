//! Which records are wanted.

use time::{Date, OffsetDateTime};

use super::event::{Ending, Event, Kind, Text};

/// What a record must be like; what is absent does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not before.
    pub from: Option<OffsetDateTime>,
    /// Before.
    pub to: Option<OffsetDateTime>,
    /// Study Instance UID.
    pub study: Option<String>,
    /// National identifier of a professional, name of an account, host or subject of a peer.
    pub who: Option<String>,
    /// Kinds; empty for all.
    pub kinds: Vec<Kind>,
    /// Endings; empty for all.
    pub endings: Vec<Ending>,
}

impl Filter {
    /// Whether an event is wanted.
    #[must_use]
    pub fn admits(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: &[Option<&Text>]| {
            wanted.as_ref().is_none_or(|wanted| {
                let mut found = found.iter().flatten();
                found.any(|found| found.as_str() == wanted)
            })
        };
        let actor = &event.actor;
        let person = actor.person.as_ref();
        let peer = actor.peer.as_ref();
        let who = [
            person.and_then(|person| person.national_id.as_ref()),
            peer.and_then(|peer| peer.host.as_ref()),
            peer.and_then(|peer| peer.subject.as_ref()),
            actor.account.as_ref(),
        ];
        self.from.is_none_or(|from| event.at >= from)
            && self.to.is_none_or(|to| event.at < to)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.endings.is_empty() || self.endings.contains(&event.outcome.ending))
            && is(&self.study, &[event.object.study.as_ref()])
            && is(&self.who, &who)
    }

    /// The day before which nothing is wanted, with a day's grace: an event may have waited before it
    /// was written.
    #[must_use]
    pub fn since(&self) -> Option<Date> {
        self.from?.date().previous_day()
    }
}
