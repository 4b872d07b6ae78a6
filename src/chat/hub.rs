//! Registry of the connections of this node, by room and by host.
//!
//! Sessions register connections, and the relay delivers messages to them. If a login ends, its connections are closed.
//! The maps contain handles; each socket is owned by its own task.
//!
//! **Invariant:** no method waits, and no method holds a lock of a map after it returns.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dashmap::DashMap;

use crate::backend::broker::{MemberCounts, Publication};
use crate::chat::metrics::{GapReason, OutboxMetrics, RelayMetrics, RelayPath};
use crate::domain::Rng;
use crate::domain::{ConnectionId, HostId, HostUuid, RoomName, Seq, Side};
use crate::protocol::{Close, frame};

mod addresses;
mod connection;
mod registration;

use addresses::Addresses;
pub use addresses::{AddressSlot, Paces, SharedPace};
pub use connection::{
    Connection, Delivery, Identity, OUTBOX_BYTES, OUTBOX_FRAMES, Topic, WINDOW_BYTES, WINDOW_MESSAGES,
};
pub use registration::Registration;

/// Where a connection is registered: in a room or among the status sockets of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A chatroom.
    Room(RoomName),
    /// The status sockets of a host.
    Status(HostUuid),
}

/// All connections of this node.
#[derive(Debug)]
pub struct Hub {
    rooms: DashMap<RoomName, Vec<Arc<Connection>>>,
    statuses: DashMap<HostUuid, Vec<Arc<Connection>>>,
    /// The hosts' own status sockets, by row id of the host. `statuses` also contains them.
    host_statuses: DashMap<HostId, Vec<Arc<Connection>>>,
    addresses: Arc<Addresses>,
    next_id: AtomicU64,
    rng: Rng,
    relay_metrics: Arc<RelayMetrics>,
    outbox_metrics: Arc<OutboxMetrics>,
}

impl Hub {
    /// Creates a hub without connections.
    pub fn new(rng: Rng) -> Arc<Self> {
        Arc::new(Self {
            rooms: DashMap::new(),
            statuses: DashMap::new(),
            host_statuses: DashMap::new(),
            addresses: Arc::default(),
            next_id: AtomicU64::new(1),
            rng,
            relay_metrics: Arc::default(),
            outbox_metrics: Arc::default(),
        })
    }

    /// Creates a handle for a new socket. Nothing is delivered to the socket before [`register`](Self::register) is
    /// called.
    pub fn connection(&self, identity: Identity) -> Arc<Connection> {
        self.connection_with(identity, false)
    }

    /// Creates a handle for a new socket. If `extras` is `true`, the socket also receives the frames added since the
    /// first protocol version (`?v=2`).
    pub fn connection_with(&self, identity: Identity, extras: bool) -> Arc<Connection> {
        let id = ConnectionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        // The delay varies by up to four seconds, so that clients that are disconnected together do not reconnect
        // together.
        let retry_ms = 1_000 + self.rng.below(4_000) as u16;
        Arc::new(Connection::new(id, identity, extras, retry_ms, self.outbox_metrics.clone()))
    }

    /// Registers a connection at a place until the returned guard is dropped.
    pub fn register(self: &Arc<Self>, place: Place, connection: Arc<Connection>) -> Registration {
        match place {
            Place::Room(room) => self.rooms.entry(room).or_default().push(connection.clone()),
            Place::Status(host) => {
                self.statuses.entry(host).or_default().push(connection.clone());
                if let Identity::Host { host, .. } = connection.identity() {
                    self.host_statuses.entry(*host).or_default().push(connection.clone());
                }
            }
        }
        Registration::new(self.clone(), place, connection)
    }

    /// Counts a socket towards the limit of its client address until the returned guard is dropped. Returns `None` if
    /// the address already has `limit` sockets.
    pub fn admit_address(&self, address: IpAddr, limit: Option<u32>) -> Option<AddressSlot> {
        self.addresses.admit(address, limit)
    }

    /// Returns the number of connections of each side in a room on this node.
    pub fn members(&self, room: RoomName) -> MemberCounts {
        let mut counts = MemberCounts::default();
        for member in self.rooms.get(&room).iter().flat_map(|members| members.iter()) {
            match member.side() {
                Side::Guest => counts.guests += 1,
                Side::Host if member.is_away() => counts.away += 1,
                Side::Host => counts.hosts += 1,
            }
        }
        counts
    }

