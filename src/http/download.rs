//! Sends a room's conversation as a file (SPEC 3, `download`).

use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use sync_wrapper::SyncStream;
use warp::Reply as _;
use warp::reply::Response;

use crate::chat::rooms::RoomError;
use crate::domain::ChatroomId;
use crate::protocol::transcript::Names;

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers};

/// Streams the conversation, so that memory use does not depend on its length. If a store fails during the download,
/// aborts the connection, so that clients detect the truncated file.
pub(super) async fn download(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let room = app.rooms.owned(caller.host.id, ChatroomId(id)).await?;
    let names = Names { host: caller.host.profile_name.clone(), guest: room.guest.clone() };
    let disposition = HeaderValue::try_from(names.disposition(&app.rooms.wall_clock())).map_err(|error| {
        tracing::error!(%error, "failed to encode file name as header");
        ApiError::Internal
    })?;

    let mut parts = Box::pin(app.rooms.conversation(&room));
    // The first part is read before the response starts, so that a failure of this read results in an error response.
    let first = parts.try_next().await?.unwrap_or_default();
    let rest =
        parts.inspect_err(|error| tracing::warn!(%error, "failed to read messages during download, aborting response"));
    let text =
        futures_util::stream::once(async move { Ok::<_, RoomError>(first) }).chain(rest).map_ok(move |messages| {
            let mut text = String::new();
            messages.iter().for_each(|message| names.write(message, &mut text));
            text
        });
    let mut response = warp::reply::stream(SyncStream::new(text.boxed())).into_response();
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply::PLAIN_TEXT));
    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
    Ok(response)
}
