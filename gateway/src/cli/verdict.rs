//! What a check found, step by step, in words an administrator can act on.

use std::io::Write;

/// The outcome of one step of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What was tried, in French: `Association`, `C-ECHO`, `Certificat de db.centre.fr`.
    pub step: String,
    /// Whether it went well.
    pub outcome: Outcome,
    /// What was found, a French sentence; no patient data.
    pub detail: String,
    /// What to do about it, a French sentence; `None` when there is nothing to do.
    pub remedy: Option<String>,
}

/// Whether a step went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Works, with something to know or to correct.
    Warning,
    /// Does not work.
    Failed,
}

impl Verdict {
    /// A step that went well.
    #[must_use]
    pub fn ok(step: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            step: step.into(),
            outcome: Outcome::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    /// A step that works, with something to correct.
    #[must_use]
    pub fn warning(
        step: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            step: step.into(),
            outcome: Outcome::Warning,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// A step that does not work.
    #[must_use]
    pub fn failed(
        step: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            step: step.into(),
            outcome: Outcome::Failed,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }
}

/// Writes one line a verdict, its remedy below it, and a line that sums up.
///
/// # Errors
///
/// Those of `out`.
pub fn print_verdicts(verdicts: &[Verdict], out: &mut impl Write) -> std::io::Result<()> {
    let (mut failed, mut warned) = (0, 0);
    for verdict in verdicts {
        let mark = match verdict.outcome {
            Outcome::Ok => "ok       ",
            Outcome::Warning => {
                warned += 1;
                "attention"
            }
            Outcome::Failed => {
                failed += 1;
                "ÉCHEC    "
            }
        };
        writeln!(out, "  {mark}  {} : {}", verdict.step, verdict.detail)?;
        if let Some(remedy) = &verdict.remedy {
            writeln!(out, "             Remède : {remedy}")?;
        }
    }
    match (failed, warned) {
        (0, 0) => writeln!(out, "Tout est en ordre."),
        (0, n) => writeln!(out, "Rien de bloquant, {n} point(s) à regarder."),
        (n, _) => writeln!(out, "{n} échec(s) à corriger."),
    }
}
