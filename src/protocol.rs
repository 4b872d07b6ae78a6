//! Wire formats: frames of the chat and status sockets, close codes, bodies of the HTTP API, webhook events, and
//! conversations as text files.
//!
//! Pure, like the domain layer: parses and encodes values without I/O.

pub mod api;
pub mod chat;
pub mod close;
pub mod frame;
pub mod status;
mod surrogate;
pub mod transcript;
pub mod webhook;

pub use close::Close;
