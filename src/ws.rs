//! Sockets: the upgrade, and the task that owns a socket and stands between it and its session.
//!
//! [`Upgrader`] answers the handshake; [`pump`] moves bytes. Nothing else in the server knows that there are sockets.

mod admission;
mod outbound;
mod pace;
mod pump;
mod upgrade;

pub use admission::Admission;
pub use pace::ByteRates;
pub use upgrade::Upgrader;
