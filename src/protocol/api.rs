//! Request and response bodies of the HTTP API (SPEC 1–3).
//!
//! Responses use camelCase names. Requests may use camelCase or snake_case names, and unknown fields are ignored.
//! `/api/openapi.json` is generated from the schemas of these types.
//!
//! **Invariant:** no response contains a password or a password hash. The bodies that guests receive ([`Client`],
//! [`ClientChatroom`]) contain no keys and no row ids.

mod answers;
mod fields;
mod requests;
mod webhooks;

pub use answers::{
    ChatMessage, Chatroom, ChatroomDetail, Client, ClientChatroom, ClientConfigs, Configs, Detail, Email, ErrorBody,
    LoggedIn, Paginated, Refreshed, User,
};
pub use fields::{FieldErrors, Fields};
pub use requests::{
    ChatroomPatch, ConfigsPatch, ConfirmationRequest, ContactRequest, EmailRequest, KeysRequest, LeaveRequest,
    LoginRequest, PasswordChangeRequest, ProfilePatch, RequestBody, SignUpRequest,
};
pub use webhooks::{Webhook, WebhookDeliveries, WebhookDelivery, WebhookRequest, WebhookSecretRequest, WebhookTest};

#[cfg(test)]
mod tests;
