//! Rules between keys: what one of them requires of another.

use std::net::SocketAddr;

use super::acme::Acme;
use super::model::{Admin, Dimse, Gate, LocalListener, Pacs, PeerListener, RetrieveMethod};
use super::read::Sections;
use super::section::Section;
use super::value::Fault;

/// What was read, with the tables it was read from; a part that is wrong in itself is `None` and no
/// rule speaks of it.
pub(super) struct Parts<'p, 'a> {
    pub(super) root: &'p Section<'a>,
    pub(super) sections: &'p Sections<'a>,
    pub(super) admin: &'p Admin,
    pub(super) local: Option<&'p LocalListener>,
    pub(super) peer: Option<&'p PeerListener>,
    pub(super) dimse: Option<&'p Dimse>,
    pub(super) acme: Option<&'p Acme>,
    pub(super) pacs: &'p [Option<Pacs>],
}

/// Reports every rule that is broken.
pub(super) fn check(parts: &Parts<'_, '_>) {
    at_least_one_of_each(parts);
    distinct_names(parts);
    local_listener_is_protected(parts);
    peers_have_certificates(parts);
    certificates_have_names(parts);
    market_certificates_have_a_use(parts);
    the_gate_has_its_parts(parts);
    storage_scp(parts);
    distinct_addresses(parts);
}

/// `charset_overrides` without a character set to put in place.
pub(super) fn needs_charset() -> Fault {
    Fault::new(
        "le jeu de caractères de remplacement manque",
        "ajouter charset dans la même section, par exemple charset = \"ISO_IR 100\"",
    )
}

/// A PACS that is described twice.
pub(super) fn two_upstreams() -> Fault {
    Fault::new(
        "ce PACS est décrit deux fois, par [pacs.dimse] et par [pacs.dicomweb]",
        "garder l'une des deux sections : la passerelle n'en utilise qu'une",
    )
}

/// A PACS without a way to reach it.
pub(super) fn no_upstream() -> Fault {
    Fault::new(
        "ni [pacs.dimse] ni [pacs.dicomweb] ne dit comment joindre ce PACS",
        "ajouter [pacs.dimse] avec host et ae_title, ou [pacs.dicomweb] avec url",
    )
}

/// Another character set for answers that are UTF-8 by definition.
pub(super) fn json_is_utf8() -> Fault {
    Fault::new(
        "les réponses d'un service DICOMweb sont toujours en UTF-8",
        "retirer charset_overrides ; charset sert encore aux images qui ne déclarent rien",
    )
}

fn at_least_one_of_each(parts: &Parts<'_, '_>) {
    if !parts.root.has("pacs") {
        parts.root.fault(
            "pacs",
            Fault::new(
                "aucun PACS n'est décrit",
                "ajouter une section [[pacs]] avec name, et [pacs.dimse] avec host et ae_title ou \
                 [pacs.dicomweb] avec url",
            ),
        );
    }
    if !parts.root.has("local") && !parts.root.has("peer") {
        parts.root.fault(
            "local",
            Fault::new(
                "aucun point d'accès n'est demandé, ni [local] ni [peer]",
                "ajouter une section [local] (même vide) pour le réseau du centre, ou [peer] pour \
                 les autres DRIMbox",
            ),
        );
    }
}

fn distinct_names(parts: &Parts<'_, '_>) {
    let mut names: Vec<&str> = Vec::new();
    let mut hosts: Vec<&str> = Vec::new();
    for (section, pacs) in parts.sections.pacs.iter().zip(parts.pacs) {
        let Some(pacs) = pacs else { continue };
        if names.contains(&pacs.name.as_str()) {
            section.fault(
                "name",
                Fault::new(
                    "deux PACS portent ce nom",
                    "donner un nom propre à chaque PACS",
                ),
            );
        }
        names.push(&pacs.name);
        for (key, host) in [("db_host", &pacs.db_host), ("vi_host", &pacs.vi_host)] {
            let Some(host) = host else { continue };
            if hosts.contains(&host.as_str()) {
                section.fault(
                    key,
                    Fault::new(
                        "ce nom de machine est déjà pris dans ce fichier",
                        "donner à chaque PACS un nom db et un nom vi qui lui soient propres : \
                         c'est ce nom qui désigne le PACS",
                    ),
                );
            }
            hosts.push(host);
        }
    }
    let Some(local) = parts.local else { return };
    // While a PACS is wrong in itself, its name may be the one meant.
    if parts.pacs.iter().all(Option::is_some) && !names.contains(&local.default_pacs.as_str()) {
        parts.sections.local.fault(
            "default_pacs",
            Fault::new(
                "aucun PACS ne porte ce nom",
                format!("choisir parmi {}", names.join(", ")),
            ),
        );
    }
}

fn local_listener_is_protected(parts: &Parts<'_, '_>) {
    let Some(local) = parts.local else { return };
    let section = &parts.sections.local;
    if local.base_path == "/pacs" || local.base_path.starts_with("/pacs/") {
        section.fault(
            "base_path",
            Fault::new(
                "/pacs/NOM est réservé à l'accès à chaque PACS",
                "choisir un autre chemin, par exemple \"/dicom-web\"",
            ),
        );
    }
    if is_loopback(local.listen) {
        return;
    }
    if !section.has("tls") {
        section.fault(
            "listen",
            Fault::new(
                "cette adresse est visible du réseau, et [local.tls] manque",
                "ajouter [local.tls] avec certificate_file et key_file, ou écouter sur \
                 \"127.0.0.1:8080\"",
            ),
        );
    }
    // A tokens file that is given and wrong has its own complaint.
    if local.tokens_file.is_none() && !section.has("tokens_file") {
        section.fault(
            "listen",
            Fault::new(
                "cette adresse est visible du réseau, et tokens_file manque",
                "ajouter tokens_file dans [local], ou écouter sur \"127.0.0.1:8080\"",
            ),
        );
    }
}

