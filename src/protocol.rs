//! Wire formats: frames of the chat and status sockets, close codes, bodies of the HTTP API, webhook events and
//! transcripts of conversations.
//!
//! This layer only parses and encodes values. Like the domain layer, it performs no I/O.

pub mod api;
pub mod chat;
pub mod close;
pub mod frame;
pub mod status;
mod surrogate;
pub mod transcript;
pub mod webhook;

pub use close::Close;
