//! `drimbox keys`: private keys at rest.

use clap::Subcommand;
use std::io::Write;

use super::whose::{OfWhom, Whose};
use super::{FAILURE, USAGE, load, refuse};
use crate::config::{self, ConfigError};
use crate::keys::Passphrase;
use crate::keys::convert::{AtRest, KeyFile, all, all_of_proxy};

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    #[command(about = "Dire, pour chaque clé privée, si elle est chiffrée sur le disque")]
    Status(Whose),
    #[command(
        about = "Chiffrer toutes les clés avec la phrase de passe de [keys]",
        after_help = "Service arrêté de préférence. Une clé chiffrée se lit aussi par : openssl pkcs8 -in \
                      FICHIER ; les autres fichiers par : age -d FICHIER."
    )]
    Encrypt(Whose),
    #[command(
        about = "Remettre toutes les clés en clair, pour changer de phrase de passe ou s'en passer"
    )]
    Decrypt(Whose),
}

/// Every key there is, and the passphrase of `[keys]`.
fn keys_of(whose: &Whose) -> Result<(Vec<KeyFile>, Option<Passphrase>), ConfigError> {
    match whose.of_whom() {
        OfWhom::Proxy(path) => {
            let config = config::load_proxy(path)?;
            Ok((all_of_proxy(&config), config.keys.passphrase))
        }
        OfWhom::Gateway(path) => {
            let config = load(path)?;
            Ok((all(&config), config.keys.passphrase))
        }
    }
}

pub(super) fn execute(
    command: &Keys,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let (Keys::Status(whose) | Keys::Encrypt(whose) | Keys::Decrypt(whose)) = command;
    let (keys, passphrase) = match keys_of(whose) {
        Ok(found) => found,
        Err(error) => return refuse(&error, err),
    };
    let to = match command {
        Keys::Status(_) => None,
        Keys::Encrypt(_) => Some(AtRest::Encrypted),
        Keys::Decrypt(_) => Some(AtRest::Clear),
    };
    if to.is_some() && passphrase.is_none() {
        writeln!(
            err,
            "{} : il n'y a pas de phrase de passe.\n  Remède : ajouter keys.passphrase_file (droits 600), ou \
             lancer cette commande avec le secret systemd « {} ».",
            whose.file().display(),
            crate::keys::CREDENTIAL
        )?;
        return Ok(USAGE);
    }
    let mut failed = false;
    for key in keys {
        let path = key.path.display();
        let word = |at_rest| match at_rest {
            AtRest::Clear => "en clair",
            AtRest::Encrypted => "chiffrée",
        };
        let said = match (to, &passphrase) {
            (Some(to), Some(passphrase)) => {
                key.convert(to, passphrase).map(|changed| match changed {
                    true => format!("{}, à l'instant", word(to)),
                    false => format!("{}, déjà", word(to)),
                })
            }
            _ => key
                .at_rest()
                .map(|at| word(at).to_owned())
                .map_err(Into::into),
        };
        match said {
            Ok(said) => writeln!(out, "{path} : {said}")?,
            Err(error) => {
                failed = true;
                writeln!(err, "{path} : {error}")?;
            }
        }
    }
    Ok(if failed { FAILURE } else { 0 })
}
