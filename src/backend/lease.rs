//! The leader's lease: at most one node holds it, for as long as it renews it.
//!
//! [`redis`](crate::backend::redis::lease) implements the port for a cluster. A single node always holds the lease ([`embedded`](crate::backend::embedded::lease)). Both pass the same
//! suite.
//!
//! Guarantees:
//!
//! - **Exclusion.** While a node holds the lease, no other node can acquire it. It expires [`TTL`] after the last
//!   renewal, by the clock of the store.
//! - **Expiry.** The lease is renewed by calling [`Lease::hold`] again. A holder that counts its duration from *before*
//!   the call stops before another node acquires the lease, even if it was frozen or cut off.
//! - **Failure.** After [`Unavailable`] the call may have taken effect. The store may lose the lease in a failover; two
//!   nodes then act as leader for at most one [`TTL`]. The work of a leader must be correct nevertheless.

use std::time::Duration;

use async_trait::async_trait;

use crate::backend::Unavailable;

#[cfg(test)]
mod suite;

/// Duration of the lease after a renewal: three times the renewal interval. With the campaign interval it stays below
/// the 20 s within which a new leader must exist.
pub const TTL: Duration = Duration::from_secs(15);

/// Port to the lease. The module documents its guarantees.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Acquires or renews the lease. Returns `false` if another node holds it.
    async fn hold(&self) -> Result<bool, Unavailable>;

    /// Releases the lease, so that other nodes need not wait for its expiry. Has no effect for a node that does not
    /// hold it.
    async fn release(&self) -> Result<(), Unavailable>;
}
