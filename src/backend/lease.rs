//! Leader lease. At most one node holds it, for as long as the node renews it.
//!
//! [`redis`](crate::backend::redis::lease) implements the port for a cluster. A single-node server always holds the
//! lease ([`embedded`](crate::backend::embedded::lease)). Both drivers pass the same test suite.
//!
//! Guarantees:
//!
//! - **Exclusion.** While a node holds the lease, no other node can acquire it. It expires [`TTL`] after the last
//!   renewal, by the clock of the store.
//! - **Expiry.** The holder renews the lease by calling [`Lease::hold`] again. A holder must measure the duration from
//!   the time *before* the call. It then stops acting as leader before another node can acquire the lease, even if the
//!   holder was frozen or disconnected.
//! - **Failure.** A call that returns [`Unavailable`] may have taken effect. The store may lose the lease in a
//!   failover. Two nodes then act as leader for at most one [`TTL`], so the leader's work must be correct even if two
//!   nodes do it.

use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Unavailable;

#[cfg(test)]
mod suite;

/// Duration of the lease after a renewal: three times the renewal interval. The sum of this duration and the campaign
/// interval is below 20 s, the time within which a new leader must exist.
pub const TTL: Duration = Duration::from_secs(15);

/// Port for the leader lease. The module documentation lists its guarantees.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Acquires or renews the lease. Returns `false` if another node holds it.
    async fn hold(&self) -> Result<bool, Unavailable>;

    /// Releases the lease, so that another node can acquire it before it would expire. Has no effect for a node that
    /// does not hold it.
    async fn release(&self) -> Result<(), Unavailable>;
}
