//! Membership: the leases of a cluster's nodes. A node uses them to detect that another node has died.
//!
//! [`redis`](mod@crate::backend::redis) implements the port. A single-node server does not implement it.
//!
//! Guarantees:
//!
//! - **Incarnations.** An incarnation identifies the period in which a node holds one lease without interruption. An
//!   expired lease is never renewed; the node acquires a new lease and continues as its next incarnation.
//! - **Detection.** A node counts as dead when its lease has expired by the clock of the store. A node treats other
//!   nodes as dead only if its own lease has been renewed without interruption for a full lease duration.
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

    /// Returns the current incarnation, which is stored with each presence entry that this node writes. Other nodes
    /// remove the entries of an incarnation after its lease has expired. Returns [`Unavailable`] if the node's lease
    /// has expired or may have expired.
    fn incarnation(&self) -> Result<String, Unavailable>;

    /// Returns the number of live leases of this installation.
    async fn live_leases(&self) -> Result<u64, Unavailable>;

    /// Shortens the lease of this node to at most `within`. The lease must not be renewed afterwards.
    async fn sign_off(&self, within: Duration) -> Result<(), Unavailable>;
}
