//! Endpoints for the steps of a host's sign-up (SPEC 2). A cookie holds the state between the steps.

use http::StatusCode;
use http::header::ACCEPT_LANGUAGE;
use warp::reply::Response;

use crate::accounts::{NewAccount, SignUpError};
use crate::outbound::mail::Language;
use crate::protocol::api::{ConfirmationRequest, Detail, Email, EmailRequest, RequestBody as _, SignUpRequest, User};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, cookie};

pub(super) async fn check_email(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    require_open(app)?;
    app.limits.sign_up(request.client).await?;
    let asked = EmailRequest::read(&request.json().await?)?;
    let progress = app.accounts.check_email(&asked.email).await?;
    let mut response = reply::json(StatusCode::OK, &Email { email: &asked.email });
    cookie::set_sign_up(&mut response, &progress, &app.settings);
    Ok(response)
}

pub(super) async fn mail_code(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    require_open(app)?;
    let asked = EmailRequest::read(&request.json().await?)?;
    app.limits.mail(request.client, &asked.email).await?;
    let progress = cookie::sign_up(&request.headers);
    let progress = app.accounts.mail_code(&asked.email, progress, language(request)).await?;
    let mut response = reply::json(StatusCode::OK, &Detail { detail: "A code was sent to this address." });
    cookie::set_sign_up(&mut response, &progress, &app.settings);
    Ok(response)
}

pub(super) async fn confirm_email(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    require_open(app)?;
    app.limits.sign_up(request.client).await?;
    let asked = ConfirmationRequest::read(&request.json().await?)?;
    app.accounts.confirm_email(&asked.code, cookie::sign_up(&request.headers)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn sign_up(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    require_open(app)?;
    app.limits.sign_up(request.client).await?;
    let asked = SignUpRequest::read(&request.json().await?)?;
    let account = NewAccount {
        email: asked.email,
        password: asked.password,
        service_name: asked.service_name,
        service_expl: asked.service_expl,
        service_domain: asked.service_domain,
    };
    let host = app.accounts.sign_up(account, cookie::sign_up(&request.headers)).await?;
    let mut response = reply::json(StatusCode::CREATED, &User::new(&host, &app.settings.public_url));
    cookie::clear_sign_up(&mut response, &app.settings);
    Ok(response)
}

/// Returns an error if sign-up is closed.
fn require_open(app: &HttpContext) -> Result<(), ApiError> {
    if app.settings.is_sign_up_open {
        return Ok(());
    }
    Err(ApiError::Forbidden("Sign-up is closed on this server: ask its operator for an account."))
}

/// Returns the language of e-mails and pages for the caller, from `Accept-Language`.
pub(super) fn language(request: &Request) -> Language {
    Language::of(request.header(ACCEPT_LANGUAGE))
}

impl From<SignUpError> for ApiError {
    fn from(error: SignUpError) -> Self {
        match error {
            SignUpError::TooEarly(why) => Self::Unprocessable(why),
            SignUpError::WrongCode => Self::Conflict("The code is wrong."),
            SignUpError::Create(error) => error.into(),
        }
    }
}
