//! Chatrooms, their states and the changes to these states.

use chrono::{DateTime, Utc};

use super::{ChatroomId, HostId, RoomName, Seq};

/// State of a room. It determines whether the room accepts messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomState {
    /// The room accepts messages.
    Open,
    /// The room was closed by the host or after a period without messages. It is reopened by the host's `restore/`
    /// request, or by a guest who connects without `after`.
    Closed,
    /// The room and its messages were deleted, because the host left the room (SPEC 6.3) or the room never had a
    /// message (SPEC 6.6).
    Deleted,
}

/// Change to a room's state. It is committed in the database with a higher version and then applied to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomChange {
    /// Closes the room, because the host requested it or the room is idle.
    Close,
    /// Reopens the room.
    Resume,
    /// Deletes the room and its messages.
    Delete,
}

impl RoomChange {
    /// Returns the state of a room after the change.
    pub fn state(self) -> RoomState {
        match self {
            RoomChange::Close => RoomState::Closed,
            RoomChange::Resume => RoomState::Open,
            RoomChange::Delete => RoomState::Deleted,
        }
    }

    /// Returns the name used in database rows and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            RoomChange::Close => "close",
            RoomChange::Resume => "resume",
            RoomChange::Delete => "delete",
        }
    }

    /// Parses a name returned by [`as_str`](Self::as_str).
    pub fn parse(word: &str) -> Option<Self> {
        [RoomChange::Close, RoomChange::Resume, RoomChange::Delete].into_iter().find(|change| change.as_str() == word)
    }
}

/// Identifies a room by row id and name. After the database is restored from a backup, a row id may be reused. A name
/// is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomKey {
    /// Public name.
    pub name: RoomName,
    /// Row id.
    pub chatroom: ChatroomId,
}

/// Chatroom as stored in the database. A deleted room has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Row id.
    pub id: ChatroomId,
    /// Row id of the host.
    pub host: HostId,
    /// Nickname of the guest.
    pub guest: String,
    /// Public name by which guests identify the room.
    pub name: RoomName,
    /// Text of the newest message.
    pub latest_msg: Option<String>,
    /// Time at which the newest message was accepted.
    pub latest_msg_at: Option<DateTime<Utc>>,
    /// Time at which the host last had the room open.
    pub last_checked_at: Option<DateTime<Utc>>,
    /// Highest `seq` that the host has read. `None` if only `last_checked_at` is known.
    pub checked_seq: Option<Seq>,
    /// Whether the room is closed.
    pub is_closed: bool,
    /// Time at which the room was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Whether the room is pinned.
    pub is_fixed: bool,
    /// Time at which the room was pinned.
    pub fixed_at: Option<DateTime<Utc>>,
    /// Time at which the guest created the room.
    pub created_at: DateTime<Utc>,
    /// Time of the newest message or state change. Viewing and pinning the room do not change this time (SPEC 3).
    pub updated_at: DateTime<Utc>,
    /// Highest `seq` stored in the database.
    pub last_seq: Seq,
    /// Broker epoch in which `last_seq` was assigned. `None` if unknown.
    pub last_epoch: Option<String>,
    /// Version of the state. It increases with every state change.
    pub state_version: u64,
    /// Highest `seq` that the retention job has deleted (SPEC 6.4).
    pub purged_through: Seq,
    /// Message counts from the row.
    pub counts: RoomCounts,
    /// Whether the guest left an e-mail address.
    pub has_contact: bool,
}

/// Counts of a room's messages in the database. They are maintained in the room's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Number of messages.
    pub messages: u64,
    /// Number of guest messages that the host has not read.
    pub unread: u64,
    /// Highest `seq` that the counts include.
    pub through: Seq,
}

impl Room {
    /// Returns `Open` or `Closed`. A deleted room has no row, so the state is never `Deleted`.
    pub fn state(&self) -> RoomState {
        if self.is_closed { RoomState::Closed } else { RoomState::Open }
    }
}
