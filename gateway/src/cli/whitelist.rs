//! `drimbox whitelist`: the white list in use, one in a file, and a new one now.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{ConfigFile, FAILURE, USAGE, Verdict, refuse, report};
use crate::config::{self, Config};
use crate::trust::whitelist::{
    ListError, MAX_BYTES, Outcome, SignatureError, WhiteList, WhiteListRefusal,
};
use crate::trust::{Clock, RefreshError, Trust, TrustRefusal};

const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month]/[year] [hour]:[minute] UTC");
/// Verifications shown.
const SHOWN: usize = 10;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(about = "Afficher la liste blanche en vigueur et ses dernières vérifications")]
    Show(ConfigFile),
    #[command(about = "Vérifier la signature et le contenu d'une liste, sans l'utiliser")]
    Verify {
        #[arg(value_name = "FICHIER", help = "Liste blanche (XML)")]
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(
        about = "Télécharger la liste blanche maintenant (service démarré ou non)",
        after_help = "Le service prend la nouvelle liste en compte dans la minute."
    )]
    Refresh {
        #[arg(
            long,
            help = "Accepter une liste qui a perdu beaucoup de domaines, après s'en être assuré"
        )]
        confirm: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub(super) fn run(
    command: Command,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let path = match &command {
        Command::Show(file) => &file.path,
        Command::Verify { config, .. } | Command::Refresh { config, .. } => &config.path,
    };
    let trust = match open(path, err)? {
        Ok(trust) => trust,
        Err(code) => return Ok(code),
    };
    match command {
        Command::Show(_) => show(&trust, out),
        Command::Verify { file, .. } => verify(&trust, &file, out, err),
        Command::Refresh { confirm, .. } => refresh(&trust, confirm, out),
    }
}

fn open(path: &Path, err: &mut impl Write) -> std::io::Result<Result<Trust, u8>> {
    let config: Config = match config::load(path) {
        Ok(config) => config,
        Err(error) => return refuse(&error, err).map(Err),
    };
    let Some(settings) = config.trust else {
        writeln!(
            err,
            "{} : il n'y a pas de section [trust], donc pas de liste blanche.\n  Remède : ajouter \
             cette section (voir le fichier de référence).",
            path.display()
        )?;
        return Ok(Err(USAGE));
    };
    match Trust::open(settings, Clock::system()) {
        Ok(trust) => Ok(Ok(trust)),
        Err(error) => {
            writeln!(err, "drimbox : {error}")?;
            Ok(Err(FAILURE))
        }
    }
}

fn show(trust: &Trust, out: &mut impl Write) -> std::io::Result<u8> {
    let Some(status) = trust.list_status() else {
        writeln!(
            out,
            "Aucune liste blanche : aucune autre DRIMbox n'est acceptée.\n  Remède : drimbox \
             whitelist refresh"
        )?;
        history(trust, out)?;
        return Ok(FAILURE);
    };
    describe(&status.list, out)?;
    let force = match status.in_force {
        true => "en vigueur",
        false => "trop ancienne : elle ne compte plus, aucune autre DRIMbox n'est acceptée",
    };
    writeln!(
        out,
        "  confirmée le {} (il y a {} h), {force}",
        moment_of(status.confirmed_at),
        status.age / 3_600
    )?;
    if status.confirmed_long_ago && status.in_force {
        writeln!(
            out,
            "  ATTENTION : plus confirmée depuis {} jours ; les essais ci-dessous disent pourquoi.",
            status.age / 86_400
        )?;
    }
    if status.signed_long_ago {
        writeln!(
            out,
            "  ATTENTION : signée il y a {} jours. Demander à l'ANS s'il y en a une plus récente.",
            status.signed_age / 86_400
        )?;
    }
    writeln!(out)?;
    for domain in status.list.domains() {
        writeln!(out, "  {}  {}", domain.db_host, domain.denomination)?;
        writeln!(out, "      {}", domain.dn)?;
    }
    history(trust, out)?;
    Ok(if status.in_force { 0 } else { FAILURE })
}

fn describe(list: &WhiteList, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "Liste blanche signée le {}, {} domaine(s)",
        moment(list.signing_time),
        list.domains().len()
    )?;
    writeln!(
        out,
        "  certificat du signataire valable jusqu'au {}",
        moment_of(list.signer_not_after.as_secs())
    )
}

fn history(trust: &Trust, out: &mut impl Write) -> std::io::Result<()> {
    let verdicts = trust.list_history();
    if verdicts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nDernières vérifications")?;
    for verdict in verdicts.iter().rev().take(SHOWN) {
        let outcome = match verdict.outcome.as_str() {
            "accepted" => "acceptée",
            "unchanged" => "inchangée",
            "unreachable" => "injoignable",
            other => other,
        };
        writeln!(
            out,
            "  {}  {outcome}  {}",
            moment_of(verdict.at),
            verdict.source
        )?;
    }
    Ok(())
}

