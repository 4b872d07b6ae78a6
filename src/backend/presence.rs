//! Presence: which hosts are online, on any node.
//!
//! [`redis`](mod@redis) implements the port for a cluster, [`memory`] for a single node. Both pass the same suite.
//!
//! A node reports only whether *it* has sockets of a host: [`Presence::enter`] and [`Presence::leave`]. Both are
//! idempotent. A host is online while any node has sockets of that host. The sinks of all nodes receive each change at
//! most once. Each change has a version that rises per host, so a late event is recognised as outdated. An unavailable
//! store does not mean offline. Entries of a dead node are removed by another node in [`Presence::keep`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::broker::Unavailable;
use crate::domain::HostUuid;

pub mod memory;
pub mod redis;
#[cfg(test)]
mod suite;

/// Status of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether any node has a status socket of the host.
    pub online: bool,
    /// Rises with every change. 0 for a host without a recent status.
    pub version: u64,
}

/// Receives events from the port. The driver's tasks call it. An implementation must not block.
pub trait PresenceSink: Send + Sync + 'static {
    /// Called when a host came online or went offline.
    fn presence(&self, host: HostUuid, status: Status);
    /// Called when a guest's notice to a host arrives.
    fn greeting(&self, host: HostUuid, frame: &[u8]);
    /// Called when events may have been missed.
    fn missed(&self);
}

/// Port to host presence. The module documents its guarantees.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Starts to deliver events. Must be called once. Returns [`Unavailable`] if the subscription is not active yet;
    /// the driver keeps retrying.
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable>;

    /// Reports that this node has sockets of the host.
    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Reports that this node no longer has sockets of the host.
    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Returns whether the host is online, on any node.
    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable>;

    /// Counts entries of dead nodes that no node would find. With `adopt`, makes them known, so that
    /// [`keep`](Self::keep) removes them.
    async fn adopt_orphans(&self, _adopt: bool) -> Result<u64, Unavailable> {
        Ok(0)
    }

    /// Sends a guest's notice to the host's sockets on all nodes. At most once.
    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable>;

    /// Maintains presence; must be called periodically. Restores this node's entries that were removed or lost, and
    /// removes entries of dead nodes. May be cancelled at any point; the next call on any node continues.
    async fn keep(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}
