//! The command line: arguments, what the commands print, exit codes.
//!
//! It parses, loads the configuration, calls [`Service`] and prints; it opens no socket itself.
//! What an administrator reads is in French.

mod acme;
mod audit;
mod backup;
mod certs;
mod check;
mod exams;
mod fetch;
mod keys;
mod manual;
mod trust;
mod verdict;
mod whitelist;
mod whose;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Config, ConfigError, ProxyConfig};
use crate::pixels::worker;

pub use acme::AcmeCommand;
pub(crate) use check::certificate;
pub use check::check_config;
pub use exams::{ExamsCommand, NewExam};
pub use fetch::{Fetch, FetchError, Fetched, Progress};
pub use trust::TrustCommand;
pub use verdict::{Outcome, Verdict, print_verdicts};

/// A check failed, or the service stopped on an error.
const FAILURE: u8 = 1;
/// The command line or the configuration is wrong.
const USAGE: u8 = 2;

/// What the commands need from the rest of the gateway.
pub trait Service {
    /// Runs the gateway until it is told to stop.
    ///
    /// # Errors
    ///
    /// When it cannot start, or stops for another reason than a request to stop.
    fn serve(&self, config: Config) -> impl Future<Output = anyhow::Result<()>>;

    /// Tries one PACS step by step; `name` is one of `config.pacs`. A step that makes the next ones
    /// meaningless ends the list.
    fn check_pacs(&self, config: &Config, name: &str) -> impl Future<Output = Vec<Verdict>>;

    /// Looks at the market certificates and at all that their renewal needs; orders nothing.
    fn check_acme(&self, config: &Config) -> impl Future<Output = Vec<Verdict>>;
    /// Fetches the exam that a KOS announces from its source into a folder.
    ///
    /// # Errors
    ///
    /// [`FetchError`] when the exam is not whole in the folder afterwards.
    fn fetch(
        &self,
        config: &Config,
        fetch: &Fetch,
        progress: &Arc<Progress>,
    ) -> impl Future<Output = Result<Fetched, FetchError>>;
    /// Tries Pro Santé Connect step by step, as `[psc]` has it.
    fn check_psc(&self, config: &Config) -> impl Future<Output = Vec<Verdict>>;

    /// Tries the certificate of each structure in a handshake with the DMP; sends nothing else.
    fn check_dmp(&self, config: &Config) -> impl Future<Output = Vec<Verdict>>;

    /// Runs the proxy e-santé until it is told to stop.
    ///
    /// # Errors
    ///
    /// When it cannot start, or stops for another reason than a request to stop.
    fn proxy(&self, config: ProxyConfig) -> impl Future<Output = anyhow::Result<()>>;
    /// Asks the running service about its published exams; what to print.
    ///
    /// # Errors
    ///
    /// When it does not run, or refuses.
    fn exams(
        &self,
        config: &Config,
        command: &ExamsCommand,
    ) -> impl Future<Output = anyhow::Result<String>>;

    /// Asks the running service about its market certificates and accounts, or acts on them; what to print.
    ///
    /// # Errors
    ///
    /// When it does not run, or refuses, or an authority does.
    fn acme(
        &self,
        config: &Config,
        command: &AcmeCommand,
    ) -> impl Future<Output = anyhow::Result<String>>;

    /// Asks the running service whom it believes, or changes that; what to print.
    ///
    /// # Errors
    ///
    /// When it does not run, or refuses.
    fn trust(
        &self,
        config: &Config,
        command: &TrustCommand,
    ) -> impl Future<Output = anyhow::Result<String>>;
}

