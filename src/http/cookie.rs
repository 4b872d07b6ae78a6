//! The cookies of a login, and of somebody who signs up.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use warp::reply::Response;

use crate::accounts::CHECK_TTL;
use crate::accounts::tokens::REFRESH_TTL;

use super::Settings;

/// Holds the refresh token.
pub const REFRESH_COOKIE: &str = "pintalk_refresh_token";

/// Holds how far somebody is who signs up.
pub(super) const SIGN_UP_COOKIE: &str = "pintalk_sign_up";

/// Every refresh token that the caller sends; there may be one per domain.
pub(super) fn refresh_tokens(headers: &HeaderMap) -> Vec<&str> {
    all(headers, REFRESH_COOKIE)
}

/// How far the caller says he is.
pub(super) fn sign_up(headers: &HeaderMap) -> Option<&str> {
    all(headers, SIGN_UP_COOKIE).into_iter().next()
}

fn all<'a>(headers: &'a HeaderMap, wanted: &str) -> Vec<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|pairs| pairs.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, value)| *name == wanted && !value.is_empty())
        .map(|(_, value)| value.trim_matches('"'))
        .collect()
}

/// Gives the caller a new refresh token.
pub(super) fn set(response: &mut Response, token: &str, settings: &Settings) {
    write(response, REFRESH_COOKIE, token, REFRESH_TTL.num_seconds(), settings);
}

/// Takes the refresh token away.
pub(super) fn clear(response: &mut Response, settings: &Settings) {
    write(response, REFRESH_COOKIE, "", 0, settings);
}

/// Remembers how far the caller is.
pub(super) fn set_sign_up(response: &mut Response, token: &str, settings: &Settings) {
    write(response, SIGN_UP_COOKIE, token, CHECK_TTL.num_seconds(), settings);
}

/// He is done.
pub(super) fn clear_sign_up(response: &mut Response, settings: &Settings) {
    write(response, SIGN_UP_COOKIE, "", 0, settings);
}

fn write(response: &mut Response, name: &str, value: &str, max_age: i64, settings: &Settings) {
    let mut cookie = format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax");
    if settings.public_url.starts_with("https://") {
        cookie.push_str("; Secure");
    }
    if let Some(domain) = &settings.cookie_domain {
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

    fn cookie_of(settings: &Settings) -> String {
        let mut response = reply::empty(StatusCode::OK);
        set(&mut response, "a.b.c", settings);
        response.headers()[SET_COOKIE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_of_other_sites_for_seven_days() {
        assert_eq!(
            cookie_of(&Settings { public_url: "http://localhost:8080".into(), ..Settings::default() }),
            "pintalk_refresh_token=a.b.c; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"
        );
        let settings = Settings {
            public_url: "https://chat.example".into(),
            cookie_domain: Some("chat.example".into()),
            ..Settings::default()
        };
        assert!(cookie_of(&settings).ends_with("; Secure; Domain=chat.example"));
    }

    #[test]
    fn every_cookie_of_the_name_is_found() {
        let headers = [
            (COOKIE, HeaderValue::from_static("a=b; pintalk_refresh_token=x.y.z; pintalk_refresh_token=")),
            (COOKIE, HeaderValue::from_static("pintalk_refresh_token=\"u.v.w\"; other=1")),
        ];
        assert_eq!(refresh_tokens(&headers.into_iter().collect()), ["x.y.z", "u.v.w"]);
    }
}
