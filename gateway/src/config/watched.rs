//! `[[watched]]`: certificates of other programs. They are in the inventory, the metrics and the alerts; the gateway
//! neither uses them nor reads their keys.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::names;
use super::section::Section;
use super::value::{Fault, Value};

/// One certificate of another program.
#[derive(Debug, Clone)]
pub struct WatchedCertificate {
    /// Short name, in commands: `watched:NAME`.
    pub name: String,
    /// Whether it is an ORG_AUTH_CLI of IGC Santé, which people must renew before it expires.
    pub of_igc_sante: bool,
    /// Its PEM file. One that is not there is told by the inventory: it keeps nothing from starting.
    pub certificate_file: PathBuf,
}

/// Reads every `[[watched]]`; what is wrong is reported.
pub(super) fn read(root: &Section<'_>) -> Vec<WatchedCertificate> {
    let mut seen = BTreeSet::new();
    let tables = root.sections("watched");
    let watched = tables.into_iter().filter_map(|table| {
        let name = table.required(
            "name",
            "donner un nom court à ce certificat, par exemple name = \"proxy-editeur\"",
            names::pacs_name,
        );
        let of_igc_sante = table.or("role", false, role);
        let certificate_file = table.required(
            "certificate_file",
            "indiquer le fichier PEM du certificat, que le compte de la passerelle doit pouvoir lire",
            |v| v.path(),
        );
        if let Some(name) = &name
            && !seen.insert(name.clone())
        {
            let twice = Fault::new("deux certificats ont ce nom", "en changer un");
            table.fault("name", twice);
        }
        table.finish();
        Some(WatchedCertificate {
            name: name?,
            of_igc_sante,
            certificate_file: certificate_file?,
        })
    });
    watched.collect()
}

fn role(value: &Value<'_>) -> Result<bool, Fault> {
    match value.text()? {
        "ORG_AUTH_CLI" => Ok(true),
        "OTHER" => Ok(false),
        _ => Err(Fault::new(
            "ce rôle n'est pas connu",
            "écrire \"ORG_AUTH_CLI\" (IGC Santé, client de Pro Santé Connect) ou \"OTHER\"",
        )),
    }
}
