//! Bodies of the HTTP API (SPEC 1–3): what is answered, and what may be asked.
//!
//! Answers are camelCase. Requests are read in camelCase and snake_case, and unknown fields are ignored. **Invariant:** no
//! answer holds a password or its hash, and what a guest is sent ([`Client`], [`ClientChatroom`]) holds no key and no row id.

mod fields;
mod keys;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::domain::{ChatroomId, Host, HostConfig, HostId, HostUuid, Message, Room, RoomName, Seq};

pub use fields::FieldErrors;
use fields::Fields;
pub use keys::KeysRequest;

/// The body of every error.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// The HTTP status.
    pub code: u16,
    /// A sentence for a person.
    pub detail: &'a str,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "FieldErrors::is_empty")]
    pub fields: &'a FieldErrors,
}

/// A registered user, as he himself is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the fields of `Host`
pub struct User<'a> {
    pub id: HostId,
    pub email: &'a str,
    pub uuid: HostUuid,
    pub profile_name: &'a str,
    pub description: &'a str,
    pub access_key: &'a str,
    pub secret_key: &'a str,
    pub service_name: &'a str,
    pub service_expl: &'a str,
    pub service_domain: Option<&'a str>,
    pub profile_image: Option<String>,
    pub is_deleted: bool,
    #[serde(serialize_with = "maybe_instant")]
    pub deleted_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn<'a> {
    /// Who.
    #[serde(flatten)]
    pub user: User<'a>,
    /// For `Authorization: Bearer`.
    pub access_token: &'a str,
}

/// The answer to a refresh: one token under the three names that clients read.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Configs {
    /// Whether guests see if he is online.
    pub use_online_status: bool,
}

impl From<HostConfig> for Configs {
    fn from(config: HostConfig) -> Self {
        Self { use_online_status: config.use_online_status }
    }
}

/// A registered user, as guests are told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the fields of `Host`
pub struct Client<'a> {
    pub email: &'a str,
    pub uuid: HostUuid,
    pub profile_name: &'a str,
    pub description: &'a str,
    pub service_name: &'a str,
    pub profile_image: Option<String>,
    pub configs: Configs,
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the fields of `Room`
pub struct ClientChatroom<'a> {
    pub host: Client<'a>,
    pub guest: &'a str,
    pub name: RoomName,
    pub is_closed: bool,
    #[serde(serialize_with = "maybe_instant")]
    pub closed_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
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
#[derive(Debug, Serialize)]
pub struct ChatroomDetail<'a> {
    /// Row id.
    pub id: ChatroomId,
    /// The rest.
    #[serde(flatten)]
    pub room: ClientChatroom<'a>,
}

/// A room in its host's list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the fields of `Room`
pub struct Chatroom<'a> {
    pub id: ChatroomId,
    pub host: HostId,
    pub guest: &'a str,
    pub name: RoomName,
    pub latest_msg: Option<&'a str>,
    #[serde(serialize_with = "maybe_instant")]
    pub latest_msg_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "maybe_instant")]
    pub last_checked_at: Option<DateTime<Utc>>,
    pub is_closed: bool,
    #[serde(serialize_with = "maybe_instant")]
    pub closed_at: Option<DateTime<Utc>>,
    pub is_fixed: bool,
    #[serde(serialize_with = "maybe_instant")]
    pub fixed_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "instant")]
    pub created_at: DateTime<Utc>,
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // the fields of `Message`
pub struct ChatMessage<'a> {
    /// Its `seq` under the name that clients know.
    pub id: Seq,
    pub chatroom: ChatroomId,
    pub message: &'a str,
    pub is_host: bool,
    /// The same once more: the real admin page reads this spelling.
    #[serde(rename = "is_host")]
    pub is_host_snake: bool,
    /// As the sender wrote it.
    pub datetime: &'a str,
    pub seq: Seq,
    pub message_id: &'a str,
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
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// How many there are in all.
    pub count: u64,
    /// Absolute URL of the next part.
    pub next: Option<String>,
    /// Absolute URL of the part before.
    pub previous: Option<String>,
    /// This part.
    pub results: Vec<T>,
}

/// `POST /api/auth/login/`.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginRequest {
    /// As typed, without the blanks around it.
    pub email: String,
    /// As typed.
    pub password: String,
}

