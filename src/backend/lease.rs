//! Leader lease. At most one node holds the lease, and only for as long as the node renews it.
//!
//! [`redis`](crate::backend::redis::lease) implements the port for a cluster. On a single-node server, the node always
//! holds the lease ([`embedded`](crate::backend::embedded::lease)). Both drivers pass the same test suite.
//!
//! Guarantees:
//!
//! - **Exclusion.** While a node holds the lease, no other node can acquire it. The lease expires [`TTL`] after the
//!   last renewal, by the clock of the store.
//! - **Expiry.** The holder renews the lease by calling [`Lease::hold`] again. A holder must measure [`TTL`] from the
//!   time *before* the call. It then stops acting as leader before another node can acquire the lease. This is true
//!   even for a holder that was suspended or disconnected.
//! - **Failure.** A call that returns [`Unavailable`] may have taken effect. The store may lose the lease in a
//!   failover. Two nodes then act as leader for at most [`TTL`]. The leader's work must therefore be correct even if
//!   two nodes do it.

use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Unavailable;

#[cfg(test)]
mod suite;

/// Duration of the lease after a renewal: three times the renewal interval. After the death of a leader, a new leader
/// must exist within 20 s, so the sum of `TTL` and the campaign interval must be below 20 s.
pub const TTL: Duration = Duration::from_secs(15);

/// Port for the leader lease. The module documentation lists its guarantees.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Acquires or renews the lease. Returns `false` if another node holds it.
    async fn hold(&self) -> Result<bool, Unavailable>;

    /// Releases the lease, so that another node can acquire it at once. Has no effect if this node does not hold the
    /// lease.
    async fn release(&self) -> Result<(), Unavailable>;
}
