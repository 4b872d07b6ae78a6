//! Authenticates callers: services by their keys, hosts by their access tokens.

use std::sync::Arc;

use http::header::{AUTHORIZATION, ORIGIN};

use crate::domain::{Host, HostId, Origin};
use crate::protocol::api::FieldErrors;

use super::HttpContext;
use super::reply::ApiError;
use super::request::Request;

pub(super) const ACCESS_KEY: &str = "X-PinTalk-Access-Key";
pub(super) const SECRET_KEY: &str = "X-PinTalk-Secret-Key";

/// Authenticated host.
pub(super) struct AuthenticatedHost {
    pub host: Arc<Host>,
    /// Id of the login.
    pub sid: String,
}

/// Returns the host whose keys a guest-side call contains. If the call has an `Origin`, it must match the domains of
/// the host (SPEC 1).
pub(super) async fn guest_side(app: &HttpContext, request: &Request) -> Result<Arc<Host>, ApiError> {
    let headers = &request.headers;
    let missing: FieldErrors = [ACCESS_KEY, SECRET_KEY]
        .into_iter()
        .filter(|name| headers.get(*name).is_none_or(|key| key.is_empty()))
        .map(|name| (name, "This header is required.".to_owned()))
        .collect();
    if !missing.is_empty() {
        return Err(missing.into());
    }
    let key = |name: &str| headers.get(name).and_then(|key| key.to_str().ok());
    let unknown = || ApiError::Unauthorized { scheme: "PinTalkKeys", detail: "These keys are unknown." };
    let (access, secret) = key(ACCESS_KEY).zip(key(SECRET_KEY)).ok_or_else(unknown)?;
    // A malformed access key is rejected without a database query.
    if access.len() > 64 || !access.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(unknown());
    }
    let host = match app.accounts.cached_key_holder(access, secret).await {
        Some(host) => host,
        None => {
            // The attempt is counted before the database query. Calls with keys in the cache of this node are not
            // counted, so wrong keys from the same address do not block them.
            app.limits.unknown_keys(request.client)?;
            let host = app.accounts.key_holder(access, secret).await?.ok_or_else(unknown)?;
            app.limits.known_keys(request.client);
            host
        }
    };
    match headers.get(ORIGIN) {
        None => Ok(host),
        Some(origin) => {
            let origin = origin.to_str().ok().and_then(Origin::parse);
            if origin.is_some_and(|origin| origin.is_allowed(host.service_domain.as_deref())) {
                Ok(host)
            } else {
                Err(ApiError::Forbidden("The origin of this page is not registered for the service."))
            }
        }
    }
}

/// Counts a guest-side call that creates or changes something. A call with `Origin` is counted per client address. A
/// call without `Origin` comes from the host's server or from a client that omits the header. It is counted per client
/// address and also per host.
pub(super) async fn count(app: &HttpContext, host: &Host, request: &Request) -> Result<(), ApiError> {
    if request.headers.contains_key(ORIGIN) {
        app.limits.room(request.client).await?;
    } else {
        app.limits.room_of(host.id, request.client).await?;
    }
    Ok(())
}

/// Returns the host whose access token a call contains, and the id of the login.
pub(super) async fn host(app: &HttpContext, request: &Request) -> Result<AuthenticatedHost, ApiError> {
    let token = request
        .header(AUTHORIZATION)
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| ApiError::bearer("An access token is required."))?;
    let claims = app.accounts.authenticate(token).await?;
    let host = app.accounts.active_host(claims.host).await?;
    let host = host.ok_or_else(|| ApiError::bearer("This account does not exist or is deactivated."))?;
    Ok(AuthenticatedHost { host, sid: claims.sid })
}

/// Authenticates the caller as [`host`] does. Returns an error if the caller is not the host with the id `id` from the
/// path.
pub(super) async fn account_owner(
    app: &HttpContext,
    request: &Request,
    id: i64,
) -> Result<AuthenticatedHost, ApiError> {
    let caller = host(app, request).await?;
    if caller.host.id == HostId(id) { Ok(caller) } else { Err(ApiError::Forbidden("This is another host's account.")) }
}
