//! What stands in the way of a certificate, in words an administrator can act on.

use acme::Cause;

/// What a cause means, and what to do about it; two French sentences.
#[must_use]
pub fn explain(cause: Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::NameUnresolved => (
            "Ce nom n'a pas d'adresse dans le DNS.",
            "Faire publier le nom avec l'adresse IP publique de la DRIMbox (zone \
             mesimagesmedicales.fr : demande à l'ANS par Industriel Santé Connect).",
        ),
        Cause::PointsElsewhere => (
            "Le DNS donne à ce nom une autre adresse que celle de la DRIMbox.",
            "Faire corriger l'adresse du nom dans le DNS (y compris IPv6), ou public_addresses dans [acme] \
             si l'adresse publique du centre a changé.",
        ),
        Cause::AnsweredElsewhere => (
            "Une autre machine répond sous ce nom sur le port 80.",
            "Faire corriger l'adresse du nom dans le DNS (y compris IPv6), ou la redirection du port 80 \
             dans la box ou le pare-feu, pour qu'elles mènent à la DRIMbox.",
        ),
        Cause::PortBlocked => (
            "Le port 80 n'est pas joignable depuis Internet.",
            "Ouvrir le port TCP 80 depuis toutes les adresses d'Internet vers la DRIMbox, dans le pare-feu \
             et la box ; le port 443 seul ne suffit pas.",
        ),
        Cause::Caa => (
            "Les enregistrements CAA du DNS n'autorisent pas cette autorité de certification.",
            "Demander à qui administre la zone d'y ajouter l'autorité, ou configurer une autorité \
             permise dans [[acme.authority]].",
        ),
        Cause::Account => (
            "L'autorité de certification refuse le compte de la DRIMbox.",
            "Vérifier contact dans [acme] ; un compte perdu est refait à la tentative suivante.",
        ),
        Cause::ExternalAccount => (
            "L'autorité de certification demande une clé de compte client (EAB), ou refuse celle donnée.",
            "Vérifier eab_key_id et eab_hmac_file dans [[acme.authority]] ; en demander de nouveaux \
             à l'autorité s'ils ont déjà servi.",
        ),
        Cause::RateLimited => (
            "L'autorité de certification limite le nombre de demandes.",
            "Ne rien faire : la demande repart à l'heure que l'autorité a indiquée. Ne pas effacer le \
             dossier acme entre deux essais ; utiliser staging = true pour les essais.",
        ),
        Cause::NameRefused => (
            "L'autorité de certification refuse ce nom.",
            "Vérifier l'orthographe de vi_host ; sinon, demander la raison à l'autorité, ou en \
             configurer une autre dans [[acme.authority]].",
        ),
        Cause::RequestRefused => (
            "L'autorité de certification refuse la demande de certificat.",
            "Essayer l'autre type de clé (key_type dans [acme]).",
        ),
        Cause::AuthorityUnreachable => (
            "L'autorité de certification n'est pas joignable.",
            "Ouvrir la sortie vers son adresse sur le port TCP 443, ou indiquer http_proxy dans [acme].",
        ),
        Cause::AuthorityUntrusted => (
            "Le certificat du serveur de l'autorité de certification n'est pas reconnu.",
            "Vérifier l'heure de la machine, qu'aucun équipement n'ouvre le TLS sortant, et ca_file \
             dans [acme].",
        ),
        Cause::AuthorityFault => (
            "L'autorité de certification a une panne, ou sa réponse n'est pas comprise.",
            "Attendre : la demande repart d'elle-même. Si cela dure, consulter la page d'état de \
             l'autorité.",
        ),
        Cause::Slow => (
            "L'autorité de certification n'a pas encore répondu à la demande.",
            "Attendre : la même demande est reprise d'elle-même.",
        ),
        Cause::WrongCertificate => (
            "L'autorité a délivré un certificat qui ne convient pas ; il n'est pas utilisé.",
            "Signaler le détail à l'autorité de certification.",
        ),
        Cause::Install => (
            "Le nouveau certificat n'a pas pu être mis en service ; l'ancien reste.",
            "Voir le détail ; si une autre section utilise ce nom, la corriger.",
        ),
        Cause::Store => (
            "L'état des certificats ne peut être lu ou écrit.",
            "Vérifier la place libre et les droits du dossier acme dans data_dir.",
        ),
        _ => (
            "Cause inconnue.",
            "Voir le détail, et le transmettre au support.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_words_of_its_own() {
        let words: std::collections::HashSet<_> =
            Cause::ALL.iter().map(|cause| explain(*cause)).collect();
        assert_eq!(words.len(), Cause::ALL.len());
        assert!(!words.iter().any(|(what, _)| *what == "Cause inconnue."));
    }
}
