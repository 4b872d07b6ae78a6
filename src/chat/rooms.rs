//! Rooms: guests create them; hosts list, pin, close, restore and delete them.
//!
//! The database is the source of truth for the state of a room. A change and its event are written in one transaction.
//! The broker then applies and publishes the event, and the event is deleted. If a node crashes before the event is
//! deleted, any node applies it a few seconds later ([`Rooms::redo_events`]). Applying an event twice is harmless.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use moka::future::Cache;

use crate::backend::broker::{Change, RecentLog, RoomStates, Seeding};
use crate::backend::{Backend, Unavailable};
use crate::chat::history::{History, HistoryError, RoomKey};
use crate::domain::Rng;
use crate::domain::clock::Clock;
use crate::domain::{
    ChatroomId, Host, HostId, Message, Room, RoomChange, RoomName, Seq, WallClock, WireOffset, nickname,
};
use crate::protocol::chat::closed_frame;
use crate::store::{NewRoom, PinOutcome, RoomEvent, Store, StoreError};

mod contact;
mod list;
mod seeding;

use seeding::NewRoomTicket;

pub use crate::store::RoomFilter;

/// Minimum age at which any node applies a pending event. The node that wrote the event may have crashed before it
/// applied the event.
const EVENT_GRACE: Duration = Duration::from_secs(5);

/// Number of rows per statement while the messages of a deleted room are deleted.
const DELETE_BATCH: u64 = 1_000;

/// Capacity and time to live of the room-owner cache, whose values rarely change.
const KEYS: u64 = 50_000;
const KEYS_TTL: Duration = Duration::from_secs(60);

/// Reason why an operation on a room failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RoomError {
    /// The room does not exist.
    #[error("no such room")]
    NotFound,
    /// The room belongs to another host.
    #[error("the room belongs to another host")]
    NotYours,
    /// The host already has five pinned rooms.
    #[error("at most five rooms can be pinned")]
    TooManyPinned,
    /// The room is closed and cannot be pinned.
    #[error("the room is closed")]
    Closed,
    /// The broker or the database is unavailable. The operation can be retried later.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl From<StoreError> for RoomError {
    fn from(error: StoreError) -> Self {
        RoomError::Unavailable(error.to_string())
    }
}

impl From<Unavailable> for RoomError {
    fn from(error: Unavailable) -> Self {
        RoomError::Unavailable(error.to_string())
    }
}

impl From<HistoryError> for RoomError {
    fn from(error: HistoryError) -> Self {
        RoomError::Unavailable(error.to_string())
    }
}

/// Room as shown in the host's room list.
#[derive(Clone, Debug)]
pub struct RoomView {
    /// Row of the room, updated with messages that are not in the database yet.
    pub room: Room,
    /// Number of guest messages that the host has not seen.
    pub unread: u64,
    /// Whether a guest is connected to the room.
    pub guest_online: bool,
}

/// Properties of a room that rarely change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomOwner {
    /// Name and id of the room.
    pub key: RoomKey,
    /// Host of the room.
    pub host: HostId,
    /// Whether the guest left an e-mail address; `None` if the database was not read. While this value is cached, it
    /// may be outdated.
    pub has_contact: Option<bool>,
}

