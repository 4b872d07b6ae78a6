//! Presence: which hosts are online. A host is online while any node has an open status socket of the host.
//!
//! [`redis`](crate::backend::redis::presence) implements the port for a cluster, and
//! [`embedded`](crate::backend::embedded::presence) implements it for a single-node server. Both drivers pass the same
//! test suite.
//!
//! A node reports only whether it has status sockets of a host, with [`Presence::enter`] and [`Presence::leave`]. Both
//! calls are idempotent. The sinks of all nodes receive each change at most once. Each change to a host's status has a
//! higher version than the one before it. A receiver can therefore ignore an outdated event that arrives late. An
//! unavailable store does not make hosts go offline. After the death of a node, another node removes the entries of the
//! dead node in [`PresenceUpkeep::keep`].

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
    /// Version of the status. Every change increases it. It is 0 for a host whose status has not changed recently.
    pub version: u64,
}

/// Receiver of presence events. The tasks of the driver call its methods. An implementation must not block.
pub trait PresenceSink: Send + Sync + 'static {
    /// Called when a host has come online or gone offline.
    fn presence(&self, host: HostUuid, status: Status);
    /// Called when a guest's notice for a host arrives.
    fn greeting(&self, host: HostUuid, frame: &[u8]);
    /// Called if events may have been missed.
    fn missed(&self);
}

/// Port for host presence. The module documentation lists its guarantees.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Subscribes to presence events and starts to deliver them to `sink`. Must be called only once. Returns
    /// [`Unavailable`] if the subscription failed. The driver keeps retrying it.
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable>;

    /// Reports that this node has status sockets of the host.
    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Reports that this node no longer has status sockets of the host.
    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Returns the current status of the host.
    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable>;

    /// Sends a guest's notice to the host's sockets on all nodes. Delivery is at most once.
    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable>;
}

/// Port for the maintenance of a cluster's presence entries. A single-node server does not implement the port, because
/// its entries are in memory.
#[async_trait]
pub trait PresenceUpkeep: Send + Sync + 'static {
    /// Restores entries of this node that were removed or lost, and removes the entries of dead nodes. Must be called
    /// periodically. The call may be cancelled at any point. The next call on any node continues its work.
    async fn keep(&self) -> Result<(), Unavailable>;

    /// Returns the number of dead nodes that have presence entries but are missing from the list of nodes. If `adopt`
    /// is true, also adds these nodes to the list, so that [`keep`](Self::keep) removes their entries.
    async fn adopt_orphans(&self, adopt: bool) -> Result<u64, Unavailable>;
}