    /// Returns the number of a host's own status sockets on this node.
    pub fn status_hosts(&self, host: HostUuid) -> u32 {
        self.statuses
            .get(&host)
            .map_or(0, |members| members.iter().filter(|member| member.side() == Side::Host).count() as u32)
    }

    /// Calls [`Connection::deliver`] for every connection in the room of a message. The message is encoded once, and
    /// the outboxes share the bytes. Returns the number of outboxes to which the message was added.
    pub fn deliver(&self, publication: &Publication<'_>) -> u64 {
        let Some(members) = self.rooms.get(&publication.room) else { return 0 };
        let framed = frame::text(publication.frame);
        let (mut queued, mut gap) = (0, false);
        for member in members.iter() {
            match member.deliver(publication.prev, publication.seq, &framed) {
                Delivery::Queued => queued += 1,
                Delivery::Gap => gap = true,
                Delivery::Skipped => {}
            }
        }
        drop(members);
        self.relay_metrics.delivered.increment(queued);
        if gap {
            self.relay_metrics.gaps.get(GapReason::Bus).increment(1);
        }
        if let Some(provenance) = publication.provenance.filter(|_| queued > 0) {
            let path = if provenance.is_own { RelayPath::Local } else { RelayPath::Remote };
            self.relay_metrics.relay_duration.get(path).record(provenance.age);
        }
        queued
    }

    pub(crate) fn relay_metrics(&self) -> &Arc<RelayMetrics> {
        &self.relay_metrics
    }

    pub(crate) fn outbox_metrics(&self) -> &OutboxMetrics {
        &self.outbox_metrics
    }

    /// Returns the total number of bytes that wait in the outboxes of this node.
    pub fn outbox_bytes(&self) -> u64 {
        let of = |members: &[Arc<Connection>]| members.iter().map(|member| member.waiting_bytes() as u64).sum::<u64>();
        let rooms: u64 = self.rooms.iter().map(|entry| of(entry.value())).sum();
        rooms + self.statuses.iter().map(|entry| of(entry.value())).sum::<u64>()
    }

    /// Queues a relayed notice for the connections in a room. Skips connections that did not request such frames or are
    /// catching up.
    pub fn notify(&self, room: RoomName, json: &[u8]) {
        let Some(members) = self.rooms.get(&room) else { return };
        let mut notice: Option<(Topic, Bytes)> = None;
        for member in members.iter().filter(|member| member.wants_extras()) {
            let (topic, framed) = notice.get_or_insert_with(|| (Topic::of_notice(json), frame::text(json)));
            member.notify_if_up_to_date(*topic, framed);
        }
    }

    /// Closes all sockets in a room after their pending messages and the frame `last`, if any, are sent.
    pub fn close_room(&self, room: RoomName, last: Option<&Bytes>, close: Close) {
        if let Some(members) = self.rooms.get(&room) {
            let framed = last.map(|json| frame::text(json));
            for member in members.iter() {
                member.close_when_up_to_date(framed.clone(), close);
            }
        }
    }

    /// Queues a notice for the status sockets of one side: the host's own sockets, or the sockets of the guests who
    /// watch the host.
    pub fn status(&self, host: HostUuid, side: Side, topic: Topic, json: &[u8]) {
        if let Some(members) = self.statuses.get(&host) {
            let framed = frame::text(json);
            for member in members.iter().filter(|member| member.side() == side) {
                member.notify(topic, framed.clone());
            }
        }
    }

    /// Returns whether a host has a status socket of their own on this node.
    pub fn has_status_socket(&self, host: HostId) -> bool {
        self.host_statuses.contains_key(&host)
    }

    /// Queues a notice for a host's own status sockets.
    pub fn notify_host(&self, host: HostId, topic: Topic, json: &[u8]) {
        if let Some(sockets) = self.host_statuses.get(&host) {
            let framed = frame::text(json);
            sockets.iter().for_each(|socket| socket.notify(topic, framed.clone()));
        }
    }

    /// Closes all status sockets of a host. Guests receive the frame `last` before the close.
    pub fn close_status(&self, host: HostUuid, last: &[u8], close: Close) {
        if let Some(members) = self.statuses.get(&host) {
            let framed = frame::text(last);
            for member in members.iter() {
                member.close_when_up_to_date((member.side() == Side::Guest).then(|| framed.clone()), close);
            }
        }
    }

