//! Drivers of a single-node server. They store state in memory and in the node's SQL database.

pub mod broker;
pub mod lease;
pub mod presence;
pub mod throttle;
