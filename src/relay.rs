//! The relay: between this node's connections and the broker.
//!
//! A message goes in by [`Relay::submit`], waits for the one call in flight of its partition, and comes back over the bus to
//! every node, its sender's included: what he receives is his acknowledgement. The relay is the [`Sink`] of the bus; it frames a
//! publication once and hands it to the room's connections, without reading JSON.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archive::Archive;
use crate::broker::{Broker, Change, Partition, Sink, Submission};
use crate::control::Control;
use crate::domain::{RoomChange, RoomName, Seq, Side};
use crate::hosts::Hosts;
use crate::hub::{Connection, Hub};
use crate::protocol::Close;
use crate::rooms::Rooms;

mod acceptor;
mod members;

use acceptor::Acceptor;
pub use members::Members;

/// Where a message goes in. One acceptor a partition.
#[derive(Clone, Debug)]
pub struct Relay {
    broker_partitions: u16,
    acceptors: Arc<[Acceptor]>,
}

impl Relay {
    /// Starts an acceptor for each partition; they end, once they have nothing left to do, after `stop`.
    pub fn start(
        broker: &Arc<dyn Broker>,
        rooms: &Rooms,
        hub: &Arc<Hub>,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let acceptors = (0..broker.partitions())
            .map(|partition| {
                Acceptor::start(Partition(partition), broker.clone(), rooms.clone(), hub.clone(), tracker, stop.clone())
            })
            .collect();
        Self { broker_partitions: broker.partitions(), acceptors }
    }

    /// Hands a message in. The sender hears of it over the bus, or his socket ends.
    pub fn submit(&self, connection: &Arc<Connection>, submission: Submission) {
        let partition = Partition::of(submission.room, self.broker_partitions);
        if let Some(acceptor) = self.acceptors.get(usize::from(partition.0)) {
            acceptor.submit(connection.clone(), submission);
        }
    }
}

/// What hears the bus: hands everything to whom it concerns.
#[derive(Debug)]
pub struct Deliveries {
    /// This node's connections.
    pub hub: Arc<Hub>,
    /// Whose caches forget a host who changed.
    pub hosts: Hosts,
    /// Woken by every message, as there is something to write.
    pub archive: Option<Archive>,
    /// Called with the login that ended, so that its tokens are refused at once.
    pub login_ended: LoginEnded,
    /// Called with a host whose settings changed.
    pub host_changed: HostChanged,
}

/// See [`Deliveries::login_ended`].
pub struct LoginEnded(pub Box<dyn Fn(&str) + Send + Sync>);

/// See [`Deliveries::host_changed`].
pub struct HostChanged(pub Box<dyn Fn(crate::domain::HostId) + Send + Sync>);

impl std::fmt::Debug for LoginEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoginEnded")
    }
}

impl std::fmt::Debug for HostChanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostChanged")
    }
}

impl Sink for Deliveries {
    fn publication(&self, room: RoomName, prev: Seq, seq: Seq, frame: &[u8]) {
        self.hub.deliver(room, prev, seq, frame);
        if let Some(archive) = &self.archive {
            archive.wake(room);
        }
    }

    fn notice(&self, room: RoomName, _: Side, frame: &[u8]) {
        self.hub.notify(room, frame);
    }

    fn changed(&self, change: Change) {
        match change.change {
            RoomChange::Close => self.hub.end_room(change.room, Some(&change.notice), Close::Normal),
            RoomChange::Delete => self.hub.end_room(change.room, None::<&Bytes>, Close::NotFound),
            RoomChange::Resume => {}
        }
    }

    fn control(&self, control: Control) {
        match control {
            Control::LoginEnded { sid } => {
                (self.login_ended.0)(&sid);
                self.hub.end_login(&sid);
            }
            Control::HostDisabled { host } => {
                self.hosts.forget(host);
                self.hub.end_host(host);
            }
            Control::ConfigChanged { host } => {
                self.hosts.forget(host);
                (self.host_changed.0)(host);
            }
        }
    }

    fn missed(&self) {
        self.hub.all_fall_behind();
    }
}