#[derive(Debug, Parser)]
#[command(
    name = "drimbox",
    version,
    about = "Passerelle entre un PACS et le réseau DRIM-M",
    after_help = "Codes de sortie : 0 tout va bien ; 1 un contrôle a échoué, ou le service s'est \
                  arrêté sur une erreur ; 2 la ligne de commande ou la configuration est à \
                  corriger.",
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(about = "Démarrer le service")]
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        #[arg(
            long,
            help = "Après une restauration ou un déménagement : cette machine est la seule à utiliser ses certificats"
        )]
        i_am_the_only_one: bool,
    },
    #[command(
        about = "Sauvegarder la configuration, les clés, les certificats et les comptes, chiffrés",
        after_help = "Le journal des accès et les images en cache n'en font pas partie."
    )]
    Backup(backup::Backup),
    #[command(about = "Restaurer une sauvegarde sur cette machine")]
    Restore(backup::Restore),
    #[command(about = "Contrôler la configuration ou un PACS, sans démarrer le service")]
    Check {
        #[command(subcommand)]
        what: Check,
    },
    #[command(about = "Récupérer un examen d'une autre DRIMbox, d'après son KOS")]
    Fetch {
        #[command(flatten)]
        fetch: Fetch,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(about = "Inventaire des certificats de la passerelle")]
    Certs {
        #[command(subcommand)]
        what: certs::Certs,
    },
    #[command(about = "Clés privées : chiffrées ou en clair sur le disque")]
    Keys {
        #[command(subcommand)]
        what: keys::Keys,
    },
    #[command(
        about = "Certificats publics obtenus par la passerelle : état, renouvellement, compte"
    )]
    Acme {
        #[command(subcommand)]
        what: acme::Acme,
    },
    #[command(about = "Liste blanche des DRIMbox : afficher, vérifier, actualiser")]
    Whitelist {
        #[command(subcommand)]
        what: whitelist::Command,
    },
    #[command(about = "Confiance du service en marche : état, actualisation, dérogation")]
    Trust {
        #[command(subcommand)]
        what: trust::Trust,
    },
    #[command(about = "Journal des accès : le contrôler, le consulter, l'exporter")]
    Audit {
        #[command(subcommand)]
        what: audit::Trail,
    },
    #[command(about = "Statistiques d'usage (ModelStat)")]
    Stats {
        #[command(subcommand)]
        what: audit::Stats,
    },
    #[command(
        about = "Démarrer le proxy e-santé, un service à part avec sa propre configuration",
        long_about = "Démarrer le proxy e-santé : connexion des professionnels par CIBA (/connect), \
                      requêtes vers les API Pro Santé Connectées (/send), déconnexion \
                      (/disconnect), traces. Il a sa propre configuration et ses propres clés, et \
                      ne partage rien avec la passerelle."
    )]
    Proxy {
        #[arg(
            long = "config",
            value_name = "FICHIER",
            env = "DRIMBOX_PROXY_CONFIG",
            hide_env = true,
            default_value = config::DEFAULT_PROXY_FILE,
            help = "Fichier de configuration du proxy ; sans cette option, celui de la variable \
                    DRIMBOX_PROXY_CONFIG"
        )]
        path: PathBuf,
    },
    #[command(about = "Ouvrir des examens aux autres DRIMbox, les lister, les fermer")]
    Exams {
        #[command(subcommand)]
        what: exams::Exams,
    },
    #[command(about = "Afficher la version")]
    Version,
    #[command(about = "Écrire le script de complétion d'un interpréteur de commandes")]
    Completions {
        #[arg(help = "bash, zsh, fish, elvish ou powershell")]
        shell: clap_complete::Shell,
    },
    #[command(about = "Écrire la page de manuel (roff)")]
    Manpage,
    /// Started by the service itself: see [`worker`].
    #[command(name = worker::COMMAND, hide = true)]
    CodecWorker {
        /// Bytes that jobs may take.
        memory: u64,
        /// Seconds of processor time for one job.
        seconds: u64,
    },
}

