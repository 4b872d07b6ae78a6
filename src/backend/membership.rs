//! Membership: the leases of the nodes of a cluster, by which a node detects that another one has died.
//!
//! [`redis`](mod@crate::backend::redis) implements the port. A single node has none.
//!
//! Guarantees:
//!
//! - **Incarnations.** A lease belongs to an incarnation of a node. An expired lease is not renewed: the node continues
//!   as its next incarnation.
//! - **Detection.** A node counts as dead when its lease has expired by the clock of the store, and only for nodes whose
//!   own lease was renewed without interruption for a full lease duration.
//! - **Failure.** After [`Unavailable`] the call may have taken effect.

use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Unavailable;

#[cfg(test)]
mod suite;

/// Port to the leases of the nodes. The module documents its guarantees.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// Renews this node's lease, or acquires a new one.
    async fn renew(&self) -> Result<(), Unavailable>;

    /// Returns the incarnation under which this node may write entries that other nodes remove after its death.
    /// Returns [`Unavailable`] if its lease has expired, or may have.
    fn incarnation(&self) -> Result<String, Unavailable>;

    /// Returns the number of live leases of this installation.
    async fn live_leases(&self) -> Result<u64, Unavailable>;

    /// Shortens this node's lease to at most `within`. It must not be renewed afterwards.
    async fn sign_off(&self, within: Duration) -> Result<(), Unavailable>;
}
