//! Checks that the target server (`Host`), the caller and the length of a request are unambiguous (RFC 9112).
//!
//! If two parsers could interpret a request differently, it is rejected and its connection is closed. Otherwise a proxy
//! could check a different request than the one that this server handles.

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use url::{Host, Url};
use warp::reply::Response;

use super::reply::ApiError;

/// Headers that identify the caller. A request that contains one of them more than once is rejected, because a proxy
/// may have checked the value that this server does not use.
const ONCE: [HeaderName; 4] = [
    ORIGIN,
    AUTHORIZATION,
    HeaderName::from_static("x-pintalk-access-key"),
    HeaderName::from_static("x-pintalk-secret-key"),
];

/// Returns the error response to an ambiguous request, or `None` if the request is unambiguous.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Response> {
    let why = problem(request.version(), request.uri(), request.headers())?;
    let mut response = ApiError::Malformed(why).into_response();
    close(&mut response);
    Some(response)
}

/// Returns whether a request must be the last on its connection (RFC 9112, 6.1). If a request has both `Content-Length`
/// and `Transfer-Encoding`, hyper removes `Content-Length`, so such a request cannot be detected here. Therefore
/// nothing is read after any request with `Transfer-Encoding`.
pub(super) fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(TRANSFER_ENCODING)
}

/// Adds `Connection: close` to a response.
pub(super) fn close(response: &mut Response) {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

fn problem(version: Version, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    // The target of a request such as `CONNECT` has no path, but the handlers require one.
    if uri.path_and_query().is_none() {
        return Some("The target has no path.");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Some("There must be one Host header."),
        (None, None) if version == Version::HTTP_10 => None,
        (None, None) => return Some("The Host header is required."),
        (Some(host), None) => match authority(host.as_bytes()) {
            Some(host) => Some(host),
            None => return Some("The Host header is not valid."),
        },
    };
    if let (Some(target), Some(host)) = (uri.authority(), &named)
        && !is_same(target, host, uri.scheme_str())
    {
        return Some("The Host header names another server than the target.");
    }
    // A socket request with duplicate headers is instead rejected with a close code, because browsers can read close
    // codes.
    if !uri.path().starts_with("/ws/") && ONCE.iter().any(|name| headers.get_all(name).iter().nth(1).is_some()) {
        return Some("A header that identifies the caller may occur only once.");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {}
        _ => return Some("The only supported Transfer-Encoding is chunked, and it must occur once."),
    }
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        return Some("There must be a Content-Length or a Transfer-Encoding, not both.");
    }
    None
}

/// Parses a `Host` header. The value must be a name or an address, with an optional port.
fn authority(host: &[u8]) -> Option<Authority> {
    let is_plain = !host.iter().any(|byte| b"@/?#, \\".contains(byte));
    let is_valid = |authority: &Authority| {
        let port = &authority.as_str()[authority.host().len()..];
        !authority.host().is_empty() && (port.is_empty() || port == ":" || authority.port_u16().is_some())
    };
    Authority::try_from(host).ok().filter(|authority| is_plain && is_valid(authority))
}

fn is_same(target: &Authority, host: &Authority, scheme: Option<&str>) -> bool {
    let default_port = if scheme == Some("https") { 443 } else { 80 };
    let port = |of: &Authority| of.port_u16().unwrap_or(default_port);
    target.host().eq_ignore_ascii_case(host.host()) && port(target) == port(host) && !target.as_str().contains('@')
}

/// Returns whether a request addresses this server by an IP address, by the name `localhost` or a subdomain of it, or
/// by the host name of `public-url`. The check rejects requests of other sites whose names resolve to this server (DNS
/// rebinding). A request without `Host` does not come from a browser and is accepted.
pub(super) fn is_own_name(headers: &HeaderMap, public_url: &str) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Some(authority) = authority(host.as_bytes()) else { return false };
    let parsed = |text: &str| Some(Url::parse(text).ok()?.host()?.to_owned());
    match parsed(&format!("http://{authority}/")) {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(name)) => {
            let is_local = name == "localhost" || name.ends_with(".localhost");
            is_local || parsed(public_url) == Some(Host::Domain(name))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(target: &str, headers: &[(http::HeaderName, &'static str)]) -> Option<&'static str> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, HeaderValue::from_static(value));
        }
        problem(Version::HTTP_11, &target.parse().unwrap(), &all)
    }

    #[test]
    fn request_must_name_one_server() {
        for (target, host) in [
            ("/", "chat.example"),
            ("/", "127.0.0.1:8080"),
            ("/", "[::1]:8080"),
            ("http://chat.example/x", "Chat.Example"),
            ("http://chat.example:80/x", "chat.example"),
            ("https://chat.example/x", "chat.example:443"),
        ] {
            assert_eq!(problem_of(target, &[(HOST, host)]), None, "{target} {host}");
        }
        for (target, host) in [
            ("/", ""),
            ("/", "a b"),
            ("/", "a/b"),
            ("/", "me@a"),
            ("/", "a,b"),
            ("/", "a:x"),
            ("http://chat.example/x", "other.example"),
            ("http://chat.example:81/x", "chat.example"),
            ("http://me@chat.example/x", "chat.example"),
            ("chat.example:80", "chat.example:80"),
        ] {
            assert!(problem_of(target, &[(HOST, host)]).is_some(), "{target} {host}");
        }
        assert!(problem_of("/", &[]).is_some());
        assert!(problem_of("/", &[(HOST, "a"), (HOST, "a")]).is_some());
        assert_eq!(problem(Version::HTTP_10, &Uri::from_static("/"), &HeaderMap::new()), None);
    }

    #[test]
    fn request_must_have_one_caller() {
        for name in ONCE {
            let twice = [(HOST, "a"), (name.clone(), "x"), (name.clone(), "x")];
            assert!(problem_of("/api/users/client/", &twice).is_some(), "{name}");
            assert_eq!(problem_of("/api/users/client/", &twice[..2]), None, "{name}");
            assert_eq!(problem_of("/ws/chat/x/", &twice), None, "{name}");
        }
    }

    #[test]
    fn body_must_end_unambiguously() {
        let host = (HOST, "a");
        assert_eq!(problem_of("/", &[host.clone(), (TRANSFER_ENCODING, "Chunked")]), None);
        assert_eq!(problem_of("/", &[host.clone(), (CONTENT_LENGTH, "3")]), None);
        for codings in [&["chunked", "chunked"][..], &["identity", "chunked"], &["gzip, chunked"], &["xchunked"], &[""]]
        {
            let headers: Vec<_> = std::iter::once(host.clone())
                .chain(codings.iter().map(|coding| (TRANSFER_ENCODING, *coding)))
                .collect();
            assert!(problem_of("/", &headers).is_some(), "{codings:?}");
        }
        assert!(problem_of("/", &[host, (TRANSFER_ENCODING, "chunked"), (CONTENT_LENGTH, "3")]).is_some());
    }

    #[test]
    fn a_foreign_name_is_not_this_server() {
        let own = |host: &'static str| {
            let headers = [(HOST, HeaderValue::from_static(host))].into_iter().collect();
            is_own_name(&headers, "https://chat.example/pin")
        };
        for host in
            ["127.0.0.1:8080", "[::1]:8080", "localhost", "LOCALHOST:80", "10.1.2.3", "chat.example", "a.localhost"]
        {
            assert!(own(host), "{host}");
        }
        for host in
            ["evil.example", "chat.example.evil.example", "127.0.0.1.nip.io", "localhost.evil.example", "", "a b"]
        {
            assert!(!own(host), "{host}");
        }
        assert!(is_own_name(&HeaderMap::new(), ""));
    }
}
