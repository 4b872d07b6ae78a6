//! Chat messages.

use chrono::{DateTime, Utc};

use super::{ChatroomId, MessageId, Seq, WallClock};

/// Author of a message. It is determined by the identity of the connection, never by the content of a frame (SPEC 4).
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

/// An accepted message with its sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Row id of the room.
    pub chatroom: ChatroomId,
    /// Sequence number in the room.
    pub seq: Seq,
    /// Side that wrote the message.
    pub side: Side,
    /// Text of the message, never empty. A message frame has at most 32 KiB by default (SPEC 4).
    pub text: String,
    /// Wall-clock time that the sender wrote into the message.
    pub datetime: WallClock,
    /// Id chosen by the client or assigned by the server.
    pub id: MessageId,
    /// Time at which the broker accepted the message, by the broker's clock, in whole milliseconds.
    pub accepted_at: DateTime<Utc>,
}
