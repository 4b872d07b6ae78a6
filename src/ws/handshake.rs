//! Headers and parameters of a WebSocket handshake (RFC 6455, 4.2).

use http::header::{CONNECTION, HeaderName, HeaderValue, ORIGIN, UPGRADE};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use warp::reply::Response;

use crate::chat::session::{Handshake, wants_extras};
use crate::http::{ApiError, UpgradeRequest};
use crate::protocol::frame;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
pub(super) const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// Returns the value of `Sec-WebSocket-Accept` and the pending upgrade. Returns the error response if the request is
/// not a valid handshake.
pub(super) fn accept_upgrade(
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> Result<(HeaderValue, OnUpgrade), Box<Response>> {
    let no_handshake = || Box::new(ApiError::Malformed("This is a WebSocket: connect to it as one.").into_response());
    let on_upgrade = on_upgrade.ok_or_else(no_handshake)?;
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(no_handshake());
    }
    if headers.get(VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        let mut response = ApiError::Malformed("Only version 13 of WebSocket is spoken here.").into_response();
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let key =
        headers.get(KEY).and_then(|key| key.to_str().ok()).filter(|key| key.len() == 24).ok_or_else(no_handshake)?;
    let accept = HeaderValue::try_from(frame::accept_key(key)).map_err(|_| no_handshake())?;
    Ok((accept, on_upgrade))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Returns the value of a header that must occur once. Returns `None` if the header is absent, is repeated or is not
/// ASCII text.
fn only_one(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::to_owned),
        _ => None,
    }
}

pub(super) fn read_handshake(request: &UpgradeRequest) -> Handshake {
    let mut handshake = Handshake { origin: only_one(&request.headers, &ORIGIN), ..Handshake::default() };
    for (name, value) in url::form_urlencoded::parse(request.query.as_bytes()) {
        match &*name {
            "token" => handshake.token = Some(value.into_owned()),
            "after" => handshake.after = Some(value.into_owned()),
            "v" => handshake.extras = wants_extras(&value),
            _ => {}
        }
    }
    handshake
}
