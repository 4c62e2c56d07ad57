//! What servers said of the lists that they gave (RFC 9110 §8.8), on disk beside the lists: after a restart too only a
//! newer one is sent.
//!
//! Nothing is believed because of it. What is noted counts only while the list with this SHA-256 is in use, which was
//! verified when it was read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::disk;
use super::http::Validators;

/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 128;
/// Bytes of an address or of a validator that is remembered.
const MAX_TEXT: usize = 2_048;
/// Bytes of the file.
const MAX_FILE: usize = 2 << 20;

/// What a source said of the list that it gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) validators: Validators,
    /// SHA-256 of the list.
    pub(super) digest: [u8; 32],
}

/// As the file has it.
#[derive(Debug, Serialize, Deserialize)]
struct Noted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    digest: [u8; 32],
}

/// Of each address, what its server said last.
#[derive(Debug)]
pub(super) struct Validated {
    file: PathBuf,
    given: Mutex<BTreeMap<String, Given>>,
}

impl Validated {
    /// Reads what was kept below the trust folder; a file that cannot be read is as none. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn open(folder: &Path) -> std::io::Result<Self> {
        let folder = folder.join("downloads");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("validators.json");
        let kept = disk::read(&file, MAX_FILE).ok().flatten();
        let noted: Option<BTreeMap<String, Noted>> =
            kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let given = noted.unwrap_or_default().into_iter().take(MAX_ADDRESSES);
        let given = given.map(|(url, noted)| (url, noted.given())).collect();
        Ok(Self {
            file,
            given: Mutex::new(given),
        })
    }

    /// What is known of an address.
    pub(super) fn get(&self, url: &str) -> Option<Given> {
        self.given.lock().get(url).cloned()
    }

    /// Remembers what a server said, and keeps it on disk. Blocks.
    ///
    /// # Errors
    /// When it cannot be written; it is remembered until the end of the process.
    pub(super) fn keep(&self, url: &str, given: Given) -> std::io::Result<()> {
        let mut all = self.given.lock();
        if all.get(url) == Some(&given) {
            return Ok(());
        }
        // Addresses change seldom: those of before may be asked whole once.
        if !all.contains_key(url) && all.len() >= MAX_ADDRESSES {
            all.clear();
        }
        all.insert(url.to_owned(), given);
        let noted: BTreeMap<_, _> = all
            .iter()
            .filter_map(|(url, given)| Some((url, Noted::of(url, given)?)))
            .collect();
        // Under the lock: the newest is written last.
        disk::write(&self.file, &serde_json::to_vec(&noted)?)
    }
}

impl Noted {
    fn of(url: &str, given: &Given) -> Option<Self> {
        let text = |value: &Option<HeaderValue>| {
            let text = value.as_ref()?.to_str().ok()?;
            (text.len() <= MAX_TEXT).then(|| text.to_owned())
        };
        let noted = Self {
            etag: text(&given.validators.etag),
            last_modified: text(&given.validators.modified),
            digest: given.digest,
        };
        let useful = noted.etag.is_some() || noted.last_modified.is_some();
        (useful && url.len() <= MAX_TEXT).then_some(noted)
    }

    fn given(self) -> Given {
        let field = |text: Option<String>| HeaderValue::try_from(text?).ok();
        Given {
            validators: Validators {
                etag: field(self.etag),
                modified: field(self.last_modified),
            },
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn given(etag: &str) -> Given {
        Given {
            validators: Validators {
                etag: Some(HeaderValue::from_str(etag).unwrap()),
                modified: None,
            },
            digest: [7; 32],
        }
    }

    #[test]
    fn what_was_said_is_read_back_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Validated::open(folder.path()).unwrap();
        let first = open();
        first.keep("http://a/", given("\"one\"")).unwrap();
        first
            .keep("http://long/", given(&"x".repeat(MAX_TEXT + 1)))
            .unwrap();
        assert!(first.get("http://long/").is_some());
        let second = open();
        assert_eq!(second.get("http://a/"), Some(given("\"one\"")));
        assert_eq!(second.get("http://long/"), None);
        for number in 0..3 * MAX_ADDRESSES {
            second
                .keep(&format!("http://{number}/"), given("e"))
                .unwrap();
        }
        assert!(open().given.lock().len() <= MAX_ADDRESSES);
        std::fs::write(&second.file, "{ not json").unwrap();
        assert!(open().given.lock().is_empty());
    }
}
