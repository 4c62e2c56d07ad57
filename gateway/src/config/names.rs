//! Names and paths of the configuration: hosts, PACS, URLs, character sets.

use std::net::IpAddr;

use super::model::AeTitle;
use super::value::{Fault, Value};

/// An AE title (PS3.8 §9.3.2).
pub(super) fn ae_title(value: &Value<'_>) -> Result<AeTitle, Fault> {
    AeTitle::parse(value.text()?).ok_or_else(|| {
        Fault::new(
            "ce n'est pas un titre d'entité applicative DICOM (AE title)",
            "écrire 1 à 16 caractères ASCII, sans barre oblique inverse",
        )
    })
}

/// The short name of a PACS, safe in URLs, logs and metric labels.
pub(super) fn pacs_name(value: &Value<'_>) -> Result<String, Fault> {
    let name = value.text()?;
    let fits = (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    fits.then(|| name.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce nom de PACS n'est pas admis",
            "écrire 1 à 32 caractères parmi a-z, 0-9 et le tiret, par exemple \"scanner-nord\"",
        )
    })
}

/// A DNS name in lower case (RFC 1123 §2.1), without a final dot.
pub(super) fn host_name(value: &Value<'_>) -> Result<String, Fault> {
    let name = value.text()?.to_ascii_lowercase();
    if is_host_name(&name) && name.parse::<IpAddr>().is_err() {
        Ok(name)
    } else {
        Err(Fault::new(
            "ce n'est pas un nom de machine",
            "écrire le nom DNS complet, sans \"https://\" ni port, par exemple \
             \"db.imagerie-exemple.fr\"",
        ))
    }
}

/// A DNS name or an IP address.
pub(super) fn host(value: &Value<'_>) -> Result<String, Fault> {
    let name = value.text()?.to_ascii_lowercase();
    if is_host_name(&name) || name.parse::<IpAddr>().is_ok() {
        Ok(name)
    } else {
        Err(Fault::new(
            "ce n'est ni un nom de machine ni une adresse IP",
            "écrire l'un ou l'autre, sans port : le port a sa propre clé",
        ))
    }
}

fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// The path under which a DICOMweb service stands: one segment or more, no slash at the end.
pub(super) fn base_path(value: &Value<'_>) -> Result<String, Fault> {
    let path = value.text()?;
    let plain = |segment: &str| {
        !segment.is_empty()
            && !segment.starts_with('.')
            && segment
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
    };
    match path.strip_prefix('/') {
        Some(rest) if path.len() <= 128 && rest.split('/').all(plain) => Ok(path.to_owned()),
        _ => Err(Fault::new(
            "ce chemin d'URL n'est pas admis",
            "écrire un chemin qui commence par une barre oblique et ne finit pas par elle, \
             en lettres, chiffres et - _ . ~, par exemple \"/dicom-web\"",
        )),
    }
}

/// The root of public URLs, without a slash at the end.
pub(super) fn public_url(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let url = url::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let url = url.ok_or_else(|| {
        Fault::new(
            "ce n'est pas une adresse web publique",
            "écrire le protocole, le nom et, au besoin, le port ou un préfixe, par exemple \
             \"https://images.imagerie-exemple.fr\"",
        )
    })?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Web origins (RFC 6454), written as browsers send them.
pub(super) fn origins(value: &Value<'_>) -> Result<Vec<String>, Fault> {
    value.list(|item| {
        let text = item.text()?;
        let origin = url::Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
        });
        origin.map(|_| text.to_owned()).ok_or_else(|| {
            Fault::new(
                "ce n'est pas une origine web",
                "écrire le protocole, le nom et, au besoin, le port, sans rien après, par exemple \
                 \"https://visionneuse.exemple.fr\"",
            )
        })
    })
}

/// Defined terms of Specific Character Set (0008,0005) (PS3.3 §C.12.1.1.2), one or several
/// separated by backslashes when they are those with code extensions.
pub(super) fn charset(value: &Value<'_>) -> Result<String, Fault> {
    const SINGLE: [&str; 16] = [
        "ISO_IR 6",
        "ISO_IR 13",
        "ISO_IR 100",
        "ISO_IR 101",
        "ISO_IR 109",
        "ISO_IR 110",
        "ISO_IR 126",
        "ISO_IR 127",
        "ISO_IR 138",
        "ISO_IR 144",
        "ISO_IR 148",
        "ISO_IR 166",
        "ISO_IR 192",
        "ISO_IR 203",
        "GB18030",
        "GBK",
    ];
    const EXTENDED: [&str; 17] = [
        "ISO 2022 IR 6",
        "ISO 2022 IR 13",
        "ISO 2022 IR 58",
        "ISO 2022 IR 87",
        "ISO 2022 IR 100",
        "ISO 2022 IR 101",
        "ISO 2022 IR 109",
        "ISO 2022 IR 110",
        "ISO 2022 IR 126",
        "ISO 2022 IR 127",
        "ISO 2022 IR 138",
        "ISO 2022 IR 144",
        "ISO 2022 IR 148",
        "ISO 2022 IR 149",
        "ISO 2022 IR 159",
        "ISO 2022 IR 166",
        "ISO 2022 IR 203",
    ];
    let text = value.text()?;
    let terms: Vec<_> = text.split('\\').map(str::trim).collect();
    let known = match terms.as_slice() {
        [one] => SINGLE.contains(one) || EXTENDED.contains(one),
        [first, rest @ ..] => {
            (first.is_empty() || EXTENDED.contains(first))
                && rest.iter().all(|term| EXTENDED.contains(term))
        }
        [] => false,
    };
    known.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce jeu de caractères n'est pas un terme défini par DICOM (0008,0005)",
            "écrire par exemple \"ISO_IR 100\" (Europe de l'Ouest) ou \"ISO_IR 192\" (UTF-8)",
        )
    })
}

/// A filter of log lines in the syntax of `tracing_subscriber::EnvFilter`.
pub(super) fn log_filter(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Fault::new(
            format!("ce filtre de journal ne se lit pas ({error})"),
            "écrire \"info\", \"debug\", ou par module : \"info,drimbox::archive=debug\"",
        )),
    }
}
