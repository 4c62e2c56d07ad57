//! The token of the person behind a request: where it comes from, and that it is fit for a header.

use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// Longest token, bytes: servers take little more in one header field.
const MAX_TOKEN: usize = 16 << 10;

/// An access token of Pro Santé Connect, as it goes into `Authorization` (RFC 6750 §2.1).
#[derive(Clone)]
pub struct AccessToken(Option<SecretString>);

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The session of the person has ended.
    #[error("the person must log in again")]
    LoginNeeded,
    /// What gives tokens does not answer.
    #[error("no token can be had now: {0}")]
    Unavailable(String),
    /// It is not the form of a token, or far too long.
    #[error(
        "what should be a token is not one word of printable ASCII of at most {MAX_TOKEN} bytes"
    )]
    Unusable,
}

/// Gives the tokens of one person. A token lives for two minutes: it is asked for before every request,
/// and whoever implements this renews it in time, once for all who ask at the same moment.
pub trait TokenSource: Send + Sync + 'static {
    /// A token that can be expected to be good for a request that is made now.
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>>;

    /// Another token than this one, which a source answered with 401.
    fn renewed(&self, refused: &AccessToken) -> BoxFuture<'_, Result<AccessToken, TokenError>>;
}

impl AccessToken {
    /// Takes a token.
    ///
    /// # Errors
    /// [`TokenError::Unusable`] when it is empty, too long, or more than a word.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let fits = (1..=MAX_TOKEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits {
            Ok(Self(Some(SecretString::from(text.to_owned()))))
        } else {
            Err(TokenError::Unusable)
        }
    }

    /// No token: the field is left out. A source of DRIM-M then answers 401.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, TokenError> {
        let Some(token) = &self.0 else {
            return Ok(None);
        };
        let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let mut value = HeaderValue::from_str(&value).map_err(|_| TokenError::Unusable)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Whether both are the same token.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let text = |token: &Self| {
            token
                .0
                .as_ref()
                .map(|token| token.expose_secret().to_owned())
        };
        text(self).map(Zeroizing::new) == text(other).map(Zeroizing::new)
    }
}

/// For sources that want no token: tests, and DRIMboxes of one's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoToken;

impl TokenSource for NoToken {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        async { Ok(AccessToken::none()) }.boxed()
    }

    fn renewed(&self, _: &AccessToken) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        async { Err(TokenError::LoginNeeded) }.boxed()
    }
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// A token that stands on the first line of a file, which somebody may renew: it is read for every
/// request.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
}

impl TokenFile {
    /// The tokens of this file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn read(&self) -> Result<AccessToken, TokenError> {
        // Twice the longest token: what is more is not read.
        let mut text = Zeroizing::new(String::new());
        let file = tokio::fs::File::open(&self.path).await;
        let read = match file {
            Ok(file) => {
                use tokio::io::AsyncReadExt as _;
                file.take(2 * MAX_TOKEN as u64)
                    .read_to_string(&mut text)
                    .await
            }
            Err(error) => Err(error),
        };
        read.map_err(|error| TokenError::Unavailable(format!("{}: {error}", self.path.display())))?;
        AccessToken::new(text.lines().next().unwrap_or_default().trim())
    }
}

impl TokenSource for TokenFile {
    fn token(&self) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        self.read().boxed()
    }

    fn renewed(&self, refused: &AccessToken) -> BoxFuture<'_, Result<AccessToken, TokenError>> {
        let refused = refused.clone();
        async move {
            let token = self.read().await?;
            if token.is_same(&refused) {
                Err(TokenError::LoginNeeded)
            } else {
                Ok(token)
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_token_is_one_word_and_never_printed() {
        let token = AccessToken::new("mF_9.B5f-4.1JqM").unwrap();
        let header = token.header().unwrap().unwrap();
        assert_eq!(header, "Bearer mF_9.B5f-4.1JqM");
        assert!(header.is_sensitive());
        assert!(AccessToken::none().header().unwrap().is_none());
        assert!(!format!("{token:?}").contains("mF_9"));
        let long = "x".repeat(MAX_TOKEN + 1);
        for wrong in ["", "two words", "a\r\nHost: b", "é", long.as_str()] {
            assert_eq!(AccessToken::new(wrong).unwrap_err(), TokenError::Unusable);
        }
    }

    #[tokio::test]
    async fn a_token_file_is_read_again_and_the_same_token_is_no_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let source = TokenFile::new(path.clone());
        let first = source.token().await.unwrap();
        assert_eq!(
            source.renewed(&first).await.unwrap_err(),
            TokenError::LoginNeeded
        );
        std::fs::write(&path, "second\nrest\n").unwrap();
        let second = source.renewed(&first).await.unwrap();
        assert_eq!(second.header().unwrap().unwrap(), "Bearer second");
    }
}
