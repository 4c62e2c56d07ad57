//! The TOML file read once into one typed, validated value.
//!
//! [`load`] is the only way in. It reports every mistake of the file at once, in French, because its
//! reader is the administrator of the centre: the line, the key, the value, what is wrong and what
//! to write instead. Secrets never stand in this file: it names files, whose permissions are checked.

mod acme;
mod alerts;
mod audit;
mod consumer;
mod dmp;
mod error;
mod files;
mod http_proxy;
mod keys;
mod login;
mod model;
mod names;
mod pacs_dicomweb;
mod peer;
mod proxy;
mod psc;
mod read;
mod rules;
mod section;
mod trust;
mod trust_model;
mod units;
mod value;
mod viewer;
mod watched;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use acme::{Acme, AcmeAuthority};
pub use alerts::{AlertRecipient, Alerts, ROLES, Smtp, SmtpSecurity, Webhook};
pub use audit::{AuditTrail, SyslogServer};
pub use dmp::{DmpServer, DmpStructure};
pub use error::{ConfigError, Problem};
pub use http_proxy::{HttpProxy, NotAProxy};
pub use keys::Keys;
pub use login::Login;
pub use model::*;
pub use proxy::{
    DEFAULT_PROXY_FILE, ProxyApi, ProxyClient, ProxyConfig, ProxyPsc, ProxyTraces, load_proxy,
    load_proxy_awaiting_certificates,
};
pub use psc::{Psc, PscEnvironment};
pub use trust_model::*;
pub use viewer::{PHONE, PatientGate, SmsBody, SmsGateway, TEXT, ViewerSettings};
pub use watched::WatchedCertificate;

/// Where the service reads its configuration unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/drimbox/drimbox.toml";

/// Largest configuration file read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads, checks and completes the configuration of one DRIMbox.
///
/// Relative paths in the file are resolved from the folder of the file. Files it names
/// (certificates, keys, tokens) must exist and be readable; those that hold secrets must be closed
/// to group and others.
///
/// # Errors
///
/// [`ConfigError::Unreadable`] when the file cannot be read, [`ConfigError::Invalid`] with every
/// problem found otherwise.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let (text, base) = read_file(path)?;
    parse(&text, &base).map_err(|problems| ConfigError::Invalid {
        file: PathBuf::from(path),
        problems,
    })
}

/// The same for commands that obtain certificates: those of the gateway itself, and their keys, need not
/// be there yet.
///
/// # Errors
///
/// Those of [`load`].
pub fn load_awaiting_certificates(path: &Path) -> Result<Config, ConfigError> {
    let (text, base) = read_file(path)?;
    parse_with(&text, &base, true).map_err(|problems| ConfigError::Invalid {
        file: PathBuf::from(path),
        problems,
    })
}

/// The text of a configuration file, and the folder from which its relative paths are resolved.
fn read_file(path: &Path) -> Result<(String, PathBuf), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        file: path.to_owned(),
        source,
    };
    let file = std::path::absolute(path).map_err(unreadable)?;
    let text = read_text(&file).map_err(unreadable)?;
    let base = file.parent().map(Path::to_owned).unwrap_or_default();
    Ok((text, base))
}

fn read_text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other("plus de 1 Mio"));
    }
    Ok(text)
}

/// Everything after reading: TOML, values, then the rules between them.
fn parse(text: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    parse_with(text, base, false)
}

fn parse_with(text: &str, base: &Path, awaiting: bool) -> Result<Config, Vec<Problem>> {
    let (document, faults) = toml::de::DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        // What was recovered from a broken document would only add wrong complaints.
        return Err(faults.iter().map(|f| error::syntax(text, f)).collect());
    }
    let source = section::Source::new(text, base);
    if awaiting {
        source.await_identities();
    }
    let config = read::config(section::Section::root(&source, document.get_ref()));
    match (config, source.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

#[cfg(test)]
mod alerts_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
