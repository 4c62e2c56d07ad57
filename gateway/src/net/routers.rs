//! Which router answers on which kind of name.

use axum::Router;
use axum::response::IntoResponse;

use super::connection::{Connection, ListenerKind};
use crate::dicomweb::problem::Problem;

/// The routers of one listener: one for `vi` names, one for everything else. The host name of a
/// request is in its [`Connection`].
#[derive(Clone)]
pub struct Routers {
    main: Router,
    viewer: Router,
}

impl Routers {
    /// This router, and nothing on `vi` names.
    #[must_use]
    pub fn new(main: Router) -> Self {
        Self {
            main,
            viewer: Self::nothing(),
        }
    }

    /// A router that has no resource at all.
    pub fn nothing() -> Router {
        Router::new().fallback(async || {
            Problem::not_found("there is no resource at this path").into_response()
        })
    }

    /// With this router on `vi` names.
    #[must_use]
    pub fn viewer(self, viewer: Router) -> Self {
        Self { viewer, ..self }
    }

    /// The router for the requests of a connection.
    pub(super) fn of(&self, connection: &Connection) -> Router {
        match connection.listener {
            ListenerKind::Viewer => self.viewer.clone(),
            ListenerKind::Admin
            | ListenerKind::Local
            | ListenerKind::Peer
            | ListenerKind::Clear => self.main.clone(),
        }
    }
}

impl From<Router> for Routers {
    fn from(main: Router) -> Self {
        Self::new(main)
    }
}
