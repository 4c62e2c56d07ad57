//! Two rustls in memory: the verifiers at work in TLS 1.3 and 1.2.

use std::sync::Arc;

use conformance::testkit::igc::{CrlSpec, Leaf, LeafSpec};
use drimbox::trust::{Clock, Trust};
use rustls::client::Resumption;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, UnixTime};

use super::World;

const SOURCE: &str = "db3.test.example.fr";
const CONSUMER: &str = "db4.test.example.fr";

#[derive(Debug)]
struct Held(Clock);

impl TimeProvider for Held {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0.now())
    }
}

/// Shakes hands; what each side ended with.
fn shake(
    world: &World,
    trust: &Trust,
    version: &'static SupportedProtocolVersion,
    server: &Leaf,
    client: &Leaf,
) -> (Result<(), rustls::Error>, Result<(), rustls::Error>) {
    let provider = drimbox::net::tls::provider();
    let identity = |leaf: &Leaf| {
        let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
        (vec![leaf.certificate.der().clone()], key.into())
    };
    let (chain, key) = identity(server);
    let mut config =
        ServerConfig::builder_with_details(provider.clone(), Arc::new(Held(world.clock())))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(trust.client_verifier())
            .with_single_cert(chain, key)
            .unwrap();
    config.send_tls13_tickets = 0;
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let (chain, key) = identity(client);
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Held(world.clock())))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(trust.server_verifier())
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.resumption = Resumption::disabled();
    let mut client = ClientConnection::new(Arc::new(config), SOURCE.try_into().unwrap()).unwrap();

    let (mut at_client, mut at_server) = (Ok(()), Ok(()));
    while (client.wants_write() || server.wants_write()) && at_client.is_ok() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        at_server = at_server.and(feed(&wire, |wire| server.read_tls(wire)));
        at_server = at_server.and_then(|()| server.process_new_packets().map(|_| ()));
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        at_client = feed(&wire, |wire| client.read_tls(wire));
        at_client = at_client.and_then(|()| client.process_new_packets().map(|_| ()));
    }
    if at_client.is_err() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let _ = feed(&wire, |wire| server.read_tls(wire));
        at_server = at_server.and(server.process_new_packets().map(|_| ()));
    }
    if at_client.is_ok() && at_server.is_ok() {
        assert!(!client.is_handshaking() && !server.is_handshaking());
        let shown = server.peer_certificates().unwrap();
        assert_eq!(trust.peer(shown).unwrap().db_host, CONSUMER);
    }
    (at_client, at_server)
}

fn feed(
    mut wire: &[u8],
    mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>,
) -> Result<(), rustls::Error> {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
    Ok(())
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn two_listed_peers_shake_hands() {
    let world = World::new();
    let trust = world.trust(&[SOURCE, CONSUMER]);
    for version in VERSIONS {
        for rsa in [false, true] {
            let leaf = |host| {
                world
                    .igc
                    .leaf(&LeafSpec {
                        rsa,
                        ..LeafSpec::peer(host)
                    })
                    .unwrap()
            };
            let ended = shake(&world, &trust, version, &leaf(SOURCE), &leaf(CONSUMER));
            assert_eq!(ended, (Ok(()), Ok(())));
        }
    }
}

#[test]
fn a_revoked_caller_gets_the_alert_that_says_so() {
    use rustls::{AlertDescription, CertificateError, Error};
    let world = World::new();
    let trust = world.trust(&[SOURCE, CONSUMER]);
    let (server, client) = (
        world.peer(SOURCE),
        LeafSpec {
            serial: 0x77,
            ..LeafSpec::peer(CONSUMER)
        },
    );
    let client = world.igc.leaf(&client).unwrap();
    let spec = CrlSpec {
        number: 11,
        revoked: vec![0x77],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &CrlSpec::default(), &spec);
    for version in VERSIONS {
        let (at_client, at_server) = shake(&world, &trust, version, &server, &client);
        assert_eq!(
            at_server,
            Err(Error::InvalidCertificate(CertificateError::Revoked))
        );
        assert_eq!(
            at_client,
            Err(Error::AlertReceived(AlertDescription::CertificateRevoked))
        );
    }
}

#[test]
fn a_server_of_another_name_is_left_before_anything_is_said() {
    use rustls::{CertificateError, Error};
    let world = World::new();
    let trust = world.trust(&[SOURCE, CONSUMER]);
    for version in VERSIONS {
        let (at_client, _) = shake(
            &world,
            &trust,
            version,
            &world.peer(CONSUMER),
            &world.peer(CONSUMER),
        );
        assert_eq!(
            at_client,
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        );
    }
}
