//! What is asked.

use std::borrow::Cow;

use serde_json::{Map, Value};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::fields::{FieldErrors, Fields};

/// The body of a call. Its schema is what it reads: a test compares the two.
pub trait RequestBody: Sized + ToSchema {
    /// Takes what it is made of; what is wrong is noted there, and the value is then thrown away.
    fn take(fields: &mut Fields<'_>) -> Self;

    /// Reads a body.
    ///
    /// # Errors
    /// What is wrong with which field.
    fn read(body: &Map<String, Value>) -> Result<Self, FieldErrors> {
        let mut fields = Fields::of(body);
        let request = Self::take(&mut fields);
        fields.finish(request)
    }
}

/// `POST /api/auth/login/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct LoginRequest {
    /// The address of the account.
    #[schema(pattern = r"\S", examples("dev@shop.example"))]
    pub email: String,
    /// The password, or a temporary one that was mailed.
    #[schema(pattern = r"\S", examples("a long password"))]
    pub password: String,
}

impl RequestBody for LoginRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { email: fields.text("email").trim().to_owned(), password: fields.text("password") }
    }
}

/// `POST /api/auth/check-email/`, `email-verification/`, `restore/` and `password-reset/`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct EmailRequest {
    /// An e-mail address.
    #[schema(pattern = r"\S", examples("dev@shop.example"))]
    pub email: String,
}

impl RequestBody for EmailRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { email: fields.text("email").trim().to_owned() }
    }
}

/// `POST /api/auth/email-confirmation/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct ConfirmationRequest {
    /// The six digits that were mailed, as text or as a number.
    #[schema(rename = "verificationCode", schema_with = text_or_number)]
    pub code: String,
}

fn text_or_number() -> Schema {
    AnyOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"\S")))
        .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
        .description(Some("The six digits that were mailed, as text or as a number."))
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

/// `POST /api/auth/signup/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SignUpRequest {
    /// The address that was confirmed.
    #[schema(pattern = r"\S", examples("dev@shop.example"))]
    pub email: String,
    /// At least 8 characters.
    #[schema(pattern = r"\S", min_length = 8, examples("a long password"))]
    pub password: String,
    /// The name of the service; guests read it.
    #[schema(pattern = r"\S", max_length = 50, examples("Shop"))]
    pub service_name: String,
    /// What the service is.
    #[schema(value_type = Option<String>, max_length = 200, examples("Shoes"))]
    pub service_expl: String,
    /// Where its pages are: host names with optional ports, separated by commas; a leading `*.` stands for any subdomain.
    /// At most 200 characters, without what a pasted URL has beside.
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

/// `POST /api/auth/password-change/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct PasswordChangeRequest {
    /// The password until now.
    #[schema(rename = "currentPassword", pattern = r"\S", examples("a long password"))]
    pub current: String,
    /// Another one, of at least 8 characters.
    #[schema(rename = "newPassword", pattern = r"\S", min_length = 8, examples("a longer password"))]
    pub new: String,
}

impl RequestBody for PasswordChangeRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { current: fields.text("currentPassword"), new: fields.text("newPassword") }
    }
}

/// `POST /api/auth/leave/`.
#[derive(Clone, PartialEq, Eq, ToSchema)]
pub struct LeaveRequest {
    /// The password, once more.
    #[schema(pattern = r"\S", examples("a long password"))]
    pub password: String,
}

impl RequestBody for LeaveRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { password: fields.text("password") }
    }
}

/// `PATCH /api/users/<id>/`. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ProfilePatch {
    /// What guests read as his name.
    #[schema(pattern = r"\S", max_length = 100, examples("Dana"))]
    pub profile_name: Option<String>,
    /// What guests read about him.
    #[schema(max_length = 1000)]
    pub description: Option<String>,
    /// The name of the service.
    #[schema(pattern = r"\S", max_length = 50, examples("Shop"))]
    pub service_name: Option<String>,
    /// What the service is.
    #[schema(max_length = 200)]
    pub service_expl: Option<String>,
    /// Where its pages are; `null` takes it away.
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

/// `PATCH /api/users/<id>/configs/`. What is absent stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ConfigsPatch {
    /// Whether guests see if he is online.
    #[schema(value_type = Option<bool>)]
    pub use_online_status: Option<bool>,
    /// Whether he is mailed about messages that came while he was not in the room.
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

/// `POST /api/users/<id>/keys/`. The body may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct KeysRequest {
    /// Whether the keys until now end at once. Else they go on for a while.
    #[schema(value_type = Option<bool>)]
    pub revoke_old: bool,
}

impl RequestBody for KeysRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { revoke_old: fields.flag("revokeOld").unwrap_or(false) }
    }
}

/// `PUT /api/chat/<name>/contact/`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct ContactRequest {
    /// Where the guest is reached when he is not in the room.
    #[schema(pattern = r"\S", examples("visitor@mail.example"))]
    pub email: String,
}

impl RequestBody for ContactRequest {
    fn take(fields: &mut Fields<'_>) -> Self {
        Self { email: fields.text("email").trim().to_owned() }
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

impl RequestBody for ChatroomPatch {
    /// Closing wins over pinning, since a closed room is not pinned.
    fn take(fields: &mut Fields<'_>) -> Self {
        match (fields.flag("isFixed"), fields.flag("isClosed")) {
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
            .item(object("isFixed", flag("Pins the room, or unpins it: at most five are pinned.")))
            .item(object("isClosed", flag("Closes the room, which also unpins it.").enum_values(Some([true]))))
            .description(Some("Either is enough."))
            .into()
    }
}
