//! Rooms: opened by guests, listed, pinned, closed, restored and left by their host.
//!
//! SQL is the truth of a room's state: a change is one transaction there, with an event beside it. Then the broker applies the
//! event and tells everybody, and the event goes. A node that dies in between loses nothing: any node redoes what is older
//! than a few seconds ([`Rooms::redo_events`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use moka::future::Cache;

use crate::broker::{Broker, Change, Unavailable};
use crate::clock::{Chance, Clock};
use crate::domain::{
    ChatroomId, Host, HostId, Message, Room, RoomChange, RoomName, Seq, WallClock, WireOffset, nickname,
};
use crate::history::{History, HistoryError, RoomKey};
use crate::protocol::chat::closed_frame;
use crate::store::{NewRoom, PinOutcome, RoomEvent, Store, StoreError};

mod list;
mod seeding;

pub use crate::store::RoomFilter;

/// An event that is older than this was left by a node that died: anybody redoes it.
const EVENT_GRACE: Duration = Duration::from_secs(5);

/// How many rows of a deleted room go at once.
const DELETE_BATCH: u64 = 1_000;

/// How many rooms' rows are remembered, for how long: they never change.
const KEYS: u64 = 50_000;
const KEYS_TTL: Duration = Duration::from_secs(60);

/// Why something about a room was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RoomError {
    /// There is no such room.
    #[error("no such room")]
    NotFound,
    /// It is another host's.
    #[error("another host's room")]
    NotYours,
    /// Five are pinned already.
    #[error("at most five rooms can be pinned")]
    TooManyPinned,
    /// It is closed, so it cannot be pinned.
    #[error("the room is closed")]
    Closed,
    /// The broker or SQL is away: come back.
    #[error("not available now: {0}")]
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

/// A room as its host sees it in the list.
#[derive(Clone, Debug)]
pub struct RoomView {
    /// The room.
    pub room: Room,
    /// How many messages of the guest came after the host last looked.
    pub unread: u64,
    /// Whether the guest is in the room.
    pub guest_online: bool,
}

/// What never changes about a room, or seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomOwner {
    /// The room.
    pub key: RoomKey,
    /// Its host.
    pub host: HostId,
    /// Whether the guest left an address, as far as is known.
    pub has_contact: bool,
}

/// The service.
#[derive(Clone)]
pub struct Rooms {
    store: Store,
    broker: Arc<dyn Broker>,
    history: History,
    clock: Arc<dyn Clock>,
    chance: Chance,
    wire: WireOffset,
    owners: Cache<RoomName, RoomOwner>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rooms").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Rooms {
    /// Over a store and a broker. `wire` is where the clients' wall clocks hang.
    pub fn new(
        store: Store,
        broker: Arc<dyn Broker>,
        history: History,
        clock: Arc<dyn Clock>,
        chance: Chance,
        wire: WireOffset,
    ) -> Self {
        let owners = Cache::builder().max_capacity(KEYS).time_to_live(KEYS_TTL).build();
        Self { store, broker, history, clock, chance, wire, owners }
    }

