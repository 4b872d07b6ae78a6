//! PinTalk: a self-hosted live-chat server.

pub mod accounts;
pub mod archive;
pub mod broker;
pub mod clock;
pub mod control;
pub mod domain;
pub mod history;
pub mod hosts;
pub mod http;
pub mod hub;
pub mod presence;
pub mod protocol;
pub mod redis;
pub mod relay;
pub mod rooms;
pub mod session;
pub mod statuses;
pub mod store;
pub mod ws;
