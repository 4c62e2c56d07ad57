//! What the gateway shows to a PACS that asks who it is, read from its files once.

use std::path::Path;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::archive::dicomweb::client::Credentials;
use crate::config::Authentication;

/// Longest line that is read, bytes.
const MAX_LINE: usize = 16 << 10;

/// Reads what `authentication` names.
pub(super) fn load(authentication: &Authentication) -> anyhow::Result<Credentials> {
    let value = match authentication {
        Authentication::None => return Ok(Credentials::None),
        Authentication::Basic {
            username,
            password_file,
        } => {
            let password = first_line(password_file)?;
            let pair = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            SecretString::from(format!("Basic {}", encoded.as_str()))
        }
        Authentication::Bearer { token_file } => {
            let token = first_line(token_file)?;
            ensure!(
                token.expose_secret().bytes().all(|b| b.is_ascii_graphic()),
                "{}: a token is one word of printable ASCII",
                token_file.display()
            );
            SecretString::from(format!("Bearer {}", token.expose_secret()))
        }
    };
    Ok(Credentials::Header(value))
}

fn first_line(file: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(file);
    let text = Zeroizing::new(text.with_context(|| format!("cannot read {}", file.display()))?);
    let line = text.lines().next().unwrap_or_default().trim();
    ensure!(
        (1..=MAX_LINE).contains(&line.len()),
        "{}: the first line is empty or too long",
        file.display()
    );
    Ok(SecretString::from(line.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn header(authentication: &Authentication) -> anyhow::Result<String> {
        match load(authentication)? {
            Credentials::None => Ok(String::new()),
            Credentials::Header(value) => {
                assert!(!format!("{value:?}").contains(value.expose_secret()));
                Ok(value.expose_secret().to_owned())
            }
        }
    }

    #[test]
    fn a_password_and_a_token_become_the_header_of_their_scheme() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "open sesame\n").unwrap();
        let basic = Authentication::Basic {
            username: "Aladdin".into(),
            password_file: file.clone(),
        };
        // The example of RFC 7617 §2.
        assert_eq!(
            header(&basic).unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        let bearer = Authentication::Bearer {
            token_file: file.clone(),
        };
        assert!(header(&bearer).is_err(), "a token has no space");
        std::fs::write(&file, "mF_9.B5f-4.1JqM\nrest\n").unwrap();
        assert_eq!(header(&bearer).unwrap(), "Bearer mF_9.B5f-4.1JqM");
        std::fs::write(&file, "\nmF_9.B5f-4.1JqM\n").unwrap();
        assert!(header(&bearer).is_err(), "an empty first line");
    }
}
