//! Ports to shared state, and their drivers: Redis for a cluster, the process itself for a single node.

pub mod broker;
pub mod keyed_mutex;
pub mod lease;
pub(crate) mod metrics;
pub mod presence;
pub mod redis;
pub mod shutdown;
pub mod throttle;
