//! Drivers of a single node: memory of the process, and its SQL database.

pub mod broker;
pub mod lease;
pub mod presence;
pub mod throttle;
