//! The exam in Weasis, on the computer of a professional.
//!
//! The page asks for an address `weasis://` and goes there. The address holds a ticket that is good once, within a
//! minute, for a list of the images (a manifest of Weasis, 2.5). The list holds a key, which Weasis sends with each of
//! its requests for an image. Neither is a token of the person: they open the exam that the session has open at that
//! moment, through [`crate::access`] as every other request, and nothing once the session is over.

mod manifest;
mod tickets;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};
use url::form_urlencoded;

pub use tickets::Tickets;

use super::handlers::{Seeker, nothing};
use super::patient::own_form;
use super::{Viewer, comer, granted};
use crate::access::{Comer, Granted, Through, Visitor};
use crate::login::{Login, SessionId, SessionKey};
use crate::net::{Connection, RequestId};
use manifest::Manifest;
use tickets::Opened;

/// Scheme of the field `Authorization` in requests of Weasis (RFC 9110 §11.4): not that of a bearer token.
const SCHEME: &str = "Drimbox-Weasis";
/// What the trail calls it.
const RESOURCE: &str = "weasis";

/// The routes.
pub(super) fn router() -> Router<Arc<Viewer>> {
    Router::new()
        .route("/viewer/api/weasis", post(launch))
        // Whoever looks without taking uses up no ticket.
        .route("/viewer/weasis/{ticket}", get(images).head(nothing))
}

/// What a request shows of a key.
pub(super) enum Shown {
    /// It is none of Weasis.
    Nothing,
    /// Something that is no key, or several of them.
    Unreadable,
    /// One that has the form of a key.
    Key(SessionId),
}

/// The key of a request.
pub(super) fn shown(headers: &HeaderMap) -> Shown {
    let fields = headers.get_all(AUTHORIZATION).into_iter();
    let of_weasis = |text: &str| {
        let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
        scheme
            .eq_ignore_ascii_case(SCHEME)
            .then(|| key.trim().to_owned())
    };
    let keys = fields.filter_map(|field| of_weasis(&String::from_utf8_lossy(field.as_bytes())));
    let keys: Vec<String> = keys.take(2).collect();
    match keys.as_slice() {
        [] => Shown::Nothing,
        [key] => SessionId::parse(key).map_or(Shown::Unreadable, Shown::Key),
        _ => Shown::Unreadable,
    }
}

/// Who asks with a key on this host.
pub(super) fn visitor(
    login: &Login,
    tickets: &Tickets,
    key: &SessionId,
    host: &str,
) -> Option<Visitor> {
    through_weasis(login, key, &tickets.opened(key, host)?, host)
}

/// Somebody who looks at the exam of a session in Weasis. `None`: the session is over.
fn through_weasis(login: &Login, id: &SessionId, opened: &Opened, host: &str) -> Option<Visitor> {
    let behind = login.sessions().behind(opened.session, host)?;
    let now = granted(behind.data.as_deref());
    Some(Visitor {
        // Not that of the page: what is seen in Weasis is on record beside what is seen there.
        session: id.key().bytes(),
        who: comer(&behind.professional, &behind.situation),
        // A session that went on to another exam leaves this one.
        granted: now.filter(|granted| *granted == opened.granted),
        through: Through::Weasis,
    })
}

impl Viewer {
    /// Whether the page offers Weasis to this person.
    pub(super) fn offers_weasis(&self, seeker: &Seeker) -> bool {
        let is_professional = matches!(seeker.visitor.who, Comer::Professional { .. });
        self.parts.weasis.is_some() && is_professional
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("drimbox_weasis_launches_total", "outcome" => outcome).increment(1);
}

/// An address that opens the exam of the session in Weasis.
async fn launch(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
    uri: Uri,
    request: Request,
) -> Response {
    let here = viewer.pacs(&connection);
    let (Some(tickets), Some((host, pacs))) = (viewer.parts.weasis.as_ref(), here) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(mut seeker) = viewer.seeker(&headers, &host, true) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if let Err(answer) = own_form(&viewer, &seeker.csrf, &host, &request_id, request).await {
        return answer;
    }
    seeker.visitor.through = Through::Weasis;
    let exam = viewer.exam_of(&connection, pacs, Some(&seeker.visitor), RESOURCE);
    let exam = match exam.await {
        Ok(exam) => exam,
        Err(status) => {
            count("refused");
            return status.into_response();
        }
    };
    let opened = Opened {
        session: SessionKey::of(seeker.visitor.session),
        granted: Granted {
            pacs: pacs.name.to_string(),
            study: exam.study.clone(),
        },
    };
    let now = viewer.parts.login.now();
    let Ok(ticket) = tickets.ticket(&host, opened, now).await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    count("offered");
    let origin = origin(&host, &headers, &uri);
    let address = address(&origin, &ticket);
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], address).into_response()
}