fn peers_have_certificates(parts: &Parts<'_, '_>) {
    if !parts.sections.peer.is_present() {
        return;
    }
    for section in &parts.sections.pacs {
        if !section.has("db_host") {
            section.fault(
                "db_host",
                Fault::new(
                    "[peer] est demandé, et ce PACS n'a pas de nom pour les autres DRIMbox",
                    "ajouter db_host, le nom DNS de son certificat SERV_SSL",
                ),
            );
        }
        if !section.has("db_tls") {
            section.fault(
                "db_tls",
                Fault::new(
                    "[peer] est demandé, et ce PACS n'a pas de certificat",
                    "ajouter db_tls = { certificate_file = \"…\", key_file = \"…\" }",
                ),
            );
        }
    }
}

fn the_gate_has_its_parts(parts: &Parts<'_, '_>) {
    if parts.peer.is_none_or(|peer| peer.gate != Gate::Full) {
        return;
    }
    let needs = [
        (
            "trust",
            "les certificats des autres DRIMbox ne peuvent être vérifiés : [trust] manque",
            "ajouter la section [trust] ; sur un banc d'essai seulement, écrire gate = \"none\" et \
             client_ca_file dans [peer]",
        ),
        (
            "psc",
            "les jetons des professionnels ne peuvent être vérifiés : [psc] manque",
            "ajouter la section [psc] ; sur un banc d'essai seulement, écrire gate = \"none\" et \
             client_ca_file dans [peer]",
        ),
    ];
    for (section, what, remedy) in needs {
        if !parts.root.has(section) {
            parts.sections.peer.fault("gate", Fault::new(what, remedy));
        }
    }
}

fn certificates_have_names(parts: &Parts<'_, '_>) {
    for section in &parts.sections.pacs {
        if section.has("vi_tls") && !section.has("vi_host") {
            section.fault(
                "vi_tls",
                Fault::new(
                    "ce certificat est celui d'un nom de visionneuse qui n'est pas indiqué",
                    "ajouter vi_host, le nom DNS de ce certificat, ou retirer vi_tls",
                ),
            );
        }
    }
}

fn market_certificates_have_a_use(parts: &Parts<'_, '_>) {
    if !parts.sections.acme.is_present() {
        return;
    }
    if !parts.sections.peer.is_present() {
        parts.sections.acme.fault(
            "listen",
            Fault::new(
                "[acme] obtient les certificats du point d'accès [peer], qui n'est pas demandé",
                "ajouter la section [peer], ou retirer [acme]",
            ),
        );
    }
    for (section, pacs) in parts.sections.pacs.iter().zip(parts.pacs) {
        let Some(host) = pacs.as_ref().and_then(|pacs| pacs.vi_host.as_ref()) else {
            continue;
        };
        if acme::DnsName::parse(host).is_err() {
            section.fault(
                "vi_host",
                Fault::new(
                    "aucune autorité ne délivre de certificat public pour ce nom",
                    "écrire le nom DNS public complet, par exemple \"vi.imagerie-exemple.fr\"",
                ),
            );
        }
    }
}

fn storage_scp(parts: &Parts<'_, '_>) {
    let section = &parts.sections.dimse;
    if let Some(dimse) = parts.dimse {
        if section.has("tls") && !section.has("listen") {
            section.fault(
                "tls",
                Fault::new(
                    "TLS est demandé pour un point d'accès DICOM qui n'est pas ouvert",
                    "ajouter listen dans [dimse], par exemple \"0.0.0.0:11112\", ou retirer tls",
                ),
            );
        }
        if dimse.client_ca_file.is_some() && !section.has("tls") {
            section.fault(
                "client_ca_file",
                Fault::new(
                    "des certificats de clients ne peuvent être exigés sans TLS",
                    "ajouter [dimse.tls] avec certificate_file et key_file, ou retirer \
                     client_ca_file",
                ),
            );
        }
    }
    if section.has("listen") {
        return;
    }
    for (section, pacs) in parts.sections.pacs.iter().zip(parts.pacs) {
        let moves = |p: &Pacs| {
            p.dimse()
                .is_some_and(|d| d.retrieve == RetrieveMethod::Move)
        };
        if pacs.as_ref().is_some_and(moves) {
            section.section("dimse").fault(
                "retrieve",
                Fault::new(
                    "C-MOVE envoie les images au point d'accès DICOM de la passerelle, qui n'est \
                     pas ouvert",
                    "ajouter listen dans [dimse], par exemple listen = \"0.0.0.0:11112\", et \
                     déclarer cette adresse dans le PACS ; ou choisir retrieve = \"get\"",
                ),
            );
        }
    }
}

fn distinct_addresses(parts: &Parts<'_, '_>) {
    let sections = parts.sections;
    let listeners = [
        (&sections.admin, Some(parts.admin.listen)),
        (&sections.local, parts.local.map(|local| local.listen)),
        (&sections.peer, parts.peer.map(|peer| peer.listen)),
        (&sections.dimse, parts.dimse.and_then(|dimse| dimse.listen)),
        (&sections.acme, parts.acme.map(|acme| acme.listen)),
    ];
    let mut taken: Vec<SocketAddr> = Vec::new();
    for (section, address) in listeners {
        let Some(address) = address else { continue };
        if taken.iter().any(|other| collide(*other, address)) {
            section.fault(
                "listen",
                Fault::new(
                    format!(
                        "le port {} est déjà pris par une autre section",
                        address.port()
                    ),
                    "choisir un port différent pour chaque section",
                ),
            );
        }
        taken.push(address);
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
