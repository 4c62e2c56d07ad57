//! `drimbox fetch`: its arguments, its progress bar, what it says at its end.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Config, FAILURE, Service, USAGE};
use crate::archive::peer::PeerError;

/// How often the bar is drawn.
const REDRAWN: Duration = Duration::from_millis(200);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// What to fetch.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Fetch {
    /// The KOS of the exam.
    #[arg(long, value_name = "FICHIER", help = "KOS de l'examen (fichier DICOM)")]
    pub kos: PathBuf,
    /// Where the images go.
    #[arg(
        long,
        value_name = "DOSSIER",
        help = "Dossier où écrire les images ; celles qui y sont déjà ne sont pas redemandées"
    )]
    pub out: PathBuf,
    /// File with the token of the professional on its first line.
    #[arg(
        long,
        value_name = "FICHIER",
        help = "Fichier dont la première ligne est le jeton Pro Santé Connect ; il est relu à chaque \
                requête"
    )]
    pub token_file: Option<PathBuf>,
}

/// How far a fetch is.
#[derive(Debug, Default)]
pub struct Progress {
    expected: AtomicU64,
    instances: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Says how many instances there are.
    pub fn expects(&self, instances: u64) {
        self.expected.store(instances, Ordering::Relaxed);
    }

    /// Adds instances that are in the folder now, and bytes that came.
    pub fn has(&self, instances: u64, bytes: u64) {
        self.instances.fetch_add(instances, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that came.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn bar(&self) -> String {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (expected, done) = (of(&self.expected), of(&self.instances));
        let filled = (done * WIDTH).checked_div(expected).unwrap_or(0).min(WIDTH);
        let bar: String = (0..WIDTH)
            .map(|at| if at < filled { '#' } else { '.' })
            .collect();
        format!(
            "\r[{bar}] {done}/{expected} images, {}  ",
            megabytes(of(&self.bytes))
        )
    }
}

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Instances of the exam, all in the folder.
    pub instances: u64,
    /// Of these, those that were there before.
    pub at_hand: u64,
    /// Bytes that came.
    pub bytes: u64,
}

/// Why an exam is not whole in its folder.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Something to correct before it is tried again: a French sentence.
    #[error("{0}")]
    Configuration(String),
    /// The source did not give it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Not all came.
    #[error(
        "{missing} images sur {expected} ne sont pas venues. Relancer la même commande ne redemande que celles-là"
    )]
    Incomplete {
        /// Instances that did not come.
        missing: u64,
        /// Instances of the exam.
        expected: u64,
    },
    /// Anything else.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

/// Runs the command and returns its exit code.
pub(super) fn run(
    config: &Config,
    fetch: &Fetch,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().build()?;
    let shown = std::io::stderr().is_terminal();
    let progress = Arc::new(Progress::default());
    let outcome: std::io::Result<_> = runtime.block_on(async {
        let mut work = std::pin::pin!(service.fetch(config, fetch, &progress));
        loop {
            match tokio::time::timeout(REDRAWN, &mut work).await {
                Ok(outcome) => return Ok(outcome),
                Err(_) if shown => {
                    write!(err, "{}", progress.bar())?;
                    err.flush()?;
                }
                Err(_) => {}
            }
        }
    });
    let outcome = outcome?;
    if shown {
        writeln!(err, "{}", progress.bar())?;
    }
    match outcome {
        Ok(fetched) => {
            writeln!(
                out,
                "Examen complet : {} images ({} déjà là), {} reçus, dans {}",
                fetched.instances,
                fetched.at_hand,
                megabytes(fetched.bytes),
                fetch.out.display()
            )?;
            Ok(0)
        }
        Err(FetchError::Configuration(text)) => writeln!(err, "drimbox : {text}").map(|()| USAGE),
        Err(FetchError::Peer(error)) => {
            let advice = error.advice();
            writeln!(
                err,
                "drimbox : {}\n  Remède : {}\n  Détail : {error}",
                advice.message, advice.remedy
            )
            .map(|()| FAILURE)
        }
        Err(error) => writeln!(err, "drimbox : {error}").map(|()| FAILURE),
    }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{},{} Mo", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_the_images_and_never_beyond_its_width() {
        let progress = Progress::default();
        let bar = |filled: usize, rest: &str| {
            let (done, left) = ("#".repeat(filled), ".".repeat(WIDTH as usize - filled));
            format!("\r[{done}{left}] {rest}  ")
        };
        assert_eq!(progress.bar(), bar(0, "0/0 images, 0,0 Mo"));
        progress.expects(1300);
        assert_eq!(progress.bar(), bar(0, "0/1300 images, 0,0 Mo"));
        progress.has(650, 340_000_000);
        let half = WIDTH as usize / 2;
        assert_eq!(progress.bar(), bar(half, "650/1300 images, 340,0 Mo"));
        progress.has(650, 340_000_000);
        let whole = WIDTH as usize;
        assert_eq!(progress.bar(), bar(whole, "1300/1300 images, 680,0 Mo"));
        // A KOS that was replaced meanwhile may have brought more than was expected.
        progress.has(1, 0);
        assert_eq!(progress.bar(), bar(whole, "1301/1300 images, 680,0 Mo"));
    }
}
