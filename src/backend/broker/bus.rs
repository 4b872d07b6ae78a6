//! Ports to the bus: publications, notices and account changes.

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
    /// Row id of its host.
    pub host: HostId,
    /// Number of the preceding message. A step of more than one means that the broker began a new epoch.
    pub prev: Seq,
    /// Number of the message.
    pub seq: Seq,
    /// The complete frame.
    pub frame: &'a [u8],
    /// Provenance and age of the message; `None` if unknown.
    pub provenance: Option<Provenance>,
    /// Trace of the message, if it is traced.
    pub trace: Option<Trace>,
}

/// Provenance and age of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Whether this node submitted the message.
    pub is_own: bool,
    /// Time since the broker accepted the message, by this node's estimate of the broker's clock.
    pub age: Duration,
}

/// Receives what the buses deliver. The driver's tasks call it, in order within a room. An implementation must not
/// block.
pub trait Sink: Send + Sync + 'static {
    /// Called for each accepted message, on any node.
    fn publication(&self, publication: &Publication<'_>);
    /// Called for a notice that is relayed and not stored; `from` is the sender's side.
    fn notice(&self, room: RoomName, from: Side, frame: &[u8]);
    /// Called for each change of a room's state.
    fn changed(&self, change: Change);
    /// Called for each account change of a host.
    fn control(&self, control: Control);
    /// Called when publications may have been missed: every room of this node must be compared with the broker.
    fn missed(&self);
}

/// Port to the bus, which every node receives.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Starts to deliver publications to `sink`. Must be called once. Returns when all subscriptions are active, or
    /// [`Unavailable`] if they are not active yet; the driver keeps retrying.
    async fn subscribe(&self, sink: Arc<dyn Sink>) -> Result<(), Unavailable>;

    /// Relays a notice to every connection in a room. At most once; nothing is stored.
    async fn notify(&self, room: RoomName, from: Side, frame: Bytes) -> Result<(), Unavailable>;

    /// Publishes an account change to every node. At least once, including nodes that reconnect later.
    async fn publish_control(&self, control: Control) -> Result<(), Unavailable>;
}

/// Port to the health of this node's subscriptions. A single node has none: it publishes to itself.
pub trait BusHealth: Send + Sync + 'static {
    /// Whether this node receives what is published, as far as is known.
    fn is_receiving(&self) -> bool;
}
