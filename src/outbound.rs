//! Connections that the server opens itself: e-mail, webhooks, object storage.

pub mod contacts;
pub mod mail;
pub mod media;
pub mod notifications;
pub(crate) mod tls;
pub mod webhooks;
