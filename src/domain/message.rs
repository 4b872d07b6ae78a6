//! A chat message.

use chrono::{DateTime, Utc};

use super::{ChatroomId, MessageId, Seq, WallClock};

/// Who wrote a message: decided by who is connected, never by what a frame claims (SPEC 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The anonymous visitor.
    Guest,
    /// The registered user.
    Host,
}

impl Side {
    /// The `is_host` of the wire.
    pub fn is_host(self) -> bool {
        self == Side::Host
    }

    /// From the `is_host` of the wire or of a row.
    pub fn from_is_host(is_host: bool) -> Self {
        if is_host { Side::Host } else { Side::Guest }
    }

    /// One letter for keys: `g` or `h`.
    pub fn letter(self) -> &'static str {
        match self {
            Side::Guest => "g",
            Side::Host => "h",
        }
    }
}

/// A message that was accepted: it has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The room.
    pub chatroom: ChatroomId,
    /// Its number there.
    pub seq: Seq,
    /// Who wrote it.
    pub side: Side,
    /// Not empty; its frame has at most 32 KiB (SPEC 4).
    pub text: String,
    /// The sender's wall clock, as he wrote it.
    pub datetime: WallClock,
    /// The client's id, or the server's.
    pub id: MessageId,
    /// When the broker took it, by the broker's clock, in whole milliseconds.
    pub accepted_at: DateTime<Utc>,
}
