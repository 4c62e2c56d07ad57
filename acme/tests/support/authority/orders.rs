//! Orders (RFC 8555 §7.4), their authorisations and the validation of HTTP-01.

use std::collections::HashMap;

use acme::{Clock as _, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::super::jws::thumbprint;
use super::{Books, MockAuthority, Order, Problem, Validation, body};

impl MockAuthority {
    pub(super) fn new_order(
        &self,
        books: &mut Books,
        account: usize,
        payload: &Value,
    ) -> Result<Response, Problem> {
        books.asked_orders += 1;
        let behaviour = self.behaviour.lock().unwrap().clone();
        if let Some(status) = behaviour.answers_orders {
            let away = "not now".to_owned();
            return Err(Problem(status, "serverInternal", away));
        }
        if behaviour
            .limited_until
            .is_some_and(|until| self.clock.now() < until)
        {
            return Err(Problem(
                StatusCode::TOO_MANY_REQUESTS,
                "rateLimited",
                "too many new orders".to_owned(),
            ));
        }
        let identifiers = payload
            .get("identifiers")
            .and_then(Value::as_array)
            .unwrap();
        assert_eq!(identifiers.len(), 1, "one name");
        let name = identifiers[0].get("value").and_then(Value::as_str).unwrap();
        if behaviour.refuses_name {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "rejectedIdentifier",
                "not this name".to_owned(),
            ));
        }
        let replaces = payload.get("replaces").and_then(Value::as_str);
        if let Some(replaced) = replaces {
            let again = books
                .certificates
                .iter()
                .any(|certificate| certificate.replaces.as_deref() == Some(replaced));
            if behaviour.refuses_replaces || again {
                return Err(Problem(
                    StatusCode::CONFLICT,
                    "alreadyReplaced",
                    replaced.to_owned(),
                ));
            }
        }
        books.orders.push(Order {
            account,
            name: name.to_owned(),
            token: format!("token-of-order-{}", books.orders.len()),
            status: "pending",
            challenge: ("pending", None),
            replaces: replaces.map(str::to_owned),
            looks: 0,
            certificate: None,
        });
        let number = books.orders.len() - 1;
        let response = http::Response::builder()
            .status(StatusCode::CREATED)
            .header("location", self.url(&format!("order/{number}")));
        Ok(self.show_order(books, number, response))
    }

    pub(super) fn show_order(
        &self,
        books: &Books,
        number: usize,
        response: http::response::Builder,
    ) -> Response {
        let order = &books.orders[number];
        let mut shown = json!({
            "status": order.status,
            "identifiers": [{"type": "dns", "value": order.name}],
            "authorizations": [self.url(&format!("authorization/{number}"))],
            "finalize": self.url(&format!("finalize/{number}")),
        });
        if let (Some(certificate), "valid") = (order.certificate, order.status) {
            shown["certificate"] = self.url(&format!("certificate/{certificate}")).into();
        }
        let echoes = self.behaviour.lock().unwrap().echoes_replaces;
        if let (Some(replaces), true) = (&order.replaces, echoes) {
            shown["replaces"] = replaces.as_str().into();
        }
        body(response, &shown)
    }

    pub(super) fn authorization(&self, order: &Order, number: &str) -> Value {
        json!({
            "status": order.challenge.0,
            "identifier": {"type": "dns", "value": order.name},
            "challenges": [
                {"type": "dns-01", "url": self.url("x"), "status": "pending", "token": "other"},
                self.challenge(order, number),
            ],
        })
    }

    pub(super) fn challenge(&self, order: &Order, number: &str) -> Value {
        let mut shown = json!({
            "type": "http-01",
            "url": self.url(&format!("challenge/{number}")),
            "status": order.challenge.0,
            "token": order.token,
        });
        if let Some(error) = &order.challenge.1 {
            shown["error"] = error.clone();
        }
        shown
    }

    pub(super) fn validate(
        &self,
        books: &mut Books,
        number: usize,
        answers: &HashMap<String, String>,
    ) {
        let Books {
            orders,
            accounts,
            failed_validations,
            ..
        } = books;
        let Some(order) = orders
            .get_mut(number)
            .filter(|order| order.status == "pending")
        else {
            return;
        };
        let expected = format!(
            "{}.{}",
            order.token,
            thumbprint(&accounts[order.account].jwk)
        );
        let refused = match self.behaviour.lock().unwrap().validation {
            Validation::Refused(kind) => Some(kind),
            Validation::Real if answers.get(&order.token) == Some(&expected) => None,
            Validation::Real => Some("unauthorized"),
        };
        match refused {
            None => {
                order.challenge = ("valid", None);
                order.status = "ready";
            }
            Some(kind) => {
                *failed_validations += 1;
                let kind = format!("urn:ietf:params:acme:error:{kind}");
                let error = json!({"type": kind, "detail": "as seen from the Internet"});
                order.challenge = ("invalid", Some(error));
                order.status = "invalid";
            }
        }
    }
}
