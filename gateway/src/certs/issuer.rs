//! The way to an authority and back: what is handed in, and what comes of it.
//!
//! Renewal by the web services of IGC Santé needs a CPS card in a reader (guide de commande, way C), and
//! their guide is not public: they stay behind [`IssuerBackend`]. What there is is [`ByHand`]: a request
//! that people take to the platform, and a file that they bring back.

use super::container::{self, ContainerError, Content};
use super::place::{Place, Role};
use super::request::{self, KeyKind, RequestError, Subject};

/// A request for a certificate.
#[derive(Debug, Clone)]
pub struct CertificateRequest<'a> {
    /// Where it will be used.
    pub place: &'a Place,
    /// Whom it is for.
    pub subject: Subject,
    /// What key is made.
    pub key: KeyKind,
    /// The request under way once more, with its key.
    pub again: bool,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// People carry it on.
    ByHand {
        /// PKCS#10, PEM.
        csr: String,
        /// What they have to do, French sentences in order.
        steps: Vec<String>,
    },
}

/// What came back, as the backend hands it over.
#[derive(Debug, Clone, Copy)]
pub enum Received<'a> {
    /// A file, and the password of its keys.
    File {
        /// Its bytes.
        bytes: &'a [u8],
        /// The password.
        password: Option<&'a str>,
    },
}