/// The list of the images, for a ticket. Whatever is wrong with the ticket, the answer is that of a link that opens
/// nothing.
async fn images(
    State(viewer): State<Arc<Viewer>>,
    Extension(connection): Extension<Connection>,
    Path(ticket): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let here = viewer.pacs(&connection);
    let (Some(tickets), Some((host, pacs))) = (viewer.parts.weasis.as_ref(), here) else {
        return viewer.unavailable();
    };
    let login = &viewer.parts.login;
    let now = login.now();
    let address = connection.remote.ip();
    if !viewer.throttle.may_follow(address, now).await {
        count("refused");
        return viewer.unavailable();
    }
    let id = SessionId::parse(&ticket);
    let opened = match &id {
        Some(id) => tickets.redeem(id, &host, now).await,
        None => None,
    };
    let visitor = match (&id, &opened) {
        (Some(id), Some(opened)) => through_weasis(login, id, opened, &host),
        _ => None,
    };
    let exam = viewer.exam_of(&connection, pacs, visitor.as_ref(), RESOURCE);
    let (Ok(exam), Some(opened)) = (exam.await, opened) else {
        count("refused");
        return viewer.unavailable();
    };
    let described = match manifest::described(pacs, &exam).await {
        Ok(described) => described,
        Err(error) => {
            count("failed");
            tracing::warn!("the list of images for Weasis cannot be filled: {error}");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let Ok(key) = tickets.key(&host, opened, now).await else {
        count("failed");
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    count("opened");
    let list = Manifest {
        origin: &origin(&host, &headers, &uri),
        authorization: &format!("{SCHEME} {}", key.expose()),
        exam: &exam,
        described: &described,
    };
    ([(CONTENT_TYPE, "application/xml")], list.to_xml()).into_response()
}

/// The origin as the client reaches it: the port is the one it named, which may be that of a router before the gateway.
fn origin(host: &str, headers: &HeaderMap, uri: &Uri) -> String {
    let field = headers.get(HOST).and_then(|field| field.to_str().ok());
    let field = field.and_then(|text| text.parse::<Authority>().ok());
    let port = field
        .as_ref()
        .or(uri.authority())
        .and_then(Authority::port_u16);
    match port {
        None | Some(443) => format!("https://{host}"),
        Some(port) => format!("https://{host}:{port}"),
    }
}

/// The command that loads a list, as an address of Weasis: <https://weasis.org/en/getting-started/weasis-protocol/>.
fn address(origin: &str, ticket: &SessionId) -> String {
    let command = format!(
        "$dicom:get -w \"{origin}/viewer/weasis/{}\"",
        ticket.expose()
    );
    let encoded: String = form_urlencoded::byte_serialize(command.as_bytes()).collect();
    format!("weasis://{encoded}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_address_is_one_command_of_weasis() {
        let id = SessionId::parse(&"-_aZ0".repeat(9).split_off(2)).unwrap();
        let text = address("https://vi.example:8443", &id);
        let encoded = text.strip_prefix("weasis://").unwrap();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "%+-_.*".contains(c);
        assert!(encoded.chars().all(allowed), "{text}");
        let (decoded, _) = form_urlencoded::parse(encoded.as_bytes()).next().unwrap();
        let list = format!("https://vi.example:8443/viewer/weasis/{}", id.expose());
        assert_eq!(decoded, format!("$dicom:get -w \"{list}\""));
    }

    #[test]
    fn the_origin_has_the_host_of_the_connection_and_the_port_of_the_client() {
        let of = |field: &str, uri: &str| {
            let mut headers = HeaderMap::new();
            if !field.is_empty() {
                headers.insert(HOST, field.parse().unwrap());
            }
            origin("vi.example", &headers, &uri.parse().unwrap())
        };
        assert_eq!(of("vi.example", "/x"), "https://vi.example");
        assert_eq!(of("vi.example:443", "/x"), "https://vi.example");
        assert_eq!(of("evil.example:8443", "/x"), "https://vi.example:8443");
        assert_eq!(of("", "https://vi.example:99/x"), "https://vi.example:99");
        assert_eq!(of("", "/x"), "https://vi.example");
    }

    #[test]
    fn a_key_comes_alone_and_under_its_own_scheme() {
        let key = "k".repeat(43);
        let of = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(AUTHORIZATION, field.parse().unwrap());
            }
            match shown(&headers) {
                Shown::Nothing => "nothing",
                Shown::Unreadable => "unreadable",
                Shown::Key(id) if id.expose() == key => "key",
                Shown::Key(_) => "another",
            }
        };
        let right = format!("{SCHEME} {key}");
        assert_eq!(of(&[&right]), "key");
        assert_eq!(of(&[&right.to_lowercase()]), "key");
        assert_eq!(of(&[]), "nothing");
        assert_eq!(of(&[&format!("Bearer {key}")]), "nothing");
        assert_eq!(of(&["Bearer x", &right]), "key");
        assert_eq!(of(&[&right, &right]), "unreadable");
        assert_eq!(of(&[SCHEME]), "unreadable");
        assert_eq!(of(&[&format!("{SCHEME} short")]), "unreadable");
    }
}
