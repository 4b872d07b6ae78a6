//! WebSockets: the upgrade of a request, and the task that owns a socket and connects it to its session.
//!
//! [`Upgrader`] answers the handshake. [`pump`] reads and writes the socket. No other module of the server accesses
//! sockets.

mod admission;
mod endpoint;
mod handshake;
pub(crate) mod metrics;
mod outbound;
mod pace;
mod pump;
mod stream;
mod upgrade;

pub use admission::Admission;
pub use pace::ByteRates;
pub use upgrade::Upgrader;
