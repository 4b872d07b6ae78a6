//! What is answered.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::FieldErrors;
use crate::domain::{ChatroomId, Host, HostConfig, HostId, HostUuid, Message, Room, RoomName, Seq};

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody<'a> {
    /// The HTTP status.
    pub code: u16,
    /// A sentence for a person.
    pub detail: &'a str,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "FieldErrors::is_empty")]
    #[schema(value_type = Object, additional_properties = true)]
    pub fields: &'a FieldErrors,
}

/// A sentence for a person.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Detail {
    /// It.
    pub detail: &'static str,
}

/// The address that was asked about.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Email<'a> {
    /// It.
    pub email: &'a str,
}

/// A registered user, as he himself is told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User<'a> {
    /// Row id.
    #[schema(value_type = i64)]
    pub id: HostId,
    /// The address he logs in with.
    #[schema(value_type = String)]
    pub email: &'a str,
    /// Names him on the status socket.
    #[schema(value_type = String, min_length = 22, max_length = 22)]
    pub uuid: HostUuid,
    /// What guests read as his name.
    pub profile_name: &'a str,
    /// What guests read about him.
    pub description: &'a str,
    /// `X-PinTalk-Access-Key` of guest-side calls.
    #[schema(min_length = 22, max_length = 22)]
    pub access_key: &'a str,
    /// `X-PinTalk-Secret-Key` of guest-side calls.
    #[schema(min_length = 64, max_length = 64)]
    pub secret_key: &'a str,
    /// The name of his service.
    pub service_name: &'a str,
    /// What his service is.
    pub service_expl: &'a str,
    /// Where his pages are: host names with optional ports, separated by commas; a leading `*.` stands for any subdomain.
    #[schema(required)]
    pub service_domain: Option<&'a str>,
    /// Absolute URL of his picture.
    #[schema(required)]
    pub profile_image: Option<String>,
    /// Whether the account is deactivated.
    pub is_deleted: bool,
    /// Since when.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub deleted_at: Option<DateTime<Utc>>,
    /// Since when there is such a row.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// When it last changed; for a chatroom, also when its newest message came.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
}

impl<'a> User<'a> {
    /// Of a host; his image is at `public_url`.
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

/// Where the world finds a host's image.
fn image_url(host: &Host, public_url: &str) -> Option<String> {
    host.profile_image.as_ref().map(|key| format!("{public_url}/media/{key}"))
}

/// The answer to a login: the user's fields with a token among them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn<'a> {
    /// Who.
    #[serde(flatten)]
    pub user: User<'a>,
    /// For `Authorization: Bearer`.
    pub access_token: &'a str,
}

/// The answer to a refresh: one token under the three names that clients read.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refreshed<'a> {
    #[serde(rename = "accessToken")]
    access_token: &'a str,
    #[serde(rename = "access_token")]
    access_token_snake: &'a str,
    access: &'a str,
}

impl<'a> Refreshed<'a> {
    /// Of a new access token.
    pub fn new(token: &'a str) -> Self {
        Self { access_token: token, access_token_snake: token, access: token }
    }
}

/// A host's settings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Configs {
    /// Whether guests see if he is online.
    pub use_online_status: bool,
    /// Whether he is mailed about messages that came while he was not in the room.
    pub email_notifications: bool,
}

impl From<HostConfig> for Configs {
    fn from(config: HostConfig) -> Self {
        Self { use_online_status: config.use_online_status, email_notifications: config.email_notifications }
    }
}

/// Those of a host's settings that matter to guests.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConfigs {
    /// Whether guests see if he is online.
    pub use_online_status: bool,
}

impl From<HostConfig> for ClientConfigs {
    fn from(config: HostConfig) -> Self {
        Self { use_online_status: config.use_online_status }
    }
}

/// A registered user, as guests are told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Client<'a> {
    /// The address he logs in with.
    #[schema(value_type = String)]
    pub email: &'a str,
    /// Names him on the status socket.
    #[schema(value_type = String, min_length = 22, max_length = 22)]
    pub uuid: HostUuid,
    /// What guests read as his name.
    pub profile_name: &'a str,
    /// What guests read about him.
    pub description: &'a str,
    /// The name of his service.
    pub service_name: &'a str,
    /// Absolute URL of his picture.
    #[schema(required)]
    pub profile_image: Option<String>,
    /// His settings, as far as they matter to guests.
    pub configs: ClientConfigs,
}

