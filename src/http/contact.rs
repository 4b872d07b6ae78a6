//! Endpoints for the e-mail addresses of guests (SPEC 8). The widget sets an address. E-mails link to the pages on
//! which guests consent and unsubscribe.

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, ORIGIN, REFERRER_POLICY};
use http::{HeaderValue, StatusCode};
use minijinja::Environment;
use serde::Serialize;
use warp::reply::Response;

use crate::accounts::{Fault, is_email};
use crate::domain::RoomName;
use crate::outbound::contacts::ConsentPair;
use crate::outbound::mail::Language;
use crate::outbound::notifications::service_domain;
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
    // A visitor can cause e-mails to any address, so calls from browsers are subject to the same limits as other calls
    // that send e-mail. A server sends calls for many guests, so the limits of guest-side calls replace the limit on
    // e-mails per client address.
    if request.headers.contains_key(ORIGIN) {
        app.limits.mail(request.client, &asked.email).await?;
    } else {
        callers::count(app, &host, request).await?;
        app.limits.mailbox(&asked.email).await?;
    }
    let name = room.ok_or(ApiError::NotFound)?;
    app.rooms.set_contact(host.id, name, &asked.email, sign_up::language(request)).await?;
    Ok(reply::json(StatusCode::OK, &Email { email: &asked.email }))
}

/// Returns the page that asks for consent. GET changes nothing, because link scanners open the links in e-mails.
pub(super) async fn ask_consent(app: &HttpContext, token: &str, request: &Request) -> Result<Response, ApiError> {
    let pair = app.contacts.read_consent(token).ok_or(ApiError::NotFound)?;
    let domain = domain_of(app, &pair).await?;
    page(&match sign_up::language(request) {
        language @ Language::Korean => Texts {
            title: "메일 수신 동의",
            text: format!(
                "{domain} 채팅의 답변을 메일로 받으시겠습니까? 메일에 있는 링크로 언제든지 그만둘 수 있습니다."
            ),
            button: "메일로 받기",
            ..Texts::of(language)
        },
        language @ Language::English => Texts {
            title: "Answers by e-mail",
            text: format!(
                "Do you want answers from the chat on {domain} by e-mail? The link in each e-mail ends this at any time."
            ),
            button: "Yes, send me e-mail",
            ..Texts::of(language)
        },
    })
}

/// Records consent. The button on the consent page sends this call.
pub(super) async fn consent(app: &HttpContext, token: &str, request: &Request) -> Result<Response, ApiError> {
    let pair = app.contacts.read_consent(token).ok_or(ApiError::NotFound)?;
    let domain = domain_of(app, &pair).await?;
    app.contacts.consent(&pair).await.map_err(Fault::from)?;
    page(&match sign_up::language(request) {
        language @ Language::Korean => Texts {
            title: "메일 수신 동의",
            text: format!("이제 {domain} 채팅의 답변을 메일로 보내 드립니다."),
            ..Texts::of(language)
        },
        language @ Language::English => Texts {
            title: "Answers by e-mail",
            text: format!("You get answers from the chat on {domain} by e-mail from now on."),
            ..Texts::of(language)
        },
    })
}

/// Returns the domain of the host's service. If the service has no domain, returns `public-url`.
async fn domain_of(app: &HttpContext, pair: &ConsentPair) -> Result<String, ApiError> {
    let host = app.accounts.read_host(pair.host).await?.filter(|host| !host.is_deleted).ok_or(ApiError::NotFound)?;
    Ok(service_domain(host.service_domain.as_deref()).unwrap_or_else(|| app.settings.public_url.clone()))
}

/// Returns the page that asks to confirm unsubscribing. GET changes nothing, because link scanners open the links in
/// e-mails.
pub(super) fn ask_unsubscribe(app: &HttpContext, token: &str, request: &Request) -> Result<Response, ApiError> {
    app.contacts.read_unsubscribe(token).ok_or(ApiError::NotFound)?;
    page(&match sign_up::language(request) {
        language @ Language::Korean => Texts {
            title: "메일 수신 거부",
            text: "이 서비스의 채팅에 대한 메일을 더 이상 받지 않으시겠습니까?".to_owned(),
            button: "수신 거부",
            ..Texts::of(language)
        },
        language @ Language::English => Texts {
            title: "Unsubscribe",
            text: "No more e-mails about your conversations with this service?".to_owned(),
            button: "Unsubscribe",
            ..Texts::of(language)
        },
    })
}

/// Unsubscribes a guest. The button on the page sends this call, and so do mail clients (RFC 8058), which send no
/// cookies and follow no redirects.
pub(super) async fn unsubscribe(app: &HttpContext, token: &str, request: &Request) -> Result<Response, ApiError> {
    let asked = app.contacts.read_unsubscribe(token).ok_or(ApiError::NotFound)?;
    let pair = app.contacts.unsubscribe(&asked).await.map_err(Fault::from)?;
    let link = pair.and_then(|pair| app.contacts.consent_link(&pair)).unwrap_or_default();
    page(&match sign_up::language(request) {
        language @ Language::Korean => Texts {
            title: "메일 수신 거부",
            text: "이 서비스의 채팅에 대한 메일을 더 이상 보내지 않습니다.".to_owned(),
            link,
            link_text: "다시 받기",
            ..Texts::of(language)
        },
        language @ Language::English => Texts {
            title: "Unsubscribe",
            text: "You get no more e-mails about your conversations with this service.".to_owned(),
            link,
            link_text: "Get them again",
            ..Texts::of(language)
        },
    })
}

/// `Content-Security-Policy` of the pages: a page loads nothing, runs no script and can send its form only to this
/// server. The `Referrer-Policy` of the page keeps its URL, which is secret, out of `Referer`.
const POLICY: &str = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Texts of a consent or unsubscribe page. An empty string omits the element.
#[derive(Serialize)]
struct Texts {
    language: &'static str,
    title: &'static str,
    text: String,
    button: &'static str,
    link: String,
    link_text: &'static str,
}

impl Texts {
    fn of(language: Language) -> Self {
        Self {
            language: language.code(),
            title: "",
            text: String::new(),
            button: "",
            link: String::new(),
            link_text: "",
        }
    }
}

fn page(texts: &Texts) -> Result<Response, ApiError> {
    // minijinja escapes HTML if the template name ends in `.html`.
    let html = Environment::new().render_named_str("contact.html", include_str!("contact.html"), texts);
    let html = html.map_err(|error| {
        tracing::error!(%error, "failed to render contact page");
        ApiError::Internal
    })?;
    let mut response = reply::text(StatusCode::OK, "text/html; charset=utf-8", Bytes::from(html));
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}
