//! What was said to whom, and what is still to be said: one file, replaced in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::keys::files;

/// Messages that wait at most: months of a mail server that is down. Beyond, those that a later one about the same
/// certificate has overtaken are dropped, then the oldest.
const MAX_WAITING: usize = 2_000;
/// Bytes of the file that are read.
const MAX_BYTES: u64 = 64 << 20;

/// A message on its way to one recipient. What it says does not change any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same for the same news to the same recipient, also after a crash; part of `Message-ID`.
    pub id: String,
    /// Whom it is for, as [`super::Recipient::key`].
    pub recipient: String,
    /// One line without personal data.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same for machines.
    pub data: serde_json::Value,
    /// When it was written, Unix seconds.
    pub written: i64,
    /// What it is about: a later message about the same to the same recipient says more. Empty: nothing like that.
    #[serde(default)]
    pub about: String,
}

/// The monthly test of one recipient.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Test {
    /// SHA-256 of the token in its link, hexadecimal.
    pub token: String,
    /// Its message.
    pub message: String,
    /// When it was written, Unix seconds.
    pub written: i64,
    /// When the message left, Unix seconds.
    pub delivered: Option<i64>,
    /// When the recipient acknowledged it, Unix seconds.
    pub acknowledged: Option<i64>,
    /// Whether the others were told that this one does not answer.
    pub reported: bool,
}

/// What was said of one certificate at one place.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Said {
    /// When it expires, or was last spoken of after that, Unix seconds: forgotten a while after.
    pub not_after: i64,
    /// The order of the last step, for each recipient.
    pub steps: BTreeMap<String, i64>,
    /// When the last of them was said, Unix seconds.
    #[serde(default)]
    pub at: i64,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    /// By place and fingerprint.
    pub said: BTreeMap<String, Said>,
    /// In the order in which they were written.
    pub waiting: Vec<Message>,
    /// By recipient.
    pub tests: BTreeMap<String, Test>,
    /// When each recipient last got a message, Unix seconds.
    #[serde(default)]
    pub delivered: BTreeMap<String, i64>,
}

impl State {
    /// Reads the file; one that is absent is an empty state. One that cannot be understood is put aside,
    /// under the name returned.
    ///
    /// # Errors
    /// When the system does not let us read it.
    pub fn read(file: &Path) -> io::Result<(Self, Option<PathBuf>)> {
        use io::Read as _;
        let mut text = Vec::new();
        match fs::File::open(file) {
            Ok(open) => open.take(MAX_BYTES).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Self::default(), None));
            }
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&text) {
            Ok(state) => Ok((state, None)),
            Err(_) => {
                let aside = files::beside(file, "damaged");
                files::rename(file, &aside)?;
                Ok((Self::default(), Some(aside)))
            }
        }
    }

    /// Writes it, unless its hash is `written`; durable when it returns. Returns its hash.
    ///
    /// # Errors
    /// Those of the system; the file then is the one before.
    pub fn write_unless(&self, file: &Path, written: &str) -> io::Result<String> {
        let text = serde_json::to_vec(self)?;
        let hash = super::hex(&Sha256::digest(&text));
        if hash != written {
            files::write_new(file, &text)?;
        }
        Ok(hash)
    }

    /// Adds a message, unless it is there already. Returns how many were dropped for it that nothing later makes up for.
    pub fn queue(&mut self, message: Message) -> usize {
        if self.waiting.iter().any(|other| other.id == message.id) {
            return 0;
        }
        self.waiting.push(message);
        if self.waiting.len() > MAX_WAITING {
            self.drop_overtaken();
        }
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        excess
    }

    fn drop_overtaken(&mut self) {
        let mut later = BTreeSet::new();
        let latest_first = self.waiting.drain(..).rev();
        let mut kept: Vec<Message> = latest_first
            .filter(|message| {
                message.about.is_empty()
                    || later.insert((message.recipient.clone(), message.about.clone()))
            })
            .collect();
        kept.reverse();
        self.waiting = kept;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn message(id: usize, about: &str) -> Message {
        Message {
            id: id.to_string(),
            recipient: "mail:anne@centre.example".into(),
            subject: String::new(),
            text: String::new(),
            data: serde_json::Value::Null,
            written: 0,
            about: about.into(),
        }
    }

    #[test]
    fn where_too_much_waits_what_was_overtaken_goes_before_the_only_word_about_something() {
        let mut state = State::default();
        assert_eq!(state.queue(message(0, "db|1")), 0);
        for day in 1..=MAX_WAITING {
            assert_eq!(state.queue(message(day, "psc|1")), 0, "{day}");
        }
        let ids: Vec<&str> = state.waiting.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(ids, ["0", &MAX_WAITING.to_string()]);
        for test in 1..=MAX_WAITING {
            state.queue(message(10_000 + test, ""));
        }
        assert_eq!(state.waiting.len(), MAX_WAITING);
        assert_eq!(state.waiting[0].id, "10001", "then the oldest");
    }
}
