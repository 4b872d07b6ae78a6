//! Response bodies.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::FieldErrors;
use crate::domain::{ChatroomId, Host, HostConfig, HostId, HostUuid, Message, Room, RoomName, Seq};

/// Body of every error response.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody<'a> {
    /// HTTP status code.
    pub code: u16,
    /// Human-readable sentence.
    pub detail: &'a str,
    /// Reason for each invalid field, by its camelCase name; only in validation errors.
    #[serde(skip_serializing_if = "FieldErrors::is_empty")]
    #[schema(value_type = Object, additional_properties = true)]
    pub fields: &'a FieldErrors,
}

/// Response that consists of one sentence.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Detail {
    /// Human-readable sentence.
    pub detail: &'static str,
}

/// Response that repeats the e-mail address of the request.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Email<'a> {
    /// E-mail address of the request.
    pub email: &'a str,
}

/// Registered user, as returned to that user.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User<'a> {
    /// Integer id of the user.
    #[schema(value_type = i64)]
    pub id: HostId,
    /// Login address.
    #[schema(value_type = String)]
    pub email: &'a str,
    /// Public identifier of the user, used in the path of the status socket.
    #[schema(value_type = String, min_length = 22, max_length = 22)]
    pub uuid: HostUuid,
    /// Display name shown to guests.
    pub profile_name: &'a str,
    /// Description shown to guests.
    pub description: &'a str,
    /// Value of `X-PinTalk-Access-Key` in guest-side calls.
    #[schema(min_length = 22, max_length = 22)]
    pub access_key: &'a str,
    /// Value of `X-PinTalk-Secret-Key` in guest-side calls.
    #[schema(min_length = 64, max_length = 64)]
    pub secret_key: &'a str,
    /// Name of the service.
    pub service_name: &'a str,
    /// Description of the service.
    pub service_expl: &'a str,
    /// Domains of the service: host names with optional ports, separated by commas. A leading `*.` matches any
    /// subdomain.
    #[schema(required)]
    pub service_domain: Option<&'a str>,
    /// Absolute URL of the profile image.
    #[schema(required)]
    pub profile_image: Option<String>,
    /// Whether the account is deactivated.
    pub is_deleted: bool,
    /// Time of the deactivation.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub deleted_at: Option<DateTime<Utc>>,
    /// Time of creation.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// Time of the last change.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
}

impl<'a> User<'a> {
    /// Builds the body for a host. `public_url` is the prefix of the profile image's URL.
    pub fn new(host: &'a Host, public_url: &str) -> Self {
        Self {
            id: host.id,
            email: &host.email,
            uuid: host.uuid,
            profile_name: &host.profile_name,
            description: &host.description,
            access_key: &host.access_key,
            secret_key: &host.secret_key,
            service_name: &host.service_name,
            service_expl: &host.service_expl,
            service_domain: host.service_domain.as_deref(),
            profile_image: image_url(host, public_url),
            is_deleted: host.is_deleted,
            deleted_at: host.deleted_at,
            created_at: host.created_at,
            updated_at: host.updated_at,
        }
    }
}

/// Returns the absolute URL of a host's profile image. Returns `None` if the host has no image.
fn image_url(host: &Host, public_url: &str) -> Option<String> {
    host.profile_image.as_ref().map(|key| format!("{public_url}/media/{key}"))
}

/// Response to a login: the fields of the user and an access token.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn<'a> {
    /// User who logged in.
    #[serde(flatten)]
    pub user: User<'a>,
    /// Access token for `Authorization: Bearer`.
    pub access_token: &'a str,
}

/// Response to a token refresh. The token appears under three names because clients read different ones.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refreshed<'a> {
    #[serde(rename = "accessToken")]
    access_token: &'a str,
    #[serde(rename = "access_token")]
    access_token_snake: &'a str,
    access: &'a str,
}

impl<'a> Refreshed<'a> {
    /// Builds the response for a new access token.
    pub fn new(token: &'a str) -> Self {
        Self { access_token: token, access_token_snake: token, access: token }
    }
}

/// Settings of a host.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configs {
    /// Whether guests are shown the host's online status.
    pub use_online_status: bool,
    /// Whether the host receives e-mail about messages that arrive while they are not in the room.
    pub email_notifications: bool,
}

impl From<HostConfig> for Configs {
    fn from(config: HostConfig) -> Self {
        Self { use_online_status: config.use_online_status, email_notifications: config.email_notifications }
    }
}

/// Settings of a host that guests may read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfigs {
    /// Whether guests are shown the host's online status.
    pub use_online_status: bool,
}

impl From<HostConfig> for ClientConfigs {
    fn from(config: HostConfig) -> Self {
        Self { use_online_status: config.use_online_status }
    }
}

/// Registered user, as returned to guests.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Client<'a> {
    /// Login address.
    #[schema(value_type = String)]
    pub email: &'a str,
    /// Public identifier of the host, used in the path of the status socket.
    #[schema(value_type = String, min_length = 22, max_length = 22)]
    pub uuid: HostUuid,
    /// Display name shown to guests.
    pub profile_name: &'a str,
    /// Description shown to guests.
    pub description: &'a str,
    /// Name of the service.
    pub service_name: &'a str,
    /// Absolute URL of the profile image.
    #[schema(required)]
    pub profile_image: Option<String>,
    /// Settings that concern guests.
    pub configs: ClientConfigs,
}

impl<'a> Client<'a> {
    /// Builds the body for a host. `public_url` is the prefix of the profile image's URL.
    pub fn new(host: &'a Host, public_url: &str) -> Self {
        Self {
            email: &host.email,
            uuid: host.uuid,
            profile_name: &host.profile_name,
            description: &host.description,
            service_name: &host.service_name,
            profile_image: image_url(host, public_url),
            configs: host.config.into(),
        }
    }
}

