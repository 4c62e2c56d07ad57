//! What alerts say, in French: what expires, when, what stops, what to do.

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::schedule::Step;
use crate::certs::facts::Facts;
use crate::certs::inventory::RENEWAL_OPENS_DAYS;
use crate::certs::place::{Place, Role};
use crate::certs::presented::Presented;

/// A message before it has a recipient.
#[derive(Debug, Clone)]
pub struct Draft {
    /// One line.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same for machines.
    pub data: serde_json::Value,
}

/// A certificate is about to expire, or has.
#[must_use]
pub fn expiry(
    place: &Place,
    facts: &Facts,
    step: &Step,
    centre: Option<&str>,
    now: OffsetDateTime,
) -> Draft {
    let (role, id) = (place.role, &place.id);
    let name = place.host.as_deref().or(facts.common_name.as_deref());
    let name = name.unwrap_or(id);
    let left = facts.days_left(now);
    let (verb, when) = if now > facts.not_after {
        let when = match (now - facts.not_after).whole_days() {
            0 => "depuis moins d'un jour".to_owned(),
            1 => "depuis un jour".to_owned(),
            days => format!("depuis {days} jours"),
        };
        ("a expiré", when)
    } else {
        let when = match left {
            0 => "dans moins d'un jour".to_owned(),
            1 => "dans un jour".to_owned(),
            days => format!("dans {days} jours"),
        };
        ("expire", when)
    };
    let mut text = format!(
        "{}Le certificat {role} de {name} (emplacement {id}, {}) {verb} le {}, {when}.\n\n\
         Ce qui s'arrête à l'expiration : {}.\n\n",
        heading(centre),
        place.user,
        moment(facts.not_after),
        role.effect(),
    );
    if role.is_igc() {
        text.push_str(if now > facts.not_after {
            "Un certificat de l'IGC Santé est renouvelable jusqu'à expiration seulement : il faut \
             maintenant en demander un nouveau.\n\n"
        } else {
            "Un certificat de l'IGC Santé est renouvelable jusqu'à expiration seulement : ensuite, il \
             faut en demander un nouveau, ce qui prend plus de temps.\n\n"
        });
    }
    text.push_str("À faire :\n");
    number(&mut text, &steps(place, facts, now));
    text.push_str(&format!(
        "\nNuméro de série : {}\nÉmetteur : {}\nMessage écrit le {}.\n",
        facts.serial,
        facts.issuer,
        moment(now)
    ));
    Draft {
        subject: format!("[DRIMbox] {role} de {name} {verb} {when} ({})", step.name),
        text,
        data: json!({
            "kind": "certificate_expiry",
            "place": id,
            "role": role.code(),
            "host": place.host,
            "serial": facts.serial,
            "not_after": facts.not_after.format(&Rfc3339).ok(),
            "days_left": left,
            "step": step.name,
        }),
    }
}

/// A certificate was revoked by its authority.
#[must_use]
pub fn revoked(place: &Place, facts: &Facts, centre: Option<&str>, now: OffsetDateTime) -> Draft {
    let (role, id) = (place.role, &place.id);
    let name = place.host.as_deref().or(facts.common_name.as_deref());
    let name = name.unwrap_or(id);
    let mut text = format!(
        "{}Le certificat {role} de {name} (emplacement {id}, {}) est révoqué par son autorité.\n\n\
         Ce qui est arrêté, ou le sera dès que les autres l'apprendront : {}.\n\n\
         À faire :\n",
        heading(centre),
        place.user,
        role.effect(),
    );
    number(&mut text, &steps_revoked(place));
    text.push_str(&format!(
        "\nNuméro de série : {}\nÉmetteur : {}\nMessage écrit le {}.\n",
        facts.serial,
        facts.issuer,
        moment(now)
    ));
    Draft {
        subject: format!("[DRIMbox] {role} de {name} est révoqué"),
        text,
        data: json!({
            "kind": "certificate_revoked",
            "place": id,
            "role": role.code(),
            "host": place.host,
            "serial": facts.serial,
        }),
    }
}

