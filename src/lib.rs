//! PinTalk: a self-hosted live-chat server.

pub mod broker;
pub mod clock;
pub mod control;
pub mod domain;
pub mod history;
pub mod hosts;
pub mod hub;
pub mod protocol;
pub mod redis;
pub mod store;
