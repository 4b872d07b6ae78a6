//! Request bodies.

use std::borrow::Cow;

use serde_json::{Map, Value};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::fields::{FieldErrors, Fields};

/// Body of a request. A test checks that the schema contains exactly the fields that [`read`](Self::read) reads.
pub trait RequestBody: Sized + ToSchema {
    /// Builds the value from `fields` and records errors in `fields`. The caller discards the value if there are
    /// errors.
    fn take(fields: &mut Fields<'_>) -> Self;

    /// Builds the value from a JSON object.
    ///
    /// # Errors
    /// Returns the reason for each invalid field.
    fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self::take(&mut fields);
        fields.finish(request)
    }
}

/// Body of `POST /api/auth/login/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct LoginRequest {
    /// Login address of the account.
    #[schema(pattern = r"\S", examples("dev@shop.example"))]
    pub email: String,
    /// Password of the account, or a temporary password from an e-mail.
    #[schema(pattern = r"\S", examples("a long password"))]
    pub password: String,
}

impl RequestBody for LoginRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { email: fields.text("email").trim().to_owned(), password: fields.text("password") }
    }
}

/// Body of `POST /api/auth/check-email/`, `email-verification/`, `restore/` and `password-reset/`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct EmailRequest {
    /// E-mail address.
    #[schema(pattern = r"\S", examples("dev@shop.example"))]
    pub email: String,
}

impl RequestBody for EmailRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { email: fields.text("email").trim().to_owned() }
    }
}

/// Body of `POST /api/auth/email-confirmation/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct ConfirmationRequest {
    /// Six-digit code from the e-mail, as a string or a number.
    #[schema(rename = "verificationCode", schema_with = text_or_number)]
    pub code: String,
}

fn text_or_number() -> Schema {
    AnyOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"\S")))
        .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
        .description(Some("Six-digit code from the e-mail, as a string or a number."))
        .examples(["012345"])
        .into()
}

impl RequestBody for ConfirmationRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        let code = match fields.number("verificationCode") {
            Some(number) => format!("{number:06}"),
            None => fields.text("verificationCode"),
        };
        Self { code }
    }
}

/// Body of `POST /api/auth/signup/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SignUpRequest {
    /// Confirmed e-mail address.
    #[schema(pattern = r"\S", examples("dev@shop.example"))]
    pub email: String,
    /// Password of at least 8 characters.
    #[schema(pattern = r"\S", min_length = 8, examples("a long password"))]
    pub password: String,
    /// Name of the service, shown to guests.
    #[schema(pattern = r"\S", max_length = 50, examples("Shop"))]
    pub service_name: String,
    /// Description of the service.
    #[schema(value_type = Option<String>, max_length = 200, examples("Shoes"))]
    pub service_expl: String,
    /// Domains of the service: host names with optional ports, separated by commas. A leading `*.` matches any
    /// subdomain. At most 200 characters after scheme and path of a pasted URL are removed.
    #[schema(examples("shop.example, *.shop.example"))]
    pub service_domain: Option<String>,
}

impl RequestBody for SignUpRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self {
            email: fields.text("email").trim().to_owned(),
            password: fields.text("password"),
            service_name: fields.text("serviceName"),
            service_expl: fields.maybe_text("serviceExpl").unwrap_or_default(),
            service_domain: fields.maybe_text("serviceDomain"),
        }
    }
}

/// Body of `POST /api/auth/password-change/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct PasswordChangeRequest {
    /// Current password.
    #[schema(rename = "currentPassword", pattern = r"\S", examples("a long password"))]
    pub current: String,
    /// New password of at least 8 characters, different from the current one.
    #[schema(rename = "newPassword", pattern = r"\S", min_length = 8, examples("a longer password"))]
    pub new: String,
}

impl RequestBody for PasswordChangeRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { current: fields.text("currentPassword"), new: fields.text("newPassword") }
    }
}

/// Body of `POST /api/auth/leave/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct LeaveRequest {
    /// Current password, as a confirmation.
    #[schema(pattern = r"\S", examples("a long password"))]
    pub password: String,
}

impl RequestBody for LeaveRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { password: fields.text("password") }
    }
}

