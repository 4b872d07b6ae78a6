//! Endpoints for the profiles of hosts. Hosts and their guests use them (SPEC 2).

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use warp::reply::Response;

use crate::protocol::api::{Client, Configs, ConfigsPatch, ProfilePatch, RequestBody as _, User};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers, multipart};

pub(super) async fn show_client(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let host = callers::guest_side(app, request).await?;
    Ok(reply::json(StatusCode::OK, &Client::new(&host, &app.settings.public_url)))
}

pub(super) async fn show_user(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let host = app.accounts.read_host(caller.host.id).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}

pub(super) async fn patch_user(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    // The upload permit is held until the call ends, because it limits the number of uploads in memory.
    let _place;
    let form = if multipart::is_multipart(request) {
        _place = app.profiles.images().try_upload(caller.host.id, request.client)?;
        multipart::read(request).await?
    } else {
        let fields = request.json().await?;
        let is_null = |name| fields.get(name).is_some_and(Value::is_null);
        let image = (is_null("profileImage") || is_null("profile_image")).then(Bytes::new);
        multipart::Form { image, fields }
    };
    let patch = ProfilePatch::read(&form.fields)?;
    // All fields are validated before any is changed.
    let picture = match form.image {
        Some(upload) if !upload.is_empty() => Some(Some(app.profiles.images().prepare(upload).await?)),
        // An empty upload removes the image.
        Some(_) => Some(None),
        None => None,
    };
    let host = app.profiles.change(caller.host.id, patch, picture).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}

pub(super) async fn patch_configs(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let patch = ConfigsPatch::read(&request.json().await?)?;
    let config = app.accounts.change_config(caller.host.id, patch).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &Configs::from(config)))
}
