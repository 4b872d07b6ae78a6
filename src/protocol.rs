//! What goes over the wire: frames of the two sockets, close codes, bodies of the HTTP API, and conversations as text.
//!
//! Pure as the domain is: text in, values out, and back.

pub mod api;
pub mod chat;
pub mod close;
pub mod frame;
pub mod status;
mod surrogate;
pub mod transcript;

pub use close::Close;
