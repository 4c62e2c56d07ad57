//! Commands that work on the gateway or on a proxy e-santé.

use std::path::{Path, PathBuf};

use super::ConfigFile;
use crate::config;

/// Whose configuration a command reads.
#[derive(Debug, clap::Args)]
pub(super) struct Whose {
    #[command(flatten)]
    gateway: ConfigFile,
    #[arg(
        long,
        value_name = "FICHIER",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = config::DEFAULT_PROXY_FILE,
        help = "Du proxy e-santé (drimbox proxy) et non de la passerelle ; son fichier de configuration s'il est ailleurs"
    )]
    proxy: Option<PathBuf>,
}

/// A configuration file.
#[derive(Debug, Clone, Copy)]
pub(super) enum OfWhom<'a> {
    Gateway(&'a Path),
    Proxy(&'a Path),
}

impl Whose {
    pub(super) fn file(&self) -> &Path {
        let (OfWhom::Gateway(file) | OfWhom::Proxy(file)) = self.of_whom();
        file
    }

    pub(super) fn of_whom(&self) -> OfWhom<'_> {
        match &self.proxy {
            Some(file) => OfWhom::Proxy(file),
            None => OfWhom::Gateway(&self.gateway.path),
        }
    }
}
