//! Accounts (RFC 8555 §7.3), and what ties them to a customer (§7.3.4).

use acme::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::jws::{Jws, thumbprint};
use super::{Account, Books, MockAuthority, Problem, body, no_account};

impl MockAuthority {
    pub(super) fn new_account(&self, books: &mut Books, jws: &Jws) -> Result<Response, Problem> {
        let jwk = jws.header.get("jwk").cloned().unwrap_or_default();
        if !jws.is_signed_by(&jwk) {
            return Err(Problem(
                StatusCode::BAD_REQUEST,
                "malformed",
                "signature".into(),
            ));
        }
        let print = thumbprint(&jwk);
        let mut accounts = books.accounts.iter();
        let known = accounts.position(|account| thumbprint(&account.jwk) == print);
        if known.is_some_and(|known| !books.accounts[known].open) {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "unauthorized",
                "closed".into(),
            ));
        }
        let binds = jws.payload.get("externalAccountBinding").is_some();
        let once = self.behaviour.lock().unwrap().external_key_once;
        if binds && once && !books.accounts.is_empty() {
            let used = "the key of this customer was used".to_owned();
            return Err(Problem(StatusCode::FORBIDDEN, "unauthorized", used));
        }
        let (number, status) = match known {
            Some(known) => (known, StatusCode::OK),
            None if jws.payload.get("onlyReturnExisting") == Some(&json!(true)) => {
                return Err(no_account());
            }
            None => {
                self.check_binding(&jws.payload)?;
                books.accounts.push(Account {
                    jwk,
                    contact: jws.payload.get("contact").cloned().unwrap_or_default(),
                    open: true,
                });
                (books.accounts.len() - 1, StatusCode::CREATED)
            }
        };
        let response = http::Response::builder()
            .status(status)
            .header("location", self.url(&format!("account/{number}")));
        Ok(body(response, &json!({"status": "valid"})))
    }

    pub(super) fn check_binding(&self, payload: &Value) -> Result<(), Problem> {
        let Some(secret) = self.behaviour.lock().unwrap().external_key.clone() else {
            return Ok(());
        };
        let refused = || {
            Problem(
                StatusCode::FORBIDDEN,
                "externalAccountRequired",
                "no binding that we know".to_owned(),
            )
        };
        let binding = payload.get("externalAccountBinding").ok_or_else(refused)?;
        let binding = Jws::of(binding).ok_or_else(refused)?;
        if binding.is_signed_with(&secret) && binding.text("kid") == "customer" {
            Ok(())
        } else {
            Err(refused())
        }
    }
}
