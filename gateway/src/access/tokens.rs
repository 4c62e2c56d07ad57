//! Bearer tokens of the local listener (RFC 6750), from a file that only the service can read.

use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Shortest token accepted: 128 bits in hexadecimal.
const MIN_TOKEN: usize = 32;
/// Longest line of the file.
const MAX_FILE: u64 = 1024 * 1024;

/// The tokens of the centre's systems.
#[derive(Debug, Clone)]
pub struct Tokens {
    known: Arc<[(Arc<str>, SecretString)]>,
}

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system does not let us read it.
    #[error("the file of tokens cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A line is not `name token`.
    #[error("line {0} of the file of tokens is not `name token`")]
    Line(usize),
    /// A token is too easy to guess.
    #[error(
        "line {0} of the file of tokens: a token has at least {MIN_TOKEN} characters; `openssl rand -hex 32` makes one"
    )]
    TooShort(usize),
    /// There is no token in it.
    #[error("the file of tokens has no token")]
    Empty,
}

impl Tokens {
    /// Reads a file: one `name token` a line; empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn load(file: &Path) -> Result<Self, TokenError> {
        if std::fs::metadata(file)?.len() > MAX_FILE {
            return Err(TokenError::Read(std::io::ErrorKind::FileTooLarge.into()));
        }
        Self::parse(&std::fs::read_to_string(file)?)
    }

    fn parse(text: &str) -> Result<Self, TokenError> {
        let mut known = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, token) = line
                .split_once(char::is_whitespace)
                .ok_or(TokenError::Line(at + 1))?;
            let token = token.trim();
            if token.contains(char::is_whitespace) {
                return Err(TokenError::Line(at + 1));
            }
            if token.len() < MIN_TOKEN {
                return Err(TokenError::TooShort(at + 1));
            }
            known.push((Arc::from(name), SecretString::from(token.to_owned())));
        }
        if known.is_empty() {
            return Err(TokenError::Empty);
        }
        Ok(Self {
            known: known.into(),
        })
    }

    /// The name of the system that a token belongs to. Takes the same time for every token of the
    /// same length.
    #[must_use]
    pub fn name_of(&self, token: &str) -> Option<Arc<str>> {
        let mut found = None;
        for (name, known) in self.known.iter() {
            if bool::from(known.expose_secret().as_bytes().ct_eq(token.as_bytes())) {
                found = Some(Arc::clone(name));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_gives_the_name_of_its_system() {
        let tokens = Tokens::parse(&format!("# RIS\nris {TOKEN}\n")).unwrap();
        assert_eq!(tokens.name_of(TOKEN).as_deref(), Some("ris"));
        assert_eq!(tokens.name_of(&TOKEN[1..]), None);
        assert_eq!(tokens.name_of(""), None);
    }

    #[test]
    fn a_file_with_an_unusable_line_is_refused_whole() {
        assert!(matches!(
            Tokens::parse("ris short"),
            Err(TokenError::TooShort(1))
        ));
        assert!(matches!(Tokens::parse("\n\nris"), Err(TokenError::Line(3))));
        assert!(matches!(
            Tokens::parse("# nothing\n"),
            Err(TokenError::Empty)
        ));
    }

    #[test]
    fn tokens_do_not_show_when_printed() {
        let tokens = Tokens::parse(&format!("ris {TOKEN}")).unwrap();
        assert!(!format!("{tokens:?}").contains(TOKEN));
    }
}
