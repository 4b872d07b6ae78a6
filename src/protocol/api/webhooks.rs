//! Request and response bodies for a host's webhook.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{instant, maybe_instant};
use super::fields::Fields;
use super::requests::RequestBody;
use crate::domain::{ChatroomId, EventKind, EventKinds};

/// Body of `PUT /api/users/<id>/webhook/`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct WebhookRequest {
    /// URL that receives the events. Must be `https` unless the operator allows other URLs.
    #[schema(pattern = r"\S", max_length = 2000, examples("https://shop.example/hooks/pintalk"))]
    pub url: String,
    /// Events to send: `room.created`, `message.created`, `room.closed`. All of them if absent.
    #[schema(value_type = Vec<String>, required = false, min_items = 1, examples(json!(["room.created", "message.created"])))]
    pub events: EventKinds,
    /// Whether events are sent. True if absent.
    #[schema(value_type = Option<bool>)]
    pub enabled: bool,
}

impl RequestBody for WebhookRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        let names = fields.texts("events");
        let kinds = names.map(|names| names.iter().map(|name| name.parse::<EventKind>()).collect::<Vec<_>>());
        let events = match kinds {
            None => EventKinds::ALL,
            Some(kinds) => {
                if kinds.is_empty() || kinds.iter().any(Result::is_err) {
                    fields.wrong("events", "must be one or more of room.created, message.created, room.closed");
                }
                kinds.into_iter().flatten().collect()
            }
        };
        Self { url: fields.text("url").trim().to_owned(), events, enabled: fields.flag("enabled").unwrap_or(true) }
    }
}

/// Body of `POST /api/users/<id>/webhook/secret/`. The body is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct WebhookSecretRequest {
    /// Whether the previous secret is revoked at once. By default, events are signed with both secrets for 24 hours.
    #[schema(value_type = Option<bool>)]
    pub revoke_old: bool,
}

impl RequestBody for WebhookSecretRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { revoke_old: fields.flag("revokeOld").unwrap_or(false) }
    }
}

/// Webhook of a host.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook<'a> {
    /// URL that receives the events.
    pub url: &'a str,
    /// Events that are sent.
    pub events: Vec<&'static str>,
    /// Whether events are sent.
    pub enabled: bool,
    /// When the receiver answered 410, which disabled the webhook.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub gone_at: Option<DateTime<Utc>>,
    /// Secret that signs the events. Returned only by the call that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^whsec_")]
    pub secret: Option<&'a str>,
    /// When events stop being signed with the previous secret as well.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub old_secret_ends_at: Option<DateTime<Utc>>,
    /// Time of creation.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// Time of the host's last change.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
}

/// Result of a test event.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookTest<'a> {
    /// Whether the receiver answered 2xx.
    pub delivered: bool,
    /// HTTP status of the response; `null` if there was none.
    #[schema(required)]
    pub status: Option<u16>,
    /// Duration of the request, in milliseconds.
    pub milliseconds: u64,
    /// Reason for the failure; `null` if the event was delivered.
    #[schema(required)]
    pub problem: Option<&'a str>,
}

/// State of a recorded event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDelivery<'a> {
    /// Id of the event, sent as `webhook-id`.
    pub id: &'a str,
    /// Kind of the event.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Integer id of the room.
    #[schema(value_type = i64)]
    pub chatroom: ChatroomId,
    /// `waiting`, `delivered`, or `failed` (no further attempts).
    pub state: &'static str,
    /// Number of delivery attempts.
    pub attempts: u32,
    /// When the event occurred.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// Time of the last attempt.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub tried_at: Option<DateTime<Utc>>,
    /// Time of the next attempt.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub due_at: Option<DateTime<Utc>>,
    /// HTTP status of the last response.
    #[schema(required)]
    pub status: Option<u16>,
    /// Duration of the last attempt, in milliseconds.
    #[schema(required)]
    pub milliseconds: Option<u64>,
    /// Reason for the failure of the last attempt.
    #[schema(required)]
    pub problem: Option<&'a str>,
}

/// Most recent events of a host, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDeliveries<'a> {
    /// Events, newest first.
    pub results: Vec<WebhookDelivery<'a>>,
}