#[derive(Debug, Subcommand)]
enum Check {
    #[command(about = "Contrôler le fichier de configuration et les certificats qu'il nomme")]
    Config(ConfigFile),
    #[command(
        about = "Contrôler les certificats publics (vi) et ce qu'il faut pour les renouveler"
    )]
    Acme(ConfigFile),
    #[command(about = "Contrôler un PACS : association, C-ECHO, recherche, récupération")]
    Pacs {
        #[arg(
            value_name = "NOM",
            help = "Nom du PACS dans la configuration (clé name)"
        )]
        name: String,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(
        about = "Contrôler l'accès au DMP : une négociation TLS par structure, et le certificat qu'il présente"
    )]
    Dmp(ConfigFile),
    #[command(about = "Contrôler Pro Santé Connect : certificat, adresses, clés, jetons, horloge")]
    Psc(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    #[arg(
        long = "config",
        value_name = "FICHIER",
        env = "DRIMBOX_CONFIG",
        hide_env = true,
        default_value = config::DEFAULT_FILE,
        help = "Fichier de configuration ; sans cette option, celui de la variable DRIMBOX_CONFIG"
    )]
    path: PathBuf,
}

/// Runs one command and returns its exit code: 0 when all is well, 1 when a check failed or the
/// service ended on an error, 2 when the command line or the configuration is wrong.
///
/// Answers go to `out`, errors to `err`.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(refusal) => {
            let wrong = refusal.use_stderr();
            let text = refusal.render();
            let shown = if wrong {
                write!(err, "{text}")
            } else {
                write!(out, "{text}")
            };
            return code(shown.map(|()| if wrong { USAGE } else { 0 }));
        }
    };
    code(execute(arguments.command, service, out, err))
}

/// Reads the configuration; from now on this process opens encrypted keys.
fn load(path: &Path) -> Result<Config, ConfigError> {
    config::load(path).map(unlocked)
}

fn unlocked(config: Config) -> Config {
    unlock(&config.keys);
    config
}

fn unlock(keys: &config::Keys) {
    if let Some(passphrase) = keys.passphrase.clone() {
        crate::keys::unlock(passphrase);
    }
}

fn code(ended: std::io::Result<u8>) -> ExitCode {
    // A reader that closed the pipe (`drimbox manpage | head`) leaves nothing to say, nor to whom.
    ended.map_or(ExitCode::from(FAILURE), ExitCode::from)
}

fn execute(
    command: Command,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    match command {
        Command::Serve {
            config: ConfigFile { path },
            i_am_the_only_one,
        } => match load(&path) {
            Ok(config) if !backup::may_start(&config.data_dir, i_am_the_only_one, err)? => {
                Ok(FAILURE)
            }
            Ok(config) => until_stopped(service.serve(config), err),
            Err(error) => refuse(&error, err),
        },
        Command::Check {
            what: Check::Config(ConfigFile { path }),
        } => match load(&path) {
            Ok(config) => {
                writeln!(out, "Configuration {}", path.display())?;
                report(&check_config(&config, SystemTime::now()), out)
            }
            Err(error) => refuse(&error, err),
        },
        Command::Check {
            what: Check::Pacs { name, config },
        } => match load(&config.path) {
            Ok(loaded) if !backup::may_start(&loaded.data_dir, false, err)? => Ok(FAILURE),
            Ok(loaded) => check_pacs(&loaded, &config.path, &name, service, out, err),
            Err(error) => refuse(&error, err),
        },
        Command::Check {
            what: Check::Acme(ConfigFile { path }),
        } => match load(&path) {
            Ok(config) => check_acme(&config, service, out),
            Err(error) => refuse(&error, err),
        },
        Command::Check {
            what: Check::Dmp(ConfigFile { path }),
        } => match load(&path) {
            Ok(config) if !backup::may_start(&config.data_dir, false, err)? => Ok(FAILURE),
            Ok(config) => check_dmp(&config, service, out),
            Err(error) => refuse(&error, err),
        },
        Command::Fetch {
            fetch,
            config: ConfigFile { path },
        } => match load(&path) {
            Ok(config) if !backup::may_start(&config.data_dir, false, err)? => Ok(FAILURE),
            Ok(config) => fetch::run(&config, &fetch, service, out, err),
            Err(error) => refuse(&error, err),
        },
        Command::Backup(asked) => backup::backup(&asked, out, err),
        Command::Restore(asked) => backup::restore(&asked, out, err),
        Command::Acme { what } => acme::execute(what, service, out, err),
        Command::Certs { what } => certs::execute(what, out, err),
        Command::Keys { what } => keys::execute(&what, out, err),
        Command::Whitelist { what } => whitelist::run(what, out, err),
        Command::Trust { what } => trust::execute(what, service, out, err),
        Command::Audit { what } => audit::execute(what, out, err),
        Command::Stats { what } => audit::stats(what, out, err),
        Command::Check {
            what: Check::Psc(ConfigFile { path }),
        } => match load(&path) {
            Ok(loaded) if !backup::may_start(&loaded.data_dir, false, err)? => Ok(FAILURE),
            Ok(loaded) => check_psc(&loaded, &path, service, out, err),
            Err(error) => refuse(&error, err),
        },
        Command::Proxy { path } => match config::load_proxy(&path) {
            Ok(config) => {
                unlock(&config.keys);
                until_stopped(service.proxy(config), err)
            }
            Err(error) => refuse(&error, err),
        },
        Command::Exams { what } => exams::execute(what, service, out, err),
        Command::Version => writeln!(out, "drimbox {}", env!("CARGO_PKG_VERSION")).map(|()| 0),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "drimbox", &mut script);
            out.write_all(&script).map(|()| 0)
        }
        Command::CodecWorker { memory, seconds } => {
            worker::start(worker::ChildLimits { memory, seconds }).map(|()| 0)
        }
        Command::Manpage => manual::write(Arguments::command(), out).map(|()| 0),
    }
}

