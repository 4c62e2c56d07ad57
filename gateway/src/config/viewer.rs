//! `[viewer]`: what the link of a report offers besides the images, and how patients prove who they are.

use std::path::PathBuf;
use std::time::Duration;

use super::alerts::{Smtp, smtp};
use super::http_proxy::{HttpProxy, http_proxy};
use super::section::Section;
use super::value::{Fault, Value};
use super::{files, psc};

/// Longest template of a request to an SMS gateway, bytes.
const MAX_TEMPLATE: usize = 4096;
/// Stands for the telephone number in a template.
pub const PHONE: &str = "{phone}";
/// Stands for the message in a template.
pub const TEXT: &str = "{text}";

/// `[viewer]`
#[derive(Debug, Clone)]
pub struct ViewerSettings {
    /// How patients prove who they are.
    pub patient_gate: PatientGate,
    /// Whether the exam may be downloaded.
    pub download: bool,
    /// Whether professionals may open the exam in Weasis.
    pub weasis: bool,
    /// Whether a link may name the report by the root of its id alone.
    pub report_root_alone: bool,
    /// Folder in which several nodes count what they refused; `None`: each counts alone.
    pub shared_dir: Option<PathBuf>,
}

/// How patients prove who they are.
#[derive(Debug, Clone)]
pub enum PatientGate {
    /// They are not let in.
    Closed,
    /// Date of birth and this many last digits of the INS.
    BirthDateAndIns {
        /// How many digits.
        digits: usize,
    },
    /// A code that is printed on the report.
    ReportCode,
    /// A one-time code by mail.
    Mail {
        /// How mail leaves.
        smtp: Smtp,
        /// How long a code can be used.
        lifetime: Duration,
    },
    /// A one-time code by SMS.
    Sms {
        /// The gateway.
        gateway: SmsGateway,
        /// How long a code can be used.
        lifetime: Duration,
    },
}

/// `[viewer.sms]`: a program that sends SMS, asked with POST over https.
#[derive(Debug, Clone)]
pub struct SmsGateway {
    /// Where it is.
    pub url: String,
    /// Authorities that its certificate must chain to.
    pub ca_file: PathBuf,
    /// File with the bearer token to send.
    pub token_file: Option<PathBuf>,
    /// Outgoing proxy, asked with CONNECT.
    pub http_proxy: Option<HttpProxy>,
    /// What is sent.
    pub body: SmsBody,
}

/// The body of a request to an SMS gateway; texts have [`PHONE`] and [`TEXT`] where the values go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsBody {
    /// JSON.
    Json(serde_json::Value),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, String)>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Closed,
    BirthDateAndIns,
    ReportCode,
    Mail,
    Sms,
}

/// Reads the table, or its defaults when it is absent; `None` when it is wrong, which is then reported.
pub(super) fn read(section: Section<'_>) -> Option<ViewerSettings> {
    let (mail, sms) = (section.section("smtp"), section.section("sms"));
    let words = [
        ("closed", Word::Closed),
        ("birth-date-and-ins", Word::BirthDateAndIns),
        ("report-code", Word::ReportCode),
        ("mail-code", Word::Mail),
        ("sms-code", Word::Sms),
    ];
    let word = section.or("patient_gate", Word::Closed, |v| v.choice(&words));
    let digits = section.or("ins_digits", 6, |v| v.integer(4..=10));
    let lifetime = section.or("code_lifetime_seconds", Duration::from_secs(600), |v| {
        v.seconds(60.0..=3600.0)
    });
    let download = section.or("download", false, |v| v.boolean());
    let weasis = section.or("weasis", false, |v| v.boolean());
    let report_root_alone = section.or("report_root_alone", true, |v| v.boolean());
    let shared_dir = section.optional("shared_dir", |v| v.path());
    for (needed, table, name) in [
        (word == Word::Mail, &mail, "smtp"),
        (word == Word::Sms, &sms, "sms"),
    ] {
        if needed && !table.is_present() {
            section.fault(
                name,
                Fault::new(
                    format!("la section [viewer.{name}] manque : rien ne dit par où part le code"),
                    format!("ajouter [viewer.{name}], ou choisir un autre patient_gate"),
                ),
            );
        }
    }
    let mail = smtp(mail, word == Word::Mail);
    let sms = gateway(sms, word == Word::Sms);
    section.finish();
    let patient_gate = match word {
        Word::Closed => PatientGate::Closed,
        Word::BirthDateAndIns => PatientGate::BirthDateAndIns { digits },
        Word::ReportCode => PatientGate::ReportCode,
        Word::Mail => PatientGate::Mail {
            smtp: mail?,
            lifetime,
        },
        Word::Sms => PatientGate::Sms {
            gateway: sms?,
            lifetime,
        },
    };
    Some(ViewerSettings {
        patient_gate,
        download,
        weasis,
        report_root_alone,
        shared_dir,
    })
}

