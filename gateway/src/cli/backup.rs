//! `drimbox backup` and `drimbox restore`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{ConfigFile, FAILURE, refuse};
use crate::backup::{self, WORK};
use crate::config;

#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    #[arg(
        value_name = "FICHIER",
        help = "Sauvegarde à écrire ; ne doit pas exister"
    )]
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    #[arg(
        long = "move",
        help = "Déménagement : cette machine ne redémarrera plus sans --i-am-the-only-one"
    )]
    moving: bool,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    #[arg(value_name = "FICHIER", help = "Sauvegarde à lire")]
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    #[arg(long, help = "Remplacer ce qui est déjà là")]
    replace: bool,
    #[arg(
        long,
        value_name = "DOSSIER",
        default_value = "/",
        help = "Dossier sous lequel tout écrire, pour un essai"
    )]
    root: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Passphrase {
    #[arg(
        long,
        value_name = "FICHIER",
        help = "Fichier dont la première ligne est la phrase de passe (droits 600)"
    )]
    passphrase_file: PathBuf,
}

/// The rule of the certificates' authority.
const RULE: &str = "Un même certificat ne peut être recopié sur deux serveurs : une seule des deux machines peut \
                    fonctionner.";

pub(super) fn backup(
    asked: &Backup,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let path = &asked.config.path;
    let config = match config::load(path) {
        Ok(config) => config,
        Err(error) => return refuse(&error, err),
    };
    let made = backup::passphrase(&asked.passphrase.passphrase_file).and_then(|passphrase| {
        backup::backup(&config, path, &asked.file, passphrase, WORK, asked.moving)
    });
    let made = match made {
        Ok(made) => made,
        Err(error) => return writeln!(err, "{error}").map(|()| FAILURE),
    };
    writeln!(
        out,
        "{} : {} fichiers, {} octets, chiffrés (format age).\nSans sa phrase de passe, cette sauvegarde ne sert à \
         rien : la garder ailleurs.\n{RULE}",
        asked.file.display(),
        made.files,
        made.bytes
    )?;
    if asked.moving {
        writeln!(
            out,
            "Le service de cette machine s'arrête de lui-même dans les secondes qui viennent et ne redémarrera plus : le \
             désactiver (systemctl disable --now drimbox), puis drimbox restore sur la nouvelle."
        )?;
    }
    Ok(0)
}

pub(super) fn restore(
    asked: &Restore,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let passphrase = match backup::passphrase(&asked.passphrase.passphrase_file) {
        Ok(passphrase) => passphrase,
        Err(error) => return writeln!(err, "{error}").map(|()| FAILURE),
    };
    match backup::restore(&asked.file, &passphrase, &asked.root, asked.replace) {
        Ok(restored) => {
            let (data, config) = (restored.data_dir.display(), restored.config.display());
            writeln!(
                out,
                "{} fichiers restaurés, configuration {config}.\n{RULE}\nEnsuite :\n  1. rendre les fichiers au compte \
                 du service : chown -R drimbox: {data}, et les clés que nomme la configuration ;\n  2. drimbox check \
                 config ;\n  3. s'assurer que l'ancienne machine est arrêtée pour de bon ;\n  4. drimbox serve \
                 --i-am-the-only-one, une fois.",
                restored.files
            )?;
            Ok(0)
        }
        Err(error) => writeln!(err, "{error}").map(|()| FAILURE),
    }
}

/// Whether the gateway of this folder may start, or show its certificates to others; else what to print.
pub(super) fn may_start(
    data_dir: &Path,
    alone: bool,
    err: &mut impl Write,
) -> std::io::Result<bool> {
    match backup::fence::pass(data_dir, alone) {
        Ok(()) => Ok(true),
        Err(error) => writeln!(err, "drimbox : {error}").map(|()| false),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backup::fence::Fence;

    #[test]
    fn a_fenced_gateway_says_why_it_does_not_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut err = Vec::new();
        assert!(may_start(folder.path(), false, &mut err).unwrap());
        Fence::Moved.put_up(folder.path()).unwrap();
        assert!(!may_start(folder.path(), false, &mut err).unwrap());
        let said = String::from_utf8(err).unwrap();
        assert!(said.contains("recopié sur deux serveurs"), "{said}");
        assert!(said.contains("--i-am-the-only-one"), "{said}");
        assert!(may_start(folder.path(), true, &mut Vec::new()).unwrap());
    }
}