/// Operations on rooms. Clones share their caches and connections.
#[derive(Clone)]
pub struct Rooms {
    store: Store,
    states: Arc<dyn RoomStates>,
    /// Interface for seeding rooms into the broker. `None` on a single-node server, whose rooms are only in the
    /// database.
    seeding: Option<Arc<dyn Seeding>>,
    /// Log of the messages that may not be in the database yet. `None` on a single-node server.
    recent: Option<Arc<dyn RecentLog>>,
    history: History,
    clock: Arc<dyn Clock>,
    rng: Rng,
    wire: WireOffset,
    owners: Cache<RoomName, RoomOwner>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Rooms {
    /// Creates the service. `wire` is the offset of the clients' wall-clock times from UTC.
    pub fn new(
        store: Store,
        backend: &Backend,
        history: History,
        clock: Arc<dyn Clock>,
        rng: Rng,
        wire: WireOffset,
    ) -> Self {
        let owners = Cache::builder().max_capacity(KEYS).time_to_live(KEYS_TTL).build();
        let states = backend.states.clone();
        let seeding = backend.cluster.as_ref().map(|cluster| cluster.seeding.clone());
        let recent = backend.cluster.as_ref().map(|cluster| cluster.recent.clone());
        Self { store, states, seeding, recent, history, clock, rng, wire, owners }
    }

    /// Creates a room for a new guest of a host. A repeated call with the same host and idempotency key returns the
    /// same room.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database is unavailable.
    pub async fn open(&self, host: &Host, idempotency_key: Option<String>) -> Result<Room, RoomError> {
        let name = RoomName::from_random(self.rng.bytes());
        let ticket = self.ticket_of_new(name).await;
        let guest = nickname(self.rng.below(u64::MAX));
        let life = ticket.as_ref().and_then(NewRoomTicket::epoch);
        let room = NewRoom { host: host.id, guest, name, idempotency_key, life };
        let room = self.store.rooms().create(room, self.clock.now()).await?;
        // A repeated call returns an older room.
        if room.name == name {
            if let Some(ticket) = ticket {
                ticket.seed(&room).await;
            }
            let key = RoomKey { name, chatroom: room.id };
            self.owners.insert(name, RoomOwner { key, host: room.host, has_contact: Some(false) }).await;
        }
        Ok(room)
    }

    /// Returns a room if it belongs to `host`.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`], [`RoomError::NotYours`] or [`RoomError::Unavailable`].
    pub async fn owned(&self, host: HostId, id: ChatroomId) -> Result<Room, RoomError> {
        let room = self.store.rooms().get(id).await?.ok_or(RoomError::NotFound)?;
        if room.host == host { Ok(room) } else { Err(RoomError::NotYours) }
    }

    /// Pins or unpins a room.
    ///
    /// # Errors
    /// Returns a [`RoomError`] of any variant.
    pub async fn pin(&self, host: HostId, id: ChatroomId, pinned: bool) -> Result<RoomView, RoomError> {
        self.owned(host, id).await?;
        match self.store.rooms().pin(id, pinned, self.clock.now()).await? {
            PinOutcome::Done(room) => self.view(room).await,
            PinOutcome::TooMany => Err(RoomError::TooManyPinned),
            PinOutcome::Closed => Err(RoomError::Closed),
            PinOutcome::Gone => Err(RoomError::NotFound),
        }
    }

    /// Closes a room. Has no effect if the room is already closed.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`], [`RoomError::NotYours`] or [`RoomError::Unavailable`].
    pub async fn close(&self, host: HostId, id: ChatroomId) -> Result<RoomView, RoomError> {
        let room = self.owned(host, id).await?;
        let room = self.change(room.name, RoomChange::Close).await?;
        self.view(room).await
    }

    /// Reopens a closed room. Has no effect if the room is already open.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`], [`RoomError::NotYours`] or [`RoomError::Unavailable`].
    pub async fn restore(&self, host: HostId, id: ChatroomId) -> Result<RoomView, RoomError> {
        let room = self.owned(host, id).await?;
        let room = self.change(room.name, RoomChange::Resume).await?;
        self.view(room).await
    }

    /// Deletes a room and all its messages (SPEC 6.3).
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`], [`RoomError::NotYours`] or [`RoomError::Unavailable`].
    pub async fn delete(&self, host: HostId, id: ChatroomId) -> Result<(), RoomError> {
        let room = self.owned(host, id).await?;
        self.change(room.name, RoomChange::Delete).await?;
        Ok(())
    }

    /// Returns the number of messages in a room, and one page by offset from the newest message, newest first.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the broker or the database could not be read.
    pub async fn messages(&self, room: &Room, offset: u64, limit: u64) -> Result<(u64, Vec<Message>), RoomError> {
        let key = RoomKey { name: room.name, chatroom: room.id };
        Ok(self.history.by_offset(key, offset, limit).await?)
    }

    /// Streams all messages of a room in ascending order, in parts.
    pub fn conversation(&self, room: &Room) -> impl Stream<Item = Result<Vec<Message>, RoomError>> + Send + use<> {
        self.history.whole(RoomKey { name: room.name, chatroom: room.id }).map_err(RoomError::from)
    }

    /// Returns the current time as the wall-clock time of the clients.
    pub fn wall_clock(&self) -> WallClock {
        self.wire.wall_clock(self.clock.now())
    }

    /// Returns the key, the host and the contact flag of the room with this name; `None` if it does not exist.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database could not be read and the room was not found in the broker.
    pub async fn owner(&self, name: RoomName) -> Result<Option<RoomOwner>, RoomError> {
        if let Some(owner) = self.owners.get(&name).await {
            return Ok(Some(owner));
        }
        let owner = match self.store.rooms().by_name(name).await {
            Ok(room) => room.map(|room| (room.id, room.host, Some(room.has_contact))),
            // While the database is unavailable, rooms that the broker contains continue to work.
            Err(StoreError::Unavailable(why)) => match self.states.status(&[name]).await?.pop().flatten() {
                Some(status) => Some((status.chatroom, status.host, None)),
                None => return Err(RoomError::Unavailable(why.to_string())),
            },
            Err(error) => return Err(error.into()),
        };
        let owner = owner.map(|(chatroom, host, has_contact)| {
            let key = RoomKey { name, chatroom };
            RoomOwner { key, host, has_contact }
        });
        if let Some(owner) = owner {
            self.owners.insert(name, owner).await;
        }
        Ok(owner)
    }

    /// Returns the id and host of a room for a client that joins it; `None` if the room does not exist. A room that the
    /// broker contains is not read from the database.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the broker is unavailable, or if it lacks the room and the database is
    /// unavailable.
    pub async fn owner_for_join(&self, name: RoomName) -> Result<Option<RoomOwner>, RoomError> {
        let Some(seeding) = &self.seeding else { return self.owner(name).await };
        if let Some(owner) = self.owners.get(&name).await {
            return Ok(Some(owner));
        }
        let Some((chatroom, host)) = seeding.row_ids(name).await? else { return self.owner(name).await };
        // Not cached: most visitors join a room once, and the query is cheap.
        Ok(Some(RoomOwner { key: RoomKey { name, chatroom }, host, has_contact: None }))
    }

    /// Returns whether the guest of a room left an e-mail address.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database is unavailable.
    pub async fn has_contact(&self, owner: RoomOwner) -> Result<bool, RoomError> {
        let name = owner.key.name;
        let known = owner.has_contact.or(self.owners.get(&name).await.and_then(|owner| owner.has_contact));
        if let Some(has_contact) = known {
            return Ok(has_contact);
        }
        let room = self.store.rooms().by_name(name).await?;
        let has_contact = room.is_some_and(|room| room.has_contact);
        self.owners.insert(name, RoomOwner { has_contact: Some(has_contact), ..owner }).await;
        Ok(has_contact)
    }

    /// Returns the highest sequence number of the room in the database; 0 if the room has no row.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database is unavailable.
    pub async fn stored_seq(&self, room: RoomKey) -> Result<Seq, RoomError> {
        let row = self.store.rooms().get(room.chatroom).await?.filter(|row| row.name == room.name);
        Ok(row.map_or(0, |row| row.last_seq))
    }

    /// Returns the frame of an accepted message; `None` if retention has purged the message.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] or [`RoomError::Unavailable`].
    pub async fn original(&self, name: RoomName, seq: Seq) -> Result<Option<Bytes>, RoomError> {
        let owner = self.owner(name).await?.ok_or(RoomError::NotFound)?;
        let step = self.history.after(owner.key, seq.saturating_sub(1)).await?;
        Ok(step.entries.into_iter().find(|entry| entry.seq == seq).map(|entry| entry.frame))
    }

    /// Returns the notice of a closed room; `None` if the room is not closed or the database could not be read.
    pub async fn closed_notice(&self, name: RoomName) -> Option<Bytes> {
        match self.store.rooms().by_name(name).await {
            Ok(room) => room?.closed_at.map(|at| closed_frame(&self.wire.wall_clock(at))),
            Err(error) => {
                tracing::debug!(%error, room = %name, "failed to read closing time of room");
                None
            }
        }
    }

    /// Records that the host has viewed the room and read the messages up to `through`.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database is unavailable.
    pub async fn check(&self, room: RoomKey, through: Seq) -> Result<(), RoomError> {
        Ok(self.store.rooms().mark_checked(room, through, self.clock.now()).await?)
    }

    /// Records that the guest has visited the room and read the messages up to `through`. Has no effect if the guest
    /// left no e-mail address.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if the database is unavailable.
    pub async fn see_guest(&self, owner: RoomOwner, through: Seq) -> Result<(), RoomError> {
        if self.has_contact(owner).await? {
            self.store.contacts().mark_seen(owner.key, through, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Changes the state of a room in the database, then in the broker.
    ///
    /// # Errors
    /// Returns [`RoomError::NotFound`] if the room does not exist, and [`RoomError::Unavailable`] if the change could
    /// not be written to the database. If only the broker is unavailable, the result is `Ok`, and a node applies the
    /// change to the broker later.
    pub async fn change(&self, name: RoomName, change: RoomChange) -> Result<Room, RoomError> {
        let changed = self.store.rooms().change(name, change, self.clock.now()).await?.ok_or(RoomError::NotFound)?;
        if let Some(event) = changed.event {
            self.publish(&event).await;
        }
        Ok(changed.room)
    }

    /// Applies a committed change to the broker. If this fails, a node retries it later.
    pub async fn publish(&self, event: &RoomEvent) {
        if let Err(error) = self.apply_event(event).await {
            let (room, change) = (event.room, event.change.as_str());
            tracing::warn!(%error, %room, change, "failed to publish room change, retrying");
        }
    }

    /// Applies to the broker committed changes that are older than a few seconds and have not been applied yet, at most
    /// 100.
    ///
    /// # Errors
    /// Returns [`RoomError::Unavailable`] if a change could not be applied. The next call continues with that change.
    pub async fn redo_events(&self) -> Result<(), RoomError> {
        for event in self.store.rooms().pending_events(self.clock.now() - EVENT_GRACE, 100).await? {
            self.apply_event(&event).await?;
        }
        Ok(())
    }

    async fn apply_event(&self, event: &RoomEvent) -> Result<(), RoomError> {
        let notice = match event.change {
            RoomChange::Close => closed_frame(&self.wire.wall_clock(event.created_at)),
            RoomChange::Resume | RoomChange::Delete => Bytes::new(),
        };
        let change = Change { room: event.room, change: event.change, version: event.version, notice };
        self.states.apply(change).await?;
        if event.change == RoomChange::Delete {
            while self.store.messages().delete_invisible(event.chatroom, DELETE_BATCH).await? > 0 {}
        }
        Ok(self.store.rooms().finish_event(event.id).await?)
    }
}
