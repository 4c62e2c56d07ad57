//! `drimbox acme`: asks the running service, with the token of its data folder.

use std::fmt::Write as _;

use anyhow::bail;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::exams::{ask, refused};
use crate::admin::{OfAuthority, OfName};
use crate::cli::AcmeCommand;
use crate::config::Config;

/// Runs a command; what it prints.
pub(super) async fn run(config: &Config, command: &AcmeCommand) -> anyhow::Result<String> {
    if config.acme.is_none() {
        bail!(
            "la section [acme] manque dans la configuration : la passerelle n'obtient pas de certificat \
             elle-même. Ceux que vi_tls nomme : drimbox certs list"
        );
    }
    match command {
        AcmeCommand::Show => {
            let (status, answer) = ask(config, Method::GET, "/api/acme", Vec::new()).await?;
            if status != StatusCode::OK {
                bail!("{}", refused(status, &answer));
            }
            Ok(shown(&answer)?)
        }
        AcmeCommand::Renew(name) => {
            let wanted = OfName {
                name: name.clone(),
                key_compromised: false,
            };
            post(config, "renew", json!(wanted)).await?;
            Ok(format!(
                "Un nouveau certificat est demandé pour {name} ; l'ancien sert jusque-là.\n  \
                 Pour suivre : drimbox acme show\n"
            ))
        }
        AcmeCommand::Revoke {
            name,
            key_compromised,
        } => {
            let wanted = OfName {
                name: name.clone(),
                key_compromised: *key_compromised,
            };
            let answer = post(config, "revoke", json!(wanted)).await?;
            if answer.get("revoked") != Some(&Value::Bool(true)) {
                bail!(
                    "{name} n'a pas de certificat délivré par une autorité de la configuration : il n'y a \
                     rien à révoquer"
                );
            }
            Ok(format!(
                "Le certificat de {name} est révoqué ; un nouveau, avec une autre clé, est demandé.\n  \
                 Pour suivre : drimbox acme show\n"
            ))
        }
        AcmeCommand::RollOver(directory) => {
            post(config, "account/roll-over", account(directory)).await?;
            Ok("Le compte a une nouvelle clé ; l'ancienne ne vaut plus rien.\n".to_owned())
        }
        AcmeCommand::Deactivate(directory) => {
            post(config, "account/deactivate", account(directory)).await?;
            Ok(
                "Le compte est fermé. Les certificats délivrés restent valables ; pour qu'aucun autre \
                 compte ne soit ouvert, retirer [acme] de la configuration et redémarrer.\n"
                    .to_owned(),
            )
        }
    }
}

fn account(directory: &Option<String>) -> Value {
    json!(OfAuthority {
        directory: directory.clone()
    })
}

async fn post(config: &Config, what: &str, wanted: Value) -> anyhow::Result<Value> {
    let path = format!("/api/acme/{what}");
    let body = wanted.to_string().into_bytes();
    let (status, answer) = ask(config, Method::POST, &path, body).await?;
    if !status.is_success() {
        bail!("{}", refused(status, &answer));
    }
    Ok(answer)
}

fn shown(answer: &Value) -> Result<String, std::fmt::Error> {
    let mut said = String::new();
    let list = |key: &str| answer.get(key).and_then(Value::as_array);
    if let Some(who) = answer.get("ordered_by").and_then(Value::as_str) {
        writeln!(
            said,
            "Un autre nœud ({who}) partage data_dir/acme et fait les demandes ; celui-ci sert ce qu'il obtient"
        )?;
    }
    for name in list("names").into_iter().flatten() {
        one_name(&mut said, name)?;
    }
    for account in list("accounts").into_iter().flatten() {
        let state = match text(account, "state") {
            "open" => format!("ouvert ({})", text(account, "url")),
            "none" => "pas encore ouvert".to_owned(),
            "lost" => "inconnu de l'autorité, ou fermé ; un autre sera ouvert".to_owned(),
            _ => "l'autorité n'a pas pu le dire".to_owned(),
        };
        writeln!(said, "Compte chez {} : {state}", text(account, "directory"))?;
        failure(&mut said, account, "Cause")?;
    }
    Ok(said)
}

fn one_name(said: &mut String, name: &Value) -> std::fmt::Result {
    match text(name, "not_after_text") {
        "" => writeln!(said, "{} : pas encore de certificat", text(name, "name"))?,
        until => writeln!(
            said,
            "{} : jusqu'au {until}, délivré par {}",
            text(name, "name"),
            text(name, "issued_by")
        )?,
    }
    let why = match text(name, "reason") {
        "missing" => "il n'y en a pas en cours de validité",
        "under-way" => "une demande est en cours",
        "asked" => "demandé par un administrateur",
        "suggested" => "date conseillée par l'autorité",
        "two-thirds" => "aux deux tiers de sa vie",
        "emergency" => "au dernier vingtième de sa vie",
        "retry" => "nouvel essai après un échec",
        _ => "",
    };
    if name.get("under_way") == Some(&Value::Bool(true)) {
        writeln!(said, "  Une demande est en cours")?;
    } else if !why.is_empty() {
        writeln!(
            said,
            "  Prochaine demande le {} ({why})",
            text(name, "next_text")
        )?;
    }
    if name.get("revoking") == Some(&Value::Bool(true)) {
        writeln!(
            said,
            "  La révocation demandée n'est pas encore faite ; l'autorité est redemandée"
        )?;
    }
    let failures = name.get("failures").and_then(Value::as_u64).unwrap_or(0);
    failure(
        said,
        name,
        &format!("Échecs de suite : {failures}. Le dernier"),
    )?;
    for blocked in name
        .get("blocked")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        writeln!(
            said,
            "  {} demande d'attendre jusqu'au {}",
            text(blocked, "directory"),
            text(blocked, "until_text")
        )?;
    }
    Ok(())
}

fn failure(said: &mut String, of: &Value, introduction: &str) -> std::fmt::Result {
    let Some(failure) = of.get("failure").filter(|failure| failure.is_object()) else {
        return Ok(());
    };
    writeln!(
        said,
        "  {introduction} : {} {}\n    Remède : {}",
        text(failure, "what"),
        text(failure, "detail"),
        text(failure, "remedy")
    )
}

fn text<'v>(of: &'v Value, key: &str) -> &'v str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_failure_is_shown_with_its_remedy_and_a_rate_limit_with_its_end() {
        let answer = json!({
            "names": [{
                "name": "vi1.centre.example",
                "not_after_text": "12/02/2027 à 10:00 UTC",
                "issued_by": "https://ca.example/directory",
                "under_way": false,
                "next_text": "01/01/2027 à 00:00 UTC",
                "reason": "retry",
                "failures": 2,
                "revoking": true,
                "failure": {"what": "Limite.", "detail": "too many", "remedy": "Attendre."},
                "blocked": [{
                    "directory": "https://ca.example/directory",
                    "until_text": "01/01/2027 à 00:00 UTC",
                }],
            }],
            "accounts": [{"directory": "https://ca.example/directory", "state": "lost"}],
            "ordered_by": "autre.centre.example, 4711",
        });
        let said = shown(&answer).unwrap();
        for expected in [
            "vi1.centre.example : jusqu'au 12/02/2027 à 10:00 UTC",
            "nouvel essai après un échec",
            "Échecs de suite : 2. Le dernier : Limite. too many",
            "Remède : Attendre.",
            "demande d'attendre jusqu'au 01/01/2027",
            "inconnu de l'autorité",
            "La révocation demandée n'est pas encore faite",
            "Un autre nœud (autre.centre.example, 4711)",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}
