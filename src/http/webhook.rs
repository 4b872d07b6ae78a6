//! Endpoints for the webhook of a host. The webhook sends the events of the host's rooms to a system of the host.

use http::StatusCode;
use warp::reply::Response;

use crate::accounts::Fault;
use crate::outbound::webhooks::{HostWebhook, RecordedEvent, WebhookChange};
use crate::protocol::api::{
    RequestBody as _, Webhook, WebhookDeliveries, WebhookDelivery, WebhookRequest, WebhookSecretRequest, WebhookTest,
};

use super::reply::{self, ApiError};
use super::request::Request;
use super::{HttpContext, callers};

pub(super) async fn show(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let webhook = app.webhooks.show(caller.host.id).await.map_err(Fault::from)?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &shown(&webhook, false)))
}

pub(super) async fn set(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let WebhookRequest { url, events, enabled } = WebhookRequest::read(&request.json().await?)?;
    let change = WebhookChange { url, events, is_enabled: enabled };
    let (webhook, is_new) = app.webhooks.set(caller.host.id, change).await?;
    app.accounts.host_changed(caller.host.id).await;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply::json(status, &shown(&webhook, is_new)))
}

pub(super) async fn delete(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    if app.webhooks.delete(caller.host.id).await.map_err(Fault::from)? {
        Ok(reply::empty(StatusCode::NO_CONTENT))
    } else {
        Err(ApiError::NotFound)
    }
}

pub(super) async fn rotate_secret(app: &HttpContext, request: &mut Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let asked = WebhookSecretRequest::read(&request.json().await?)?;
    let webhook =
        app.webhooks.rotate(caller.host.id, asked.revoke_old).await.map_err(Fault::from)?.ok_or(ApiError::NotFound)?;
    Ok(reply::json(StatusCode::OK, &shown(&webhook, true)))
}

pub(super) async fn test(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    app.limits.webhook_test(caller.host.id).await?;
    let attempt = app.webhooks.test(caller.host.id).await.map_err(Fault::from)?.ok_or(ApiError::NotFound)?;
    let answer = WebhookTest {
        delivered: attempt.problem.is_none(),
        status: attempt.status,
        milliseconds: attempt.millis,
        problem: attempt.problem.as_deref(),
    };
    Ok(reply::json(StatusCode::OK, &answer))
}

pub(super) async fn list_deliveries(app: &HttpContext, request: &Request, id: i64) -> Result<Response, ApiError> {
    let caller = callers::account_owner(app, request, id).await?;
    let events = app.webhooks.recent(caller.host.id).await.map_err(Fault::from)?;
    Ok(reply::json(StatusCode::OK, &WebhookDeliveries { results: events.iter().map(delivery).collect() }))
}

/// Returns the response body for a webhook. `with_secret` adds the secret; only the calls that create a secret set it.
fn shown(webhook: &HostWebhook, with_secret: bool) -> Webhook<'_> {
    Webhook {
        url: &webhook.url,
        events: webhook.events.iter().map(|kind| kind.as_str()).collect(),
        enabled: webhook.is_enabled,
        gone_at: webhook.gone_at,
        secret: with_secret.then_some(webhook.secret.as_str()),
        old_secret_ends_at: webhook.old_secret.as_ref().map(|(_, ends_at)| *ends_at),
        created_at: webhook.created_at,
        updated_at: webhook.updated_at,
    }
}

fn delivery(event: &RecordedEvent) -> WebhookDelivery<'_> {
    WebhookDelivery {
        id: &event.event_id,
        kind: &event.kind,
        chatroom: event.chatroom,
        state: event.state.as_str(),
        attempts: event.attempts,
        created_at: event.created_at,
        tried_at: event.tried_at,
        due_at: event.due_at,
        status: event.status,
        milliseconds: event.millis,
        problem: event.problem.as_deref(),
    }
}