fn until_stopped(
    service: impl Future<Output = anyhow::Result<()>>,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match runtime.enable_all().build()?.block_on(service) {
        Ok(()) => Ok(0),
        Err(error) => writeln!(err, "drimbox : {error:#}").map(|()| FAILURE),
    }
}

fn check_pacs(
    config: &Config,
    path: &Path,
    name: &str,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    if !config.pacs.iter().any(|pacs| pacs.name == name) {
        let known: Vec<_> = config.pacs.iter().map(|p| p.name.as_str()).collect();
        let nearest = known.iter().min_by_key(|k| strsim::levenshtein(k, name));
        writeln!(
            err,
            "{} : aucun PACS ne s'appelle « {name} ».\n  Remède : choisir parmi {}{}.",
            path.display(),
            known.join(", "),
            nearest.map_or(String::new(), |n| format!(" ; vouliez-vous dire « {n} » ?")),
        )?;
        return Ok(USAGE);
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    writeln!(out, "PACS {name}")?;
    report(&runtime.block_on(service.check_pacs(config, name)), out)
}

fn check_acme(
    config: &Config,
    service: &impl Service,
    out: &mut impl Write,
) -> std::io::Result<u8> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    writeln!(out, "Certificats publics")?;
    report(&runtime.block_on(service.check_acme(config)), out)
}

fn check_dmp(config: &Config, service: &impl Service, out: &mut impl Write) -> std::io::Result<u8> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    writeln!(out, "DMP")?;
    report(&runtime.block_on(service.check_dmp(config)), out)
}

fn check_psc(
    config: &Config,
    path: &Path,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    if config.psc.is_none() {
        writeln!(
            err,
            "{} : il n'y a pas de section [psc].\n  Remède : l'ajouter, avec environment, client_id, \
             certificate_file et key_file.",
            path.display()
        )?;
        return Ok(USAGE);
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    writeln!(out, "Pro Santé Connect")?;
    report(&runtime.block_on(service.check_psc(config)), out)
}

fn report(verdicts: &[Verdict], out: &mut impl Write) -> std::io::Result<u8> {
    print_verdicts(verdicts, out)?;
    let failed = verdicts.iter().any(|v| v.outcome == Outcome::Failed);
    Ok(if failed { FAILURE } else { 0 })
}

fn refuse(error: &ConfigError, err: &mut impl Write) -> std::io::Result<u8> {
    writeln!(err, "{error}").map(|()| USAGE)
}

#[cfg(test)]
mod tests;
