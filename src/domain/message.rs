//! Chat messages.

use chrono::{DateTime, Utc};

use super::{ChatroomId, MessageId, Seq, WallClock};

/// Author of a message. Derived from the identity of the connection, never from the frame (SPEC 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Anonymous visitor.
    Guest,
    /// Registered user.
    Host,
}

impl Side {
    /// Returns the `is_host` flag used on the wire.
    pub fn is_host(self) -> bool {
        self == Side::Host
    }

    /// Converts the `is_host` flag of a frame or a row.
    pub fn from_is_host(is_host: bool) -> Self {
        if is_host { Side::Host } else { Side::Guest }
    }

    /// Returns the letter used in keys: `g` or `h`.
    pub fn letter(self) -> &'static str {
        match self {
            Side::Guest => "g",
            Side::Host => "h",
        }
    }
}

/// Accepted message, with its sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Room of the message.
    pub chatroom: ChatroomId,
    /// Sequence number in the room.
    pub seq: Seq,
    /// Side that wrote the message.
    pub side: Side,
    /// Text, never empty; the frame has at most 32 KiB (SPEC 4).
    pub text: String,
    /// Wall-clock time written by the sender.
    pub datetime: WallClock,
    /// Id chosen by the client or assigned by the server.
    pub id: MessageId,
    /// When the broker accepted the message, by the broker's clock, in whole milliseconds.
    pub accepted_at: DateTime<Utc>,
}
