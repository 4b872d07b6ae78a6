//! Chatrooms, their states and the changes between them.

use chrono::{DateTime, Utc};

use super::{ChatroomId, HostId, RoomName, Seq};

/// State of a room, which decides whether it accepts messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomState {
    /// Accepts messages.
    Open,
    /// Closed by the host or after a period without messages. The host's `restore/`, or a guest's connection without
    /// `after`, reopens it.
    Closed,
    /// Deleted with its messages, because the host left it (SPEC 6.3) or because it never had a message (SPEC 6.6).
    Deleted,
}

/// Change of a room's state. It is committed in SQL with a higher version and then applied to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomChange {
    /// Closes the room, at the host's request or because it is idle.
    Close,
    /// Reopens the room.
    Resume,
    /// Deletes the room and its messages.
    Delete,
}

impl RoomChange {
    /// Returns the state after the change.
    pub fn state(self) -> RoomState {
        match self {
            RoomChange::Close => RoomState::Closed,
            RoomChange::Resume => RoomState::Open,
            RoomChange::Delete => RoomState::Deleted,
        }
    }

    /// Returns the name used in rows, keys and logs.
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

/// Identifies a room by row id and name. A row id may be reused after SQL is restored from a backup; a name is never
/// used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomKey {
    /// Public name.
    pub name: RoomName,
    /// Row id.
    pub chatroom: ChatroomId,
}

/// Chatroom as stored in SQL. A deleted room has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Row id.
    pub id: ChatroomId,
    /// Host of the room.
    pub host: HostId,
    /// The guest's nickname.
    pub guest: String,
    /// Public name; guests identify the room by it.
    pub name: RoomName,
    /// Text of the newest message.
    pub latest_msg: Option<String>,
    /// When the newest message was accepted.
    pub latest_msg_at: Option<DateTime<Utc>>,
    /// When the host last had the room open.
    pub last_checked_at: Option<DateTime<Utc>>,
    /// Highest `seq` that the host has read; `None` if only `last_checked_at` is known.
    pub checked_seq: Option<Seq>,
    /// Whether the room is closed.
    pub is_closed: bool,
    /// When the room was closed.
    pub closed_at: Option<DateTime<Utc>>,
    /// Whether the room is pinned.
    pub is_fixed: bool,
    /// When the room was pinned.
    pub fixed_at: Option<DateTime<Utc>>,
    /// When the guest created the room.
    pub created_at: DateTime<Utc>,
    /// Time of the newest message or change of state; viewing and pinning do not change it (SPEC 3).
    pub updated_at: DateTime<Utc>,
    /// Highest `seq` stored in SQL.
    pub last_seq: Seq,
    /// Broker epoch in which `last_seq` was assigned; `None` if unknown.
    pub last_epoch: Option<String>,
    /// Version of the state; rises with every change of state.
    pub state_version: u64,
    /// Messages up to this `seq` were deleted by retention (SPEC 6.4).
    pub purged_through: Seq,
    /// Message counts maintained on the row.
    pub counts: RoomCounts,
    /// Whether the guest left an e-mail address.
    pub has_contact: bool,
}

/// Counts of the messages that SQL serves, maintained on the room's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Number of messages.
    pub messages: u64,
    /// Number of guest messages that the host has not read.
    pub unread: u64,
    /// Both counts include the messages up to this `seq`.
    pub through: Seq,
}

impl Room {
    /// Returns `Open` or `Closed`; a deleted room has no row.
    pub fn state(&self) -> RoomState {
        if self.is_closed { RoomState::Closed } else { RoomState::Open }
    }
}
