//! `drimbox trust`: asks the running service, with the token of its data folder.

use std::fmt::Write as _;

use anyhow::bail;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::exams::{ask, refused};
use crate::cli::TrustCommand;
use crate::config::Config;

/// Runs a command; what it prints.
pub(super) async fn run(config: &Config, command: &TrustCommand) -> anyhow::Result<String> {
    if config.trust.is_none() {
        bail!(
            "la section [trust] manque dans la configuration : il n'y a rien à montrer ni à changer"
        );
    }
    match command {
        TrustCommand::Show => {
            let (status, answer) = ask(config, Method::GET, "/api/trust", Vec::new()).await?;
            expect(status, StatusCode::OK, &answer)?;
            Ok(shown(&answer)?)
        }
        TrustCommand::Refresh => {
            let path = "/api/trust/refresh";
            let (status, answer) = ask(config, Method::POST, path, Vec::new()).await?;
            expect(status, StatusCode::OK, &answer)?;
            refreshed(&answer)
        }
        TrustCommand::Bypass { until, reason } => {
            let wanted = json!({ "until": until, "reason": reason }).to_string();
            let path = "/api/trust/bypass";
            let (status, answer) = ask(config, Method::PUT, path, wanted.into_bytes()).await?;
            expect(status, StatusCode::NO_CONTENT, &answer)?;
            Ok(format!(
                "Dérogation ouverte jusqu'au {until} : une liste de révocation manquante ou périmée \
                 n'arrête plus les autres DRIMbox. Elle est inscrite au journal des accès.\n  Pour \
                 la fermer avant : drimbox trust bypass --end\n"
            ))
        }
        TrustCommand::EndBypass => {
            let path = "/api/trust/bypass";
            let (status, answer) = ask(config, Method::DELETE, path, Vec::new()).await?;
            expect(status, StatusCode::NO_CONTENT, &answer)?;
            Ok("Aucune dérogation n'est ouverte.\n".to_owned())
        }
    }
}

fn expect(status: StatusCode, expected: StatusCode, answer: &Value) -> anyhow::Result<()> {
    if status != expected {
        bail!("{}", refused(status, answer));
    }
    Ok(())
}

fn shown(answer: &Value) -> Result<String, std::fmt::Error> {
    let text = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or("aucune").to_owned()
    };
    let counts = |value: &Value| match value.get("in_force") == Some(&Value::Bool(true)) {
        true => "en vigueur",
        false => "NE COMPTE PAS",
    };
    let mut said = String::new();
    let lists = answer.get("revocation_lists").and_then(Value::as_array);
    for list in lists.into_iter().flatten() {
        writeln!(
            said,
            "Liste de révocation de {} : {}, prochaine le {}",
            text(list, "authority"),
            counts(list),
            text(list, "next_update")
        )?;
    }
    match answer.get("white_list").filter(|list| list.is_object()) {
        Some(list) => writeln!(
            said,
            "Liste blanche signée le {} : {}, {} domaine(s)",
            text(list, "signed"),
            counts(list),
            list.get("domains").and_then(Value::as_u64).unwrap_or(0)
        )?,
        None => writeln!(said, "Aucune liste blanche")?,
    }
    match answer.get("bypass").filter(|bypass| bypass.is_object()) {
        Some(bypass) => writeln!(
            said,
            "DÉROGATION OUVERTE jusqu'au {} : {}",
            text(bypass, "until"),
            text(bypass, "reason")
        )?,
        None => writeln!(said, "Aucune dérogation ouverte")?,
    }
    Ok(said)
}

fn refreshed(answer: &Value) -> anyhow::Result<String> {
    let mut said = String::new();
    let mut failures = 0;
    let all = answer.get("refreshed").and_then(Value::as_array);
    for one in all.into_iter().flatten() {
        let what = match one.get("what").and_then(Value::as_str).unwrap_or_default() {
            "authorities" => "Autorités",
            "white list" => "Liste blanche",
            source => source,
        };
        match one.get("error").and_then(Value::as_str) {
            None => writeln!(said, "{what} : à jour")?,
            Some(error) => {
                failures += 1;
                writeln!(
                    said,
                    "{what} : ÉCHEC, ce qui était en place le reste ({error})"
                )?;
            }
        }
    }
    if failures > 0 {
        bail!("{said}{failures} échec(s). Vérifier les fichiers et les adresses de [trust].");
    }
    Ok(said)
}
