//! The right to lead: one node at a time has it, for as long as it goes on asking.
//!
//! [`redis`] keeps it for a cluster; a single node needs nobody's leave ([`memory`]). Both pass the same suite.
//!
//! What a caller may rely on:
//!
//! - **One.** While a node has the lease no other gets it. It ends [`TTL`] after it was renewed last, by the clock of who keeps it.
//! - **Not for ever.** It is renewed by asking again. Whoever counts its life from *before* he asked has given it up before
//!   another gets it: a frozen or cut-off node cannot know more.
//! - **Failure.** [`Unavailable`] means "may have happened". Who keeps the lease may forget it (a failover): then two nodes
//!   believe that they lead, for a [`TTL`] at most. What a leader does has to be right all the same.

use std::time::Duration;

use async_trait::async_trait;

use crate::broker::Unavailable;

pub mod memory;
pub mod redis;
#[cfg(test)]
mod suite;

/// How long the lease lasts after it was renewed: three renewals may fail. With the time in which others ask, under the 20 s in
/// which somebody must lead again.
pub const TTL: Duration = Duration::from_secs(15);

/// The port. See the module for its promises.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Takes the lease, or renews it. `false`: another node has it.
    async fn hold(&self) -> Result<bool, Unavailable>;

    /// Gives it back, so that nobody has to wait for its end. Without having it, nothing happens.
    async fn release(&self) -> Result<(), Unavailable>;
}