/// A certificate that another party presents is about to expire or has; without a step, it was revoked.
#[must_use]
pub fn presented(
    one: &Presented,
    step: Option<&Step>,
    centre: Option<&str>,
    now: OffsetDateTime,
) -> Draft {
    let (facts, name, who) = (&one.facts, one.name(), one.by.text());
    let (kind, verb, when) = match step {
        None => (
            "presented_certificate_revoked",
            "est révoqué",
            String::new(),
        ),
        Some(_) if now > facts.not_after => (
            "presented_certificate_expiry",
            "a expiré",
            format!(" le {}", moment(facts.not_after)),
        ),
        Some(_) => (
            "presented_certificate_expiry",
            "expire",
            format!(" le {}", moment(facts.not_after)),
        ),
    };
    let name_of_step = step.map(|step| step.name.as_str());
    let shown = name_of_step.map_or_else(String::new, |name| format!(" ({name})"));
    let mut text = format!(
        "{}Le certificat que présente {name} ({who}) {verb}{when}.\n\n",
        heading(centre)
    );
    if let Some(effect) = one.by.effect() {
        text.push_str(&format!("Ce qui s'arrête : {effect}.\n\n"));
    }
    text.push_str(&format!(
        "La passerelle en dépend et ne peut pas le renouveler.\n\n\
         À faire :\n\
         1. Prévenir son titulaire ({who}) : ce certificat est à remplacer chez lui.\n\
         2. Suivre son remplacement : drimbox certs check ; drimbox certs show \"{name}\".\n\n\
         Numéro de série : {}\nÉmetteur : {}\nVu pour la dernière fois le {}.\nMessage écrit le {}.\n",
        facts.serial,
        facts.issuer,
        moment(one.last_seen),
        moment(now)
    ));
    Draft {
        subject: format!("[DRIMbox] Le certificat de {name} ({who}) {verb}{when}{shown}"),
        text,
        data: json!({
            "kind": kind,
            "presented_by": one.by.code(),
            "name": name,
            "serial": facts.serial,
            "not_after": facts.not_after.format(&Rfc3339).ok(),
            "days_left": facts.days_left(now),
            "step": name_of_step,
        }),
    }
}

/// Writes one line each, with its rank.
fn number(text: &mut String, steps: &[String]) {
    for (rank, line) in steps.iter().enumerate() {
        text.push_str(&format!("{}. {line}\n", rank + 1));
    }
}

/// What people have to do about a certificate that was revoked, in order.
fn steps_revoked(place: &Place) -> Vec<String> {
    let id = &place.id;
    let tracked = match place.role.is_igc() {
        true => "plateforme IGC Santé, « Suivre »",
        false => "l'autorité le dit",
    };
    let why = format!(
        "Chercher qui l'a révoqué et pourquoi ({tracked}) ; si sa clé a pu être volée, mettre la passerelle à l'abri."
    );
    if place.is_from_acme() {
        let renewed = "La passerelle en demande un autre d'elle-même, avec une nouvelle clé : drimbox check acme dit ce \
                       qui l'en empêche.";
        let checked = format!("Vérifier qu'il est arrivé : drimbox certs show {id}.");
        return vec![why, renewed.into(), checked];
    }
    let (request, import) = match place.is_elsewhere() {
        true => (
            "Chez le programme qui s'en sert : fabriquer une nouvelle clé et sa demande (proxy e-santé : drimbox \
             certs request EMPLACEMENT --proxy)."
                .to_owned(),
            "L'installer chez lui, puis sur la passerelle : drimbox certs check.".to_owned(),
        ),
        false => (
            format!("Sur la passerelle : drimbox certs request {id}. Une nouvelle clé est fabriquée."),
            format!("Sur la passerelle : drimbox certs import {id} FICHIER, puis drimbox certs check."),
        ),
    };
    let asked = match place.role.is_igc() {
        true => {
            "Sur la plateforme IGC Santé : faire une nouvelle demande (« Demander ») ; un certificat révoqué ne se \
             renouvelle pas."
        }
        false => {
            "Faire signer la demande par l'autorité ; un certificat révoqué ne se renouvelle pas."
        }
    };
    vec![why, request, asked.into(), import]
}

/// What people have to do, in order.
fn steps(place: &Place, facts: &Facts, now: OffsetDateTime) -> Vec<String> {
    let id = &place.id;
    if place.is_from_acme() {
        return vec![
            "La passerelle renouvelle elle-même ce certificat, et n'y parvient pas : lancer \
             « drimbox check acme » sur la passerelle, qui dit pourquoi."
                .into(),
            "Corriger ce qu'il indique (DNS, port 80, compte). Le renouvellement reprend seul."
                .into(),
            "À défaut, acheter un certificat et l'installer par vi_tls.".into(),
        ];
    }
    if place.role == Role::Authority {
        let file = place.identity.certificate_file.display();
        return vec![
            "Demander à cette autorité son nouveau certificat, ou qui lui succède.".into(),
            format!(
                "L'ajouter à {file} (pour [trust], ajouter plutôt son fichier à authority_files), sans en ôter celui-ci \
                 avant sa fin, puis redémarrer le service."
            ),
            "Vérifier : drimbox certs check.".into(),
        ];
    }
    if place.is_elsewhere() {
        return steps_elsewhere(place, facts, now);
    }
    let mut steps = vec![format!(
        "Sur la passerelle : drimbox certs request {id}. La clé est fabriquée sur place, la demande \
         (CSR) s'affiche."
    )];
    if place.role.is_igc() {
        steps.push(at_igc_sante(facts, now));
    } else {
        let authority = match place.role {
            Role::Market => "l'autorité qui l'a vendu",
            _ => "l'autorité du centre",
        };
        steps.push(format!("Faire signer la demande par {authority}."));
    }
    steps.push(format!(
        "Sur la passerelle : drimbox certs import {id} FICHIER. Le certificat est contrôlé, puis mis en \
         service sans arrêt."
    ));
    steps.push("Vérifier : drimbox certs check.".into());
    steps
}

