//! Ports for the bus, which delivers publications, notices and account changes to all nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Change;
use crate::backend::Unavailable;
use crate::domain::trace::Trace;
use crate::domain::{Control, HostId, RoomName, Seq, Side};

/// An accepted message, as received over the bus.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Name of the room.
    pub room: RoomName,
    /// Row id of the room's host.
    pub host: HostId,
    /// Sequence number of the preceding message. If `seq` is more than one above `prev`, the broker began a new epoch
    /// in between.
    pub prev: Seq,
    /// Sequence number of the message.
    pub seq: Seq,
    /// The complete WebSocket frame that clients receive.
    pub frame: &'a [u8],
    /// Whether this node submitted the message, and the age of the message; `None` if unknown.
    pub provenance: Option<Provenance>,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Whether this node submitted a received message, and how old the message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Whether this node submitted the message.
    pub is_own: bool,
    /// Time since the broker accepted the message, by this node's estimate of the broker's clock.
    pub age: Duration,
}

/// Receives the events that the buses deliver. The tasks of the bus driver call its methods, and keep the order of
/// events within a room. An implementation must not block.
pub trait Sink: Send + Sync + 'static {
    /// Called for each accepted message, on any node.
    fn publication(&self, publication: &Publication<'_>);
    /// Called for each notice. Notices are relayed and not stored; `from` is the sender's side.
    fn notice(&self, room: RoomName, from: Side, frame: &[u8]);
    /// Called for each change of a room's state.
    fn changed(&self, change: Change);
    /// Called for each account change of a host.
    fn control(&self, control: Control);
    /// Called when publications may have been missed. The sink must compare every room of this node with the broker.
    fn missed(&self);
}

/// Port for the buses, to which every node subscribes.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Subscribes to all buses and starts to deliver events to `sink`. Must be called once. Returns `Ok` when all
    /// subscriptions are active. Returns [`Unavailable`] if a subscription failed; the driver continues to retry.
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable>;

    /// Relays a notice to every connection in a room. Delivery is at most once, and the notice is not stored.
    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable>;

    /// Publishes an account change to every node. Delivery is at least once and includes nodes that reconnect later.
    async fn publish_control(&self, control: Control) -> Result<(), Unavailable>;
}

/// Port for the health of this node's subscriptions. A single-node server does not implement it, because it publishes
/// within its own process.
pub trait BusHealth: Send + Sync + 'static {
    /// Returns whether this node receives publications, as far as the driver can detect.
    fn is_receiving(&self) -> bool;
}
