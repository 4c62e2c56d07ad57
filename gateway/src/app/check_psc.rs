//! `drimbox check psc`: certificate, addresses, keys, clock, token endpoint and introspection, each with a verdict.

use std::time::SystemTime;

use psc_auth::{Endpoint, ErrorCode, Provider, PscError, TransportError};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroize as _;

use super::psc;
use crate::certs::place::places;
use crate::cli::{self, Verdict};
use crate::config::{Config, Psc};
use crate::net;

/// Differences up to this are those of the network and of the second that `Date` counts in.
const UNREMARKABLE: u64 = 2;

/// Tries Pro Santé Connect step by step.
pub(super) async fn psc(config: &Config) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let Some(psc) = &config.psc else {
        return verdicts;
    };
    let now = SystemTime::now().into();
    let place = places(config).into_iter().find(|place| place.id == "psc");
    verdicts.extend(place.map(|place| cli::certificate(place, now)));
    verdicts.push(holder(psc));
    let parts = match psc::build(config, None) {
        Ok(Some(parts)) => parts,
        Ok(None) => return verdicts,
        Err(error) => {
            verdicts.push(Verdict::failed(
                "Préparation",
                format!("{error:#}"),
                "corriger dans [psc] les fichiers nommés : certificat, clé, autorités",
            ));
            return verdicts;
        }
    };
    // The verdicts so far stand, whichever step ended the list.
    let _ = network(psc, &parts.provider, &mut verdicts).await;
    verdicts
}

/// CN and OU of the certificate: ANS registers the Client ID as CN, the structure of the operator as OU.
fn holder(psc: &Psc) -> Verdict {
    let step = "Titulaire du certificat";
    let unreadable = || {
        Verdict::failed(
            step,
            format!("{} ne se lit pas", psc.identity.certificate_file.display()),
            "remplacer ce fichier",
        )
    };
    let Ok((chain, mut key)) = net::tls::read_identity(&psc.identity) else {
        return unreadable();
    };
    key.zeroize();
    let Some(Ok((_, certificate))) = chain.first().map(|first| X509Certificate::from_der(first))
    else {
        return unreadable();
    };
    let subject = certificate.subject();
    let cn = subject.iter_common_name().next();
    let cn = cn.and_then(|cn| cn.as_str().ok()).unwrap_or_default();
    let ou = subject.iter_organizational_unit().next();
    let ou = ou.and_then(|ou| ou.as_str().ok()).unwrap_or_default();
    if cn != psc.client_id {
        return Verdict::failed(
            step,
            format!("le CN est « {cn} », le Client ID « {} »", psc.client_id),
            "indiquer dans client_id le Client ID de ce certificat, ou commander un certificat \
             ORG_AUTH_CLI dont le CN est ce Client ID",
        );
    }
    if ou.is_empty() {
        return Verdict::warning(
            step,
            format!("CN {cn}, sans OU"),
            "vérifier que c'est bien un certificat ORG_AUTH_CLI de l'IGC Santé : son OU est \
             l'identifiant national de la structure",
        );
    }
    Verdict::ok(step, format!("CN {cn}, structure (OU) {ou}"))
}

/// Ends early, with `Err`, when the next steps would mean nothing.
async fn network(psc: &Psc, provider: &Provider, verdicts: &mut Vec<Verdict>) -> Result<(), ()> {
    let discovery = "Adresses (découverte)";
    let keys = "Clés de signature (JWKS)";
    match provider.prepare().await {
        Ok(()) => {
            let issuer = &provider.settings().issuer;
            verdicts.push(Verdict::ok(discovery, format!("lues chez {issuer}")));
            verdicts.push(Verdict::ok(keys, "lues"));
        }
        Err(error) => {
            let of_keys = concerns(&error, Endpoint::Keys);
            if of_keys {
                verdicts.push(Verdict::ok(discovery, "lues"));
            }
            let step = if of_keys { keys } else { discovery };
            verdicts.push(failure(step, &error));
            return Err(());
        }
    }
    verdicts.push(clock(psc, provider.clock_skew()));
    let step = "Jetons (TLS avec certificat)";
    verdicts.push(match provider.try_token_endpoint().await {
        Ok(()) => Verdict::ok(step, "Client ID et certificat acceptés"),
        Err(error) => failure(step, &error),
    });
    let step = "Contrôle des jetons (introspection)";
    verdicts.push(match provider.try_introspection().await {
        Ok(()) => Verdict::ok(step, "certificat accepté"),
        Err(error) => failure(step, &error),
    });
    Ok(())
}

