//! Presence: which hosts are online, known to every node.
//!
//! [`redis`](mod@redis) for a cluster, [`memory`] for a single node; both pass the same suite.
//!
//! A node tells the port only that *it* has sockets of a host, or no longer has: [`Presence::enter`] and
//! [`Presence::leave`]. The host is online while any node has. Both may be repeated. Sinks of all nodes hear of each change,
//! at most once, and each has a version that rises with every change of one host: whoever compares versions is not misled by
//! what comes late. Unreachable is not offline. What a dead node has said is taken back by another in [`Presence::keep`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::broker::Unavailable;
use crate::domain::HostUuid;

pub mod memory;
pub mod redis;
#[cfg(test)]
mod suite;

/// Whether a host is online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether any node has a socket of his.
    pub online: bool,
    /// Higher with every change; 0 of a host whom nobody has seen for a while.
    pub version: u64,
}

/// Counts a change.
fn count(online: bool) {
    let to = if online { "online" } else { "offline" };
    metrics::counter!(crate::metric::TRANSITIONS, "to" => to).increment(1);
}

/// What is heard from the port. Called from the driver's own tasks; an implementation never waits.
pub trait PresenceSink: Send + Sync + 'static {
    /// A host came online, or went offline.
    fn presence(&self, host: HostUuid, status: Status);
    /// A guest says to a host that he is there.
    fn greeting(&self, host: HostUuid, frame: &[u8]);
    /// Something may have been missed.
    fn missed(&self);
}

/// The port. See the module for its promises.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Starts to deliver. Called once; `Unavailable` if the subscription does not stand yet: the driver goes on trying.
    async fn subscribe(&self, sink: Arc<dyn PresenceSink>) -> Result<(), Unavailable>;

    /// This node has sockets of the host.
    async fn enter(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// This node has none any more.
    async fn leave(&self, host: HostUuid) -> Result<(), Unavailable>;

    /// Whether any node has.
    async fn status(&self, host: HostUuid) -> Result<Status, Unavailable>;

    /// How much dead nodes have left that nobody would find; with `adopt`, whoever clears up after them finds it from now on.
    async fn adopt_orphans(&self, _adopt: bool) -> Result<u64, Unavailable> {
        Ok(0)
    }

    /// Sends a guest's greeting to the host's sockets, wherever they are. At most once.
    async fn greet(&self, host: HostUuid, frame: Bytes) -> Result<(), Unavailable>;

    /// What is to be done all the time: says again what others have taken back or a server has lost, and takes back what nodes
    /// have said that are dead. May be interrupted anywhere; the next time, here or elsewhere, goes on.
    async fn keep(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}
