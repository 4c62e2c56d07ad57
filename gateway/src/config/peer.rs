//! `[peer]`: the listener of the `db` and `vi` names.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use super::model::{Gate, Healthcheck, PeerListener, Resource};
use super::read::RESOURCES;
use super::section::Section;
use super::value::Fault;
use super::{files, names};

/// Reads the section; `None` when it is absent, or a key that has no default is missing.
pub(super) fn read(section: &Section<'_>) -> Option<PeerListener> {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 443));
    let listen = section.or("listen", everywhere, |v| v.address());
    let base_path = section.or("base_path", "/dicom-web".to_owned(), names::base_path);
    let public_port = section.optional("public_port", |v| v.integer(1..=u16::MAX));
    let wado = BTreeSet::from([Resource::Wado]);
    let resources = section.or("resources", wado, |v| v.choices(&RESOURCES));
    let healthcheck = healthcheck(section);
    let add_ins = section.or("add_ins", true, |v| v.boolean());
    let serve_masked = section.or("serve_masked", false, |v| v.boolean());
    let gates = [("full", Level::Full), ("none", Level::None)];
    let level = section.or("gate", Level::Full, |v| v.choice(&gates));
    let client_ca_file = section.optional("client_ca_file", files::certificates);
    section.is_present().then_some(())?;
    let gate = match level {
        Level::Full => Gate::Full,
        Level::None => {
            if !section.has("client_ca_file") {
                section.fault("client_ca_file", authorities_missing());
            }
            Gate::None {
                client_ca_file: client_ca_file?,
            }
        }
    };
    Some(PeerListener {
        listen,
        base_path,
        public_port,
        gate,
        add_ins,
        serve_masked,
        resources,
        healthcheck,
    })
}

#[derive(Clone, Copy)]
enum Level {
    Full,
    None,
}

fn authorities_missing() -> Fault {
    Fault::new(
        "clé obligatoire absente avec gate = \"none\"",
        "indiquer le fichier PEM des autorités qui signent les certificats des autres DRIMbox",
    )
}

fn healthcheck(section: &Section<'_>) -> Healthcheck {
    let default = vec!["/healthcheck".to_owned()];
    Healthcheck {
        paths: section.or("healthcheck_paths", default, |v| v.list(names::base_path)),
        without_certificate: section.or("healthcheck_without_certificate", true, |v| v.boolean()),
        addresses_file: section.optional("healthcheck_addresses_file", files::readable),
    }
}
