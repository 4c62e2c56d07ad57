//! The pages before the exam, in French, without script.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use crate::login::pages::{Shell, html};

#[derive(Template)]
#[template(path = "viewer/entrance.html")]
struct Entrance<'a> {
    shell: Shell<'a>,
}

/// Asks who the person is.
pub(super) fn entrance(shell: Shell<'_>) -> Response {
    html(StatusCode::OK, &Entrance { shell })
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