impl LoginRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self { email: fields.text("email").trim().to_owned(), password: fields.text("password") };
        fields.finish(request)
    }
}

/// `POST /api/auth/check-email/`, `email-verification/`, `restore/` and `password-reset/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailRequest {
    /// As typed, without the blanks around it.
    pub email: String,
}

impl EmailRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self { email: fields.text("email").trim().to_owned() };
        fields.finish(request)
    }
}

/// `POST /api/auth/email-confirmation/`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfirmationRequest {
    /// As typed: text, or a number.
    pub code: String,
}

impl ConfirmationRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let code = match fields.number("verificationCode") {
            Some(number) => format!("{number:06}"),
            None => fields.text("verificationCode"),
        };
        fields.finish(Self { code })
    }
}

/// `POST /api/auth/signup/`.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `NewAccount`
pub struct SignUpRequest {
    pub email: String,
    pub password: String,
    pub service_name: String,
    pub service_expl: String,
    pub service_domain: Option<String>,
}

impl SignUpRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self {
            email: fields.text("email").trim().to_owned(),
            password: fields.text("password"),
            service_name: fields.text("serviceName"),
            service_expl: fields.maybe_text("serviceExpl").unwrap_or_default(),
            service_domain: fields.maybe_text("serviceDomain"),
        };
        fields.finish(request)
    }
}

/// `POST /api/auth/password-change/`.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PasswordChangeRequest {
    pub current: String,
    pub new: String,
}

impl PasswordChangeRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self { current: fields.text("currentPassword"), new: fields.text("newPassword") };
        fields.finish(request)
    }
}

/// `POST /api/auth/leave/`.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaveRequest {
    /// As typed.
    pub password: String,
}

impl LeaveRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self { password: fields.text("password") };
        fields.finish(request)
    }
}

/// `PATCH /api/users/<id>/`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the fields of `User`
pub struct ProfilePatch {
    pub profile_name: Option<String>,
    pub description: Option<String>,
    pub service_name: Option<String>,
    pub service_expl: Option<String>,
    /// `null` takes it away.
    pub service_domain: Option<Option<String>>,
}

impl ProfilePatch {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let patch = Self {
            profile_name: fields.maybe_text("profileName"),
            description: fields.maybe_text("description"),
            service_name: fields.maybe_text("serviceName"),
            service_expl: fields.maybe_text("serviceExpl"),
            service_domain: if fields.is_null("serviceDomain") {
                Some(None)
            } else {
                fields.maybe_text("serviceDomain").map(Some)
            },
        };
        fields.finish(patch)
    }
}

/// A sentence for a person.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Detail {
    /// It.
    pub detail: &'static str,
}

/// The address of an [`EmailRequest`], told again.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Email<'a> {
    /// It.
    pub email: &'a str,
}

/// `PATCH /api/users/<id>/configs/`. What is absent stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigsPatch {
    /// Whether guests see if he is online.
    pub use_online_status: Option<bool>,
}

impl ConfigsPatch {
    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let patch = Self { use_online_status: fields.flag("useOnlineStatus") };
        fields.finish(patch)
    }
}

/// `PATCH /api/chat/chatrooms/<id>/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatroomPatch {
    /// Pin it, or unpin it.
    Pin(bool),
    /// Close it, which also unpins it.
    Close,
}

impl ChatroomPatch {
    /// Reads a body. Closing wins over pinning, since a closed room is not pinned.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let (pin, close) = (fields.flag("isFixed"), fields.flag("isClosed"));
        let patch = match (pin, close) {
            (_, Some(true)) => Self::Close,
            (Some(pin), None) => Self::Pin(pin),
            (_, Some(false)) => {
                fields.wrong("isClosed", "can only be true: a closed room is reopened by restore/");
                Self::Close
            }
            (None, None) => {
                // A flag of the wrong type has already been named.
                if fields.is_clean() {
                    fields.wrong("isFixed", "isFixed or isClosed is required");
                }
                Self::Close
            }
        };
        fields.finish(patch)
    }
}

// SPEC 1: times are UTC RFC 3339 with milliseconds and Z.
fn instant<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn maybe_instant<S: Serializer>(at: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => instant(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
