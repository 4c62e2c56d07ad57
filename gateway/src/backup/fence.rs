//! The file that keeps a gateway from starting until a person has said that it is the only one.
//!
//! « Un même certificat ne peut être recopié sur deux serveurs » (guide de l'ANS): after a move, one of
//! the two boxes must stay off. A backup to move fences the old one, a restore fences the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::write_durably;

/// Its name in the data folder.
pub(super) const NAME: &str = "fence";

/// Why a gateway does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Its contents went to another machine.
    Moved,
    /// Its contents come from another machine.
    Restored,
    /// A restore did not come to its end.
    Incomplete,
}

/// The gateway is fenced.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// By a move.
    #[error(
        "cette passerelle a été sauvegardée pour être déplacée : une autre machine a ses certificats, et un même \
         certificat ne peut être recopié sur deux serveurs.\n  Remède : laisser celle-ci arrêtée ; si l'autre n'a \
         pas servi et ne servira pas, drimbox serve --i-am-the-only-one."
    )]
    Moved,
    /// By a restore.
    #[error(
        "cette passerelle vient d'être restaurée, et un même certificat ne peut être recopié sur deux serveurs.\n  \
         Remède : s'assurer que l'ancienne machine est arrêtée pour de bon, puis drimbox serve \
         --i-am-the-only-one (une fois)."
    )]
    Restored,
    /// By a restore that was interrupted.
    #[error(
        "la restauration de cette passerelle a été interrompue.\n  Remède : la relancer, drimbox restore --replace."
    )]
    Incomplete,
    /// The file cannot be read or removed.
    #[error("{path} : {source}.\n  Remède : donner ce fichier au compte du service.")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

impl Fence {
    fn word(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Restored => "restored",
            Self::Incomplete => "incomplete",
        }
    }

    /// Puts it up; durable when it returns.
    ///
    /// # Errors
    /// Those of the system.
    pub fn put_up(self, data_dir: &Path) -> io::Result<()> {
        write_durably(
            &data_dir.join(NAME),
            0o600,
            format!("{}\n", self.word()).as_bytes(),
        )
    }
}

/// Whether the gateway of this folder may start. `alone`: a person says that it is the only one, which
/// takes the fence down.
///
/// # Errors
/// [`FenceError`].
pub fn pass(data_dir: &Path, alone: bool) -> Result<(), FenceError> {
    let path = data_dir.join(NAME);
    let failed = |source| FenceError::File {
        path: path.clone(),
        source,
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let fence = match text.trim() {
        "moved" => FenceError::Moved,
        "restored" => FenceError::Restored,
        _ => return Err(FenceError::Incomplete),
    };
    if !alone {
        return Err(fence);
    }
    fs::remove_file(&path).map_err(failed)?;
    super::sync_folder(&path).map_err(failed)
}
