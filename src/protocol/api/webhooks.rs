//! What is asked and answered about a host's webhook.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::answers::{instant, maybe_instant};
use super::fields::Fields;
use super::requests::RequestBody;
use crate::domain::{ChatroomId, EventKind, EventKinds};

/// `PUT /api/users/<id>/webhook/`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct WebhookRequest {
    /// Where events are sent: `https`, unless the operator allows otherwise.
    #[schema(pattern = r"\S", max_length = 2000, examples("https://shop.example/hooks/pintalk"))]
    pub url: String,
    /// Which events are sent: `room.created`, `message.created`, `room.closed`. Left out, all of them.
    #[schema(value_type = Vec<String>, required = false, min_items = 1, examples(json!(["room.created", "message.created"])))]
    pub events: EventKinds,
    /// Whether any are sent. Left out, they are.
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
                    fields.wrong("events", "must be some of room.created, message.created, room.closed");
                }
                kinds.into_iter().flatten().collect()
            }
        };
        Self { url: fields.text("url").trim().to_owned(), events, enabled: fields.flag("enabled").unwrap_or(true) }
    }
}

/// `POST /api/users/<id>/webhook/secret/`. The body may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct WebhookSecretRequest {
    /// Whether the secret until now ends at once. Else events are signed with both for a day.
    #[schema(value_type = Option<bool>)]
    pub revoke_old: bool,
}

impl RequestBody for WebhookSecretRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { revoke_old: fields.flag("revokeOld").unwrap_or(false) }
    }
}

/// A host's webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook<'a> {
    /// Where events are sent.
    pub url: &'a str,
    /// Which.
    pub events: Vec<&'static str>,
    /// Whether any are sent.
    pub enabled: bool,
    /// When its receiver answered 410, which switched it off.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub gone_at: Option<DateTime<Utc>>,
    /// What events are signed with: shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^whsec_")]
    pub secret: Option<&'a str>,
    /// Until when they are signed with the secret before, too.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub old_secret_ends_at: Option<DateTime<Utc>>,
    /// Since when there is one.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// When its host last changed it.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
}

/// What became of an event that tests a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookTest<'a> {
    /// Whether the receiver answered 2xx.
    pub delivered: bool,
    /// What it answered.
    #[schema(required)]
    pub status: Option<u16>,
    /// How long that took.
    pub milliseconds: u64,
    /// Why it did not arrive.
    #[schema(required)]
    pub problem: Option<&'a str>,
}

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDelivery<'a> {
    /// `webhook-id` of the event.
    pub id: &'a str,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// In which room.
    #[schema(value_type = i64)]
    pub chatroom: ChatroomId,
    /// `waiting`, `delivered` or `failed`, which means given up.
    pub state: &'static str,
    /// How often it was sent.
    pub attempts: u32,
    /// When it happened.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// When it was last sent.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub tried_at: Option<DateTime<Utc>>,
    /// When it is sent next.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub due_at: Option<DateTime<Utc>>,
    /// What the receiver last answered.
    #[schema(required)]
    pub status: Option<u16>,
    /// How long that took.
    #[schema(required)]
    pub milliseconds: Option<u64>,
    /// Why it did not arrive.
    #[schema(required)]
    pub problem: Option<&'a str>,
}

/// The newest events of a host, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDeliveries<'a> {
    /// They.
    pub results: Vec<WebhookDelivery<'a>>,
}