impl<'a> Client<'a> {
    /// Of a host; his image is at `public_url`.
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

/// A room, as its guest is told.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientChatroom<'a> {
    /// With whom.
    pub host: Client<'a>,
    /// The guest's nickname: adjective animal.
    pub guest: &'a str,
    /// Names the room on its socket.
    #[schema(value_type = String, min_length = 22, max_length = 22, pattern = "^[A-Za-z0-9_-]+$")]
    pub name: RoomName,
    /// Whether the host closed it.
    pub is_closed: bool,
    /// Since when.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub closed_at: Option<DateTime<Utc>>,
    /// Since when there is such a row.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// When it last changed; for a chatroom, also when its newest message came.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
}

impl<'a> ClientChatroom<'a> {
    /// Of a room and its host, whose image is at `public_url`.
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

/// One room, as its host is told: what the guest is told, with the row id.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatroomDetail<'a> {
    /// Row id.
    #[schema(value_type = i64)]
    pub id: ChatroomId,
    /// The rest.
    #[serde(flatten)]
    pub room: ClientChatroom<'a>,
}

/// A room in its host's list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chatroom<'a> {
    /// Row id.
    #[schema(value_type = i64)]
    pub id: ChatroomId,
    /// His id.
    #[schema(value_type = i64)]
    pub host: HostId,
    /// The guest's nickname: adjective animal.
    pub guest: &'a str,
    /// Names the room on its socket.
    #[schema(value_type = String, min_length = 22, max_length = 22, pattern = "^[A-Za-z0-9_-]+$")]
    pub name: RoomName,
    /// The newest message.
    #[schema(required)]
    pub latest_msg: Option<&'a str>,
    /// When it was accepted.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub latest_msg_at: Option<DateTime<Utc>>,
    /// When the host last had the room open. Older than `latestMsgAt`: unread.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub last_checked_at: Option<DateTime<Utc>>,
    /// Whether the host closed it.
    pub is_closed: bool,
    /// Since when.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub closed_at: Option<DateTime<Utc>>,
    /// Whether it is pinned.
    pub is_fixed: bool,
    /// Since when.
    #[serde(serialize_with = "maybe_instant")]
    #[schema(required)]
    pub fixed_at: Option<DateTime<Utc>>,
    /// Since when there is such a row.
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
    /// When it last changed; for a chatroom, also when its newest message came.
    #[serde(serialize_with = "instant")]
    pub updated_at: DateTime<Utc>,
    /// How many guest messages came after `last_checked_at`.
    pub unread: u64,
    /// Whether a guest has the room open.
    pub guest_online: bool,
}

impl<'a> Chatroom<'a> {
    /// Of a room and what is known beside its row.
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

/// A message in a room's list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage<'a> {
    /// Its `seq` under the name that clients know.
    #[schema(value_type = u64)]
    pub id: Seq,
    /// Row id of its room.
    #[schema(value_type = i64)]
    pub chatroom: ChatroomId,
    /// The text.
    pub message: &'a str,
    /// Whether the host wrote it.
    pub is_host: bool,
    /// The same once more: the real admin page reads this spelling.
    #[serde(rename = "is_host")]
    pub is_host_snake: bool,
    /// As the sender wrote it.
    pub datetime: &'a str,
    /// Its number in the room: 1, 2, 3 …
    #[schema(value_type = u64)]
    pub seq: Seq,
    /// Its id, given by the sender or by the server.
    pub message_id: &'a str,
    /// When the server took it.
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

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// How many there are in all.
    pub count: u64,
    /// Absolute URL of the next part.
    #[schema(required)]
    pub next: Option<String>,
    /// Absolute URL of the part before.
    #[schema(required)]
    pub previous: Option<String>,
    /// This part.
    pub results: Vec<T>,
}

// SPEC 1: times are UTC RFC 3339 with milliseconds and Z.
pub(super) fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

pub(super) fn maybe_instant<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => instant(at, serializer),
        None => serializer.serialize_none(),
    }
}
