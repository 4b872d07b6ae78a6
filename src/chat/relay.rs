//! Relays messages between this node's connections and the broker.
//!
//! [`Relay::submit`] queues a message for the acceptor of its partition, which has at most one call to the broker in
//! flight. The bus publishes an accepted message to every node, including the sender's. The copy that the sender
//! receives is the acknowledgement. [`Deliveries`] implements the bus's [`Sink`]: it encodes a publication once as a
//! frame and queues the frame for the connections in the room, without parsing JSON.

use std::sync::Arc;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::accounts::hosts::Hosts;
use crate::backend::broker::{Change, MessageLog, Partition, Publication, Sink, Submission};
use crate::backend::shutdown::Shutdown;
use crate::chat::archive::Archive;
use crate::chat::hub::{Connection, Hub};
use crate::chat::inbox::Inbox;
use crate::chat::rooms::Rooms;
use crate::chat::session_revalidator::SessionRevalidator;
use crate::chat::statuses::Watch;
use crate::domain::Control;
use crate::domain::{HostId, RoomChange, RoomName, Side};
use crate::protocol::Close;

mod acceptor;
mod members;
mod sweep;

use acceptor::Acceptor;
pub use members::Members;
pub use sweep::{INTERVAL as SWEEP_INTERVAL, Sweep};

/// Submits messages to the broker, through one acceptor per partition.
#[derive(Clone, Debug)]
pub struct Relay {
    acceptors: Arc<[Acceptor]>,
}

impl Relay {
    /// Starts an acceptor for each partition. When background work is shut down, each acceptor stops after it has
    /// processed its remaining messages.
    pub fn start(broker: &Arc<dyn MessageLog>, rooms: &Rooms, hub: &Arc<Hub>, shutdown: &Shutdown) -> Self {
        let acceptors = (0..broker.partitions())
            .map(|partition| {
                Acceptor::start(Partition(partition), broker.clone(), rooms.clone(), hub.clone(), shutdown)
            })
            .collect();
        Self { acceptors }
    }

    /// Submits a message. The sender later receives the message, or the sender's socket is closed.
    pub fn submit(&self, connection: &Arc<Connection>, submission: Submission) {
        let partition = Partition::of(submission.room, self.acceptors.len() as u16);
        if let Some(acceptor) = self.acceptors.get(usize::from(partition.0)) {
            acceptor.submit(connection.clone(), submission);
        }
    }

    /// Returns whether the partition of a room has reached its limit of unacknowledged bytes. If it has, the sockets of
    /// the room must not be read.
    pub fn is_full(&self, room: RoomName) -> bool {
        let partition = Partition::of(room, self.acceptors.len() as u16);
        self.acceptors.get(usize::from(partition.0)).is_some_and(Acceptor::is_full)
    }
}

/// Receives the events of the bus and passes each to the components that use it.
pub struct Deliveries {
    /// This node's connections.
    pub hub: Arc<Hub>,
    /// Cache from which changed hosts are removed.
    pub hosts: Hosts,
    /// Rejects the tokens of a revoked login at once.
    pub accounts: Accounts,
    /// Notifies hosts of new messages.
    pub inbox: Inbox,
    /// Revalidates the accounts of open host sockets after account changes may have been missed.
    pub revalidator: SessionRevalidator,
    /// Sends `offline` to guests after a host has disabled the online status.
    pub watch: Watch,
    /// Archiver, woken by every message. `None` on a single-node server.
    pub archive: Option<Archive>,
    /// Runs asynchronous work for events, because the handling of an event must not wait.
    pub tracker: TaskTracker,
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliveries").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Closes the status sockets of a host if the online status of the host is disabled.
    fn end_hidden_status(&self, id: HostId) {
        let (hosts, watch) = (self.hosts.clone(), self.watch.clone());
        self.tracker.spawn(async move {
            match hosts.by_id(id).await {
                Ok(Some(host)) if !host.config.use_online_status => watch.hide(host.uuid),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, host = id.0, "failed to read online status setting of host"),
            }
        });
    }
}

impl Sink for Deliveries {
    fn publication(&self, publication: &Publication<'_>) {
        let mut span = publication.trace.and_then(|trace| trace.child("message.deliver"));
        let receivers = self.hub.deliver(publication);
        if let Some(span) = &mut span {
            span.note("pintalk.room", publication.room.to_string());
            span.note("pintalk.seq", publication.seq as i64);
            span.note("pintalk.receivers", receivers as i64);
        }
        self.inbox.arrived(publication);
        if let Some(archive) = &self.archive {
            archive.wake(publication.room);
        }
    }

    fn notice(&self, room: RoomName, _: Side, frame: &[u8]) {
        self.hub.notify(room, frame);
    }

    fn changed(&self, change: Change) {
        match change.change {
            RoomChange::Close => self.hub.close_room(change.room, Some(&change.notice), Close::Normal),
            RoomChange::Delete => self.hub.close_room(change.room, None::<&Bytes>, Close::NotFound),
            RoomChange::Resume => {}
        }
    }

    fn control(&self, control: Control) {
        match control {
            Control::LoginEnded { sid } => {
                self.accounts.login_ended(&sid);
                self.hub.close_login(&sid);
            }
            Control::HostDisabled { host } => {
                self.hosts.evict(host);
                self.hub.close_host(host);
            }
            Control::ConfigChanged { host } => {
                self.hosts.evict(host);
                self.end_hidden_status(host);
            }
        }
    }

    fn missed(&self) {
        self.hub.catch_up_all();
        self.revalidator.request_check();
    }
}
