//! Wire formats: frames of the chat and status sockets, close codes, bodies of the HTTP API, webhook events, and
//! conversations as text files.
//!
//! Contains no I/O, like the domain layer: only parses and encodes values.

pub mod api;
pub mod chat;
pub mod close;
pub mod frame;
pub mod status;
mod surrogate;
pub mod transcript;
pub mod webhook;

pub use close::Close;
