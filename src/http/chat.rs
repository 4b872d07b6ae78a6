//! Endpoints for chatrooms, which guests create and hosts manage (SPEC 3).

use http::StatusCode;
use warp::reply::Response;

use crate::chat::rooms::{RoomFilter, RoomView};
use crate::domain::ChatroomId;
use crate::protocol::api::{ChatMessage, Chatroom, ChatroomDetail, ChatroomPatch, ClientChatroom, RequestBody as _};

use super::paging::Cut;
use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers};

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Maximum length of a search string in characters. Nicknames are much shorter.
pub(super) const MAX_SEARCH_CHARS: usize = 100;

pub(super) async fn open_room(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let host = callers::guest_side(app, request).await?;
    let key = idempotency_key(request)?;
    callers::count(app, &host, request).await?;
    let room = app.rooms.open(&host, key).await?;
    Ok(reply::json(StatusCode::CREATED, &ClientChatroom::new(&room, &host, &app.settings.public_url)))
}

fn idempotency_key(request: &Request) -> Result<Option<String>, ApiError> {
    let Some(value) = request.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (16..=64).contains(&key.len()) && !key.contains('\t') => Ok(Some(key.to_owned())),
        _ => Err(ApiError::field(IDEMPOTENCY_KEY, "needs 16 to 64 printable ASCII characters")),
    }
}

pub(super) async fn list_rooms(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let cut = Cut::by_page(request)?;
    let search = request.parameter(&["search"]);
    if search.as_ref().is_some_and(|search| search.chars().count() > MAX_SEARCH_CHARS) {
        return Err(ApiError::field("search", "may have at most 100 characters"));
    }
    let is_closed = flag(request, &["is_closed", "isClosed"], "is_closed")?;
    let mut filters = Vec::new();
    filters.extend(search.clone().map(|search| ("search", search)));
    filters.extend(is_closed.map(|closed| ("is_closed", closed.to_string())));

    let filter = RoomFilter { search, is_closed };
    let (count, views) = app.rooms.list(caller.host.id, filter, cut.offset(), cut.limit()).await?;
    let url = format!("{}/api/chat/chatrooms/", app.settings.public_url);
    let page = cut.envelope(&url, &filters, count, views.iter().map(chatroom).collect())?;
    Ok(reply::json(StatusCode::OK, &page))
}

pub(super) async fn show_room(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let room = app.rooms.owned(caller.host.id, ChatroomId(id)).await?;
    let RoomView { room, .. } = app.rooms.view(room).await?;
    let shown = ClientChatroom::new(&room, &caller.host, &app.settings.public_url);
    let detail = ChatroomDetail { id: room.id, room: shown };
    Ok(reply::json(StatusCode::OK, &detail))
}

pub(super) async fn patch_room(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let patch = ChatroomPatch::read(&request.json().await?)?;
    let (host, id) = (caller.host.id, ChatroomId(id));
    let view = match patch {
        ChatroomPatch::Pin(pinned) => app.rooms.pin(host, id, pinned).await?,
        ChatroomPatch::Close => app.rooms.close(host, id).await?,
    };
    Ok(reply::json(StatusCode::OK, &chatroom(&view)))
}

pub(super) async fn restore_room(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let view = app.rooms.restore(caller.host.id, ChatroomId(id)).await?;
    Ok(reply::json(StatusCode::OK, &chatroom(&view)))
}

pub(super) async fn delete_room(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    app.rooms.delete(caller.host.id, ChatroomId(id)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn list_messages(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let cut = Cut::by_offset(request)?;
    let room = app.rooms.owned(caller.host.id, ChatroomId(id)).await?;
    let (count, messages) = app.rooms.messages(&room, cut.offset(), cut.limit()).await?;
    let url = format!("{}/api/chat/chatrooms/{id}/chat-messages/", app.settings.public_url);
    let page = cut.envelope(&url, &[], count, messages.iter().map(ChatMessage::from).collect())?;
    Ok(reply::json(StatusCode::OK, &page))
}

fn chatroom(view: &RoomView) -> Chatroom<'_> {
    Chatroom::new(&view.room, view.unread, view.guest_online)
}

fn flag(request: &Request, names: &[&str], field: &'static str) -> Result<Option<bool>, ApiError> {
    let Some(text) = request.parameter(names) else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(ApiError::field(field, "must be true or false")),
    }
}
