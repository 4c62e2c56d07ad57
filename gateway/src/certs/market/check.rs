//! `drimbox check acme`: each `vi` name, the way to the authorities, port 80, and how the certificate stands.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use acme::{
    AccountStanding, Age, Authority, Caa, Cause, Clock as _, DnsName, Lifecycle, Port80,
    SystemClock,
};

use super::{Market, SELF_TOKEN, moment, words};
use crate::cli::{Outcome, Verdict};
use crate::config::Config;
use crate::net::{Clients, NamedConfigs, NamedHost};

/// Looks at everything that a renewal needs. Orders nothing.
pub async fn run(config: &Config) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let Some(settings) = &config.acme else {
        let missing = config
            .pacs
            .iter()
            .filter(|pacs| pacs.vi_tls.is_none())
            .filter_map(|pacs| pacs.vi_host.as_ref());
        verdicts.extend(missing.map(|host| {
            Verdict::failed(
                format!("Certificat de {host}"),
                "ce nom n'a pas de certificat, et rien n'est prévu pour en obtenir un",
                "ajouter la section [acme], ou vi_tls dans la section de ce PACS",
            )
        }));
        if verdicts.is_empty() {
            verdicts.push(Verdict::ok(
                "Noms",
                "rien à obtenir : les noms vi ont leur certificat (drimbox certs check), ou il n'y en a pas",
            ));
        }
        return verdicts;
    };
    // Certificates go nowhere: the listener is that of the service.
    let names = config.pacs.iter().filter_map(|pacs| pacs.vi_host.clone());
    let names = NamedConfigs::new(names.map(|host| NamedHost {
        host,
        clients: Clients::Anybody,
        certificate: None,
    }));
    let market = names
        .map_err(anyhow::Error::from)
        .and_then(|names| Market::build(config, settings, &Arc::new(names), None));
    match market {
        Ok(market) => market.check(&mut verdicts).await,
        Err(error) => verdicts.push(Verdict::failed(
            "Section [acme]",
            format!("{error:#}"),
            "corriger le fichier nommé",
        )),
    }
    verdicts
}

impl Market {
    async fn check(&self, verdicts: &mut Vec<Verdict>) {
        let mut identities = Vec::new();
        for authority in self.authorities.iter() {
            let (verdict, names) = self.authority(&authority.directory).await;
            let answers = verdict.outcome == Outcome::Ok;
            verdicts.push(verdict);
            if answers {
                verdicts.push(self.account(authority).await);
            }
            identities.extend(names);
        }
        let expected = self.tokens.answer(SELF_TOKEN).await;
        for lifecycle in self.lifecycles() {
            verdicts.push(stands(lifecycle).await);
            verdicts.push(self.caa(lifecycle.name(), &identities).await);
            verdicts.push(match &expected {
                Ok(Some(expected)) => self.seen_from_here(lifecycle.name(), expected).await,
                Ok(None) => Verdict::warning(
                    format!("Port 80 de {}, vu d'ici", lifecycle.name()),
                    "non essayé : le service n'a pas encore démarré avec [acme]",
                    "démarrer le service, puis relancer drimbox check acme",
                ),
                Err(error) => {
                    let (what, remedy) = words::explain(Cause::Store);
                    Verdict::failed("Dossier acme", format!("{what} {error}"), remedy)
                }
            });
        }
    }

    /// Whether an authority answers, and its names in CAA records.
    async fn authority(&self, directory: &str) -> (Verdict, Vec<String>) {
        let step = format!("Autorité {directory}");
        let request = http::Request::get(directory).body(bytes::Bytes::new());
        let Ok(request) = request else {
            let verdict = Verdict::failed(step, "adresse illisible", "corriger directory");
            return (verdict, Vec::new());
        };
        let unreachable = |cause: Cause, detail: String| {
            let (what, remedy) = words::explain(cause);
            Verdict::failed(step.clone(), format!("{what} {detail}"), remedy)
        };
        let verdict = match self.means.transport.send(request).await {
            Ok(answer) => {
                let names: Result<HashMap<String, serde_json::Value>, _> =
                    serde_json::from_slice(answer.body());
                if names.is_ok_and(|names| names.contains_key("newOrder")) {
                    let names = acme::caa_identities(answer.body());
                    return (Verdict::ok(step, "elle répond"), names);
                } else {
                    unreachable(
                        Cause::AuthorityFault,
                        format!("Réponse {}.", answer.status().as_u16()),
                    )
                }
            }
            Err(error @ acme::TransportError::Tls(_)) => {
                unreachable(Cause::AuthorityUntrusted, error.to_string())
            }
            Err(error) => unreachable(Cause::AuthorityUnreachable, error.to_string()),
        };
        (verdict, Vec::new())
    }

    /// How the account stands there; none is made.
    async fn account(&self, authority: &Authority) -> Verdict {
        let step = format!("Compte chez {}", authority.directory);
        match self.accounts.standing(authority).await {
            Ok(AccountStanding::Open(url)) => Verdict::ok(step, url),
            Ok(AccountStanding::None) => Verdict::ok(
                step,
                "pas encore ouvert : le service l'ouvre à sa première demande",
            ),
            Ok(AccountStanding::Lost) => Verdict::warning(
                step,
                "l'autorité ne le connaît pas, ou il est fermé",
                "ne rien faire : un autre est ouvert à la prochaine demande ; avec une clé de compte client \
                 (EAB) déjà utilisée, en demander une nouvelle à l'autorité",
            ),
            Err(failure) => {
                let (what, remedy) = words::explain(failure.cause);
                Verdict::failed(step, format!("{what} {}", failure.detail), remedy)
            }
        }
    }

