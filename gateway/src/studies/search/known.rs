//! What the cache knows of an answer: the instances it holds say what C-FIND left out, and how
//! texts were spelled before a character set lost them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dicom_core::Tag;

use super::level::level_of;
use super::{INSTANCE_UID, Identity};
use crate::archive::Level;
use crate::cache::{Bundle, Cache, Entry, Key, Peek};
use crate::dicom::compose::{Composed, Reading};
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::syntax::Encoding;
use crate::dicom::uid::StudyUid;
use crate::studies::Studies;

/// Instances looked into for one page.
const MAX_LOOKS: usize = 1000;
/// Bytes of the data set of such an instance.
const MAX_HEAD: u64 = 256 * 1024;
/// Bytes of one element that is kept of it.
const MAX_VALUE: usize = 16 * 1024;

const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
/// Every match returns it where it is known (PS3.18 tables 10.6.3-3 to 10.6.3-5); a query that holds
/// it means something else (PS3.4 §C.2.2.2.5), so it is never asked for.
pub(super) const TIMEZONE_OFFSET: Tag = Tag(0x0008, 0x0201);

impl Studies {
    /// What the cache holds of each of these: of an instance the instance, else any instance of the
    /// series or study; nothing of what is not cached.
    pub(super) async fn known(
        &self,
        level: Level,
        identities: &[Option<Identity>],
        reading: Reading<'_>,
    ) -> Vec<Option<Arc<Composed>>> {
        let studies: HashSet<StudyUid> = identities
            .iter()
            .flatten()
            .map(|identity| identity.study.clone())
            .collect();
        let keys = self.cache.of_studies(&self.settings.pacs, &studies);
        if keys.is_empty() {
            return vec![None; identities.len()];
        }
        let (cache, limits) = (Arc::clone(&self.cache), self.settings.limits);
        let (fallback, replaces) = (reading.fallback, reading.replaces.cloned());
        let identities = identities.to_vec();
        let count = identities.len();
        let looking = tokio::task::spawn_blocking(move || {
            let reading = Reading {
                fallback,
                replaces: replaces.as_ref(),
            };
            let mut looks = Looks {
                cache: &cache,
                limits,
                reading,
                left: MAX_LOOKS,
                of_any: HashMap::new(),
                open: HashMap::new(),
            };
            let known = identities.iter().map(|identity| {
                let identity = identity.as_ref()?;
                looks.at(level, identity, keys.get(&identity.study)?)
            });
            known.collect()
        });
        looking.await.unwrap_or_else(|_| vec![None; count])
    }
}

struct Looks<'a> {
    cache: &'a Arc<Cache>,
    limits: Limits,
    reading: Reading<'a>,
    left: usize,
    /// What was read of a bundle, where any instance will do.
    of_any: HashMap<Key, Option<Arc<Composed>>>,
    open: HashMap<Key, Option<Peek>>,
}

impl Looks<'_> {
    fn at(&mut self, level: Level, identity: &Identity, keys: &[Key]) -> Option<Arc<Composed>> {
        let of_series = |key: &&Key| Some(&key.series) == identity.series.as_ref();
        match level {
            Level::Patient | Level::Study => self.any(keys.first()?),
            Level::Series => self.any(keys.iter().find(of_series)?),
            Level::Image => {
                let instance = identity.instance.as_ref()?;
                let holds = |key: &&Key| {
                    of_series(key) && key.instance.as_ref().is_none_or(|only| only == instance)
                };
                let found = keys
                    .iter()
                    .filter(holds)
                    .find_map(|key| self.read(key, |bundle| bundle.find(instance).cloned()));
                found.map(Arc::new)
            }
        }
    }

    fn any(&mut self, key: &Key) -> Option<Arc<Composed>> {
        if let Some(known) = self.of_any.get(key) {
            return known.clone();
        }
        let known = self.read(key, |bundle| bundle.entries().first().cloned());
        let known = known.map(Arc::new);
        self.of_any.insert(key.clone(), known.clone());
        known
    }

    fn read(
        &mut self,
        key: &Key,
        pick: impl Fn(&Bundle) -> Option<Arc<Entry>>,
    ) -> Option<Composed> {
        self.left = self.left.checked_sub(1)?;
        let open = self.open.entry(key.clone());
        let open = open.or_insert_with(|| self.cache.peek(key)).as_ref()?;
        let entry = pick(open.bundle())?;
        let head = open.head(&entry, MAX_HEAD)?;
        let encoding = Encoding::of(&entry.transfer_syntax);
        let set = DataSet::parse(&head, encoding, self.limits).ok()?;
        let mut known = Composed::of(set.elements(), self.reading);
        known.retain(|_, value| value.len() <= MAX_VALUE);
        Some(known)
    }
}

