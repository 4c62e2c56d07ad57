//! The pages before the exam, in French, without script.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use crate::access::patient::{Question, Way};
use crate::login::pages::{Shell, html, with_form};

#[derive(Template)]
#[template(path = "viewer/entrance.html")]
struct Entrance<'a> {
    shell: Shell<'a>,
    patients: bool,
}

/// Asks who the person is; `patients` says whether patients are let in at all.
pub(super) fn entrance(shell: Shell<'_>, patients: bool) -> Response {
    html(StatusCode::OK, &Entrance { shell, patients })
}

#[derive(Template)]
#[template(path = "viewer/patient.html")]
struct Patient<'a> {
    shell: Shell<'a>,
    question: Question,
    csrf: &'a str,
    sent: bool,
    refused: bool,
}

/// Asks a patient for the proof; `sent`: a one-time code was asked for; `refused`: the last answer was not good,
/// whatever was wrong with it.
pub(super) fn patient(
    shell: Shell<'_>,
    question: Question,
    csrf: &str,
    sent: bool,
    refused: bool,
) -> Response {
    let page = Patient {
        shell,
        question,
        csrf,
        sent,
        refused,
    };
    let status = if refused {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::OK
    };
    with_form(html(status, &page))
}

#[derive(Template)]
#[template(path = "viewer/unavailable.html")]
struct Unavailable<'a> {
    shell: Shell<'a>,
}

/// The one answer to every link that does not open an exam, whatever the reason.
pub(super) fn unavailable(shell: Shell<'_>) -> Response {
    html(StatusCode::NOT_FOUND, &Unavailable { shell })
}
