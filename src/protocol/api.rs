//! Bodies of the HTTP API (SPEC 1–3): what is answered, and what may be asked.
//!
//! Answers are camelCase. Requests are read in camelCase and snake_case, and unknown fields are ignored. Each body says its
//! schema, of which `/api/openapi.json` is made. **Invariant:** no answer holds a password or its hash, and what a guest is
//! sent ([`Client`], [`ClientChatroom`]) holds no key and no row id.

mod answers;
mod fields;
mod requests;
mod webhooks;

pub use answers::{
    ChatMessage, Chatroom, ChatroomDetail, Client, ClientChatroom, ClientConfigs, Configs, Detail, Email, ErrorBody,
    LoggedIn, Page, Refreshed, User,
};
pub use fields::{FieldErrors, Fields};
pub use requests::{
    ChatroomPatch, ConfigsPatch, ConfirmationRequest, ContactRequest, EmailRequest, KeysRequest, LeaveRequest,
    LoginRequest, PasswordChangeRequest, ProfilePatch, RequestBody, SignUpRequest,
};
pub use webhooks::{Webhook, WebhookDeliveries, WebhookDelivery, WebhookRequest, WebhookSecretRequest, WebhookTest};

#[cfg(test)]
mod tests;
