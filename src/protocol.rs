//! What goes over the wire: frames of the two sockets, close codes, and bodies of the HTTP API.
//!
//! Pure as the domain is: text in, values out, and back.

pub mod api;
pub mod chat;
pub mod close;
pub mod frame;
pub mod status;
mod surrogate;

pub use close::Close;