/// The same for the certificate of another program: its key is there.
fn steps_elsewhere(place: &Place, facts: &Facts, now: OffsetDateTime) -> Vec<String> {
    let file = place.identity.certificate_file.display();
    vec![
        format!(
            "Ce certificat ({file}) est celui d'un autre programme : la demande se fait chez lui. Pour le proxy \
             e-santé, sur son serveur : « drimbox certs list --proxy » donne l'emplacement, « drimbox certs request \
             EMPLACEMENT --proxy » fabrique la clé et la demande (CSR)."
        ),
        match place.role.is_igc() {
            true => at_igc_sante(facts, now),
            false => "Faire signer la demande par l'autorité du centre.".into(),
        },
        "L'installer chez lui. Pour le proxy e-santé : drimbox certs import EMPLACEMENT FICHIER --proxy ; le \
         certificat est contrôlé, puis mis en service sans arrêt."
            .into(),
        "Vérifier, sur la passerelle : drimbox certs check.".into(),
    ]
}

fn at_igc_sante(facts: &Facts, now: OffsetDateTime) -> String {
    if now > facts.not_after {
        return "Sur la plateforme IGC Santé : faire une nouvelle demande (« Demander »), y déposer la \
                demande affichée, puis retirer le certificat."
            .into();
    }
    let opens = facts.not_after - time::Duration::days(RENEWAL_OPENS_DAYS);
    format!(
        "Sur la plateforme IGC Santé, avec la carte CPS de la personne habilitée : renouveler (possible à partir \
         du {}), déposer la demande affichée, retirer le certificat.",
        opens.date()
    )
}

/// The monthly test: `link` is where the recipient acknowledges it.
#[must_use]
pub fn test(centre: Option<&str>, link: Option<&str>, now: OffsetDateTime) -> Draft {
    let link = link.map_or_else(String::new, |link| {
        format!(
            "Pour confirmer que vous l'avez lu, ouvrez ce lien et appuyez sur le bouton :\n\n{link}\n\n\
             Sans confirmation sous sept jours, les autres destinataires sont prévenus que cette \
             adresse n'est pas lue.\n\n"
        )
    });
    Draft {
        subject: "[DRIMbox] Essai mensuel des alertes".into(),
        text: format!(
            "{}Ce message vérifie que les alertes d'expiration des certificats vous parviennent.\n\n\
             {link}Message écrit le {}.\n",
            heading(centre),
            moment(now)
        ),
        data: json!({ "kind": "test" }),
    }
}

/// Why a recipient is taken for one that reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The monthly test was not acknowledged.
    Unconfirmed,
    /// The mail server refuses the address.
    Refused,
    /// Nothing is delivered to it, while other recipients get their messages.
    Undeliverable,
}

/// A recipient does not answer. The address stands in the text, which goes to the other recipients; the
/// subject, which is also logged, has its rank in the configuration.
#[must_use]
pub fn silent(
    centre: Option<&str>,
    rank: usize,
    address: &str,
    silence: Silence,
    now: OffsetDateTime,
) -> Draft {
    let (why, code) = match silence {
        Silence::Unconfirmed => ("n'a pas confirmé l'essai mensuel", "unconfirmed"),
        Silence::Refused => ("est refusée par le serveur de messagerie", "refused"),
        Silence::Undeliverable => (
            "n'a rien reçu depuis sept jours, alors que d'autres reçoivent",
            "undeliverable",
        ),
    };
    Draft {
        subject: format!("[DRIMbox] Le destinataire n° {rank} des alertes {why}"),
        text: format!(
            "{}L'adresse {address} {why} : les alertes d'expiration n'y sont sans doute pas lues.\n\n\
             À faire :\n\
             1. Demander à son titulaire s'il a reçu l'essai (dossier des indésirables compris).\n\
             2. Corriger [alerts] recipients si cette boîte n'est plus lue, puis redémarrer le \
             service.\n\nMessage écrit le {}.\n",
            heading(centre),
            moment(now)
        ),
        data: json!({ "kind": "silent_recipient", "recipient": rank, "why": code }),
    }
}

