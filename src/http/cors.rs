//! CORS: which web page may read which answer (SPEC 1).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
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

/// What a page may send along.
const REQUEST_HEADERS: &str = "accept, authorization, content-type, idempotency-key, x-pintalk-access-key, \
                               x-pintalk-secret-key, x-requested-with, x-csrftoken";

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

/// The answer to `OPTIONS`, but for what [`stamp`] adds.
pub(super) fn preflight(allow: &str) -> Response {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        headers.insert(ALLOW, allow.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE));
    response
}

fn is_listed(origin: &HeaderValue, admin_origins: &[String]) -> bool {
    admin_origins.iter().any(|listed| origin.as_bytes().eq_ignore_ascii_case(listed.trim_end_matches('/').as_bytes()))
}