/// Takes over from an instance what an answer of `level` lost: elements that are wanted and have no
/// value, and texts whose characters beyond ASCII are gone.
///
/// Who the patient is, the archive says: of those elements only the spelling is taken over.
pub(super) fn complete_from(
    answer: &mut Composed,
    known: &Composed,
    level: Level,
    wanted: impl Fn(Tag) -> bool,
) {
    let missing: Vec<Tag> = known
        .tags()
        .filter(|tag| wanted(*tag) && answer.is_empty(*tag))
        .filter(|tag| tag.group() != 0x0010 && has_level(*tag, level))
        .collect();
    for tag in missing {
        answer.add_missing_from(known, tag);
    }
    let lost: Vec<Tag> = known
        .texts()
        .filter(|(tag, _)| level_of(*tag) <= level && (wanted(*tag) || answer.contains(*tag)))
        .filter(|(tag, truth)| {
            // Nothing may be left at all.
            let text = answer.text(*tag).unwrap_or_default();
            !truth.is_ascii() && text != *truth && is_what_is_left(text, truth)
        })
        .map(|(tag, _)| tag)
        .collect();
    for tag in lost {
        answer.replace_from(known, tag);
    }
}

/// Whether an instance may say what an attribute of an entity of this level is. What differs between
/// the instances of a series is no attribute of the series.
fn has_level(tag: Tag, level: Level) -> bool {
    if tag == TIMEZONE_OFFSET {
        return true;
    }
    let instance_only = [SOP_CLASS_UID, INSTANCE_UID].contains(&tag);
    level_of(tag) <= level && (level == Level::Image || !instance_only)
}

/// Whether a text is another one whose characters beyond ASCII were dropped or replaced, and with
/// them the delimiters of groups that were nothing else.
fn is_what_is_left(found: &str, truth: &str) -> bool {
    let found: Vec<char> = found.trim_end_matches([' ', '\0']).chars().collect();
    let truth = truth.trim_end_matches([' ', '\0']);
    // reached[n]: the truth so far may have become the first n characters.
    let mut reached = vec![false; found.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for c in truth.chars() {
        let mut next = vec![false; found.len() + 1];
        for (at, _) in reached.iter().enumerate().filter(|(_, here)| **here) {
            let mut may_be = |length: usize| {
                if let Some(slot) = next.get_mut(at + length) {
                    *slot = true;
                }
            };
            if found.get(at) == Some(&c) {
                may_be(1);
            }
            if !c.is_ascii() || matches!(c, '=' | '^' | ' ') {
                may_be(0);
            }
            if !c.is_ascii() {
                // One sign for the character, or one for each of its bytes.
                let signs = found.iter().skip(at).take(4);
                let signs = signs.take_while(|c| matches!(c, '?' | '_' | '\u{FFFD}'));
                (1..=signs.count()).for_each(&mut may_be);
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_text_is_recognised_and_another_text_is_not() {
        for (found, truth) in [
            ("ceyp", "Люкceмбypг"),
            ("??czy?ska^Zofia", "Łączyńska^Zofia"),
            ("????? ??", "Дюпон 山"),
            ("\u{FFFD}\u{FFFD}ak", "Żak"),
            ("Yamada^Tarou", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            ("Yamada^Tarou=^=^", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            ("", "山田"),
            ("ŒUVRE", "ŒUVRE"),
            ("UVRE", "ŒUVRE"),
        ] {
            assert!(is_what_is_left(found, truth), "{found} of {truth}");
        }
        for (found, truth) in [
            ("DUPONT^JEAN", "Łączyńska^Zofia"),
            ("Lczyska^Sofia", "Łączyńska^Zofia"),
            ("Lefevre", "Lefèvre"),
            ("L????????????czy", "Łczy"),
        ] {
            assert!(!is_what_is_left(found, truth), "{found} of {truth}");
        }
    }
}
