//! Profiles of hosts, as the hosts and their guests see them (SPEC 2).

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use warp::reply::Response;

use crate::domain::Control;
use crate::domain::HostConfig;
use crate::protocol::api::{Client, Configs, ConfigsPatch, ProfilePatch, RequestBody as _, User};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers, multipart};

pub(super) async fn show_client(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let host = callers::guest_side(app, request).await?;
    Ok(reply::json(StatusCode::OK, &Client::new(&host, &app.settings.public_url)))
}

pub(super) async fn show_user(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::that_host(app, request, id).await?;
    // Not from the cache, because the host may have just changed something on another node.
    let host = app.store.hosts().get(caller.host.id).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}

pub(super) async fn patch_user(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::that_host(app, request, id).await?;
    // Held until the end, to bound the number of uploads in memory.
    let _place;
    let form = if multipart::is_multipart(request) {
        _place = app.images.try_upload(caller.host.id, request.client)?;
        multipart::read(request).await?
    } else {
        let fields = request.json().await?;
        let is_null = |name| fields.get(name).is_some_and(Value::is_null);
        let image = (is_null("profileImage") || is_null("profile_image")).then(Bytes::new);
        multipart::Form { image, fields }
    };
    let patch = ProfilePatch::read(&form.fields)?;
    // Validates everything before anything changes.
    let picture = match form.image {
        Some(upload) if !upload.is_empty() => Some(Some(app.images.prepare(upload).await?)),
        // An empty upload removes the image.
        Some(_) => Some(None),
        None => None,
    };
    app.accounts.change_profile(caller.host.id, patch).await?.ok_or(ApiError::NotFound)?;
    if let Some(picture) = picture {
        app.images.replace(caller.host.id, picture).await?;
    }
    app.hosts.forget(caller.host.id);
    (app.announce)(Control::ConfigChanged { host: caller.host.id }).await;
    let host = app.store.hosts().get(caller.host.id).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}

pub(super) async fn patch_configs(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::that_host(app, request, id).await?;
    let patch = ConfigsPatch::read(&request.json().await?)?;
    let host = app.store.hosts().get(caller.host.id).await?.ok_or(ApiError::NotFound)?;
    let config = HostConfig {
        use_online_status: patch.use_online_status.unwrap_or(host.config.use_online_status),
        email_notifications: patch.email_notifications.unwrap_or(host.config.email_notifications),
    };
    if config != host.config {
        app.store.hosts().set_config(host.id, config).await?;
        app.hosts.forget(host.id);
        (app.announce)(Control::ConfigChanged { host: host.id }).await;
    }
    Ok(reply::json(StatusCode::OK, &Configs::from(config)))
}