fn clock(psc: &Psc, skew: Option<i64>) -> Verdict {
    let step = "Horloge";
    let remedy = "régler l'heure de la machine par NTP (chrony ou systemd-timesyncd)";
    let Some(skew) = skew else {
        return Verdict::warning(
            step,
            "Pro Santé Connect n'a pas donné l'heure",
            "vérifier que la machine est à l'heure par NTP",
        );
    };
    let apart = skew.unsigned_abs();
    let way = if skew > 0 { "retard" } else { "avance" };
    let detail = format!("cette machine est en {way} de {apart} s sur Pro Santé Connect");
    if apart <= UNREMARKABLE {
        Verdict::ok(step, "à l'heure de Pro Santé Connect")
    } else if apart <= psc.clock_leeway.as_secs() {
        let tolerated = format!("{detail}, toléré jusqu'à {} s", psc.clock_leeway.as_secs());
        Verdict::warning(step, tolerated, remedy)
    } else {
        Verdict::failed(step, detail, remedy)
    }
}

fn concerns(error: &PscError, wanted: Endpoint) -> bool {
    matches!(
        error,
        PscError::Transport { endpoint, .. }
        | PscError::Status { endpoint, .. }
        | PscError::Refused { endpoint, .. }
        | PscError::Malformed { endpoint, .. } if *endpoint == wanted
    ) || matches!(error, PscError::NoEndpoint(endpoint) if *endpoint == wanted)
}

fn failure(step: &'static str, error: &PscError) -> Verdict {
    let remedy = match error {
        PscError::Transport { failure, .. } => match failure {
            TransportError::Unreachable(_) => {
                "vérifier la résolution des noms et que le port 443 vers Pro Santé Connect est \
                 ouvert, directement ou par http_proxy"
            }
            TransportError::Tls(_) => {
                "vérifier ca_file, les dates du certificat ORG_AUTH_CLI, et qu'aucun équipement \
                 n'ouvre la connexion chiffrée"
            }
            TransportError::Timeout(_) | TransportError::Broken(_) => {
                "recommencer ; si cela dure, vérifier le réseau ou augmenter timeout_seconds"
            }
            _ => {
                "vérifier environment, et qu'aucun proxy ne répond à la place de Pro Santé Connect"
            }
        },
        PscError::Refused { code, .. } => match code {
            ErrorCode::InvalidClient => {
                "vérifier que le certificat ORG_AUTH_CLI est déclaré pour ce Client ID dans cet \
                 environnement, et qu'il n'est ni expiré ni révoqué"
            }
            ErrorCode::UnauthorizedClient | ErrorCode::UnsupportedGrantType => {
                "faire activer ce flux pour le Client ID dans la gestion des services Pro Santé Connect"
            }
            ErrorCode::ServerError | ErrorCode::TemporarilyUnavailable => {
                "recommencer plus tard ; consulter l'état du service Pro Santé Connect"
            }
            _ => "comparer client_id et scopes avec l'habilitation Datapass",
        },
        PscError::Status { status, .. } if *status == 401 || *status == 403 => {
            "vérifier que le certificat ORG_AUTH_CLI est déclaré pour ce Client ID dans cet environnement"
        }
        PscError::Status { status, .. } if *status >= 500 => {
            "recommencer plus tard ; consulter l'état du service Pro Santé Connect"
        }
        PscError::WrongIssuer { .. } => {
            "vérifier environment (bas ou production), et qu'aucun proxy ne répond à la place de \
             Pro Santé Connect"
        }
        _ => "vérifier environment, issuer et discovery_url",
    };
    Verdict::failed(step, error.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::cli::Outcome;

    fn psc() -> Psc {
        let text = include_str!("../../../deploy/drimbox.reference.toml");
        assert!(text.contains("clock_leeway_seconds = 30"));
        Psc {
            environment: crate::config::PscEnvironment::Bas,
            client_id: "client".to_owned(),
            identity: crate::config::ServerIdentity {
                certificate_file: "/nowhere.pem".into(),
                key_file: "/nowhere.key".into(),
            },
            ca_file: "/nowhere.pem".into(),
            http_proxy: None,
            timeout: std::time::Duration::from_secs(1),
            connect_timeout: std::time::Duration::from_secs(1),
            scopes: Vec::new(),
            acr_values: String::new(),
            accepted_acr: Default::default(),
            accept_missing_acr: true,
            identity_provider_hint: None,
            clock_leeway: std::time::Duration::from_secs(30),
            professions: Default::default(),
            refused_categories: Default::default(),
            peer_client_ids: Default::default(),
            refuse_other_clients: false,
            introspection_cache: std::time::Duration::from_secs(60),
        }
    }

    #[test]
    fn clocks_half_a_minute_apart_are_reported_and_more_is_refused() {
        for (skew, outcome, said) in [
            (Some(1), Outcome::Ok, "à l'heure"),
            (Some(25), Outcome::Warning, "en retard de 25 s"),
            (Some(-25), Outcome::Warning, "en avance de 25 s"),
            (Some(31), Outcome::Failed, "31 s"),
            (None, Outcome::Warning, "pas donné"),
        ] {
            let verdict = clock(&psc(), skew);
            assert_eq!(verdict.outcome, outcome, "{skew:?}");
            assert!(verdict.detail.contains(said), "{}", verdict.detail);
        }
    }
}
