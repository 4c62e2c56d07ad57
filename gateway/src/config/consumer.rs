//! `[consumer]`: how exams of other DRIMboxes are fetched.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::model::{Consumer, KnownPeer, Pacs, PreferredImages, ServerIdentity};
use super::section::Section;
use super::value::{Fault, Value};
use super::{files, names, read as tables};

/// Reads the table; `None` when it is absent, or wrong, which is then reported.
pub(super) fn read(
    section: Section<'_>,
    pacs: &[Option<Pacs>],
    has_trust: bool,
) -> Option<Consumer> {
    let preferences = [
        ("lossless", PreferredImages::Lossless),
        ("lossy", PreferredImages::Lossy),
    ];
    let seconds = |key, default| {
        section.or(key, Duration::from_secs(default), |v| {
            v.seconds(0.01..=3_600.0)
        })
    };
    let prefer = section.or("prefer", PreferredImages::Lossless, |v| {
        v.choice(&preferences)
    });
    let ports = section.or("ports", vec![443], |v| {
        v.list(|item| item.integer(1..=u16::MAX))
    });
    let private_networks = section.or("private_networks", Vec::new(), |v| v.list(network));
    let max_requests = section.or("max_requests", 4, |v| v.integer(1..=256));
    let series_at_once = section.or("series_at_once", 4, |v| v.integer(1..=64));
    let attempts = section.or("attempts", 4, |v| v.integer(1..=20));
    let ask_for_instances = section.or("ask_for_instances", true, |v| v.boolean());
    let connect_timeout = seconds("connect_timeout_seconds", 10);
    let response_timeout = seconds("response_timeout_seconds", 60);
    let idle_timeout = seconds("idle_timeout_seconds", 20);
    let max_instance_bytes = section.or("max_instance_bytes", 4 << 30, |v| {
        v.bytes(1 << 20..=1_u64 << 40)
    });
    let max_series_bytes = section.or("max_series_bytes", 64 << 30, |v| {
        v.bytes(1 << 20..=1_u64 << 50)
    });
    let ca_file = section.optional("ca_file", files::certificates);
    let identity = identity(&section, pacs);
    let peers: Vec<_> = section.sections("peers").into_iter().map(peer).collect();
    let addresses: Vec<_> = section
        .sections("addresses")
        .into_iter()
        .map(address)
        .collect();
    somebody_is_known(&section, has_trust, !peers.is_empty());
    let is_whole = section.is_present() && section.has("ca_file") == ca_file.is_some();
    section.finish();
    is_whole.then_some(())?;
    Some(Consumer {
        prefer,
        ports,
        private_networks,
        max_requests,
        series_at_once,
        attempts,
        ask_for_instances,
        connect_timeout,
        response_timeout,
        idle_timeout,
        max_instance_bytes,
        max_series_bytes,
        ca_file,
        identity: identity?,
        peers: peers.into_iter().collect::<Option<_>>()?,
        addresses: addresses.into_iter().collect::<Option<_>>()?,
    })
}

/// The certificate that peers are shown: its own, or that of the first `db` name.
fn identity(section: &Section<'_>, pacs: &[Option<Pacs>]) -> Option<ServerIdentity> {
    let own = tables::identity(section.section("identity"));
    if section.has("identity") || !section.is_present() {
        return own;
    }
    let of_pacs = pacs.iter().flatten().find_map(|pacs| pacs.db_tls.clone());
    // A PACS that is wrong in itself is told already.
    if of_pacs.is_none() && pacs.iter().all(Option::is_some) {
        section.fault(
            "identity",
            Fault::new(
                "aucun certificat à présenter aux autres DRIMbox",
                "donner db_host et db_tls à un PACS, ou ajouter identity ici",
            ),
        );
    }
    of_pacs
}

/// There is somebody to ask, and somebody who vouches for the certificates.
fn somebody_is_known(section: &Section<'_>, has_trust: bool, has_peers: bool) {
    if section.is_present() && !has_trust && !has_peers {
        section.fault(
            "peers",
            Fault::new(
                "aucune autre DRIMbox n'est connue : ni [trust], ni [[consumer.peers]]",
                "ajouter [trust], qui donne la liste blanche, ou, pour un essai, [[consumer.peers]]",
            ),
        );
    }
    if has_peers && !section.has("ca_file") {
        section.fault(
            "ca_file",
            Fault::new(
                "les autorités qui signent les certificats de [[consumer.peers]] manquent",
                "indiquer leur fichier PEM",
            ),
        );
    }
}

fn peer(section: Section<'_>) -> Option<KnownPeer> {
    let db_host = section.required(
        "db_host",
        "indiquer le nom db de cette DRIMbox",
        names::host_name,
    );
    let address = section.optional("address", |v| v.address());
    section.finish();
    Some(KnownPeer {
        db_host: db_host?,
        address,
    })
}

/// Where a DRIMbox of the white list is found.
fn address(section: Section<'_>) -> Option<(String, SocketAddr)> {
    let db_host = section.required(
        "db_host",
        "indiquer le nom db de cette DRIMbox",
        names::host_name,
    );
    let address = section.required(
        "address",
        "indiquer l'adresse et le port où elle se trouve",
        |v| v.address(),
    );
    section.finish();
    Some((db_host?, address?))
}

/// A network, or one address.
fn network(value: &Value<'_>) -> Result<IpNet, Fault> {
    let text = value.text()?;
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| {
        Fault::new(
            "ce n'est pas un réseau",
            "écrire une adresse et le nombre de bits du préfixe, par exemple \"10.20.0.0/16\"",
        )
    })
}
