//! Log in, refresh, log out; passwords that change or are forgotten; accounts that end and come back (SPEC 2).

use http::StatusCode;
use warp::reply::Response;

use crate::accounts::{AuthError, Forgotten, LoginError, Tokens};
use crate::protocol::api::{
    Detail, EmailRequest, LeaveRequest, LoggedIn, LoginRequest, PasswordChangeRequest, Refreshed, RequestBody as _,
    User,
};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers, cookie, sign_up};

pub(super) async fn log_in(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    let attempt = app.limits.login(request.client).await?;
    let asked = LoginRequest::read(&request.json().await?)?;
    attempt.at(&asked.email).await?;
    let outcome = app.accounts.login(&asked.email, &asked.password).await;
    let outcome_label = match &outcome {
        Ok(_) => "ok",
        Err(LoginError::WrongCredentials) => "wrong",
        Err(LoginError::Deactivated) => "deactivated",
        Err(LoginError::Fault(_)) => "failed",
    };
    metrics::counter!(crate::metric::LOGINS, "outcome" => outcome_label).increment(1);
    let login = outcome?;
    let body = LoggedIn { user: User::new(&login.host, &app.settings.public_url), access_token: &login.tokens.access };
    let mut response = reply::json(StatusCode::OK, &body);
    cookie::set(&mut response, &login.tokens.refresh, &app.settings);
    Ok(response)
}

/// A cookie that is dead, or no cookie, is 401 and the cookie goes.
pub(super) async fn refresh_token(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let mut response = match refresh(app, request).await {
        Ok(tokens) => {
            let mut response = reply::json(StatusCode::CREATED, &Refreshed::new(&tokens.access));
            cookie::set(&mut response, &tokens.refresh, &app.settings);
            return Ok(response);
        }
        Err(AuthError::Fault(fault)) => return Err(fault.into()),
        Err(error) => ApiError::from(error).into_response(),
    };
    cookie::clear(&mut response, &app.settings);
    Ok(response)
}

async fn refresh(app: &HttpContext, request: &Request) -> Result<Tokens, AuthError> {
    let mut outcome = Err(AuthError::Invalid);
    // With cookies of two domains, one may be a stranger's: the first that is ours decides.
    for token in cookie::refresh_tokens(&request.headers) {
        outcome = app.accounts.refresh(token).await;
        if !matches!(outcome, Err(AuthError::Invalid | AuthError::Expired)) {
            break;
        }
    }
    outcome
}

pub(super) async fn log_out(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    app.accounts.logout(&caller.sid).await?;
    let mut response = reply::empty(StatusCode::NO_CONTENT);
    cookie::clear(&mut response, &app.settings);
    Ok(response)
}

pub(super) async fn change_password(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let attempt = app.limits.login(request.client).await?;
    let asked = PasswordChangeRequest::read(&request.json().await?)?;
    // Whoever has got hold of a token does not guess the password more often here than by logging in.
    attempt.at(&caller.host.email).await?;
    let host = app.accounts.change_password(caller.host.id, &caller.sid, &asked.current, &asked.new).await?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}

pub(super) async fn leave(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let attempt = app.limits.login(request.client).await?;
    let asked = LeaveRequest::read(&request.json().await?)?;
    attempt.at(&caller.host.email).await?;
    let host = app.accounts.leave(caller.host.id, &asked.password).await?;
    app.hosts.forget(host.id);
    let mut response = reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url));
    cookie::clear(&mut response, &app.settings);
    Ok(response)
}

/// The same answer whatever the address (SPEC 2).
pub(super) async fn mail_password(
    app: &HttpContext,
    request: &mut Request,
    forgotten: Forgotten,
) -> Result<Response, ApiError> {
    let asked = EmailRequest::read(&request.json().await?)?;
    app.limits.mail(request.client, &asked.email).await?;
    app.accounts.mail_password(&asked.email, forgotten, sign_up::language(request)).await?;
    let detail = "If there is such an account, a temporary password is on its way to its address.";
    Ok(reply::json(StatusCode::OK, &Detail { detail }))
}