/// Body of `PATCH /api/users/<id>/`. Absent fields are not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ProfilePatch {
    /// Display name shown to guests.
    #[schema(pattern = r"\S", max_length = 100, examples("Dana"))]
    pub profile_name: Option<String>,
    /// Description shown to guests.
    #[schema(max_length = 1000)]
    pub description: Option<String>,
    /// Name of the service.
    #[schema(pattern = r"\S", max_length = 50, examples("Shop"))]
    pub service_name: Option<String>,
    /// Description of the service.
    #[schema(max_length = 200)]
    pub service_expl: Option<String>,
    /// Domains of the service; `null` removes them.
    #[schema(value_type = Option<String>, examples("shop.example"))]
    pub service_domain: Option<Option<String>>,
}

impl RequestBody for ProfilePatch {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self {
            profile_name: fields.maybe_text("profileName"),
            description: fields.maybe_text("description"),
            service_name: fields.maybe_text("serviceName"),
            service_expl: fields.maybe_text("serviceExpl"),
            service_domain: if fields.is_null("serviceDomain") {
                Some(None)
            } else {
                fields.maybe_text("serviceDomain").map(Some)
            },
        }
    }
}

/// Body of `PATCH /api/users/<id>/configs/`. Absent fields are not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ConfigsPatch {
    /// Whether guests are shown the host's online status.
    #[schema(value_type = Option<bool>)]
    pub use_online_status: Option<bool>,
    /// Whether the host receives e-mail about messages that arrive while they are not in the room.
    #[schema(value_type = Option<bool>)]
    pub email_notifications: Option<bool>,
}

impl RequestBody for ConfigsPatch {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self {
            use_online_status: fields.flag("useOnlineStatus"),
            email_notifications: fields.flag("emailNotifications"),
        }
    }
}

/// Body of `POST /api/users/<id>/keys/`. The body is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct KeysRequest {
    /// Whether the previous keys are revoked at once. By default, the current pair remains valid for a grace period.
    #[schema(value_type = Option<bool>)]
    pub revoke_old: bool,
}

impl RequestBody for KeysRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { revoke_old: fields.flag("revokeOld").unwrap_or(false) }
    }
}

/// Body of `PUT /api/chat/<name>/contact/`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct ContactRequest {
    /// Address for e-mail about messages that arrive while the guest is not in the room.
    #[schema(pattern = r"\S", examples("visitor@mail.example"))]
    pub email: String,
}

impl RequestBody for ContactRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { email: fields.text("email").trim().to_owned() }
    }
}

/// Body of `PATCH /api/chat/chatrooms/<id>/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatroomPatch {
    /// Pins or unpins the room.
    Pin(bool),
    /// Closes and unpins the room.
    Close,
}

impl RequestBody for ChatroomPatch {
    /// Reads the flags of the request. If `isClosed` is true, `isFixed` is ignored, because a closed room cannot be
    /// pinned.
    fn take(fields: &mut Fields<'_>) -> Self {
        match (fields.flag("isFixed"), fields.flag("isClosed")) {
            (_, Some(true)) => Self::Close,
            (Some(pin), None) => Self::Pin(pin),
            (_, Some(false)) => {
                fields.wrong("isClosed", "must be true: restore/ reopens a closed room");
                Self::Close
            }
            (None, None) => {
                // If a flag has the wrong type, its error has already been recorded.
                if fields.is_clean() {
                    fields.wrong("isFixed", "isFixed or isClosed is required");
                }
                Self::Close
            }
        }
    }
}

impl ToSchema for ChatroomPatch {
    fn name() -> Cow<'static, str> {
        "ChatroomPatch".into()
    }
}

impl PartialSchema for ChatroomPatch {
    fn schema() -> RefOr<Schema> {
        let flag = |why: &str| ObjectBuilder::new().schema_type(Type::Boolean).description(Some(why));
        let object = |name: &str, flag: ObjectBuilder| ObjectBuilder::new().property(name, flag).required(name);
        AnyOfBuilder::new()
            .item(object("isFixed", flag("Pins or unpins the room; at most five rooms can be pinned.")))
            .item(object("isClosed", flag("Closes the room, which also unpins it.").enum_values(Some([true]))))
            .description(Some("Either is enough."))
            .into()
    }
}
