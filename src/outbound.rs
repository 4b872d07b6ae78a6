//! Connections that the server opens itself: e-mail, webhooks, object storage.

pub mod contacts;
pub mod mail;
pub mod media;
pub(crate) mod metrics;
pub mod notifications;
pub(crate) mod tls;
pub mod webhooks;
