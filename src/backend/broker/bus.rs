//! Ports for the bus, which delivers publications, notices, room changes and account changes to all nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Change;
use crate::backend::Unavailable;
use crate::domain::trace::Trace;
use crate::domain::{Control, HostId, RoomName, Seq, Side};

/// An accepted message, as the bus delivers it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Name of the room.
    pub room: RoomName,
    /// Row id of the room's host.
    pub host: HostId,
    /// Sequence number of the preceding message in the room. If `seq` is more than `prev + 1`, the broker began a new
    /// epoch between the two messages.
    pub prev: Seq,
    /// Sequence number of the message.
    pub seq: Seq,
    /// Complete JSON frame that clients receive.
    pub frame: &'a [u8],
    /// Whether this node submitted the message, and the age of the message. `None` if unknown.
    pub provenance: Option<Provenance>,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Origin and age of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Whether this node submitted the message.
    pub is_own: bool,
    /// Time since the broker accepted the message, by this node's estimate of the broker's clock.
    pub age: Duration,
}

/// Receiver of the events that the buses deliver. The tasks of the driver call its methods. Events of the same room are
/// delivered in order. An implementation must not block.
pub trait Sink: Send + Sync + 'static {
    /// Called for each accepted message. Any node may have submitted it.
    fn publication(&self, publication: &Publication<'_>);
    /// Called for each notice. `from` is the side that sent it. Notices are not stored.
    fn notice(&self, room: RoomName, from: Side, frame: &[u8]);
    /// Called for each change to a room's state.
    fn changed(&self, change: Change);
    /// Called for each change to a host's account.
    fn control(&self, control: Control);
    /// Called if publications may have been missed. The sink must compare every room in use on this node with the
    /// broker.
    fn missed(&self);
}

/// Port for the buses. Every node subscribes to all buses.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Subscribes to all buses and starts to deliver events to `sink`. Must be called only once. Returns `Ok` after all
    /// subscriptions are active. Returns [`Unavailable`] if a subscription failed. The driver keeps retrying it.
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable>;

    /// Sends a notice to every connection in a room. Delivery is at most once, and the notice is not stored.
    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable>;

    /// Publishes an account change to every node. Delivery is at least once, even to nodes that reconnect later.
    async fn publish_control(&self, control: Control) -> Result<(), Unavailable>;
}

/// Port for the health of this node's subscriptions. A single-node server does not implement the port, because it
/// delivers publications within its own process.
pub trait BusHealth: Send + Sync + 'static {
    /// Returns whether this node receives publications, as far as the driver can detect.
    fn is_receiving(&self) -> bool;
}
