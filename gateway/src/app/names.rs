//! The `db` and `vi` names of the listener for peers and browsers, with their first certificates.

use std::sync::Arc;
use std::time::SystemTime;

use super::certificates::{Authorities, Certificates, Peers, Used, Watched};
use crate::certs::place::Role;
use crate::certs::presented::Recorder;
use crate::config::{Config, Gate, PeerListener};
use crate::net::tls;
use crate::net::{Clients, NamedConfigs, NamedHost, usable};
use crate::trust::Trust;

/// Reads every certificate that the configuration names, and has them watched by `certificates`.
pub(super) fn load(
    config: &Config,
    peer: &PeerListener,
    trust: Option<&Trust>,
    recorder: &Recorder,
    certificates: &mut Certificates,
) -> anyhow::Result<Arc<NamedConfigs>> {
    let authorities = match (&peer.gate, trust) {
        (Gate::None { client_ca_file }, _) => Authorities::File(client_ca_file.clone()),
        (Gate::Full, Some(trust)) => Authorities::Trust(trust.clone()),
        (Gate::Full, None) => anyhow::bail!("peer.gate = \"full\" needs the section [trust]"),
    };
    let mandatory = peer.healthcheck.paths.is_empty() || !peer.healthcheck.without_certificate;
    let peers = Clients::Peers {
        verifier: authorities.verifier(recorder)?,
        mandatory,
    };
    let (mut hosts, mut files) = (Vec::new(), Vec::new());
    for pacs in &config.pacs {
        let db = (&pacs.db_host, &pacs.db_tls, &peers, Role::ServSsl);
        let anybody = Clients::Anybody;
        let vi = (&pacs.vi_host, &pacs.vi_tls, &anybody, Role::Market);
        for (host, identity, clients, role) in [db, vi] {
            let Some(host) = host else { continue };
            let certificate = match identity {
                // One from the gateway itself, or soon.
                None if config.acme.is_some() && matches!(clients, Clients::Anybody) => None,
                None => {
                    tracing::warn!(
                        host,
                        "no certificate yet: this name is refused until it has one"
                    );
                    None
                }
                Some(identity) => {
                    files.push((host, role, identity));
                    let certificate = tls::certified_key(identity)?;
                    if let Err(error) = usable(&certificate, host, SystemTime::now()) {
                        tracing::error!("{error} Its clients refuse it until then.");
                    }
                    Some(Arc::new(certificate))
                }
            };
            hosts.push(NamedHost {
                host: host.clone(),
                clients: clients.clone(),
                certificate,
            });
        }
    }
    let configs = Arc::new(NamedConfigs::new(hosts)?);
    certificates.add(files.into_iter().map(|(host, role, identity)| Watched {
        what: host.clone(),
        role,
        identity: identity.clone(),
        used: Used::Name(Arc::clone(&configs)),
    }));
    certificates.add_peers(Peers::new(&configs, recorder, authorities));
    Ok(configs)
}
