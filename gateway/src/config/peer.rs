//! `[peer]`: the listener of the `db` and `vi` names.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use super::model::{Healthcheck, PeerListener, Resource};
use super::read::RESOURCES;
use super::section::Section;
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
    section.is_present().then_some(())?;
    let client_ca_file = section.required(
        "client_ca_file",
        "indiquer le fichier PEM des autorités qui signent les certificats des autres DRIMbox",
        files::certificates,
    );
    Some(PeerListener {
        listen,
        base_path,
        public_port,
        client_ca_file: client_ca_file?,
        resources,
        healthcheck,
    })
}

fn healthcheck(section: &Section<'_>) -> Healthcheck {
    let default = vec!["/healthcheck".to_owned()];
    Healthcheck {
        paths: section.or("healthcheck_paths", default, |v| v.list(names::base_path)),
        without_certificate: section.or("healthcheck_without_certificate", true, |v| v.boolean()),
        addresses_file: section.optional("healthcheck_addresses_file", files::readable),
    }
}