fn verify(
    trust: &Trust,
    file: &Path,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let bytes = match crate::trust::read_bounded(file, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(
                err,
                "{} : ce fichier ne se lit pas ({error}).",
                file.display()
            )?;
            return Ok(USAGE);
        }
    };
    writeln!(out, "Liste {}", file.display())?;
    match trust.verify_list(&bytes) {
        Ok(list) => {
            describe(&list, out)?;
            report(
                &[Verdict::ok(
                    "Vérification",
                    "signature, signataire et contenu en ordre",
                )],
                out,
            )
        }
        Err(refusal) => report(&[refused(&refusal)], out),
    }
}

fn refresh(trust: &Trust, confirm: bool, out: &mut impl Write) -> std::io::Result<u8> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    let mut verdicts = Vec::new();
    let outcome = runtime.block_on(async {
        // The signer is looked up in the revocation lists.
        if !trust.crl_status().iter().all(|status| status.in_force) {
            for (source, outcome) in trust.refresh_crls().await {
                verdicts.push(match outcome {
                    Ok(taken) => Verdict::ok(
                        "Liste de révocation",
                        format!("{} ({} certificats)", taken.list().authority, taken.list().entries()),
                    ),
                    Err(error) => Verdict::warning(
                        "Liste de révocation",
                        format!("{source} : {error}"),
                        "vérifier que cette adresse est joignable depuis la DRIMbox (HTTP, port 80)",
                    ),
                });
            }
        }
        trust.refresh_list(confirm).await
    });
    verdicts.push(match outcome {
        Ok(outcome) => {
            let domains = trust
                .list_status()
                .map_or(0, |status| status.list.domains().len());
            let what = match outcome {
                Outcome::Accepted => "nouvelle liste en vigueur",
                Outcome::Unchanged => "inchangée, confirmée",
            };
            Verdict::ok("Liste blanche", format!("{what}, {domains} domaine(s)"))
        }
        Err(RefreshError::List(ListError::Refused(refusal))) => refused(&refusal),
        Err(RefreshError::NoSource) => Verdict::failed(
            "Liste blanche",
            "aucune source n'est configurée",
            "indiquer son adresse, ou un fichier, dans trust.white_list.sources",
        ),
        Err(error) => Verdict::failed(
            "Liste blanche",
            format!("elle n'a pas pu être obtenue ({error})"),
            "vérifier l'adresse et le pare-feu ; la liste en vigueur reste en place",
        ),
    });
    report(&verdicts, out)
}

/// A refusal in words for an administrator.
fn refused(refusal: &WhiteListRefusal) -> Verdict {
    let ask = "ne pas l'utiliser ; récupérer la liste à sa source officielle, et prévenir l'ANS si \
               elle est encore refusée";
    let (what, remedy) = match refusal {
        WhiteListRefusal::Xml(_) => ("le fichier n'est pas un XML acceptable", ask),
        WhiteListRefusal::Signature(SignatureError::Unsigned) => ("la liste n'est pas signée", ask),
        WhiteListRefusal::Signature(SignatureError::Digest | SignatureError::PropertiesDigest) => {
            ("la liste a été modifiée après sa signature", ask)
        }
        WhiteListRefusal::Signature(_) => ("la signature n'est pas valable", ask),
        WhiteListRefusal::SignerChain(TrustRefusal::Expired) => (
            "le certificat du signataire a expiré",
            "attendre la prochaine liste signée par l'ANS ; la liste en vigueur reste en place \
             quelques jours (trust.white_list.max_age_seconds)",
        ),
        WhiteListRefusal::SignerChain(
            TrustRefusal::CrlMissing { .. } | TrustRefusal::CrlExpired { .. },
        ) => (
            "rien ne prouve que le certificat du signataire n'est pas révoqué",
            "rétablir l'accès aux listes de révocation (trust.crl_sources), puis recommencer",
        ),
        WhiteListRefusal::SignerChain(TrustRefusal::OtherEnvironment { .. }) => (
            "la liste est celle d'un autre environnement (test ou production)",
            "corriger trust.environment, ou l'adresse de la liste",
        ),
        WhiteListRefusal::SignerChain(_) => ("le certificat du signataire n'est pas accepté", ask),
        WhiteListRefusal::OtherSigner { .. } => (
            "le signataire n'est pas celui de la configuration",
            "comparer avec trust.white_list.signer_name et signer_unit",
        ),
        WhiteListRefusal::Future => (
            "la liste est signée dans le futur",
            "vérifier l'heure de cette machine (timedatectl)",
        ),
        WhiteListRefusal::Content(_) => ("le contenu de la liste n'est pas cohérent", ask),
        WhiteListRefusal::Older { .. } => (
            "la liste est plus ancienne que celle en vigueur, ou que la dernière qui l'a été",
            "rien à faire si la source est en retard ; sinon vérifier son adresse",
        ),
        WhiteListRefusal::Shrunk { .. } => (
            "la liste a perdu une grande part de ses domaines",
            "s'assurer auprès de l'ANS que c'est voulu, puis : drimbox whitelist refresh --confirm",
        ),
    };
    Verdict::failed("Liste blanche", format!("{what} ({refusal})"), remedy)
}

fn moment(at: OffsetDateTime) -> String {
    let utc = at.to_offset(time::UtcOffset::UTC);
    utc.format(MOMENT).unwrap_or_default()
}

fn moment_of(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    let at = at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    at.map_or_else(String::new, moment)
}
