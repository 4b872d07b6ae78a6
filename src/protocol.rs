//! What goes over the wire: frames of the two sockets, close codes, bodies of the HTTP API, what a
//! host's own systems are told, and conversations as text.
//!
//! Pure as the domain is: text in, values out, and back.

pub mod api;
pub mod chat;
pub mod close;
pub mod frame;
pub mod status;
mod surrogate;
pub mod transcript;
pub mod webhook;

pub use close::Close;
