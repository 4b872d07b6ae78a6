//! Membership: the leases of a cluster's nodes. A node uses them to detect that another node has died.
//!
//! [`redis`](mod@crate::backend::redis) implements the port. A single-node server does not implement it.
//!
//! Guarantees:
//!
//! - **Incarnations.** A lease belongs to an incarnation of a node. An expired lease is never renewed; the node
//!   continues with a new lease as its next incarnation.
//! - **Detection.** A node counts as dead when its lease has expired by the clock of the store. Only nodes whose own
//!   lease has been renewed without interruption for a full lease duration treat other nodes as dead.
//! - **Failure.** A call that returns [`Unavailable`] may have taken effect.

use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Unavailable;

#[cfg(test)]
mod suite;

/// Port for the leases of the nodes. The module documentation lists its guarantees.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// Renews the lease of this node, or acquires a new one.
    async fn renew(&self) -> Result<(), Unavailable>;

    /// Returns the incarnation under which this node may write entries. Other nodes remove these entries after the
    /// node's death. Returns [`Unavailable`] if the node's lease has expired or may have expired.
    fn incarnation(&self) -> Result<String, Unavailable>;

    /// Returns the number of live leases of this installation.
    async fn live_leases(&self) -> Result<u64, Unavailable>;

    /// Shortens the lease of this node to at most `within`. The lease must not be renewed afterwards.
    async fn sign_off(&self, within: Duration) -> Result<(), Unavailable>;
}