/// One way to obtain certificates from an authority. The private key is made on the box and never part
/// of what a backend hands in.
pub trait IssuerBackend {
    /// Makes a key and hands a request in.
    ///
    /// # Errors
    /// [`RequestError`]; no key is lost, none is replaced.
    fn submit(&self, request: &CertificateRequest<'_>) -> Result<Submitted, RequestError>;

    /// The certificates that the authority issued; nothing about them is verified yet.
    ///
    /// # Errors
    /// [`ContainerError`].
    fn collect(&self, received: Received<'_>) -> Result<Content, ContainerError>;
}

/// People carry requests and certificates.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByHand;

impl IssuerBackend for ByHand {
    fn submit(&self, request: &CertificateRequest<'_>) -> Result<Submitted, RequestError> {
        let place = request.place;
        let subject = request.subject.clone().in_form_of(place)?;
        let key_file = &place.identity.key_file;
        let csr = request::make(key_file, &subject, request.key, request.again)?;
        Ok(Submitted::ByHand {
            csr,
            steps: steps(place),
        })
    }

    fn collect(&self, received: Received<'_>) -> Result<Content, ContainerError> {
        let Received::File { bytes, password } = received;
        container::read(bytes, password)
    }
}

fn steps(place: &Place) -> Vec<String> {
    let (offer, usage) = match place.role {
        Role::ServSsl => ("SERV", "SSL_SERV"),
        Role::OrgAuthCliPsc | Role::OrgAuthCliProxy | Role::OrgAuthCliDmp => ("ORG", "AUTH_CLI"),
        Role::OrgSign => ("ORG", "SIGN"),
        Role::Market
        | Role::Local
        | Role::Dicom
        | Role::PacsClient
        | Role::Syslog
        | Role::Other
        | Role::Authority => {
            return vec![
                "Faire signer cette demande par l'autorité.".to_owned(),
                bring_back(place),
            ];
        }
    };
    vec![
        format!(
            "Sur la plateforme IGC Santé, avec la carte CPS de la personne habilitée : « Demander », offre \
             {offer}, usage {usage}."
        ),
        "« Retirer » avec cette demande (CSR), non avec un mot de passe : la clé reste ici."
            .to_owned(),
        bring_back(place),
    ]
}

fn bring_back(place: &Place) -> String {
    let whose = if place.is_of_proxy() { " --proxy" } else { "" };
    format!(
        "Sur cette machine : drimbox certs import {} FICHIER{whose}.",
        place.id
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use rcgen::KeyPair;

    use super::*;
    use crate::certs::alerts::testdata::place;
    use crate::certs::testdata::{Profile, chain_for};
    use crate::config::ServerIdentity;

    const SIRET: &str = "318751275100020";
    const FINESS: &str = "5750000001";

    fn place_of(folder: &tempfile::TempDir, role: Role) -> Place {
        Place {
            host: matches!(role, Role::ServSsl | Role::Market).then(|| "db.exemple.fr".to_owned()),
            identity: ServerIdentity {
                certificate_file: folder.path().join("c.pem"),
                key_file: folder.path().join("k.pem"),
            },
            ..place("here", role)
        }
    }

    fn subject(name: &str, unit: Option<&str>) -> Subject {
        Subject {
            common_name: name.into(),
            organizational_unit: unit.map(str::to_owned),
            ..Subject::default()
        }
    }

    fn asked(role: Role, subject: Subject) -> Result<Submitted, String> {
        let folder = tempfile::tempdir().unwrap();
        let request = CertificateRequest {
            place: &place_of(&folder, role),
            subject,
            key: KeyKind::P256,
            again: false,
        };
        ByHand.submit(&request).map_err(|error| error.to_string())
    }

    #[test]
    fn the_form_of_each_role_is_asked_for_and_the_way_to_the_authority_is_told() {
        for (role, name, unit, offer) in [
            (
                Role::ServSsl,
                "db.exemple.fr",
                Some(SIRET),
                "usage SSL_SERV",
            ),
            (
                Role::OrgAuthCliPsc,
                "client-1",
                Some(SIRET),
                "usage AUTH_CLI",
            ),
            (
                Role::OrgAuthCliDmp,
                "CENTRE",
                Some(FINESS),
                "usage AUTH_CLI",
            ),
            (Role::OrgSign, "CENTRE", Some(FINESS), "usage SIGN"),
            (Role::Market, "db.exemple.fr", None, "par l'autorité"),
            (Role::PacsClient, "drimbox", None, "par l'autorité"),
        ] {
            let Submitted::ByHand { csr, steps } = asked(role, subject(name, unit)).unwrap();
            assert!(steps[0].contains(offer), "{steps:?}");
            assert!(steps.last().unwrap().contains("certs import here"));
            let text = openssl(&csr);
            let alternative = text.contains("DNS:db.exemple.fr");
            assert_eq!(alternative, role == Role::Market, "{role}: {text}");
            assert_eq!(text.contains("OU = "), unit.is_some(), "{role}: {text}");
        }
    }

    fn openssl(csr: &str) -> String {
        let mut shown = Command::new("openssl")
            .args(["req", "-noout", "-text", "-verify"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        shown
            .stdin
            .take()
            .unwrap()
            .write_all(csr.as_bytes())
            .unwrap();
        let shown = shown.wait_with_output().unwrap();
        assert!(shown.status.success());
        String::from_utf8_lossy(&shown.stdout).into_owned()
    }

    #[test]
    fn what_the_authority_would_refuse_is_said_before_a_key_is_made() {
        for (role, name, unit, part) in [
            (
                Role::ServSsl,
                "db2.exemple.fr",
                Some(SIRET),
                "CN doit être db.exemple.fr",
            ),
            (Role::ServSsl, "db.exemple.fr", None, "--unit"),
            (
                Role::ServSsl,
                "db.exemple.fr",
                Some(FINESS),
                "SIRET, et non d'un FINESS juridique",
            ),
            (
                Role::OrgSign,
                "CENTRE",
                Some("750000001"),
                "n'est pas l'identifiant",
            ),
            (
                Role::OrgAuthCliDmp,
                "CENTRE",
                Some("6750000001"),
                "FINESS géographique",
            ),
            (Role::OrgAuthCliPsc, "", Some(SIRET), "--common-name"),
        ] {
            let said = asked(role, subject(name, unit)).unwrap_err();
            assert!(said.contains(part), "{role}: {said}");
        }
    }

    #[test]
    fn what_the_authority_signed_comes_back_for_the_key_that_stayed() {
        let folder = tempfile::tempdir().unwrap();
        let place = place_of(&folder, Role::ServSsl);
        let request = CertificateRequest {
            place: &place,
            subject: subject("db.exemple.fr", Some(SIRET)),
            key: KeyKind::P256,
            again: false,
        };
        let Submitted::ByHand { csr, .. } = ByHand.submit(&request).unwrap();
        assert!(!csr.contains("PRIVATE"));
        let pending = request::pending_key(&place.identity.key_file);
        let key = KeyPair::from_pem(&std::fs::read_to_string(pending).unwrap()).unwrap();
        let signed = chain_for(&Profile::default(), &key);
        let received = Received::File {
            bytes: &signed[0],
            password: None,
        };
        let content = ByHand.collect(received).unwrap();
        assert_eq!(content.certificates, signed[..1]);
        assert!(content.keys.is_empty());
    }
}
