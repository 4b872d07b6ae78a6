//! Reads and sets the cookies of logins and of sign-ups in progress.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use warp::reply::Response;

use crate::accounts::CHECK_TTL;
use crate::accounts::tokens::REFRESH_TTL;
use crate::domain::url_path;

use super::HttpSettings;

/// Name of the refresh cookie if the configuration permits no prefix (`__Host-` or `__Secure-`). Earlier releases use
/// only this name.
pub const REFRESH_COOKIE: &str = "pintalk_refresh_token";

/// Name of the refresh cookie with the `__Host-` prefix (RFC 6265bis). Other sites on the same domain cannot set this
/// cookie.
pub(super) const HOST_REFRESH_COOKIE: &str = "__Host-pintalk_refresh_token";

/// Name of the prefixed refresh cookie if `public-url` has a path, because `__Host-` requires the path `/`.
const SECURE_REFRESH_COOKIE: &str = "__Secure-pintalk_refresh_token";

/// Name of the cookie that holds the state of a sign-up.
pub(super) const SIGN_UP_COOKIE: &str = "pintalk_sign_up";

/// Returns all refresh tokens in a request. If a cookie with a prefix is present, ignores the cookies without one,
/// because other sites on the same domain can set them.
pub(super) fn refresh_tokens<'a>(headers: &'a HeaderMap, settings: &HttpSettings) -> Vec<&'a str> {
    let prefixed = all(headers, prefixed_name(settings));
    if prefixed.is_empty() { all(headers, REFRESH_COOKIE) } else { prefixed }
}

/// Returns the unverified state of the caller's sign-up.
pub(super) fn sign_up(headers: &HeaderMap) -> Option<&str> {
    all(headers, SIGN_UP_COOKIE).into_iter().next()
}

/// Returns the values of all cookies with the name `wanted`. Each cookie is parsed separately, so that a cookie with
/// invalid UTF-8 does not affect the others.
fn all<'a>(headers: &'a HeaderMap, wanted: &str) -> Vec<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair.trim_ascii()).ok()?.split_once('='))
        .filter(|(name, _)| *name == wanted)
        .map(|(_, value)| value.trim_matches('"'))
        .filter(|value| !value.is_empty())
        .collect()
}

/// Sets a new refresh token and expires the refresh cookie with the other name.
pub(super) fn set(response: &mut Response, token: &str, settings: &HttpSettings) {
    write(response, own_name(settings), token, REFRESH_TTL.num_seconds(), settings);
    expire_other(response, settings);
}

/// Expires the refresh cookies with and without a prefix.
pub(super) fn clear(response: &mut Response, settings: &HttpSettings) {
    write(response, own_name(settings), "", 0, settings);
    expire_other(response, settings);
}

fn expire_other(response: &mut Response, settings: &HttpSettings) {
    let prefixed = prefixed_name(settings);
    match own_name(settings) {
        REFRESH_COOKIE if is_secure(settings) => write(response, prefixed, "", 0, settings),
        // Without TLS, browsers reject cookies with a prefix, so there is no such cookie to expire.
        REFRESH_COOKIE => {}
        _ => write(response, REFRESH_COOKIE, "", 0, settings),
    }
}

fn is_secure(settings: &HttpSettings) -> bool {
    settings.public_url.starts_with("https://")
}

/// Returns the path of `public-url`, or `/` if the URL has no path.
fn path(settings: &HttpSettings) -> &str {
    match url_path(&settings.public_url) {
        "" => "/",
        path => path,
    }
}

fn prefixed_name(settings: &HttpSettings) -> &'static str {
    if path(settings) == "/" { HOST_REFRESH_COOKIE } else { SECURE_REFRESH_COOKIE }
}

/// Returns the name under which the refresh token is set (SPEC 2).
fn own_name(settings: &HttpSettings) -> &'static str {
    let may_be_prefixed = is_secure(settings) && settings.cookie_domain.is_none();
    if may_be_prefixed { prefixed_name(settings) } else { REFRESH_COOKIE }
}

