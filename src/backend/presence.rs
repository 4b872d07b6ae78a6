//! Presence: which hosts are online. A host is online while any node has a status socket of the host.
//!
//! [`redis`](crate::backend::redis::presence) implements the port for a cluster,
//! [`embedded`](crate::backend::embedded::presence) for a single-node server. Both drivers pass the same
//! test suite.
//!
//! A node reports only whether it has sockets of a host, with [`Presence::enter`] and [`Presence::leave`]. Both calls
//! are idempotent. The sinks of all nodes receive each change at most once. Each change has a version that rises per
//! host, so that a receiver can ignore an outdated event that arrives late. An unavailable store does not mean that
//! hosts are offline. Another node removes the entries of a dead node, in [`PresenceUpkeep::keep`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::backend::Unavailable;
use crate::domain::HostUuid;

#[cfg(test)]
mod suite;

/// Status of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether any node has a status socket of the host.
    pub online: bool,
    /// Version of the status. It rises with every change, and is 0 for a host without a recent status.
    pub version: u64,
}

/// Receives presence events. The tasks of the driver call the methods. An implementation must not block.
pub trait PresenceSink: Send + Sync + 'static {
    /// Called when a host came online or went offline.
    fn presence(&self, host: HostUuid, status: Status);
    /// Called when a guest's notice for a host arrives.
    fn greeting(&self, host: HostUuid, frame: &[u8]);
    /// Called when events may have been missed.
    fn missed(&self);
}

/// Port for host presence. The module documentation lists its guarantees.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Subscribes to presence events and starts to deliver them to `sink`. Must be called once. Returns [`Unavailable`]
    /// if the subscription failed; the driver continues to retry.
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable>;

    /// Reports that this node has sockets of the host.
    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Reports that this node no longer has sockets of the host.
    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Returns whether the host is online, on any node.
    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable>;

    /// Sends a guest's notice to the host's sockets on all nodes. Delivery is at most once.
    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable>;
}

/// Port for maintaining the presence entries of a cluster. A single-node server does not implement it, because its
/// entries are in memory.
#[async_trait]
pub trait PresenceUpkeep: Send + Sync + 'static {
    /// Restores entries of this node that were removed or lost, and removes entries of dead nodes. Must be called
    /// periodically. The call may be cancelled at any point; the next call on any node continues.
    async fn keep(&self) -> Result<(), Unavailable>;

    /// Counts dead nodes that have presence entries and are missing from the list of nodes. With `adopt`, adds these
    /// nodes to the list, so that [`keep`](Self::keep) removes their entries.
    async fn adopt_orphans(&self, adopt: bool) -> Result<u64, Unavailable>;
}
