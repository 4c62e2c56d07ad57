//! `[login]`: sessions of people on the `vi` names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::section::Section;
use super::value::{Fault, Value};

/// Longest text shown on a page, characters.
const MAX_TEXT: usize = 200;

/// `[login]`
#[derive(Debug, Clone)]
pub struct Login {
    /// Without a request for this long, a session is over.
    pub idle_timeout: Duration,
    /// A session is over this long after its login, whatever happens.
    pub absolute_timeout: Duration,
    /// Sessions kept at once; beyond, the one unused for longest ends.
    pub max_sessions: usize,
    /// Logins under way at once; beyond, the oldest of the busiest address is dropped.
    pub max_pending: usize,
    /// Key that encrypts sessions on disk; made at the first start.
    pub key_file: PathBuf,
    /// Name of the centre on the pages.
    pub centre: Option<String>,
    /// Whom to call, as it stands on the pages.
    pub contact: Option<String>,
}

/// Reads the table, or its defaults when it is absent.
pub(super) fn read(section: Section<'_>, data_dir: &Path) -> Login {
    let hours = 3_600.0;
    let login = Login {
        idle_timeout: section.or("idle_timeout_seconds", Duration::from_secs(1_200), |v| {
            v.seconds(60.0..=4.0 * hours)
        }),
        absolute_timeout: section.or(
            "absolute_timeout_seconds",
            Duration::from_secs(14_400),
            // PSC's own sessions last 4 h at most.
            |v| v.seconds(60.0..=4.0 * hours),
        ),
        max_sessions: section.or("max_sessions", 5_000, |v| v.integer(1..=100_000)),
        max_pending: section.or("max_pending", 10_000, |v| v.integer(1..=100_000)),
        key_file: section.or("key_file", data_dir.join("sessions.key"), |v| v.path()),
        centre: section.optional("centre", text),
        contact: section.optional("contact", text),
    };
    section.finish();
    login
}

fn text(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?.trim();
    let fits = text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce texte ne peut être affiché",
            format!("écrire une seule ligne de {MAX_TEXT} caractères au plus"),
        )
    })
}
