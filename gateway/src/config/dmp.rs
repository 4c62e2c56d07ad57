//! `[dmp]`: where the DMP is, and the certificates towards it, two for each legal structure. They are watched,
//! requested, imported and tried in a handshake (`drimbox check dmp`); nothing is sent to the DMP with them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::files;
use super::model::ServerIdentity;
use super::names;
use super::section::Section;
use super::value::{Fault, Value};
use crate::certs::structure::StructureId;

/// One legal structure that feeds the DMP.
#[derive(Debug, Clone)]
pub struct DmpStructure {
    /// Short name, in commands.
    pub name: String,
    /// Its identifier with the prefix, as the OU of its certificates has it.
    pub structure: String,
    /// ORG_AUTH_CLI: TLS towards the DMP.
    pub auth: Option<ServerIdentity>,
    /// ORG_SIGN: signature of what is sent.
    pub sign: Option<ServerIdentity>,
}

/// The server of the DMP that structures of this place use.
#[derive(Debug, Clone)]
pub struct DmpServer {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Authorities (PEM) that its certificate must chain to.
    pub ca_file: PathBuf,
}

/// Reads `[dmp]`; what is wrong is reported.
pub(super) fn read(section: Section<'_>) -> (Option<DmpServer>, Vec<DmpStructure>) {
    let host = section.optional("host", names::host);
    let port = section.or("port", 443, |v| v.integer(1..=u16::MAX));
    let ca_file = section.optional("ca_file", files::certificates);
    if section.has("host") && !section.has("ca_file") {
        let missing = Fault::new(
            "les autorités du serveur du DMP manquent",
            "indiquer dans ca_file le fichier PEM de l'IGC Santé dont il présente un certificat",
        );
        section.fault("ca_file", missing);
    }
    let server = host.zip(ca_file);
    let server = server.map(|(host, ca_file)| DmpServer {
        host,
        port,
        ca_file,
    });
    let mut seen = BTreeSet::new();
    let tables = section.sections("structures");
    let structures = tables.into_iter().filter_map(|table| {
        let name = table.required("name", "donner un nom court à cette structure", names::pacs_name);
        let structure = table.required(
            "structure",
            "indiquer l'identifiant de la structure, préfixe compris, par exemple 318751275100020 (SIRET)",
            identifier,
        );
        let (auth, sign) = (identity(table.section("auth")), identity(table.section("sign")));
        if let Some(name) = &name
            && !seen.insert(name.clone())
        {
            let twice = Fault::new("deux structures ont ce nom", "en changer un");
            table.fault("name", twice);
        }
        table.finish();
        Some(DmpStructure {
            name: name?,
            structure: structure?,
            auth,
            sign,
        })
    });
    let structures = structures.collect();
    section.finish();
    (server, structures)
}

/// A certificate and its key, which need not be there yet.
fn identity(section: Section<'_>) -> Option<ServerIdentity> {
    let identity = section.is_present().then(|| {
        let file = "indiquer le fichier PEM, présent ou à venir";
        let certificate_file =
            section.required("certificate_file", file, files::later_certificates);
        let key_file = section.required("key_file", file, files::later_private_key);
        Some(ServerIdentity {
            certificate_file: certificate_file?,
            key_file: key_file?,
        })
    });
    section.finish();
    identity.flatten()
}

fn identifier(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?.trim();
    StructureId::parse(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            Fault::new(
                "ce n'est pas l'identifiant d'une structure",
                "écrire le préfixe puis le numéro : 1 FINESS, 3 SIRET, 4 RPPS-rang, 5 FINESS juridique, 6 \
                 FINESS géographique",
            )
        })
}
