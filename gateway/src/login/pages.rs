//! The pages, in French, without script.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::failure::Explained;
use super::labels;
use super::return_to::ReturnPath;
use super::session::Session;
use crate::access::professional::{Professional, Situation};

/// What every page shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shell<'a> {
    pub(super) centre: Option<&'a str>,
    pub(super) contact: Option<&'a str>,
}

impl Shell<'_> {
    pub(crate) fn centre(&self) -> &str {
        self.centre.unwrap_or("Accès aux images médicales")
    }

    pub(crate) fn contact(&self) -> &str {
        self.contact
            .unwrap_or("le secrétariat du centre d'imagerie")
    }
}

#[derive(Template)]
#[template(path = "login/entrance.html")]
struct Entrance<'a> {
    shell: Shell<'a>,
    login: String,
}

/// Nobody is logged in.
pub(super) fn entrance(shell: Shell<'_>, return_to: Option<&ReturnPath>) -> Response {
    let mut login = "/auth/psc/login".to_owned();
    if let Some(path) = return_to {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("return_to", path.as_str());
        login = format!("{login}?{}", query.finish());
    }
    html(StatusCode::OK, &Entrance { shell, login })
}

#[derive(Template)]
#[template(path = "login/home.html")]
struct Home<'a> {
    shell: Shell<'a>,
    name: String,
    profession: String,
    place: Option<String>,
    several: bool,
    onward: Option<&'a str>,
    csrf: &'a str,
}

/// Who is logged in.
pub(super) fn home(
    shell: Shell<'_>,
    session: &Session,
    situation: &Situation,
    return_to: &ReturnPath,
    csrf: &str,
) -> Response {
    let page = Home {
        shell,
        name: name(&session.professional),
        profession: labels::profession(situation),
        place: labels::place(situation),
        several: session.situations.len() > 1,
        onward: (*return_to != ReturnPath::default()).then_some(return_to.as_str()),
        csrf,
    };
    with_form(html(StatusCode::OK, &page))
}

struct Choice<'a> {
    id: &'a str,
    profession: String,
    place: Option<String>,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "login/situation.html")]
struct Choices<'a> {
    shell: Shell<'a>,
    name: String,
    choices: Vec<Choice<'a>>,
    csrf: &'a str,
}

/// The choice of the situation.
pub(super) fn situation(shell: Shell<'_>, session: &Session, csrf: &str) -> Response {
    let chosen = session.state.lock().chosen.unwrap_or(0);
    let choices = session.situations.iter().enumerate();
    let choices = choices.map(|(at, situation)| Choice {
        id: &situation.id,
        profession: labels::profession(situation),
        place: labels::place(situation),
        chosen: at == chosen,
    });
    let page = Choices {
        shell,
        name: name(&session.professional),
        choices: choices.collect(),
        csrf,
    };
    with_form(html(StatusCode::OK, &page))
}

#[derive(Template)]
#[template(path = "login/failure.html")]
struct Failed<'a> {
    shell: Shell<'a>,
    title: &'a str,
    text: &'a str,
    again: bool,
    call: bool,
    reference: &'a str,
}

/// A login that did not succeed.
pub(super) fn failure(shell: Shell<'_>, explained: &Explained, reference: &str) -> Response {
    let page = Failed {
        shell,
        title: explained.title,
        text: explained.text,
        again: explained.again,
        call: explained.call,
        reference,
    };
    html(explained.status, &page)
}

/// A request that no page of this host sent.
pub(crate) fn forged(shell: Shell<'_>, reference: &str) -> Response {
    let page = Failed {
        shell,
        title: "Demande refusée",
        text: "Cette demande ne vient pas d'une page de ce service, ou la page était ouverte depuis trop longtemps. \
               Revenez à la page et recommencez.",
        again: true,
        call: false,
        reference,
    };
    html(StatusCode::FORBIDDEN, &page)
}

#[derive(Template)]
#[template(path = "login/logout.html")]
struct Logout<'a> {
    shell: Shell<'a>,
    name: String,
    csrf: &'a str,
}

/// Asks whether to log out.
pub(super) fn logout(shell: Shell<'_>, session: &Session, csrf: &str) -> Response {
    let page = Logout {
        shell,
        name: name(&session.professional),
        csrf,
    };
    with_form(html(StatusCode::OK, &page))
}

#[derive(Template)]
#[template(path = "login/bye.html")]
struct Bye<'a> {
    shell: Shell<'a>,
}

/// Nobody is logged in any more.
pub(super) fn bye(shell: Shell<'_>) -> Response {
    html(StatusCode::OK, &Bye { shell })
}

/// Given and family name; the national id where PSC gives none.
pub(super) fn name(professional: &Professional) -> String {
    let parts = [&professional.given_name, &professional.family_name];
    let parts: Vec<&str> = parts
        .into_iter()
        .filter_map(|part| part.as_deref())
        .collect();
    if parts.is_empty() {
        return professional.national_id.as_str().to_owned();
    }
    parts.join(" ")
}

/// A page as an answer.
pub(crate) fn html(status: StatusCode, page: &impl Template) -> Response {
    let Ok(text) = page.render() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    (status, axum::response::Html(text)).into_response()
}

/// A form of a page without referrer comes with `Origin: null` (Fetch §3.2), which says nothing. With this policy other
/// hosts still learn nothing.
pub(crate) fn with_form(mut response: Response) -> Response {
    let policy = HeaderValue::from_static("same-origin");
    response
        .headers_mut()
        .insert(header::REFERRER_POLICY, policy);
    response
}
