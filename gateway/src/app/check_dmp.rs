//! `drimbox check dmp`: one TLS handshake for each structure, and nothing after it. The certificate of the DMP goes into
//! the inventory.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::certs::facts::Facts;
use crate::certs::presented::{self, By, Recorder};
use crate::cli::Verdict;
use crate::config::{Config, DmpServer, ServerIdentity};
use crate::net;

/// Time for a whole handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries the certificate of every structure at the DMP.
pub(super) async fn dmp(config: &Config) -> Vec<Verdict> {
    let Some(server) = &config.dmp_server else {
        return vec![Verdict::failed(
            "Serveur du DMP",
            "la section [dmp] n'en nomme pas",
            "y indiquer host et ca_file",
        )];
    };
    let recorder = match Recorder::new(&presented::folder(&config.data_dir)) {
        Ok(recorder) => recorder,
        Err(error) => {
            return vec![Verdict::failed(
                "Préparation",
                format!("{} : {error}", config.data_dir.display()),
                "lancer cette commande sous le compte du service",
            )];
        }
    };
    let mut verdicts = Vec::new();
    for structure in &config.dmp {
        let step = format!("Structure {}", structure.name);
        let identity = structure.auth.as_ref();
        let there = identity.filter(|one| one.certificate_file.exists() && one.key_file.exists());
        verdicts.push(match there {
            Some(identity) => tried(step, server, identity, &recorder).await,
            None => Verdict::warning(
                step,
                "son certificat ORG_AUTH_CLI n'est pas encore là",
                format!("drimbox certs request dmp-auth:{}", structure.name),
            ),
        });
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::warning(
            "Structures",
            "aucune n'est déclarée : rien à présenter au DMP",
            "ajouter une section [[dmp.structures]]",
        ));
    }
    verdicts
}

async fn tried(
    step: String,
    server: &DmpServer,
    identity: &ServerIdentity,
    recorder: &Recorder,
) -> Verdict {
    let connector = match connector(server, identity, recorder) {
        Ok(connector) => connector,
        Err(error) => {
            return Verdict::failed(step, format!("{error:#}"), "corriger le fichier nommé");
        }
    };
    let place = format!("{}:{}", server.host, server.port);
    match timeout(PATIENCE, handshake(server, &connector)).await {
        Ok(Ok(certificate)) => {
            let facts = certificate.as_ref().map(Facts::of);
            let said = match facts {
                Some(Ok(facts)) => format!(
                    "{place} l'accepte et présente « {} », valable jusqu'au {}",
                    facts.common_name.as_deref().unwrap_or(&facts.subject),
                    facts.not_after.date()
                ),
                _ => format!("{place} l'accepte"),
            };
            Verdict::ok(step, said)
        }
        Ok(Err(failure)) => failure.verdict(step, &place),
        Err(_) => Failure::Network(io::ErrorKind::TimedOut.into()).verdict(step, &place),
    }
}

/// Why a handshake came to nothing.
enum Failure {
    /// Nobody there, or the connection broke.
    Network(io::Error),
    /// What the server shows is not believed.
    Server(rustls::Error),
    /// The server does not want this certificate.
    Refused(rustls::AlertDescription),
}

impl Failure {
    fn of(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(*alert),
            Some(other) => Self::Server(other.clone()),
            None => Self::Network(error),
        }
    }

    fn verdict(self, step: String, place: &str) -> Verdict {
        match self {
            Self::Network(error) => Verdict::failed(
                step,
                format!("{place} ne répond pas : {error}"),
                "vérifier host et port dans [dmp], le DNS et le pare-feu",
            ),
            Self::Server(error) => Verdict::failed(
                step,
                format!("le certificat de {place} n'est pas reconnu : {error}"),
                "vérifier ca_file dans [dmp] : l'IGC Santé de test n'est pas celle de production",
            ),
            Self::Refused(alert) => Verdict::failed(
                step,
                format!("{place} refuse le certificat de la structure ({alert:?})"),
                "vérifier que c'est un ORG_AUTH_CLI en cours de validité, de l'IGC Santé de cet environnement, \
                 et que la structure est connue du DMP",
            ),
        }
    }
}

fn connector(
    server: &DmpServer,
    identity: &ServerIdentity,
    recorder: &Recorder,
) -> anyhow::Result<TlsConnector> {
    let provider = net::tls::provider();
    let roots = Arc::new(net::tls::read_authorities(&server.ca_file)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .with_context(|| format!("{}", server.ca_file.display()))?;
    let (chain, key) = net::tls::read_identity(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(recorder.servers(verifier, By::Dmp))
        .with_client_auth_cert(chain, key)
        .with_context(|| format!("{}", identity.certificate_file.display()))?;
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The certificate that the server shows. In TLS 1.3 a client has finished before the server looks at its certificate:
/// the end of the connection is waited for.
async fn handshake(
    server: &DmpServer,
    connector: &TlsConnector,
) -> Result<Option<CertificateDer<'static>>, Failure> {
    let name = ServerName::try_from(server.host.clone());
    let name = name.map_err(|error| Failure::Network(io::Error::other(error)))?;
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
    let stream = stream.map_err(Failure::Network)?;
    let mut stream = connector.connect(name, stream).await.map_err(Failure::of)?;
    let chain = stream.get_ref().1.peer_certificates();
    let shown = chain.and_then(|chain| Some(chain.first()?.clone().into_owned()));
    stream.shutdown().await.map_err(Failure::of)?;
    match stream.read(&mut [0; 1]).await.map_err(Failure::of) {
        Err(refused @ Failure::Refused(_)) => Err(refused),
        // Closed in whatever way: it had nothing against it.
        _ => Ok(shown),
    }
}
