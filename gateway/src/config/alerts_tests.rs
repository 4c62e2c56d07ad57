//! `[alerts]`, and secrets that others can read.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::alerts::ROLES;
use super::{Config, ConfigError, SmtpSecurity, load};

const BASE: &str = "[local]\n[dimse]\nae_title = \"DRIMBOX\"\n[[pacs]]\nname = \"ct\"\n[pacs.dimse]\n\
                    host = \"10.1.4.20\"\nae_title = \"PACS1\"\n";
const SMTP: &str = "[alerts.smtp]\nhost = \"smtp.centre.fr\"\nfrom = \"drimbox@centre.fr\"\nca_file = \"ca.pem\"\n";

fn loaded(text: &str, mode: u32) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let pem = |label| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
    write("ca.pem", &pem("CERTIFICATE"), 0o644);
    write("key.pem", &pem("PRIVATE KEY"), mode);
    write("secret", "un secret de plus de 16 lettres\n", mode);
    write("drimbox.toml", &format!("{text}\n{BASE}"), 0o644);
    load(&folder.path().join("drimbox.toml")).map_err(|error| match error {
        ConfigError::Invalid { problems, .. } => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            texts.join("\n")
        }
        other => other.to_string(),
    })
}

#[test]
fn two_different_recipients_are_demanded() {
    let with = |recipients: &str| {
        let text = format!(
            "[alerts]\nlink_url = \"https://vi.centre.fr/\"\nrecipients = [{recipients}]\n{SMTP}"
        );
        loaded(&text, 0o600)
    };
    for too_few in ["", "\"a@centre.fr\"", "\"a@centre.fr\", \"A@centre.fr\""] {
        let said = with(too_few).unwrap_err();
        assert!(said.contains("au moins deux adresses"), "{said}");
    }
    assert!(with("\"a@centre.fr\", \"nobody\"").is_err());
    let alerts = with("\"a@centre.fr\", \"b@centre.fr\"")
        .unwrap()
        .alerts
        .unwrap();
    assert_eq!(alerts.recipients.len(), 2);
    assert_eq!(alerts.link_url, "https://vi.centre.fr");
    assert_eq!(
        (alerts.smtp.port, alerts.smtp.security),
        (587, SmtpSecurity::StartTls)
    );
}

#[test]
fn every_role_of_certificates_has_two_recipients() {
    let with = |recipients: &str| {
        let text = format!("[alerts]\nlink_url = \"https://vi.centre.fr/\"\n{recipients}\n{SMTP}");
        loaded(&text, 0o600).map(|config| config.alerts.unwrap().recipients)
    };
    let some = |address: &str, roles: &str| {
        format!("[[alerts.recipient]]\naddress = \"{address}\"\n{roles}\n")
    };
    let dmp = some("dmp@c.fr", "roles = [\"ORG_SIGN\", \"DMP\"]");
    let others: Vec<String> = ROLES
        .into_iter()
        .filter(|role| !["ORG_SIGN", "DMP"].contains(role))
        .map(|role| format!("{role:?}"))
        .collect();
    let others = format!("roles = [{}]", others.join(", "));

    // One address of all, one of the DMP alone: the other roles have one reader.
    let said = with(&format!("recipients = [\"a@c.fr\"]\n{dmp}")).unwrap_err();
    assert!(
        said.contains("il en manque pour SERV_SSL, ORG_AUTH_CLI, MARKET"),
        "{said}"
    );
    assert!(!said.contains("ORG_SIGN,"), "{said}");
    let both = format!(
        "recipients = [\"a@c.fr\"]\n{dmp}{}",
        some("net@c.fr", &others)
    );
    let told = with(&both).unwrap();
    assert_eq!(told[0].roles, None);
    assert_eq!(told[1].roles.as_deref(), Some(&["ORG_SIGN", "DMP"][..]));
    assert_eq!(told.len(), 3);
    // Tables alone, told of everything.
    let tables = some("a@c.fr", "") + &some("b@c.fr", "");
    assert_eq!(with(&tables).unwrap().len(), 2);
    assert!(
        with(&some("a@c.fr", ""))
            .unwrap_err()
            .contains("au moins deux adresses")
    );
    let twice = format!(
        "recipients = [\"a@c.fr\", \"b@c.fr\"]\n{}",
        some("A@c.fr", "roles = [\"DMP\"]")
    );
    assert!(with(&twice).unwrap_err().contains("chacune une fois"));
    let unknown = format!(
        "recipients = [\"a@c.fr\", \"b@c.fr\"]\n{}",
        some("c@c.fr", "roles = [\"BOSS\"]")
    );
    assert!(with(&unknown).unwrap_err().contains("roles"));
}

#[test]
fn alerts_without_server_or_without_address_of_the_link_are_refused() {
    let said = loaded("[alerts]\nrecipients = [\"a@c.fr\", \"b@c.fr\"]\n", 0o600).unwrap_err();
    for key in ["alerts.smtp.host", "alerts.smtp.from", "alerts.link_url"] {
        assert!(said.contains(key), "{key}: {said}");
    }
    assert!(loaded("", 0o600).unwrap().alerts.is_none());
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let pair = "certificate_file = \"ca.pem\"\nkey_file = \"key.pem\"\n";
    let cases = [
        format!("[dimse.tls]\n{pair}"),
        format!("[psc]\nenvironment = \"bas\"\nclient_id = \"c\"\nca_file = \"ca.pem\"\n{pair}"),
        format!(
            "[[audit.syslog]]\nname = \"s\"\nhost = \"s.fr\"\nca_file = \"ca.pem\"\n[audit.syslog.identity]\n{pair}"
        ),
        "[[dmp.structures]]\nname = \"c\"\n\
         auth = { certificate_file = \"ca.pem\", key_file = \"key.pem\" }\n"
            .to_owned(),
        "[[dmp.structures]]\nname = \"c\"\n\
         sign = { certificate_file = \"ca.pem\", key_file = \"key.pem\" }\n"
            .to_owned(),
        "[acme]\naccept_terms = true\n[[acme.authority]]\ndirectory = \"https://a.fr/\"\n\
         eab_key_id = \"k\"\neab_hmac_file = \"secret\"\n"
            .to_owned(),
        format!(
            "[alerts]\nlink_url = \"https://v.fr\"\nrecipients = [\"a@c.fr\", \"b@c.fr\"]\n{SMTP}\
             user = \"u\"\npassword_file = \"secret\"\n[[alerts.webhook]]\nname = \"w\"\n\
             url = \"https://w.fr/\"\nca_file = \"ca.pem\"\ntoken_file = \"secret\"\n"
        ),
    ];
    for text in cases {
        let said = loaded(&text, 0o644).unwrap_err();
        assert!(said.contains("chmod 600"), "{text}: {said}");
    }
}
