//! Drivers of a single-node server. They store their state in memory and in the database.

pub mod broker;
pub mod lease;
pub mod presence;
pub mod throttle;
