//! PinTalk: a self-hosted live-chat server.

pub mod broker;
pub mod clock;
pub mod control;
pub mod domain;
pub mod hub;
pub mod protocol;
pub mod redis;
