//! Certificates: the request (RFC 8555 §7.4), what is issued, and its identifier (RFC 9773 §4.1).

use acme::{Clock as _, Response, UnixTime};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use rcgen::{CertificateParams, PublicKeyData, SerialNumber, SignatureAlgorithm};
use serde_json::Value;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509CertificationRequest};

use super::super::jws::decode;
use super::{Books, Certificate, MockAuthority, Problem, not_found};

impl MockAuthority {
    pub(super) fn finalize(
        &self,
        books: &mut Books,
        number: usize,
        payload: &Value,
    ) -> Result<Response, Problem> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        let order = books.orders.get(number).ok_or_else(not_found)?;
        if order.status != "ready" {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "orderNotReady",
                order.status.into(),
            ));
        }
        if let Some(kind) = behaviour.refuses_finalize {
            let refused = "refused at the end".into();
            return Err(Problem(StatusCode::BAD_REQUEST, kind, refused));
        }
        let csr = payload
            .get("csr")
            .and_then(Value::as_str)
            .and_then(decode)
            .unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&csr).unwrap();
        let mut names: Vec<String> = csr
            .requested_extensions()
            .unwrap()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten()
            .map(|name| match name {
                GeneralName::DNSName(name) => (*name).to_owned(),
                other => panic!("not a host name: {other:?}"),
            })
            .collect();
        assert_eq!(
            names,
            std::slice::from_ref(&order.name),
            "the name of the order and no other"
        );
        names.extend(behaviour.adds_name.clone());

        let key = &csr.certification_request_info.subject_pki;
        let public = Public {
            key: key.subject_public_key.data.to_vec(),
            // An RSA key of 2048 bits; one of P-256 has 65 bytes.
            rsa: key.subject_public_key.data.len() > 200,
        };
        // The request proves that its sender has the key.
        let algorithm: &'static dyn VerificationAlgorithm = if public.rsa {
            &signature::RSA_PKCS1_2048_8192_SHA256
        } else {
            &signature::ECDSA_P256_SHA256_ASN1
        };
        UnparsedPublicKey::new(algorithm, &public.key)
            .verify(
                csr.certification_request_info.raw,
                &csr.signature_value.data,
            )
            .unwrap();
        let not_before = self.clock.now();
        let not_after = not_before.plus(behaviour.life);
        let moment = |at: UnixTime| {
            OffsetDateTime::from_unix_timestamp(i64::try_from(at.as_secs()).unwrap()).unwrap()
        };
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.not_before = moment(not_before);
        params.not_after = moment(not_after);
        params.use_authority_key_identifier_extension = true;
        let serial = u64::try_from(books.certificates.len()).unwrap() + 0x80;
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&public, &self.issuer).unwrap();
        books.certificates.push(Certificate {
            leaf: certificate.der().to_vec(),
            pem: certificate.pem(),
            not_before,
            not_after,
            rsa: public.rsa,
            public_key: public.key,
            names,
            revoked: None,
            replaces: books.orders[number].replaces.clone(),
        });
        let position = books.certificates.len() - 1;
        let order = &mut books.orders[number];
        order.certificate = Some(position);
        order.status = "processing";
        Ok(self.show_order(books, number, http::Response::builder()))
    }
}

/// The public key of a request.
struct Public {
    key: Vec<u8>,
    rsa: bool,
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        if self.rsa {
            &rcgen::PKCS_RSA_SHA256
        } else {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }
}

/// RFC 9773 §4.1.
pub(super) fn identifier(leaf: &[u8]) -> String {
    let der = rustls_pki_types::CertificateDer::from(leaf.to_vec());
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let key = certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref(),
            _ => None,
        })
        .unwrap();
    format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(key.0),
        BASE64_URL_SAFE_NO_PAD.encode(certificate.tbs_certificate.raw_serial())
    )
}
