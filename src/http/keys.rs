//! Endpoint with which hosts replace the keys of their service (an addition to SPEC 2).

use http::StatusCode;
use warp::reply::Response;

use crate::protocol::api::{KeysRequest, RequestBody as _, User};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers};

pub(super) async fn rotate_keys(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let asked = KeysRequest::read(&request.json().await?)?;
    let host = app.accounts.rotate_keys(caller.host.id, asked.revoke_old).await?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}
