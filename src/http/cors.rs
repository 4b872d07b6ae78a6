//! CORS: determines which web pages may read which responses (SPEC 1).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ALLOW, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use warp::reply::Response;

use super::reply;

/// Intended clients of a call, which determine its CORS headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Widgets in pages of any site. CORS permits requests without credentials from every origin. The call itself
    /// checks whether the origin may send it.
    Guests,
    /// Admin pages. CORS permits requests with credentials from the configured origins.
    Hosts,
    /// Web pages of any origin. CORS permits requests without credentials from every origin.
    Public,
    /// Monitoring systems and other programs. Web pages of other origins cannot read the responses.
    Operators,
}

/// Request headers that are always allowed.
const REQUEST_HEADERS: &str = "accept, authorization, content-type, idempotency-key, x-pintalk-access-key, \
                               x-pintalk-secret-key, x-requested-with, x-csrftoken";

/// Maximum number of allowed request headers besides [`REQUEST_HEADERS`], and maximum length of their names in bytes.
const MAX_EXTRA_HEADERS: usize = 32;
const MAX_HEADER_NAME: usize = 64;

/// Response headers that pages may read in addition to the CORS-safelisted headers.
const EXPOSED_HEADERS: &str = "content-disposition, retry-after";

/// Time for which browsers may cache a preflight response, in seconds.
const PREFLIGHT_MAX_AGE: &str = "600";

/// Adds the CORS headers to a response, including error responses.
pub(super) fn stamp(response: &mut Response, audience: Audience, request: &HeaderMap, admin_origins: &[String]) {
    let origin = request.get(ORIGIN);
    let headers = response.headers_mut();
    let allowed = match audience {
        Audience::Guests => origin.cloned(),
        Audience::Hosts => origin.filter(|origin| is_listed(origin, admin_origins)).cloned(),
        Audience::Public => Some(HeaderValue::from_static("*")),
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

/// Returns the response to an `OPTIONS` request, without the headers of [`stamp`].
///
/// For guests and public files, the preflight permits every header that it requests, within [`MAX_EXTRA_HEADERS`] and
/// [`MAX_HEADER_NAME`]. The reason is that monitoring scripts on the guest's page add headers such as `traceparent` or
/// `baggage` to every `fetch`, and operators do not control these pages. For hosts and operators, the set of headers is
/// fixed.
pub(super) fn preflight(allow: &str, audience: Audience, request: &HeaderMap) -> Response {
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        headers.insert(ALLOW, allow.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
    let mut allowed = HeaderValue::from_static(REQUEST_HEADERS);
    if matches!(audience, Audience::Guests | Audience::Public) {
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        let names: Vec<String> = std::iter::once(REQUEST_HEADERS.to_owned()).chain(extra_headers(request)).collect();
        // A header name contains only characters that are valid in a header value.
        allowed = HeaderValue::try_from(names.join(", ")).unwrap_or(allowed);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE));
    response
}

/// Returns the header names that a preflight requests in addition to [`REQUEST_HEADERS`], in lower case and without
/// duplicates. Their number and length are limited. `*` is excluded, because it would permit every header.
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