    /// Opens a room for a new guest of a host. The same key again, within the host, is the same room.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn open(&self, host: &Host, idempotency_key: Option<String>) -> Result<Room, RoomError> {
        let name = RoomName::from_random(self.chance.bytes());
        // Without it the first number jumps, which nobody minds.
        let life = self.broker.life(self.broker.partition_of(name)).await.unwrap_or_default();
        let guest = nickname(self.chance.below(u64::MAX));
        let room = NewRoom { host: host.id, guest, name, idempotency_key, life };
        Ok(self.store.create_room(room, self.clock.now()).await?)
    }

    /// A room of this host.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::NotYours`], [`RoomError::Unavailable`].
    pub async fn owned(&self, host: HostId, id: ChatroomId) -> Result<Room, RoomError> {
        let room = self.store.room(id).await?.ok_or(RoomError::NotFound)?;
        if room.host == host { Ok(room) } else { Err(RoomError::NotYours) }
    }

    /// Pins a room, or unpins it.
    ///
    /// # Errors
    /// All of [`RoomError`].
    pub async fn pin(&self, host: HostId, id: ChatroomId, pinned: bool) -> Result<RoomView, RoomError> {
        self.owned(host, id).await?;
        match self.store.pin_room(id, pinned, self.clock.now()).await? {
            PinOutcome::Done(room) => self.view(room).await,
            PinOutcome::TooMany => Err(RoomError::TooManyPinned),
            PinOutcome::Closed => Err(RoomError::Closed),
            PinOutcome::Gone => Err(RoomError::NotFound),
        }
    }

    /// Closes a room for everybody. One that is closed stays so.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::NotYours`], [`RoomError::Unavailable`].
    pub async fn close(&self, host: HostId, id: ChatroomId) -> Result<RoomView, RoomError> {
        let room = self.owned(host, id).await?;
        let room = self.change(room.name, RoomChange::Close).await?;
        self.view(room).await
    }

    /// Opens a closed room again. One that is open stays so.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::NotYours`], [`RoomError::Unavailable`].
    pub async fn restore(&self, host: HostId, id: ChatroomId) -> Result<RoomView, RoomError> {
        let room = self.owned(host, id).await?;
        let room = self.change(room.name, RoomChange::Resume).await?;
        self.view(room).await
    }

    /// Deletes a room and all its messages (SPEC 6.3).
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::NotYours`], [`RoomError::Unavailable`].
    pub async fn delete(&self, host: HostId, id: ChatroomId) -> Result<(), RoomError> {
        let room = self.owned(host, id).await?;
        self.change(room.name, RoomChange::Delete).await?;
        Ok(())
    }

    /// A part of a room's messages, newest first, and how many it has.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn messages(&self, room: &Room, offset: u64, limit: u64) -> Result<(u64, Vec<Message>), RoomError> {
        let key = RoomKey { name: room.name, chatroom: room.id };
        Ok(self.history.by_offset(key, offset, limit).await?)
    }

    /// A room's whole conversation, in its order, in parts.
    pub fn conversation(&self, room: &Room) -> impl Stream<Item = Result<Vec<Message>, RoomError>> + Send + use<> {
        self.history.whole(RoomKey { name: room.name, chatroom: room.id }).map_err(RoomError::from)
    }

    /// What the clients' clocks show now.
    pub fn wall_clock(&self) -> WallClock {
        self.wire.wall_clock(self.clock.now())
    }

    /// Whose room a name is; `None` if nobody's.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn owner(&self, name: RoomName) -> Result<Option<RoomOwner>, RoomError> {
        if let Some(owner) = self.owners.get(&name).await {
            return Ok(Some(owner));
        }
        let owner = match self.store.room_by_name(name).await {
            Ok(room) => room.map(|room| (room.id, room.host, room.has_contact)),
            // With SQL away, rooms that the broker has go on.
            Err(StoreError::Unavailable(why)) => match self.broker.status(&[name]).await?.pop().flatten() {
                Some(status) => Some((status.chatroom, status.host, false)),
                None => return Err(RoomError::Unavailable(why)),
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

    /// The highest number that SQL knows of.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn stored_seq(&self, room: RoomKey) -> Result<Seq, RoomError> {
        let row = self.store.room(room.chatroom).await?.filter(|row| row.name == room.name);
        Ok(row.map_or(0, |row| row.last_seq))
    }

    /// The frame of a message that was sent before; `None` if retention took it.
    ///
    /// # Errors
    /// [`RoomError::NotFound`], [`RoomError::Unavailable`].
    pub async fn original(&self, name: RoomName, seq: Seq) -> Result<Option<Bytes>, RoomError> {
        let owner = self.owner(name).await?.ok_or(RoomError::NotFound)?;
        let step = self.history.after(owner.key, seq.saturating_sub(1)).await?;
        Ok(step.entries.into_iter().find(|entry| entry.seq == seq).map(|entry| entry.frame))
    }

    /// The notice of a closed room; `None` if it is open by now or cannot be asked.
    pub async fn closed_notice(&self, name: RoomName) -> Option<Bytes> {
        match self.store.room_by_name(name).await {
            Ok(room) => room?.closed_at.map(|at| closed_frame(&self.wire.wall_clock(at))),
            Err(error) => {
                tracing::debug!(%error, room = %name, "failed to read time of closing");
                None
            }
        }
    }

    /// Notes that the host has looked at a room and has seen it up to `through`.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn check(&self, room: RoomKey, through: Seq) -> Result<(), RoomError> {
        Ok(self.store.check_room(room, through, self.clock.now()).await?)
    }

    /// Notes that the guest of a room was in it and has seen it up to `through`, if they left an address.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`].
    pub async fn see_guest(&self, room: RoomKey, through: Seq) -> Result<(), RoomError> {
        Ok(self.store.see_guest(room, through, self.clock.now()).await?)
    }

    /// Forgets what was remembered of a room whose guest left an address. Other nodes remember it for a minute; a guest who
    /// looks at an answer there, and is gone again within that minute, is mailed it all the same.
    pub async fn forget(&self, name: RoomName) {
        self.owners.invalidate(&name).await;
    }

    /// Changes a room's state everywhere.
    ///
    /// # Errors
    /// [`RoomError::NotFound`]; [`RoomError::Unavailable`] if SQL did not take it. Once SQL has it, it happens: a broker that
    /// is away hears of it later.
    pub async fn change(&self, name: RoomName, change: RoomChange) -> Result<Room, RoomError> {
        let changed = self.store.change_room(name, change, self.clock.now()).await?.ok_or(RoomError::NotFound)?;
        if let Some(event) = changed.event {
            self.tell(&event).await;
        }
        Ok(changed.room)
    }

    /// Carries out a change that SQL has. If the broker is away somebody does so later.
    pub async fn tell(&self, event: &RoomEvent) {
        if let Err(error) = self.carry_out(event).await {
            let (room, change) = (event.room, event.change.as_str());
            tracing::warn!(%error, %room, change, "failed to publish room change, retrying");
        }
    }

    /// Carries out changes whose node did not get round to it.
    ///
    /// # Errors
    /// [`RoomError::Unavailable`]: tried again at the next call.
    pub async fn redo_events(&self) -> Result<(), RoomError> {
        for event in self.store.pending_events(self.clock.now() - EVENT_GRACE, 100).await? {
            self.carry_out(&event).await?;
        }
        Ok(())
    }

    async fn carry_out(&self, event: &RoomEvent) -> Result<(), RoomError> {
        let notice = match event.change {
            RoomChange::Close => closed_frame(&self.wire.wall_clock(event.created_at)),
            RoomChange::Resume | RoomChange::Delete => Bytes::new(),
        };
        let change = Change { room: event.room, change: event.change, version: event.version, notice };
        self.broker.apply(change).await?;
        if event.change == RoomChange::Delete {
            while self.store.delete_messages(event.chatroom, DELETE_BATCH).await? > 0 {}
        }
        Ok(self.store.finish_event(event.id).await?)
    }
}
