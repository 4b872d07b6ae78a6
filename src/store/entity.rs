//! Entities without behaviour, one table per file. The `migration` crate creates the schema.
#![allow(unreachable_pub)] // the derives generate `pub` items

pub(super) mod chat_message;
pub(super) mod chatroom;
pub(super) mod email_verification;
pub(super) mod host_digest;
pub(super) mod installation;
pub(super) mod login;
pub(super) mod mail_class;
pub(super) mod mail_consent;
pub(super) mod mail_departure;
pub(super) mod mail_outbox;
pub(super) mod mail_part;
pub(super) mod notification;
pub(super) mod old_key;
pub(super) mod room_event;
pub(super) mod user;
pub(super) mod user_config;
pub(super) mod webhook;
pub(super) mod webhook_event;
pub(super) mod write_probe;
