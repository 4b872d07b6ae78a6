//! PinTalk: a self-hosted live-chat server.

pub mod accounts;
pub mod app;
pub mod archive;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod domain;
pub mod history;
pub mod hosts;
pub mod http;
pub mod hub;
pub mod metric;
pub mod presence;
pub mod protocol;
pub mod redis;
pub mod relay;
pub mod rooms;
pub mod session;
pub mod shutdown;
pub mod statuses;
pub mod store;
pub mod telemetry;
pub mod web;
pub mod ws;
