//! Questions that have a known answer, to try the way to Pro Santé Connect without a user.

use serde_json::Value;

use crate::claims::Claims;
use crate::error::{Endpoint, ErrorCode, PscError};
use crate::provider::Provider;

/// A text that is no token of PSC.
const NO_TOKEN: &str = "essai-drimbox";

impl Provider {
    /// Asks the token endpoint to renew what is no refresh token. PSC authenticates the client before it looks at the
    /// token (RFC 6749 §5.2): `invalid_grant` says that Client ID and certificate are accepted.
    ///
    /// # Errors
    /// When PSC cannot be asked, or refuses the client.
    pub async fn try_token_endpoint(&self) -> Result<(), PscError> {
        let known = self.known().await?;
        let fields = [("grant_type", "refresh_token"), ("refresh_token", NO_TOKEN)];
        let url = &known.metadata.token;
        match self.post_form(Endpoint::Token, url, &fields).await {
            Err(PscError::Refused {
                code: ErrorCode::InvalidGrant,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(PscError::Malformed {
                endpoint: Endpoint::Token,
                what: "it gave tokens for what is none",
            }),
        }
    }

    /// Asks whether what is no token is active: it is not (RFC 7662 §2.2), and the certificate is accepted.
    ///
    /// # Errors
    /// When PSC cannot be asked, or refuses the client.
    pub async fn try_introspection(&self) -> Result<(), PscError> {
        let known = self.known().await?;
        let endpoint = Endpoint::Introspection;
        let url = known.metadata.needs(endpoint)?;
        let answer = self
            .post_form(endpoint, url, &[("token", NO_TOKEN)])
            .await?;
        let said = Claims::parse(&answer.body).ok();
        match said.as_ref().and_then(|said| said.get("active")) {
            Some(Value::Bool(false)) => Ok(()),
            Some(Value::Bool(true)) => Err(PscError::Malformed {
                endpoint,
                what: "it takes for active what is no token",
            }),
            _ => Err(PscError::Malformed {
                endpoint,
                what: "`active` is missing",
            }),
        }
    }
}
