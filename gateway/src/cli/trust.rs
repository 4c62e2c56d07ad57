//! `drimbox trust`: whom the running service believes, and the bypass of revocation lists.

use std::io::Write;

use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ConfigFile, FAILURE, Service, refuse};
use crate::config;

#[derive(Debug, Subcommand)]
pub(super) enum Trust {
    #[command(about = "Afficher ce sur quoi le service se fonde, et la dérogation s'il y en a une")]
    Show(ConfigFile),
    #[command(
        about = "Relire maintenant les autorités, les listes de révocation et la liste blanche"
    )]
    Refresh(ConfigFile),
    #[command(
        about = "Admettre pour un temps les autres DRIMbox malgré une liste de révocation manquante \
                 ou périmée",
        after_help = "À n'ouvrir que si la publication des listes est en panne. Un certificat déjà \
                      révoqué reste refusé. L'ouverture, chaque usage et la fin sont inscrits au \
                      journal des accès."
    )]
    Bypass {
        #[arg(
            long,
            value_name = "DATE",
            value_parser = moment,
            required_unless_present = "end",
            help = "Fin de la dérogation, par exemple 2026-11-22T08:00:00+01:00"
        )]
        until: Option<String>,
        #[arg(
            long,
            value_name = "TEXTE",
            required_unless_present = "end",
            help = "Pourquoi, pour le journal des accès"
        )]
        reason: Option<String>,
        #[arg(
            long,
            conflicts_with_all = ["until", "reason"],
            help = "Fermer la dérogation maintenant"
        )]
        end: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// What is asked of the running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustCommand {
    /// Tells what it relies on.
    Show,
    /// Reads everything again.
    Refresh,
    /// Lets peers in although revocation lists are missing or expired.
    Bypass {
        /// Until when, RFC 3339.
        until: String,
        /// Why.
        reason: String,
    },
    /// Ends that.
    EndBypass,
}

pub(super) fn execute(
    command: Trust,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let (config, command) = match command {
        Trust::Show(config) => (config, TrustCommand::Show),
        Trust::Refresh(config) => (config, TrustCommand::Refresh),
        Trust::Bypass {
            until: Some(until),
            reason: Some(reason),
            end: false,
            config,
        } => (config, TrustCommand::Bypass { until, reason }),
        Trust::Bypass { config, .. } => (config, TrustCommand::EndBypass),
    };
    let config = match config::load(&config.path) {
        Ok(config) => config,
        Err(error) => return refuse(&error, err),
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    match runtime.block_on(service.trust(&config, &command)) {
        Ok(text) => out.write_all(text.as_bytes()).map(|()| 0),
        Err(error) => writeln!(err, "drimbox : {error:#}").map(|()| FAILURE),
    }
}

fn moment(text: &str) -> Result<String, String> {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("écrire la date, l'heure et le fuseau : 2026-11-22T08:00:00+01:00".to_owned())
        }
    }
}