fn heading(centre: Option<&str>) -> String {
    centre.map_or_else(String::new, |centre| format!("{centre}\n\n"))
}

fn moment(at: OffsetDateTime) -> String {
    let format = time::macros::format_description!("[day]/[month]/[year] à [hour]:[minute] UTC");
    at.to_offset(time::UtcOffset::UTC)
        .format(format)
        .unwrap_or_else(|_| at.date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::alerts::testdata::{START, facts, place};

    fn said(role: Role, day: i64) -> Draft {
        let step = Step {
            order: 0,
            name: "J-30".into(),
        };
        let now = START + time::Duration::days(day);
        expiry(
            &place("db:scanner", role),
            &facts("f", 1095),
            &step,
            None,
            now,
        )
    }

    #[test]
    fn an_alert_says_what_expires_when_what_stops_and_what_to_do() {
        let draft = said(Role::ServSsl, 1065);
        assert!(draft.subject.contains("SERV_SSL"), "{}", draft.subject);
        assert!(draft.subject.contains("dans 30 jours (J-30)"));
        for part in [
            Role::ServSsl.effect(),
            "31/12/2028 à 00:00 UTC",
            "renouvelable jusqu'à expiration seulement",
            "possible à partir du 2028-11-01",
            "drimbox certs request db:scanner",
            "drimbox certs import db:scanner",
        ] {
            assert!(draft.text.contains(part), "{part} in {}", draft.text);
        }
    }

    #[test]
    fn an_expired_igc_certificate_is_asked_for_anew() {
        let draft = said(Role::OrgAuthCliPsc, 1098);
        assert!(
            draft.subject.contains("a expiré depuis 3 jours"),
            "{}",
            draft.subject
        );
        assert!(draft.text.contains("faire une nouvelle demande"));
    }

    #[test]
    fn what_another_program_has_is_renewed_there() {
        let mut place = place("watched:proxy", Role::OrgAuthCliProxy);
        place.kept = crate::certs::place::Kept::Elsewhere;
        let facts = facts("f", 1095);
        let step = Step {
            order: 0,
            name: "J-30".into(),
        };
        let now = START + time::Duration::days(1065);
        let text = expiry(&place, &facts, &step, None, now).text;
        for part in [
            Role::OrgAuthCliProxy.effect(),
            "drimbox certs request EMPLACEMENT --proxy",
            "possible à partir du 2028-11-01",
            "drimbox certs import EMPLACEMENT FICHIER --proxy",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let revoked = revoked(&place, &facts, None, now).text;
        for text in [text, revoked] {
            assert!(!text.contains("drimbox certs request watched"), "{text}");
            assert!(!text.contains("drimbox certs import watched"), "{text}");
        }
    }

    #[test]
    fn what_is_not_of_igc_sante_does_not_speak_of_it() {
        for role in [Role::Local, Role::Market, Role::Dicom, Role::PacsClient] {
            assert!(!said(role, 1065).text.contains("IGC"), "{role}");
        }
    }

    #[test]
    fn an_authority_is_asked_for_its_successor() {
        let draft = said(Role::Authority, 1065);
        for part in ["AUTHORITY", "dans 30 jours (J-30)"] {
            assert!(draft.subject.contains(part), "{}", draft.subject);
        }
        assert!(draft.text.contains("redémarrer le service"));
        assert!(!draft.text.contains("certs request"), "{}", draft.text);
    }

    #[test]
    fn who_replaces_a_revoked_certificate_is_told_by_its_kind() {
        let now = START + time::Duration::days(10);
        let of = |place: &Place| revoked(place, &facts("f", 90), None, now).text;
        let bought = of(&place("vi:ct", Role::Market));
        assert!(bought.contains("drimbox certs request vi:ct"), "{bought}");
        assert!(!bought.contains("IGC"), "{bought}");
        let mut obtained = place("vi:ct", Role::Market);
        obtained.kept = crate::certs::place::Kept::Record;
        let obtained = of(&obtained);
        assert!(obtained.contains("en demande un autre d'elle-même"));
        assert!(!obtained.contains("certs request"), "{obtained}");
        let of_igc = of(&place("db:ct", Role::ServSsl));
        assert!(of_igc.contains("plateforme IGC Santé"), "{of_igc}");
    }
}