fn gateway(section: Section<'_>, needed: bool) -> Option<SmsGateway> {
    let https = |v: &Value<'_>| psc::https(v).map(|(_, text)| text);
    let forms = [("json", true), ("form", false)];
    let is_json = section.or("format", true, |v| v.choice(&forms));
    let body = |v: &Value<'_>| template(v.text()?, is_json);
    let (url, body) = if needed {
        let url = section.required(
            "url",
            "indiquer l'adresse https de la passerelle SMS",
            https,
        );
        let remedy = "indiquer le corps de la requête, avec {phone} et {text} à leur place";
        (url, section.required("body", remedy, body))
    } else {
        (
            section.optional("url", https),
            section.optional("body", body),
        )
    };
    let authorities = PathBuf::from(psc::SYSTEM_AUTHORITIES);
    let ca_file = section.or("ca_file", authorities, files::certificates);
    let token_file = section.optional("token_file", files::secret);
    let http_proxy = section.optional("http_proxy", http_proxy);
    section.finish();
    Some(SmsGateway {
        url: url?,
        ca_file,
        token_file,
        http_proxy,
        body: body?,
    })
}

fn template(text: &str, is_json: bool) -> Result<SmsBody, Fault> {
    let wrong = |what: &str| {
        Fault::new(
            what.to_owned(),
            "écrire par exemple body = '{\"to\": \"{phone}\", \"message\": \"{text}\"}'",
        )
    };
    if text.len() > MAX_TEMPLATE {
        return Err(wrong("ce modèle est trop long"));
    }
    if !text.contains(PHONE) || !text.contains(TEXT) {
        return Err(wrong("le modèle doit contenir {phone} et {text}"));
    }
    if is_json {
        let value = serde_json::from_str(text);
        return value
            .map(SmsBody::Json)
            .map_err(|_| wrong("ce modèle n'est pas du JSON"));
    }
    let pairs = text.split('&').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    let pairs = pairs.ok_or_else(|| {
        Fault::new(
            "ce modèle n'est pas un formulaire",
            "écrire par exemple body = \"to={phone}&message={text}\"",
        )
    })?;
    Ok(SmsBody::Form(pairs))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::path::Path;

    use super::super::{Config, Problem, parse};
    use super::*;

    const BASE: &str = "[local]\nlisten = \"127.0.0.1:0\"\n[dimse]\nae_title = \"GATE\"\n[[pacs]]\nname = \"ct\"\n[pacs.dimse]\nhost = \"pacs\"\nport = 104\nae_title = \"PACS\"\n";

    fn read(more: &str) -> Result<Config, Vec<String>> {
        let parsed = parse(&format!("{BASE}{more}"), Path::new("/etc/drimbox"));
        parsed.map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn patients_are_not_let_in_unless_the_centre_says_how() {
        let viewer = read("").unwrap().viewer;
        assert!(matches!(viewer.patient_gate, PatientGate::Closed));
        assert!(!viewer.download && !viewer.weasis && viewer.report_root_alone);
        let viewer = read("[viewer]\npatient_gate = \"birth-date-and-ins\"\n")
            .unwrap()
            .viewer;
        let PatientGate::BirthDateAndIns { digits } = viewer.patient_gate else {
            panic!("{:?}", viewer.patient_gate);
        };
        assert_eq!(digits, 6);
        for wrong in [
            "patient_gate = \"open\"",
            "ins_digits = 3",
            "patient_gate = \"mail-code\"",
            "patient_gate = \"sms-code\"",
        ] {
            assert!(read(&format!("[viewer]\n{wrong}\n")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_body_for_an_sms_gateway_has_a_place_for_each_value() {
        assert!(template("{\"to\": \"{phone}\", \"m\": \"{text}\"}", true).is_ok());
        let form = template("to={phone}&m=Code%20{text}", false).unwrap();
        assert!(matches!(form, SmsBody::Form(pairs) if pairs.len() == 2));
        for wrong in ["{\"to\": \"{phone}\"}", "{phone} {text}", ""] {
            assert!(template(wrong, true).is_err(), "{wrong}");
        }
        assert!(template("{phone}{text}", false).is_err());
    }
}
