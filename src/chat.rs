//! Conversations: sessions of guests and hosts, the connections of this node, and the relay that carries messages
//! between them.

pub mod archive;
mod coalesce;
pub mod history;
pub mod hub;
pub mod inbox;
pub(crate) mod metrics;
pub mod relay;
pub mod rooms;
pub mod session;
pub mod session_revalidator;
pub mod statuses;