/// Chatroom, as returned to its guest.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientChatroom<'a> {
    /// Host of the room.
    pub host: Client<'a>,
    /// Random nickname of the guest: adjective and animal.
    pub guest: &'a str,
    /// Name of the room, used in the path of its socket.
    #[schema(value_type = String, min_length = 22, max_length = 22, pattern = "^[A-Za-z0-9_-]+$")]
    pub name: RoomName,
    /// Whether the room is closed.
    pub is_closed: bool,
    /// When the room was closed.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub closed_at: Option<DateTime<Utc>>,
    /// Time of creation.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// Time of the newest message or of the last change of state.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
}

impl<'a> ClientChatroom<'a> {
    /// Builds the body for a room and its host. `public_url` is the prefix of the profile image's URL.
    pub fn new(room: &'a Room, host: &'a Host, public_url: &str) -> Self {
        Self {
            host: Client::new(host, public_url),
            guest: &room.guest,
            name: room.name,
            is_closed: room.is_closed,
            closed_at: room.closed_at,
            created_at: room.created_at,
            updated_at: room.updated_at,
        }
    }
}

/// One chatroom, as returned to its host: the guest's view and the id.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatroomDetail<'a> {
    /// Integer id of the room.
    #[schema(value_type = i64)]
    pub id: ChatroomId,
    /// Fields that the guest receives.
    #[serde(flatten)]
    pub room: ClientChatroom<'a>,
}

/// Chatroom, as returned to its host.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chatroom<'a> {
    /// Integer id of the room.
    #[schema(value_type = i64)]
    pub id: ChatroomId,
    /// Integer id of the host.
    #[schema(value_type = i64)]
    pub host: HostId,
    /// Random nickname of the guest: adjective and animal.
    pub guest: &'a str,
    /// Name of the room, used in the path of its socket.
    #[schema(value_type = String, min_length = 22, max_length = 22, pattern = "^[A-Za-z0-9_-]+$")]
    pub name: RoomName,
    /// Text of the newest message.
    #[schema(required)]
    pub latest_msg: Option<&'a str>,
    /// When the newest message was accepted.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub latest_msg_at: Option<DateTime<Utc>>,
    /// When the host last had the room open. Before `latestMsgAt`, the room has unread messages.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub last_checked_at: Option<DateTime<Utc>>,
    /// Whether the room is closed.
    pub is_closed: bool,
    /// When the room was closed.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub closed_at: Option<DateTime<Utc>>,
    /// Whether the room is pinned.
    pub is_fixed: bool,
    /// When the room was pinned.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub fixed_at: Option<DateTime<Utc>>,
    /// Time of creation.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// Time of the newest message or of the last change of state.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
    /// Number of guest messages that the host has not read.
    pub unread: u64,
    /// Whether the guest has the room open.
    pub guest_online: bool,
}

impl<'a> Chatroom<'a> {
    /// Builds the body for a room. The caller passes the number of unread messages and whether the guest is online,
    /// because the room's row does not contain them.
    pub fn new(room: &'a Room, unread: u64, guest_online: bool) -> Self {
        Self {
            id: room.id,
            host: room.host,
            guest: &room.guest,
            name: room.name,
            latest_msg: room.latest_msg.as_deref(),
            latest_msg_at: room.latest_msg_at,
            last_checked_at: room.last_checked_at,
            is_closed: room.is_closed,
            closed_at: room.closed_at,
            is_fixed: room.is_fixed,
            fixed_at: room.fixed_at,
            created_at: room.created_at,
            updated_at: room.updated_at,
            unread,
            guest_online,
        }
    }
}

/// Message in the history of a room.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage<'a> {
    /// Same as `seq`.
    #[schema(value_type = u64)]
    pub id: Seq,
    /// Integer id of the room.
    #[schema(value_type = i64)]
    pub chatroom: ChatroomId,
    /// Text of the message.
    pub message: &'a str,
    /// Whether the host wrote the message.
    pub is_host: bool,
    /// Same as `isHost`; the legacy admin page reads this spelling.
    #[serde(rename = "is_host")]
    pub is_host_snake: bool,
    /// Wall clock of the sender.
    pub datetime: &'a str,
    /// Sequence number in the room: 1, 2, 3 …
    #[schema(value_type = u64)]
    pub seq: Seq,
    /// Id chosen by the sender or assigned by the server.
    pub message_id: &'a str,
    /// When the server accepted the message.
    #[serde(serialize_with = "instant")]
    pub accepted_at: DateTime<Utc>,
}

impl<'a> From<&'a Message> for ChatMessage<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            id: message.seq,
            chatroom: message.chatroom,
            message: &message.text,
            is_host: message.side.is_host(),
            is_host_snake: message.side.is_host(),
            datetime: message.datetime.as_str(),
            seq: message.seq,
            message_id: message.id.as_str(),
            accepted_at: message.accepted_at,
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Paginated<T> {
    /// Total number of items.
    pub count: u64,
    /// Absolute URL of the next page.
    #[schema(required)]
    pub next: Option<String>,
    /// Absolute URL of the previous page.
    #[schema(required)]
    pub previous: Option<String>,
    /// Items of this page.
    pub results: Vec<T>,
}

// Serialises a time as SPEC 1 requires: in UTC, as RFC 3339, with milliseconds and `Z`.
pub(super) fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

pub(super) fn maybe_instant<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => instant(at, serializer),
        None => serializer.serialize_none(),
    }
}
