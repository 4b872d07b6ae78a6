//! Outgoing connections: e-mail, webhooks and object storage.

pub mod contacts;
pub(crate) mod http_client;
pub mod mail;
pub mod media;
pub(crate) mod metrics;
pub mod notifications;
pub mod webhooks;
