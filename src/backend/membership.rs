//! Membership: the leases of a cluster's nodes. The leases show which nodes are dead.
//!
//! [`redis`](mod@crate::backend::redis) implements the port. A single-node server does not implement it.
//!
//! Guarantees:
//!
//! - **Incarnations.** An incarnation is a period in which a node holds one lease without interruption. An expired
//!   lease is never renewed. The node acquires a new lease and begins its next incarnation.
//! - **Detection.** A node counts as dead when its lease has expired by the clock of the store. A node may treat other
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

    /// Returns the id of the current incarnation. The node stores it with each presence entry that it writes. Other
    /// nodes remove the entries of an incarnation after its lease has expired. Returns [`Unavailable`] if the lease of
    /// this node has expired or may have expired.
    fn incarnation(&self) -> Result<String, Unavailable>;

    /// Returns the number of this installation's unexpired leases.
    async fn live_leases(&self) -> Result<u64, Unavailable>;

    /// Shortens the remaining time of this node's lease to at most `within`. The lease must not be renewed afterwards.
    async fn sign_off(&self, within: Duration) -> Result<(), Unavailable>;
}
