//! Sockets: the upgrade, and the task that owns a socket and connects it to its session.
//!
//! [`Upgrader`] answers the handshake; [`pump`] moves the bytes. No other module of the server uses sockets.

mod admission;
pub(crate) mod metrics;
mod outbound;
mod pace;
mod pump;
mod upgrade;

pub use admission::Admission;
pub use pace::ByteRates;
pub use upgrade::Upgrader;
