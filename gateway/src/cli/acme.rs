//! `drimbox acme`: the market certificates and the accounts behind them, as the running service has them.

use std::io::Write;

use clap::Subcommand;

use super::{ConfigFile, FAILURE, Service, USAGE, refuse};
use crate::config;

#[derive(Debug, Subcommand)]
pub(super) enum Acme {
    #[command(about = "Afficher les certificats publics, leur prochaine demande et les comptes")]
    Show(ConfigFile),
    #[command(about = "Demander maintenant un nouveau certificat, avec une nouvelle clé")]
    Renew {
        #[arg(value_name = "NOM", help = "Nom DNS du certificat (vi_host)")]
        name: String,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(
        about = "Révoquer le certificat en service et en demander un nouveau",
        after_help = "Le certificat révoqué reste en service jusqu'à l'arrivée du nouveau. Sans \
                      --key-compromised, le motif est le remplacement."
    )]
    Revoke {
        #[arg(value_name = "NOM", help = "Nom DNS du certificat (vi_host)")]
        name: String,
        #[arg(
            long,
            help = "D'autres ont pu lire la clé privée : c'est le motif donné"
        )]
        key_compromised: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(
        name = "roll-over",
        about = "Changer la clé du compte chez l'autorité, par exemple après un incident"
    )]
    RollOver {
        #[arg(
            long,
            value_name = "URL",
            help = "Annuaire de l'autorité ; à préciser s'il y en a plusieurs"
        )]
        authority: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(
        about = "Fermer pour toujours le compte chez l'autorité",
        after_help = "Les certificats délivrés restent valables. Tant que [acme] est dans la \
                      configuration, un autre compte est ouvert à la demande suivante."
    )]
    Deactivate {
        #[arg(
            long,
            value_name = "URL",
            help = "Annuaire de l'autorité ; à préciser s'il y en a plusieurs"
        )]
        authority: Option<String>,
        #[arg(long, help = "Oui, fermer ce compte")]
        yes: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// What is asked of the running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcmeCommand {
    /// Tells how certificates and accounts stand.
    Show,
    /// Orders another certificate for this name.
    Renew(String),
    /// Revokes the certificate of a name, and orders another.
    Revoke {
        /// The name.
        name: String,
        /// Others may know the key.
        key_compromised: bool,
    },
    /// Gives the account at this authority another key.
    RollOver(Option<String>),
    /// Closes the account at this authority.
    Deactivate(Option<String>),
}

pub(super) fn execute(
    command: Acme,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let (config, command) = match command {
        Acme::Show(config) => (config, AcmeCommand::Show),
        Acme::Renew { name, config } => (config, AcmeCommand::Renew(name)),
        Acme::Revoke {
            name,
            key_compromised,
            config,
        } => {
            let command = AcmeCommand::Revoke {
                name,
                key_compromised,
            };
            (config, command)
        }
        Acme::RollOver { authority, config } => (config, AcmeCommand::RollOver(authority)),
        Acme::Deactivate { yes: false, .. } => {
            writeln!(
                err,
                "drimbox : un compte fermé ne se rouvre pas.\n  Remède : ajouter --yes pour le fermer."
            )?;
            return Ok(USAGE);
        }
        Acme::Deactivate {
            authority, config, ..
        } => (config, AcmeCommand::Deactivate(authority)),
    };
    let config = match config::load(&config.path) {
        Ok(config) => config,
        Err(error) => return refuse(&error, err),
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    match runtime.block_on(service.acme(&config, &command)) {
        Ok(text) => out.write_all(text.as_bytes()).map(|()| 0),
        Err(error) => writeln!(err, "drimbox : {error:#}").map(|()| FAILURE),
    }
}
