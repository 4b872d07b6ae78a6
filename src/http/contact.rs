//! A guest's address (SPEC 8): left by the widget, and taken back through the link in a mail.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};
use minijinja::{Environment, context};
use warp::reply::Response;

use crate::accounts::is_email;
use crate::domain::RoomName;
use crate::mail::Language;
use crate::protocol::api::{ContactRequest, Email, RequestBody as _};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers, sign_up};

pub(super) async fn set_contact(
    app: &HttpContext,
    request: &mut Request,
    room: Option<RoomName>,
) -> Result<Response, ApiError> {
    let host = callers::guest_side(app, request).await?;
    let asked = ContactRequest::read(&request.json().await?)?;
    if !is_email(&asked.email) {
        return Err(ApiError::field("email", "is not an e-mail address"));
    }
    // A visitor causes mails to whatever address he likes; a server, which calls for many, is known by its keys.
    if request.headers.contains_key(ORIGIN) {
        app.limits.mail(request.client, &asked.email).await?;
    } else {
        callers::count(app, &host, request).await?;
        app.limits.mailbox(&asked.email).await?;
    }
    let name = room.ok_or(ApiError::NotFound)?;
    let owner = app.rooms.owner(name).await?.ok_or(ApiError::NotFound)?;
    if owner.host != host.id {
        return Err(ApiError::Forbidden("This chatroom belongs to another service."));
    }
    if !app.contacts.set(owner.key, &asked.email, sign_up::language(request)).await? {
        return Err(ApiError::NotFound);
    }
    app.rooms.forget(name).await;
    Ok(reply::json(StatusCode::OK, &Email { email: &asked.email }))
}

/// Asks whether mails are to end. Programs that follow every link of a mail change nothing by it.
pub(super) fn ask(app: &HttpContext, token: &str, request: &Request) -> Result<Response, ApiError> {
    app.contacts.read(token).ok_or(ApiError::NotFound)?;
    page(request, false)
}

/// Ends them: the page's button, or a mail program's (RFC 8058), which sends no cookie and follows no redirect.
pub(super) async fn unsubscribe(app: &HttpContext, token: &str, request: &Request) -> Result<Response, ApiError> {
    let asked = app.contacts.read(token).ok_or(ApiError::NotFound)?;
    app.contacts.unsubscribe(&asked).await?;
    page(request, true)
}

/// Nothing is loaded, nothing runs, and the button leads nowhere else; the address of the page is a key, so it is told nobody.
const POLICY: &str = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn page(request: &Request, done: bool) -> Result<Response, ApiError> {
    let language = sign_up::language(request);
    let (title, text, button) = match (language, done) {
        (Language::Korean, false) => {
            ("메일 수신 거부", "이 대화에 대한 메일을 더 이상 받지 않으시겠습니까?", "수신 거부")
        }
        (Language::Korean, true) => ("메일 수신 거부", "이 대화에 대한 메일을 더 이상 보내지 않습니다.", ""),
        (Language::English, false) => ("Unsubscribe", "No more mails about this conversation?", "Unsubscribe"),
        (Language::English, true) => ("Unsubscribe", "There will be no more mails about this conversation.", ""),
    };
    let context = context! { language => language.code(), title, text, button };
    let html = Environment::new().render_str(include_str!("unsubscribe.html"), context);
    let html = html.map_err(|error| {
        tracing::error!(%error, "a page could not be written");
        ApiError::Internal
    })?;
    let mut response = reply::text(StatusCode::OK, "text/html; charset=utf-8", Bytes::from(html));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}
