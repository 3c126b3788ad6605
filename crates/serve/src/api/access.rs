//! Who may ask.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::error::ApiError;
use super::state::Shared;

/// Refuses requests without the server's token, if it has one. The comparison takes the same time
/// wherever tokens differ.
pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(expected) = shared.token else { return next.run(request).await };
    let given = bearer(request.headers()).map(durable::digest);
    let equal = given.is_some_and(|given| given.as_bytes().ct_eq(expected.as_bytes()).into());
    if equal { next.run(request).await } else { ApiError::unauthorized().into_response() }
}

/// Refuses requests that a browser sends for a page of another site: without a token, any page could
/// otherwise ask, and write to the log of chats.
pub(super) async fn origin(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        let message = "expected a request of a program or of this server's own page, found one of another site";
        return ApiError::forbidden(message).into_response();
    }
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a browser says that a page of another host, or of a host whose name was rebound to this one,
/// has sent the request.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let authority =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    authority.is_none() || authority != text(header::HOST)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn bearers() {
        for (value, token) in [
            ("Bearer abc", Some(&b"abc"[..])),
            ("bearer  abc ", Some(b"abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, value)])), token, "{value:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn pages_of_other_sites() {
        let host = (header::HOST, "127.0.0.1:8080");
        for (origin, foreign) in [
            ("http://127.0.0.1:8080", false),
            ("http://127.0.0.1:9090", true),
            ("https://example.com", true),
            ("null", true),
        ] {
            let headers = headers(&[host.clone(), (header::ORIGIN, origin)]);
            assert_eq!(is_foreign(&headers), foreign, "{origin}");
        }
        assert!(!is_foreign(&headers(&[host])));
    }
}