    /// Closes the sockets of a login.
    pub fn close_login(&self, sid: &str) {
        self.close_where(
            Close::Unauthenticated,
            |identity| matches!(identity, Identity::Host { sid: own, .. } if &**own == sid),
        );
    }

    /// Closes the sockets of all logins of a host.
    pub fn close_host(&self, host: HostId) {
        self.close_where(
            Close::Unauthenticated,
            |identity| matches!(identity, Identity::Host { host: own, .. } if *own == host),
        );
    }

    /// Closes at most `most` sockets for the shutdown of this node. Each close frame contains the retry delay of its
    /// socket. Returns the number of closed sockets.
    pub fn close_some(&self, most: usize) -> usize {
        let mut closed = 0;
        for connection in self.all() {
            if closed == most {
                break;
            }
            if !connection.is_closing() {
                let retry = connection.retry();
                connection.close(Close::Restarting { retry });
                closed += 1;
            }
        }
        closed
    }

    /// Closes all sockets of this node with code 1013. Each close frame contains the retry delay of its socket.
    pub fn close_all_for_retry(&self) {
        for connection in self.all().into_iter().filter(|connection| !connection.is_closing()) {
            connection.close(connection.try_later());
        }
    }

    /// Returns the number of connections of this node.
    pub fn len(&self) -> usize {
        let rooms: usize = self.rooms.iter().map(|entry| entry.value().len()).sum();
        rooms + self.statuses.iter().map(|entry| entry.value().len()).sum::<usize>()
    }

    /// Returns whether this node has no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the connections in all rooms read the log, because they may have missed messages.
    pub fn catch_up_all(&self) {
        for members in &self.rooms {
            members.iter().for_each(|member| member.catch_up(0));
        }
    }

    /// Makes each connection in a room read the log if it has not received all messages up to `target`. Returns whether
    /// there were such connections.
    pub fn catch_up(&self, room: RoomName, target: Seq) -> bool {
        let mut any = false;
        if let Some(members) = self.rooms.get(&room) {
            for member in members.iter().filter(|member| member.sent() < target) {
                member.catch_up(target);
                any = true;
            }
        }
        any
    }

    /// Returns whether any connection in a room has not received all messages up to `target`.
    pub fn lags(&self, room: RoomName, target: Seq) -> bool {
        self.rooms.get(&room).is_some_and(|members| members.iter().any(|member| member.sent() < target))
    }

    /// Returns the logins with a socket on this node.
    pub fn logins(&self) -> HashSet<Box<str>> {
        let sid = |connection: &Arc<Connection>| match connection.identity() {
            Identity::Host { sid, .. } => Some(sid.clone()),
            Identity::Guest => None,
        };
        self.all().iter().filter_map(sid).collect()
    }

    /// Returns the hosts with a socket on this node.
    pub fn hosts(&self) -> HashSet<HostId> {
        let host = |connection: &Arc<Connection>| match connection.identity() {
            Identity::Host { host, .. } => Some(*host),
            Identity::Guest => None,
        };
        self.all().iter().filter_map(host).collect()
    }

    /// Returns the hosts for which this node has a status socket, either of the host or of a guest who watches the
    /// host.
    pub fn statuses(&self) -> Vec<HostUuid> {
        self.statuses.iter().map(|entry| *entry.key()).collect()
    }

    /// Returns whether a guest on this node watches the status of a host.
    pub fn is_watched(&self, host: HostUuid) -> bool {
        self.statuses.get(&host).is_some_and(|members| members.iter().any(|member| member.side() == Side::Guest))
    }

    /// Returns the rooms with a connection on this node.
    pub fn occupied_rooms(&self) -> Vec<RoomName> {
        self.rooms.iter().map(|entry| *entry.key()).collect()
    }

    fn close_where(&self, close: Close, belongs: impl Fn(&Identity) -> bool) {
        for connection in self.all() {
            if belongs(connection.identity()) {
                connection.close(close);
            }
        }
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        let rooms = self.rooms.iter().flat_map(|entry| entry.value().clone());
        let statuses = self.statuses.iter().flat_map(|entry| entry.value().clone());
        rooms.chain(statuses).collect()
    }
}

#[cfg(test)]
mod tests;
