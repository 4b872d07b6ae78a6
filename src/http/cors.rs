//! CORS: which web page may read which answer (SPEC 1).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ALLOW, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::Response;

use super::reply;

/// Who a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// The widget in a visitor's page: any origin may read, without credentials. Whether it may *call* is another question.
    Guests,
    /// The admin page: the configured origins, with credentials.
    Hosts,
    /// Pages and scripts that anybody may load.
    Everybody,
    /// Machines: no web page has business here.
    Operators,
}

/// Request headers that every page may send.
const REQUEST_HEADERS: &str = "accept, authorization, content-type, idempotency-key, x-pintalk-access-key, \
                               x-pintalk-secret-key, x-requested-with, x-csrftoken";

/// The most request headers that are allowed beside [`REQUEST_HEADERS`], and the longest of their names in bytes.
const MAX_EXTRA_HEADERS: usize = 32;
const MAX_HEADER_NAME: usize = 64;

/// What a page may read beside the usual.
const EXPOSED_HEADERS: &str = "content-disposition, retry-after";

/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";

/// Writes onto an answer, an error as well, who may read it.
pub(super) fn stamp(response: &mut Response, audience: Audience, request: &HeaderMap, admin_origins: &[String]) {
    let origin = request.get(ORIGIN);
    let headers = response.headers_mut();
    let allowed = match audience {
        Audience::Guests => origin.cloned(),
        Audience::Hosts => origin.filter(|origin| is_listed(origin, admin_origins)).cloned(),
        Audience::Everybody => Some(HeaderValue::from_static("*")),
        Audience::Operators => None,
    };
    if matches!(audience, Audience::Guests | Audience::Hosts) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(allowed) = allowed else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    if audience == Audience::Hosts {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

/// The response to `OPTIONS` without the headers of [`stamp`].
///
/// A guest's page is not under our control: scripts in it add headers to every `fetch` (`traceparent`, `baggage`), so the headers
/// that such a preflight asks for are allowed. The admin origins have a fixed list.
pub(super) fn preflight(allow: &str, audience: Audience, request: &HeaderMap) -> Response {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        headers.insert(ALLOW, allow.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
    let mut allowed = HeaderValue::from_static(REQUEST_HEADERS);
    if matches!(audience, Audience::Guests | Audience::Everybody) {
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        let names: Vec<String> = std::iter::once(REQUEST_HEADERS.to_owned()).chain(extra_headers(request)).collect();
        // Header names are always a header value.
        allowed = HeaderValue::try_from(names.join(", ")).unwrap_or(allowed);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE));
    response
}

/// The header names that a preflight asks for and [`REQUEST_HEADERS`] does not have: in lower case, each once, bounded in number
/// and length. `*` is not one of them: it would allow every header.
fn extra_headers(request: &HeaderMap) -> Vec<String> {
    let mut extra: Vec<String> = Vec::new();
    let lines = request.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    for name in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        if extra.len() == MAX_EXTRA_HEADERS {
            break;
        }
        if name.len() > MAX_HEADER_NAME || name == b"*" {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name) else { continue };
        let name = name.as_str();
        if !REQUEST_HEADERS.split(", ").any(|fixed| fixed == name) && !extra.iter().any(|known| known == name) {
            extra.push(name.to_owned());
        }
    }
    extra
}

fn is_listed(origin: &HeaderValue, admin_origins: &[String]) -> bool {
    admin_origins.iter().any(|listed| origin.as_bytes().eq_ignore_ascii_case(listed.trim_end_matches('/').as_bytes()))
}
