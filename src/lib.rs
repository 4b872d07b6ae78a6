//! PinTalk: a self-hosted live-chat server.

pub mod clock;
pub mod domain;
pub mod protocol;
