//! A chatroom and what may become of it.

use chrono::{DateTime, Utc};

use super::{ChatroomId, HostId, RoomName, Seq};

/// Whether a room takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomState {
    /// It takes messages.
    Open,
    /// The host closed it; a guest's fresh connection or the host's restore opens it again.
    Closed,
    /// The host left it: it and its messages are gone for good (SPEC 6.3).
    Deleted,
}

/// A change of a room's state, decided in SQL under a rising version and then applied by the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoomChange {
    /// Closed by the host, or by time.
    Close,
    /// Open again.
    Resume,
    /// The host left: deleted.
    Delete,
}

impl RoomChange {
    /// The state after the change.
    pub fn state(self) -> RoomState {
        match self {
            RoomChange::Close => RoomState::Closed,
            RoomChange::Resume => RoomState::Open,
            RoomChange::Delete => RoomState::Deleted,
        }
    }

    /// One word for rows, keys and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            RoomChange::Close => "close",
            RoomChange::Resume => "resume",
            RoomChange::Delete => "delete",
        }
    }

    /// The reverse of [`as_str`](Self::as_str).
    pub fn parse(word: &str) -> Option<Self> {
        [RoomChange::Close, RoomChange::Resume, RoomChange::Delete].into_iter().find(|change| change.as_str() == word)
    }
}

/// A room by its row and its name. Rows may be reused after SQL was restored from a backup; names are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomKey {
    /// Its name.
    pub name: RoomName,
    /// Its row.
    pub chatroom: ChatroomId,
}

/// A chatroom as SQL has it. A deleted room has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Row id.
    pub id: ChatroomId,
    /// Its host.
    pub host: HostId,
    /// The guest's nickname.
    pub guest: String,
    /// Public name.
    pub name: RoomName,
    /// Text of the newest message.
    pub latest_msg: Option<String>,
    /// When it was accepted.
    pub latest_msg_at: Option<DateTime<Utc>>,
    /// When the host last had the room open.
    pub last_checked_at: Option<DateTime<Utc>>,
    /// The host has seen the messages up to this number; `None` where only the time of the last look is known.
    pub checked_seq: Option<Seq>,
    /// Closed.
    pub is_closed: bool,
    /// Since when.
    pub closed_at: Option<DateTime<Utc>>,
    /// Pinned.
    pub is_fixed: bool,
    /// Since when.
    pub fixed_at: Option<DateTime<Utc>>,
    /// When the guest opened it.
    pub created_at: DateTime<Utc>,
    /// Moved by a message and by a change of state, not by looking (SPEC 3).
    pub updated_at: DateTime<Utc>,
    /// The highest number that SQL knows of.
    pub last_seq: Seq,
    /// The broker's life in which `last_seq` was given; `None` when unknown.
    pub last_life: Option<String>,
    /// Rises with every change of state.
    pub state_version: u64,
    /// Messages up to this number are gone by retention (SPEC 6.4).
    pub purged_through: Seq,
    /// What the row counts.
    pub counts: RoomCounts,
    /// Whether the guest left an address.
    pub has_contact: bool,
}

/// What a room's row counts of the messages that SQL shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Messages.
    pub messages: u64,
    /// Messages of the guest that the host has not seen.
    pub unread: u64,
    /// Both count the messages up to this number.
    pub through: Seq,
}

impl Room {
    /// Open or closed; a row is never deleted.
    pub fn state(&self) -> RoomState {
        if self.is_closed { RoomState::Closed } else { RoomState::Open }
    }
}
