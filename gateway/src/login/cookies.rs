//! The two cookies of the gateway. Both have the prefix `__Host-` (RFC 6265bis §4.1.3.2): no other host can set them,
//! and they go back to their own host only.

use http::{HeaderMap, HeaderValue, header};

use super::secret::SessionId;

/// Session of someone who is logged in.
pub(super) const SESSION: &str = "__Host-drimbox";
/// Binds logins under way to the browser that started them.
pub(super) const BROWSER: &str = "__Host-drimbox-login";

/// Headers that are looked through, and cookies in them: browsers send one header with few.
const MOST: usize = 200;

/// The id in a cookie of a request.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<SessionId> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .take(MOST);
    let mut values = pairs.filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim())
    });
    let value = values.next()?;
    // A browser has one cookie of this prefix: two were not sent by one.
    if values.next().is_some() {
        return None;
    }
    SessionId::parse(value)
}

/// `Set-Cookie` until the browser closes.
pub(super) fn set(name: &str, id: &SessionId) -> Option<HeaderValue> {
    line(name, id.expose(), "")
}

/// `Set-Cookie` that removes it.
pub(super) fn clear(name: &str) -> Option<HeaderValue> {
    line(name, "", "; Max-Age=0")
}

fn line(name: &str, value: &str, age: &str) -> Option<HeaderValue> {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}");
    let mut line = HeaderValue::from_str(&text).ok()?;
    line.set_sensitive(true);
    Some(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_among_others_and_over_several_headers() {
        let id = SessionId::new().unwrap();
        let line = format!("a=b; {SESSION}={}; c", id.expose());
        for headers in [with(&[&line]), with(&["x=y", &line])] {
            assert!(read(&headers, SESSION).unwrap().key() == id.key());
            assert!(read(&headers, BROWSER).is_none());
        }
    }

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let line = |id: &SessionId| format!("{SESSION}={}", id.expose());
        let (one, two) = (SessionId::new().unwrap(), SessionId::new().unwrap());
        let both = format!("{}; {}", line(&one), line(&two));
        assert!(read(&with(&[&both]), SESSION).is_none());
        assert!(read(&with(&[&line(&one), &line(&two)]), SESSION).is_none());
    }

    #[test]
    fn a_cookie_is_secure_and_for_this_host_alone() {
        let line = set(SESSION, &SessionId::new().unwrap()).unwrap();
        let text = line.to_str().unwrap();
        assert!(text.starts_with("__Host-drimbox="));
        assert!(text.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"));
        assert!(!text.contains("Domain") && line.is_sensitive());
    }
}