    /// Whether the zone of a name allows one of the authorities, which go by these names.
    async fn caa(&self, name: &DnsName, identities: &[String]) -> Verdict {
        let step = format!("CAA de {name}");
        let seen = self.means.probe.caa(name).await;
        match (&seen, seen.allows(identities)) {
            (_, Some(true)) => Verdict::ok(step, allowed(&seen)),
            (Caa::Unknown, _) => Verdict::warning(
                step,
                "le DNS ne répond pas",
                "vérifier les serveurs DNS de la machine, ou indiquer dns_servers dans [acme]",
            ),
            (_, None) => Verdict::warning(
                step,
                allowed(&seen),
                "vérifier que l'autorité est bien l'une de celles-là : elle ne dit pas sous quel nom",
            ),
            (_, Some(false)) => {
                let (what, remedy) = words::explain(Cause::Caa);
                Verdict::failed(step, format!("{what} {}", allowed(&seen)), remedy)
            }
        }
    }

    /// What can be seen of the name and of port 80 without leaving the centre.
    async fn seen_from_here(&self, name: &DnsName, expected: &str) -> Verdict {
        let step = format!("Port 80 de {name}, vu d'ici");
        let seen = self.means.probe.look(name, SELF_TOKEN, expected).await;
        let shown = |addresses: &[IpAddr]| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let addresses = shown(&seen.addresses);
        let wrong = |cause: Cause, detail: String| {
            let (what, remedy) = words::explain(cause);
            Verdict::failed(step.clone(), format!("{what} {detail}"), remedy)
        };
        if !seen.elsewhere.is_empty() {
            let detail = format!("Adresse : {}.", shown(&seen.elsewhere));
            return wrong(Cause::PointsElsewhere, detail);
        }
        // Behind some routers the public address cannot be reached from inside: a warning, no failure.
        let unsure = |detail: String| {
            let remedy = "démarrer le service s'il est arrêté, puis essayer depuis l'extérieur (un téléphone \
                          en 4G) : bien des box n'acceptent pas l'adresse publique depuis l'intérieur";
            Verdict::warning(step.clone(), detail, remedy)
        };
        match seen.port80 {
            Port80::Ours => Verdict::ok(step, format!("la DRIMbox répond à {addresses}")),
            Port80::NotTried => wrong(Cause::NameUnresolved, String::new()),
            Port80::Other => wrong(Cause::AnsweredElsewhere, format!("Adresse : {addresses}.")),
            Port80::Refused => unsure(format!("{addresses} refuse les connexions")),
            Port80::Silent => unsure(format!("{addresses} ne répond pas")),
        }
    }
}

/// What CAA records allow, a French phrase.
fn allowed(seen: &Caa) -> String {
    match seen {
        Caa::Unknown => "le DNS ne répond pas".to_owned(),
        Caa::Open => "aucun enregistrement ne restreint ce nom".to_owned(),
        Caa::Only { at, issuers } if issuers.is_empty() => {
            format!("Ceux de {at} n'autorisent personne.")
        }
        Caa::Only { at, issuers } => format!("Ceux de {at} autorisent {}.", issuers.join(", ")),
    }
}

/// The certificate that the gateway got, and its last failure.
async fn stands(lifecycle: &Lifecycle) -> Verdict {
    let step = format!("Certificat de {}", lifecycle.name());
    let status = match lifecycle.standing().await {
        Ok(status) => status,
        Err(failure) => {
            let (what, remedy) = words::explain(failure.cause);
            return Verdict::failed(step, format!("{what} {}", failure.detail), remedy);
        }
    };
    let dates = status.validity.map(|validity| dates(&validity));
    let has_one = dates.as_ref().is_some_and(|(age, _)| *age < Age::Critical);
    let shown = dates.map_or_else(|| "aucun certificat".to_owned(), |(_, shown)| shown);
    let Some(failure) = status.last_failure else {
        return if has_one {
            Verdict::ok(step, shown)
        } else {
            Verdict::warning(
                step,
                shown,
                "démarrer le service : il demande le certificat dès son démarrage",
            )
        };
    };
    let (what, remedy) = words::explain(failure.cause);
    let detail = format!(
        "{shown} ; la dernière tentative a échoué : {what} {} Prochaine tentative le {}.",
        failure.detail,
        moment(status.next.0)
    );
    if has_one {
        Verdict::warning(step, detail, remedy)
    } else {
        Verdict::failed(step, detail, remedy)
    }
}

fn dates(validity: &acme::Validity) -> (Age, String) {
    let age = validity.age(SystemClock.now());
    let until = moment(validity.not_after);
    let shown = match age {
        Age::Expired => format!("expiré depuis le {until}"),
        _ => format!("valable jusqu'au {until}"),
    };
    (age, shown)
}