/// Sets the state of the caller's sign-up.
pub(super) fn set_sign_up(response: &mut Response, token: &str, settings: &HttpSettings) {
    write(response, SIGN_UP_COOKIE, token, CHECK_TTL.num_seconds(), settings);
}

/// Expires the sign-up cookie. Called when the account has been created.
pub(super) fn clear_sign_up(response: &mut Response, settings: &HttpSettings) {
    write(response, SIGN_UP_COOKIE, "", 0, settings);
}

fn write(response: &mut Response, name: &str, value: &str, max_age: i64, settings: &HttpSettings) {
    let path = path(settings);
    // Earlier releases set the cookies without a prefix at the path `/`, so the cookie at that path is expired.
    if path != "/" && name != SECURE_REFRESH_COOKIE {
        write_at("/", response, name, "", 0, settings);
    }
    write_at(path, response, name, value, max_age, settings);
}

fn write_at(path: &str, response: &mut Response, name: &str, value: &str, max_age: i64, settings: &HttpSettings) {
    let mut cookie = format!("{name}={value}; Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Lax");
    if is_secure(settings) {
        cookie.push_str("; Secure");
    }
    let may_have_domain = ![HOST_REFRESH_COOKIE, SECURE_REFRESH_COOKIE].contains(&name);
    if let Some(domain) = settings.cookie_domain.as_ref().filter(|_| may_have_domain) {
        cookie.push_str("; Domain=");
        cookie.push_str(domain);
    }
    if let Ok(mut value) = HeaderValue::try_from(cookie) {
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::http::reply;

    fn cookies_of(settings: &HttpSettings) -> Vec<String> {
        let mut response = reply::empty(StatusCode::OK);
        set(&mut response, "a.b.c", settings);
        let cookies = response.headers().get_all(SET_COOKIE).iter();
        cookies.map(|cookie| cookie.to_str().unwrap().to_owned()).collect()
    }

    fn settings(public_url: &str, cookie_domain: Option<&str>) -> HttpSettings {
        let (public_url, cookie_domain) = (public_url.to_owned(), cookie_domain.map(str::to_owned));
        HttpSettings { public_url, cookie_domain, ..HttpSettings::default() }
    }

    #[test]
    fn cookie_has_the_prefix_that_its_scope_allows_and_the_other_name_expires() {
        const REST: &str = "HttpOnly; SameSite=Lax";
        assert_eq!(
            cookies_of(&settings("http://localhost:8080", None)),
            [format!("pintalk_refresh_token=a.b.c; Path=/; Max-Age=604800; {REST}")]
        );
        assert_eq!(
            cookies_of(&settings("https://chat.example", None)),
            [
                format!("__Host-pintalk_refresh_token=a.b.c; Path=/; Max-Age=604800; {REST}; Secure"),
                format!("pintalk_refresh_token=; Path=/; Max-Age=0; {REST}; Secure"),
            ]
        );
        assert_eq!(
            cookies_of(&settings("https://chat.example/pin", None)),
            [
                format!("__Secure-pintalk_refresh_token=a.b.c; Path=/pin; Max-Age=604800; {REST}; Secure"),
                format!("pintalk_refresh_token=; Path=/; Max-Age=0; {REST}; Secure"),
                format!("pintalk_refresh_token=; Path=/pin; Max-Age=0; {REST}; Secure"),
            ]
        );
        assert_eq!(
            cookies_of(&settings("http://localhost:8080/pin", None)),
            [
                format!("pintalk_refresh_token=; Path=/; Max-Age=0; {REST}"),
                format!("pintalk_refresh_token=a.b.c; Path=/pin; Max-Age=604800; {REST}"),
            ]
        );
        assert_eq!(
            cookies_of(&settings("https://chat.example/a/b", Some("example.com"))),
            [
                format!("pintalk_refresh_token=; Path=/; Max-Age=0; {REST}; Secure; Domain=example.com"),
                format!("pintalk_refresh_token=a.b.c; Path=/a/b; Max-Age=604800; {REST}; Secure; Domain=example.com"),
                format!("__Secure-pintalk_refresh_token=; Path=/a/b; Max-Age=0; {REST}; Secure"),
            ]
        );
        assert_eq!(
            cookies_of(&settings("https://chat.example", Some("example.com"))),
            [
                format!("pintalk_refresh_token=a.b.c; Path=/; Max-Age=604800; {REST}; Secure; Domain=example.com"),
                format!("__Host-pintalk_refresh_token=; Path=/; Max-Age=0; {REST}; Secure"),
            ]
        );
        assert_eq!(
            cookies_of(&settings("http://chat.example", Some("example.com"))),
            [format!("pintalk_refresh_token=a.b.c; Path=/; Max-Age=604800; {REST}; Domain=example.com")]
        );
    }

    #[test]
    fn a_cleared_cookie_expires_wherever_it_may_have_been_set() {
        let mut response = reply::empty(StatusCode::OK);
        clear(&mut response, &settings("https://chat.example/pin", None));
        clear_sign_up(&mut response, &settings("https://chat.example/pin", None));
        let cookies = response.headers().get_all(SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
        let cleared: Vec<&str> = cookies.map(|cookie| cookie.split("; Max-Age=0;").next().unwrap()).collect();
        assert_eq!(
            cleared,
            [
                "__Secure-pintalk_refresh_token=; Path=/pin",
                "pintalk_refresh_token=; Path=/",
                "pintalk_refresh_token=; Path=/pin",
                "pintalk_sign_up=; Path=/",
                "pintalk_sign_up=; Path=/pin",
            ]
        );
    }

    fn read(public_url: &str, lines: &[&[u8]]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        refresh_tokens(&headers, &settings(public_url, None)).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_prefixed_cookie_wins_over_every_plain_one() {
        const SITE: &str = "https://chat.example";
        let tossed = b"pintalk_refresh_token=evil; __Host-pintalk_refresh_token=mine; pintalk_refresh_token=evil2";
        assert_eq!(read(SITE, &[tossed]), ["mine"]);
        assert_eq!(read(SITE, &[b"pintalk_refresh_token=old"]), ["old"], "the name of earlier releases");
        // The prefix of this server is `__Host-` without a path in `public-url`, and `__Secure-` with one. Other sites
        // on the same domain can set the cookie with `__Secure-`.
        let secure = b"__Secure-pintalk_refresh_token=evil; pintalk_refresh_token=old";
        assert_eq!(read(SITE, &[secure]), ["old"]);
        assert_eq!(read("https://chat.example/pin", &[secure]), ["evil"]);
        // The browser sends the current cookie and a cookie that an earlier release set at `/`.
        let both = b"pintalk_refresh_token=new; pintalk_refresh_token=old";
        assert_eq!(read("http://chat.example/pin", &[both]), ["new", "old"]);
        let other_case = b"__host-pintalk_refresh_token=evil; __HOST-pintalk_refresh_token=evil";
        assert!(read(SITE, &[other_case]).is_empty());
    }

    #[test]
    fn every_cookie_of_the_name_is_found_among_others() {
        let lines: [&[u8]; 2] = [
            b"a=b; pintalk_refresh_token=x.y.z; pintalk_refresh_token=; pintalk_refresh_token=\"\"",
            b"pintalk_refresh_token=\"u.v.w\"; other=\xe9; =; ; ;pintalk_refresh_token=a=b",
        ];
        assert_eq!(read("http://localhost", &lines), ["x.y.z", "u.v.w", "a=b"]);
        assert!(read("http://localhost", &[b"pintalk_refresh_token=\xff"]).is_empty());
    }
}
