//! What a host sees of himself, and guests of him (SPEC 2).

use http::StatusCode;
use warp::reply::Response;

use crate::control::Control;
use crate::domain::HostConfig;
use crate::protocol::api::{Client, Configs, ConfigsPatch, User};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers};

pub(super) async fn show_client(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let host = callers::guest_side(app, request).await?;
    Ok(reply::json(StatusCode::OK, &Client::from(&*host)))
}

pub(super) async fn show_user(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::that_host(app, request, id).await?;
    // Not from the cache: he may have changed something on another node a moment ago.
    let host = app.store.host(caller.host.id).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &User::from(&host)))
}

pub(super) async fn patch_configs(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::that_host(app, request, id).await?;
    let patch = ConfigsPatch::read(&request.json().await?)?;
    let host = app.store.host(caller.host.id).await?.ok_or(ApiError::NotFound)?;
    let config = HostConfig { use_online_status: patch.use_online_status.unwrap_or(host.config.use_online_status) };
    if config != host.config {
        app.store.set_config(host.id, config).await?;
        app.hosts.forget(host.id);
        (app.announce)(Control::ConfigChanged { host: host.id }).await;
    }
    Ok(reply::json(StatusCode::OK, &Configs::from(config)))
}
