//! Endpoints for logins, passwords and account states (SPEC 2): login, token refresh, logout, password change and
//! reset, deactivation and restoration.

use http::StatusCode;
use warp::reply::Response;

use crate::accounts::limits::Trial;
use crate::accounts::metrics::LoginOutcome;
use crate::accounts::{AuthError, LoginError, PasswordChangeError, RecoveryKind, Source};
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
    let device = app.accounts.device_of(&asked.email, &cookie::refresh_tokens(&request.headers, &app.settings)).await;
    let trial = attempt.at(&asked.email, device.as_deref()).await?;
    let source = Source::new(request.client, device.is_some());
    let outcome = app.accounts.login_from(source, &asked.email, &asked.password).await;
    if !matches!(outcome, Err(LoginError::WrongCredentials)) {
        trial.passed().await;
    }
    app.login_metrics.logins.get(LoginOutcome::from(&outcome)).increment(1);
    let login = outcome?;
    let body = LoggedIn { user: User::new(&login.host, &app.settings.public_url), access_token: &login.tokens.access };
    let mut response = reply::json(StatusCode::OK, &body);
    cookie::set(&mut response, &login.tokens.refresh, &app.settings);
    Ok(response)
}

/// Exchanges a refresh token for new tokens. Without a valid cookie, returns 401 and clears the cookie. If the request
/// contains several refresh cookies, clears none, because another site on the same domain may have set one of them.
pub(super) async fn refresh_token(app: &HttpContext, request: &Request) -> Result<Response, ApiError> {
    let tokens = cookie::refresh_tokens(&request.headers, &app.settings);
    let mut response = match app.accounts.refresh_one_of(&tokens).await {
        Ok(tokens) => {
            let mut response = reply::json(StatusCode::CREATED, &Refreshed::new(&tokens.access));
            cookie::set(&mut response, &tokens.refresh, &app.settings);
            return Ok(response);
        }
        Err(AuthError::Fault(fault)) => return Err(fault.into()),
        Err(error) => ApiError::from(error).into_response(),
    };
    if tokens.len() <= 1 {
        cookie::clear(&mut response, &app.settings);
    }
    Ok(response)
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
    // Password attempts with an access token are limited like logins, because the token may be stolen. Failed attempts
    // from other devices are not counted here, because this device is logged in to the account.
    let trial = attempt.at(&caller.host.email, Some(&caller.sid)).await?;
    let changed = app.accounts.change_password(caller.host.id, &caller.sid, &asked.current, &asked.new).await;
    let host = unless_wrong(trial, changed).await?;
    Ok(reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url)))
}

pub(super) async fn leave(app: &HttpContext, request: &mut Request) -> Result<Response, ApiError> {
    let caller = callers::host(app, request).await?;
    let attempt = app.limits.login(request.client).await?;
    let asked = LeaveRequest::read(&request.json().await?)?;
    let trial = attempt.at(&caller.host.email, Some(&caller.sid)).await?;
    let host = unless_wrong(trial, app.accounts.leave(caller.host.id, &asked.password).await).await?;
    let mut response = reply::json(StatusCode::OK, &User::new(&host, &app.settings.public_url));
    cookie::clear(&mut response, &app.settings);
    Ok(response)
}

/// Refunds the counted attempt unless the password was wrong.
async fn unless_wrong<T>(trial: Trial<'_>, outcome: Result<T, PasswordChangeError>) -> Result<T, PasswordChangeError> {
    if !matches!(outcome, Err(PasswordChangeError::WrongPassword)) {
        trial.passed().await;
    }
    outcome
}

/// Requests a temporary password. The response is the same for every e-mail address (SPEC 2). Requests are counted per
/// client address, not per e-mail address, so that other clients cannot block the owner of the mailbox.
pub(super) async fn mail_password(
    app: &HttpContext,
    request: &mut Request,
    recovery: RecoveryKind,
) -> Result<Response, ApiError> {
    let asked = EmailRequest::read(&request.json().await?)?;
    app.limits.mail_from(request.client).await?;
    app.accounts.mail_password(&asked.email, recovery, sign_up::language(request)).await?;
    let detail = "If there is such an account, a temporary password was sent to its address.";
    Ok(reply::json(StatusCode::OK, &Detail { detail }))
}
